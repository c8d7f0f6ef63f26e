"""How the objectives of tokens become one number: the coefficient [B,T] with which each is summed.

`weight` [B,T] is what `select` gave, `mask` [B,T] what the policy sampled. An episode without any weight is not counted.
"""

from __future__ import annotations

from torch import Tensor

from workbench.objective.part import part, positive


def _counted(weight: Tensor, mask: Tensor) -> Tensor:
    """[B,T] the sampled tokens of the episodes that are trained on."""
    return (mask & (weight != 0).any(1, keepdim=True)).to(weight.dtype)


@part("aggregate")
def sequence_mean(weight: Tensor, mask: Tensor) -> Tensor:
    """The mean over episodes of the mean over tokens (GRPO): a token of a long episode counts for less."""
    counted = _counted(weight, mask)
    length = counted.sum(1, keepdim=True)
    return weight / length.clamp(min=1) / (length > 0).sum().clamp(min=1)


@part("aggregate")
def token_mean(weight: Tensor, mask: Tensor) -> Tensor:
    """The mean over all tokens of all episodes (DAPO): every token counts the same."""
    return weight / _counted(weight, mask).sum().clamp(min=1)


@part("aggregate", norm=positive)
def token_sum(weight: Tensor, mask: Tensor, *, norm: float = 1.0) -> Tensor:
    """The mean over episodes of the sum over tokens, divided by a constant (REINFORCE: 1; Dr. GRPO: the longest length)."""
    return weight / norm / _counted(weight, mask).any(1).sum().clamp(min=1)
