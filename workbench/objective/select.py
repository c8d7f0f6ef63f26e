"""Which tokens are trained on, and how much: weight [B,T].

An episode whose weights are all 0 is dropped: averages are taken as if it were not there. A token with weight 0 in an
episode that is kept still counts in the denominators.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.batch import Batch, Stop
from workbench.objective.part import part
from workbench.objective.part import share as a_share


@part("select")
def all_tokens(batch: Batch, advantage: Tensor, entropy: Tensor | None) -> Tensor:
    """Every sampled token, equally."""
    return batch.mask.to(advantage.dtype)


@part("select")
def drop_truncated(batch: Batch, advantage: Tensor, entropy: Tensor | None) -> Tensor:
    """Without the episodes that were cut off by a limit on their tokens (overlong filtering, arXiv 2503.14476)."""
    finished = (batch.stop != Stop.LENGTH) & (batch.stop != Stop.CONTEXT)
    return (batch.mask & finished[:, None]).to(advantage.dtype)


@part("select")
def drop_overlong(batch: Batch, advantage: Tensor, entropy: Tensor | None) -> Tensor:
    """Without the episodes that hit any limit, on tokens or on turns (SUPO's overlong masking, arXiv 2510.06727).

    They stay in their group, as part of the baseline; they are not trained on.
    """
    return (batch.mask & (batch.stop == Stop.DONE)[:, None]).to(advantage.dtype)


def void_turns(batch: Batch) -> Tensor:
    """[B,U] bool: turns with neither a call that could be read nor an answer.

    A turn that the task found malformed and did not take for the end of the episode, or one that a limit on tokens cut off.
    """
    turn = torch.arange(batch.rewards.shape[1], device=batch.rewards.device)
    highest = batch.turn.amax(1)
    final = torch.full_like(highest[: batch.rollouts], -1).scatter_reduce(0, batch.rollout, highest, "amax")
    last = turn == final[batch.rollout][:, None]  # of the episode, whichever of its rows that is in
    cut = (batch.stop == Stop.LENGTH) | (batch.stop == Stop.CONTEXT)
    answer = last & (batch.stop == Stop.DONE)[:, None]
    return (batch.last_token >= 0) & (((batch.rewards < 0) & ~answer) | (last & cut[:, None]))


@part("select")
def drop_void(batch: Batch, advantage: Tensor, entropy: Tensor | None) -> Tensor:
    """Without the episodes in which any turn is void, see `void_turns` (arXiv 2509.02479).

    They stay in their group, as part of the baseline; they are not trained on.
    """
    void = batch.of_rollouts(void_turns(batch).sum(1)) > 0
    return (batch.mask & ~void[batch.rollout][:, None]).to(advantage.dtype)


@part("select")
def drop_dead(batch: Batch, advantage: Tensor, entropy: Tensor | None) -> Tensor:
    """Without the episodes whose advantage is 0 throughout, so that they do not dilute the average of the others."""
    alive = batch.of_rollouts((advantage != 0).sum(1)) > 0
    return (batch.mask & alive[batch.rollout][:, None]).to(advantage.dtype)


@part("select", needs=("entropy",), share=a_share)
def high_entropy(batch: Batch, advantage: Tensor, entropy: Tensor | None, *, share: float = 0.2) -> Tensor:
    """The `share` of the batch's sampled tokens at which the policy was least certain."""
    if entropy is None:
        raise ValueError("high_entropy() needs entropy [B,T]: give prepare(entropy=...) that of the policy")
    threshold = torch.quantile(entropy[batch.mask].double(), 1 - share)
    return (batch.mask & (entropy.double() >= threshold)).to(advantage.dtype)
