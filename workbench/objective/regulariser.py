"""Penalties on each token [B,T], subtracted from its objective; or, placed in the reward, from its reward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.objective.part import flag, not_negative, one_of, optional, part, positive


@dataclass(frozen=True)
class Terms:
    """What a penalty can be made of, all [B,T], or None where it was not given.

    Attributes:
        logp, entropy, values: of the policy being trained. ratio: of the recipe's ratio part.
        logp_ref: of the reference policy. values_old, returns: of the value head when the batch was prepared, and its target.
    """

    logp: Tensor
    mask: Tensor
    ratio: Tensor | None = None
    logp_ref: Tensor | None = None
    entropy: Tensor | None = None
    values: Tensor | None = None
    values_old: Tensor | None = None
    returns: Tensor | None = None

    def need(self, name: str, whose: str) -> Tensor:
        """The term `name`. Raises ValueError where it was not given; `whose` penalty asks."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"{whose} needs {name} [B,T]; give it to prepare() or loss()")
        return value


@part(
    "regulariser", needs=("reference",),
    beta=not_negative, estimator=one_of("k1", "k2", "k3"), place=one_of("loss", "reward"), corrected=flag,
)  # fmt: skip
def kl(
    terms: Terms, *, beta: float = 0.04, estimator: str = "k3", place: str = "loss", corrected: bool = False
) -> Tensor:
    """beta x an estimate of KL(pi || reference) at each sampled token, from d = log ref - log pi.

    Args:
        estimator: k1 = -d; k2 = d^2 / 2; k3 = exp(d) - 1 - d (what GRPO uses).
        place: "loss" is differentiated; "reward" is subtracted from the token's reward, before advantages.
        corrected: multiplies by the importance ratio, gradient included (TRL's use_bias_correction_kl): in expectation the
            gradient is then that of the KL itself, which that of k3 alone is not.
    """
    logp_ref = terms.need("logp_ref", "kl()")
    d = torch.where(terms.mask, logp_ref - terms.logp, 0).clamp(-20, 20)
    estimate = {"k1": lambda: -d, "k2": lambda: d**2 / 2, "k3": lambda: d.exp() - 1 - d}[estimator]()
    if corrected:
        estimate = estimate * terms.need("ratio", "kl(corrected=True)")
    return beta * estimate


@part("regulariser", needs=("entropy",), coefficient=not_negative)
def entropy_bonus(terms: Terms, *, coefficient: float = 0.01) -> Tensor:
    """Minus coefficient x the entropy of the policy at each sampled token."""
    return -coefficient * terms.need("entropy", "entropy_bonus()")


@part("regulariser", needs=("values",), coefficient=not_negative, clip=optional(positive))
def value_loss(terms: Terms, *, coefficient: float = 0.1, clip: float | None = 0.2) -> Tensor:
    """coefficient / 2 x the squared error of the value head against advantage + value at the time of sampling.

    Args:
        clip: no gradient for a value that has already moved this far from what it was (as PPO codes do); None: never.
    """
    values, old = terms.need("values", "value_loss()"), terms.need("values_old", "value_loss()")
    returns = terms.need("returns", "value_loss()")
    error = (values - returns) ** 2
    if clip is not None:
        error = torch.maximum(error, (values.clamp(old - clip, old + clip) - returns) ** 2)
    return coefficient / 2 * error
