"""New policy over old: the ratio of each token, or of the unit it belongs to, [B,T]."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.objective.part import one_of, part

LARGEST = 20.0  # of a log-ratio: exp(20) = 5e8; beyond that a float32 gradient would turn into inf * 0 = nan


def unit_mean(value: Tensor, unit: Tensor, mask: Tensor) -> Tensor:
    """[B,T], 0 off the mask -> [B,T]: the mean over the sampled tokens of the unit each token belongs to."""
    width = int(unit.max()) + 1 if unit.numel() else 1

    def total(x: Tensor) -> Tensor:
        return torch.zeros(len(x), width, dtype=x.dtype, device=x.device).scatter_add(1, unit, x)

    return (total(value) / total(mask.to(value.dtype)).clamp(min=1)).gather(1, unit)


@part("ratio", gradient=one_of("unit", "token"))
def importance(logp: Tensor, logp_old: Tensor, unit: Tensor, mask: Tensor, *, gradient: str = "unit") -> Tensor:
    """exp of the mean of log pi - log pi_old over the unit: per token the usual ratio, per sequence GSPO's (2507.18071).

    Args:
        gradient: "unit" differentiates that; "token" has the same value, but each token's gradient is that of its own
            log-probability, so that advantages may differ inside a unit (GSPO-token).
    """
    log_ratio = torch.where(mask, logp - logp_old, 0).clamp(-LARGEST, LARGEST)
    pooled = unit_mean(log_ratio, unit, mask)
    if gradient == "token":
        pooled = pooled.detach() + torch.where(mask, logp - logp.detach(), 0)
    return pooled.exp()


@part("ratio")
def current(logp: Tensor, logp_old: Tensor, unit: Tensor, mask: Tensor) -> Tensor:
    """Against the current policy itself: 1, with the gradient of log pi. Ignores that the samples may be old (REINFORCE)."""
    return torch.where(mask, logp - logp.detach(), 0).exp()
