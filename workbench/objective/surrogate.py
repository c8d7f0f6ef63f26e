"""The objective of each token [B,T], to be maximised, from its ratio and its advantage.

On-policy, where every ratio is 1, all of them have the gradient of the plain policy gradient: advantage x grad log pi.
They differ in what they do with a token whose probability has changed since it was sampled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.objective.part import Part, optional, part, positive


@part("surrogate")
def policy_gradient(ratio: Tensor, advantage: Tensor, logp: Tensor) -> Tensor:
    """ratio x advantage: importance sampling, without any limit."""
    return ratio * advantage


@part("surrogate", low=positive, high=positive, dual=optional(positive))
def clip(
    ratio: Tensor, advantage: Tensor, logp: Tensor, *, low: float = 0.2, high: float = 0.2, dual: float | None = None
) -> Tensor:
    """min(ratio A, clamp(ratio, 1 - low, 1 + high) A): no gradient once the ratio has moved far enough (arXiv 1707.06347).

    Args:
        dual: an upper bound on the ratio where A < 0 too, above 1 + high (dual clip, arXiv 1912.09729; TRL's delta).
    """
    objective = torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
    if dual is not None:
        objective = torch.where(advantage < 0, torch.maximum(objective, dual * advantage), objective)
    return objective


@part("surrogate", cap=positive)
def cispo(ratio: Tensor, advantage: Tensor, logp: Tensor, *, cap: float = 5.0) -> Tensor:
    """min(ratio, cap) A log pi, the ratio held constant: no token ever loses its gradient (arXiv 2506.13585)."""
    return ratio.detach().clamp(max=cap) * advantage * logp


@part("surrogate", positive=positive, negative=positive)
def sapo(
    ratio: Tensor, advantage: Tensor, logp: Tensor, *, positive: float = 1.0, negative: float = 1.05
) -> Tensor:  # fmt: skip
    """sigmoid(tau (ratio - 1)) 4 / tau A: the gradient fades as the ratio leaves 1 (arXiv 2511.20347).

    Args:
        positive, negative: tau for tokens with A > 0 and for the others; larger fades sooner.
    """
    tau = torch.full_like(advantage, negative).masked_fill(advantage > 0, positive)
    return torch.sigmoid(tau * (ratio - 1)) * 4 / tau * advantage


def gradient_weight(surrogate: Part, ratio: Tensor, advantage: Tensor, logp: Tensor | None = None) -> Tensor:
    """d objective / d log pi of each token, for ratios of single tokens: what multiplies grad log pi.

    Args:
        surrogate: a part; ratio, advantage: tensors of one shape.
    Returns: a tensor of that shape. ratio x advantage for `policy_gradient()`, 0 where `clip()` has cut a token off.
    """
    with torch.enable_grad():
        r = ratio.detach().clone().requires_grad_()
        p = (torch.zeros_like(r) if logp is None else logp).detach().clone().requires_grad_()
        objective = surrogate(r, advantage.detach(), p).sum()
        through_ratio, direct = torch.autograd.grad(objective, (r, p), allow_unused=True)
    weight = torch.zeros_like(r) if direct is None else direct
    return (weight if through_ratio is None else weight + through_ratio * r).detach()
