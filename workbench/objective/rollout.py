"""How many rollouts of a prompt, and which of them to keep."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.batch import Batch, Stop
from workbench.objective.part import one_of, part, whole


@part("rollout", size=whole(1))
def fixed(batch: Batch, rewards: Tensor, *, size: int = 8) -> Tensor:
    """`size` rollouts of every prompt, all kept. Returns keep [B]."""
    return torch.ones(len(batch), dtype=torch.bool, device=rewards.device)


@part("rollout", size=whole(1), rounds=whole(1), spread=one_of("outcome", "reward"))
def resample(batch: Batch, rewards: Tensor, *, size: int = 8, rounds: int = 4, spread: str = "outcome") -> Tensor:
    """Dynamic sampling: keep only the groups whose rollouts differ, and draw new prompts for the rest (arXiv 2503.14476).

    Args:
        rounds: how often new prompts are drawn before training on what there is.
        spread: in what the rollouts must differ: the verdict of the task (as in the paper), or the summed rewards.
    Returns: keep [B].
    """
    total = batch.of_rollouts(rewards.sum(1))[batch.rollout]
    score = batch.outcome if spread == "outcome" else total.to(torch.float32)
    valid = batch.stop != Stop.ERROR
    _, group = torch.unique(batch.group, return_inverse=True)
    count = int(group.max()) + 1
    high = torch.full((count,), -torch.inf, device=score.device).scatter_reduce(0, group[valid], score[valid], "amax")
    low = torch.full((count,), torch.inf, device=score.device).scatter_reduce(0, group[valid], score[valid], "amin")
    return (high > low)[group]
