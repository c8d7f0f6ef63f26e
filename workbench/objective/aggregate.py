"""How the objectives of tokens become one number: the coefficient [B,T] with which each is summed.

`weight` [B,T] is what `select` gave, `mask` [B,T] what the policy sampled, `rollout` [B] which rows are one episode (numbers
from 0; None: every row its own). An episode without any weight is not counted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.objective.part import part, positive


def _lengths(weight: Tensor, mask: Tensor, rollout: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sampled tokens of each episode that is trained on, 0 for the others [R]; and the episode of each row [B]."""
    rollout = torch.arange(len(mask), device=mask.device) if rollout is None else rollout
    trained = _total((weight != 0).any(1).to(torch.int64), rollout) > 0
    return torch.where(trained, _total(mask.sum(1), rollout), 0), rollout


def _total(value: Tensor, rollout: Tensor) -> Tensor:
    """[B] -> [R]"""
    rollouts = int(rollout.max()) + 1 if len(rollout) else 0
    return value.new_zeros(rollouts).index_add(0, rollout, value)


@part("aggregate")
def sequence_mean(weight: Tensor, mask: Tensor, rollout: Tensor | None = None) -> Tensor:
    """The mean over episodes of the mean over tokens (GRPO): a token of a long episode counts for less."""
    length, rollout = _lengths(weight, mask, rollout)
    return weight / length[rollout][:, None].clamp(min=1) / (length > 0).sum().clamp(min=1)


@part("aggregate")
def row_mean(weight: Tensor, mask: Tensor, rollout: Tensor | None = None) -> Tensor:
    """The mean over episodes of the mean over rows of the mean over tokens: with a row for each turn, Flow-GRPO (2510.05592)."""
    length, row = _lengths(weight, mask, None)
    rollout = row if rollout is None else rollout
    rows = _total((length > 0).to(torch.int64), rollout)
    return weight / length[:, None].clamp(min=1) / rows[rollout][:, None].clamp(min=1) / (rows > 0).sum().clamp(min=1)


@part("aggregate")
def token_mean(weight: Tensor, mask: Tensor, rollout: Tensor | None = None) -> Tensor:
    """The mean over all tokens of all episodes (DAPO): every token counts the same."""
    return weight / _lengths(weight, mask, rollout)[0].sum().clamp(min=1)


@part("aggregate", norm=positive)
def token_sum(weight: Tensor, mask: Tensor, rollout: Tensor | None = None, *, norm: float = 1.0) -> Tensor:
    """The mean over episodes of the sum over tokens, divided by a constant (REINFORCE: 1; Dr. GRPO: the longest length)."""
    return weight / norm / (_lengths(weight, mask, rollout)[0] > 0).sum().clamp(min=1)
