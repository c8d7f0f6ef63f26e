"""Which tokens share one importance ratio: the number of the unit of each token, [B,T]."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.objective.part import part


@part("unit")
def token(batch: Batch) -> Tensor:
    """Each token is its own unit (PPO, GRPO)."""
    return torch.arange(batch.tokens.shape[1], device=batch.tokens.device).expand_as(batch.tokens)


@part("unit")
def turn(batch: Batch) -> Tensor:
    """The sampled tokens of one turn are a unit."""
    return batch.turn.clamp(min=0)


@part("unit")
def sequence(batch: Batch) -> Tensor:
    """All sampled tokens of the episode are a unit (GSPO)."""
    return torch.zeros_like(batch.tokens)
