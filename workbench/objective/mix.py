"""What is trained on besides the rollouts.

`problem` [B] is the number of each row's problem, `past` what the run has kept of earlier steps: episodes whose `group` is the
number of their problem, oldest first, or None while there are none. `keep_successes` says what is kept.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from workbench.batch import Batch, Origin, Stop
from workbench.objective.part import finite, not_negative, one_of, part, whole


@part("mix")
def on_policy(batch: Batch, rewards: Tensor, problem: Tensor, past: Batch | None, rng: np.random.Generator) -> Batch:
    """The rollouts alone: what was kept is ignored, and nothing is."""
    return batch


@part("mix", size=whole(1), std=not_negative, mean=finite, logp=one_of("renewed", "sampled"))
def replay(
    batch: Batch, rewards: Tensor, problem: Tensor, past: Batch | None, rng: np.random.Generator, *,
    size: int = 8, std: float = 0.05, mean: float = 0.2, logp: str = "renewed",
) -> Batch:  # fmt: skip
    """In a group that failed as one, the first rollout gives its place to a success of an earlier step (arXiv 2505.16282).

    Such a group has nothing to tell its rollouts apart by, so it teaches nothing; with one success in it, it does. One rollout
    of a group at most is replaced.

    Args:
        size: newest successes kept of each problem. std, mean: the group failed if both of its rewards are below these.
        logp: old log-probabilities of what is replayed. "renewed": those of the policy before the update, as if it had sampled
            it now: the ratio starts at 1, however old the success is (so the released code, and there is no correction for the
            change of policy). "sampled": those of the policy that did sample it: true importance weights.
    """
    if past is None:
        return batch
    stay, joining = torch.ones(len(batch), dtype=torch.bool), []
    for group in dict.fromkeys(batch.group.tolist()):
        rows = (batch.group == group).nonzero()[:, 0]
        mine = batch.select(rows)
        total = mine.of_rollouts(rewards[rows].sum(1))[(mine.stop != Stop.ERROR)[mine.first_rows]]
        stored = past.rollout[past.group == problem[rows[0]]].unique()
        if len(total) and len(stored) and total.std(correction=0) < std and total.mean() < mean:
            stay[rows[mine.rollout == 0]] = False
            again = past.select(past.rollout == stored[rng.integers(len(stored))])
            joining.append(again.replace(group=torch.full_like(again.group, group)))
    return Batch.concatenate([batch.select(stay), *joining], renumber=False) if joining else batch


def keep_successes(past: Batch | None, batch: Batch, problem: Tensor, size: int) -> Batch | None:
    """`past` and behind it the successes of `batch` (outcome above 0.1, not replayed); of each problem the `size` newest."""
    new = (batch.outcome > 0.1) & (batch.origin == Origin.ON_POLICY) & (batch.stop != Stop.ERROR)
    if new.any():
        found = batch.select(new)
        found = found.replace(group=problem[new], origin=torch.full_like(found.origin, Origin.REPLAY))
        past = found if past is None else Batch.concatenate([past, found], renumber=False)
        seen: Counter[int] = Counter()
        stay = []
        for number in reversed(past.group[past.first_rows].tolist()):  # newest first
            seen[number] += 1
            stay.append(seen[number] <= size)
        past = past.select(torch.tensor(stay[::-1])[past.rollout])
    return past
