"""Penalties on each token [B,T], subtracted from its objective; or, placed in the reward, from its reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.objective.part import flag, not_negative, one_of, optional, part, positive


@dataclass(frozen=True)
class Terms:
    """What a penalty can be made of, all [B,T], or None where it was not given.

    Attributes:
        logp, entropy, values: of the policy being trained. ratio: of the recipe's ratio part.
        turn, advantage, logp_old: of the batch: the turn each token belongs to, and what `advantage` and the sampler said.
        logp_ref: of the reference policy. values_old, returns: of the value head when the batch was prepared, and its target.
        entropy_past: what was usual at this turn in earlier steps, see `usual_entropy`.
    """

    logp: Tensor
    mask: Tensor
    turn: Tensor | None = None
    advantage: Tensor | None = None
    logp_old: Tensor | None = None
    ratio: Tensor | None = None
    logp_ref: Tensor | None = None
    entropy: Tensor | None = None
    values: Tensor | None = None
    values_old: Tensor | None = None
    returns: Tensor | None = None
    entropy_past: Tensor | None = None

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


@part(
    "regulariser", needs=("entropy", "turn_entropy"),
    coefficient=not_negative, low=not_negative, high=optional(positive), penalty=one_of("hinge", "constant"), delta=not_negative,
)  # fmt: skip
def entropy_window(
    terms: Terms, *,
    coefficient: float = 0.001, low: float = 0.0, high: float | None = 2.0, penalty: str = "hinge", delta: float = 0.1,
) -> Tensor:  # fmt: skip
    """coefficient x a penalty for an entropy outside `low` to `high` times what was usual at this turn (arXiv 2509.22576).

    Usual is the mean over all earlier steps of the mean entropy of the sampled tokens of turns with this index. A turn index
    that no earlier step reached has no penalty, and so the first step has none.

    Args:
        high: None for no upper limit; then, with low=0, there is never a penalty.
        penalty: "hinge", how far the token's entropy H is outside: max(0, low U - H) + max(0, H - high U), U the usual one: its
            gradient pushes H back. "constant": `delta` for any H outside, as in the released code; it has no gradient, so
            that it changes the number that is reported and nothing else.
    """
    entropy, usual = terms.need("entropy", "entropy_window()"), terms.need("entropy_past", "entropy_window()")
    known = terms.mask & ~usual.isnan()
    usual = torch.where(known, usual, 0)
    below = known & (entropy < low * usual)
    above = known & (entropy > high * usual) if high is not None else torch.zeros_like(known)
    if penalty == "constant":
        return coefficient * delta * (below | above).to(entropy.dtype)
    distance = torch.where(below, low * usual - entropy, 0)
    return coefficient * (distance if high is None else torch.where(above, entropy - high * usual, distance))


def usual_entropy(past: Sequence[tuple[float, int]], turn: Tensor) -> Tensor:
    """[B,T] turns -> [B,T]: the mean over steps of the entropy at each token's turn; nan where no step reached it."""
    means = [total / steps if steps else float("nan") for total, steps in past]
    table = torch.tensor([*means, float("nan")], device=turn.device)
    return table[turn.clamp(min=0, max=len(means))]


def add_entropy(past: Sequence[tuple[float, int]], entropy: Tensor, turn: Tensor, mask: Tensor) -> tuple[tuple[float, int], ...]:
    """`past` with one more step: for each turn index, the mean entropy of its sampled tokens is added where there are any."""
    sums = [*past]
    for j in range(int(turn.max()) + 1):
        mine = mask & (turn == j)
        if j == len(sums):
            sums.append((0.0, 0))
        if mine.any():
            sums[j] = (sums[j][0] + entropy[mine].double().mean().item(), sums[j][1] + 1)
    return tuple(sums)


ROUNDING = 1e-5  # by which log-probabilities of one policy differ when they are computed in another order


@part("regulariser", coefficient=not_negative, gate=one_of("turn", "episode"), credited=flag)
def likelihood_drops(terms: Terms, *, coefficient: float = 0.1, gate: str = "turn", credited: bool = True) -> Tensor:
    """coefficient x how far each token's log-probability fell since it was sampled, where it fell as a whole (arXiv 2512.04220).

    max(0, log pi_old - log pi) on the tokens of a turn (or of the row) whose summed log-probability fell; a token whose ratio is
    at least 1 has none, and while the policy is the one that sampled nobody has any.

    Args:
        gate: over what the log-probabilities are summed to see whether it fell: one turn of the row (the released model card
            found it best), or all its turns.
        credited: only tokens whose advantage is not negative, so that what should become unlikely may.
    """
    turn, old = terms.need("turn", "likelihood_drops()"), terms.need("logp_old", "likelihood_drops()")
    kept = terms.mask & (terms.need("advantage", "likelihood_drops()") >= 0) if credited else terms.mask
    drop = torch.where(terms.mask, old - terms.logp, 0)
    unit = turn.clamp(min=0) if gate == "turn" else torch.zeros_like(turn)
    width = int(unit.max()) + 1 if unit.numel() else 1
    fell = torch.zeros(len(drop), width, dtype=drop.dtype, device=drop.device).scatter_add(1, unit, drop.detach()) > 0
    return coefficient * torch.where(kept & fell.gather(1, unit) & (drop > ROUNDING), drop, 0)


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
