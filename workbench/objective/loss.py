"""From a batch of rollouts to a number to minimise: the parts of a recipe in the order in which they are used.

    prepared = prepare(recipe, batch)                      # once: rewards -> advantages, units, weights
    for rows in minibatches:
        part = prepared.select(rows)
        logp = policy.evaluate(part.batch).logp
        value, numbers = loss(recipe, part, logp)          # ratio -> surrogate -> penalties -> sum
        value.backward()
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.batch import Batch, Stop
from workbench.objective.part import Part
from workbench.objective.regulariser import Terms
from workbench.objective.surrogate import gradient_weight


class Parts(Protocol):
    """What an objective is made of; a `Recipe` has all of these and more."""

    @property
    def reward(self) -> tuple[Part, ...]: ...
    @property
    def unit(self) -> Part: ...
    @property
    def advantage(self) -> Part: ...
    @property
    def select(self) -> Part: ...
    @property
    def ratio(self) -> Part: ...
    @property
    def surrogate(self) -> Part: ...
    @property
    def regulariser(self) -> tuple[Part, ...]: ...
    @property
    def aggregate(self) -> Part: ...


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch with everything that does not change while it is trained on. All [B,T] unless said otherwise.

    Attributes:
        batch: the rollouts. mask: its mask without episodes that ended in an error of the task.
        rewards: of each token, penalties placed in the reward included. advantage, unit, weight: what the parts said.
        coefficient: with what each token's objective enters the sum.
        aggregate: the part that made it. logp_ref, values, entropy_past, correction: as given, and returns: the value head's
            target; or None.
    """

    batch: Batch
    mask: Tensor
    rewards: Tensor
    advantage: Tensor
    unit: Tensor
    weight: Tensor
    coefficient: Tensor
    aggregate: Part
    logp_ref: Tensor | None = None
    values: Tensor | None = None
    returns: Tensor | None = None
    entropy_past: Tensor | None = None
    correction: Tensor | None = None

    def __len__(self) -> int:
        return len(self.batch)

    def select(self, rows: Tensor | Sequence[int]) -> Prepared:
        """A minibatch: the rows `rows`, whole episodes, averaged among themselves."""
        part = self.share(rows)
        return dataclasses.replace(part, coefficient=self.aggregate(part.weight, part.mask, part.batch.rollout))

    def share(self, rows: Tensor | Sequence[int]) -> Prepared:
        """Some rows of this minibatch, for less memory at a time: the losses of its shares add up to its own."""
        batch = self.batch.select(rows)
        rows = torch.as_tensor(rows, device=self.mask.device)
        rows = rows if rows.dtype == torch.bool else rows.to(torch.int64)
        width = batch.tokens.shape[1]
        return self.map(batch, lambda value: value[rows][:, :width])

    def map(self, batch: Batch, change: Callable[[Tensor], Tensor]) -> Prepared:
        """For another batch, with `change` applied to every tensor."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed: dict[str, Any] = {k: change(v) for k, v in values.items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, batch=batch, **changed)


def needs(recipe: Parts) -> frozenset[str]:
    """What `prepare` and `loss` have to be given for this recipe, some of `part.NEEDS`."""
    parts = (recipe.advantage, recipe.select, *recipe.regulariser)
    return frozenset().union(*(part.needs for part in parts))


def rewards(recipe: Parts, batch: Batch) -> Tensor:
    """[B,U] the sum of the recipe's reward terms."""
    total = torch.zeros_like(batch.rewards)
    for term in recipe.reward:
        total = total + term(batch)
    return total


@torch.no_grad()
def prepare(
    recipe: Parts, batch: Batch, *,
    entropy: Tensor | None = None, values: Tensor | None = None, logp_ref: Tensor | None = None,
    answer: Tensor | None = None, implicit: Tensor | None = None, entropy_past: Tensor | None = None,
    correction: Tensor | None = None,
) -> Prepared:  # fmt: skip
    """Rewards, advantages, units and weights of a batch of rollouts.

    Episodes that ended in an error of the task (`Stop.ERROR`) count nowhere: not as a baseline, not in an average.

    Args:
        entropy, values, logp_ref, answer, implicit: [B,T] of the policy that sampled, its value head, the reference policy,
            `models.answer_logp`, and the judge (log(judge / pi_old)); only those that `needs(recipe)` names.
        entropy_past: [B,T] `usual_entropy` of the steps before, where `needs(recipe)` names "turn_entropy".
        correction: [B,T] weights for what was sampled by something else than the policy, see `Correction`; None: all 1.
    Raises:
        ValueError: when something is missing or misshapen, or every episode ended in an error.
    """
    given = {"entropy": entropy, "values": values, "logp_ref": logp_ref, "answer": answer, "implicit": implicit,
             "entropy_past": entropy_past, "correction": correction}  # fmt: skip
    for name, tensor in given.items():
        if tensor is not None and tensor.shape != batch.tokens.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; the batch is {tuple(batch.tokens.shape)} [B,T]")
    valid = batch.stop != Stop.ERROR
    if not valid.all():
        if not valid.any():
            raise ValueError("every episode of this batch ended in an error of the task: there is nothing to learn from")
        return _scattered(recipe, batch, valid, given)
    # Statistics in double precision: the float32 sum of eight rewards of 0.1 is not eight times 0.1. (MPS has no double.)
    precision = torch.float32 if batch.tokens.device.type == "mps" else torch.float64
    per_token = batch.at_last_tokens(rewards(recipe, batch).to(precision))
    terms = Terms(logp=batch.logp_old, mask=batch.mask, logp_ref=logp_ref)
    for penalty in recipe.regulariser:
        if _place(penalty) == "reward":
            per_token = per_token - penalty(terms).to(precision) * batch.mask
    wanted = next((given[name] for name in ("values", "answer", "implicit") if name in recipe.advantage.needs), None)
    advantage, returns = recipe.advantage(batch, per_token, wanted), None
    if "values" in recipe.advantage.needs:  # a part may say itself what its value head should learn
        advantage, returns = advantage if isinstance(advantage, tuple) else (advantage, advantage + values)
    weight = recipe.select(batch, advantage, entropy)
    return Prepared(
        batch=batch, mask=batch.mask, rewards=per_token, advantage=advantage, unit=recipe.unit(batch), weight=weight,
        coefficient=recipe.aggregate(weight, batch.mask, batch.rollout), aggregate=recipe.aggregate,
        logp_ref=logp_ref, values=values, returns=returns, entropy_past=entropy_past, correction=correction,
    )  # fmt: skip


def _scattered(recipe: Parts, batch: Batch, valid: Tensor, given: dict[str, Tensor | None]) -> Prepared:
    """Prepare the valid episodes alone, and put zeros where the others are."""
    kept = batch.select(valid)
    width = kept.tokens.shape[1]
    part = prepare(recipe, kept, **{k: None if v is None else v[valid][:, :width] for k, v in given.items()})

    def full(value: Tensor) -> Tensor:
        zeros = torch.zeros(batch.tokens.shape, dtype=value.dtype, device=value.device)
        zeros[valid, :width] = value
        return zeros

    return part.map(batch, full)


def _place(penalty: Part) -> str:
    return penalty.get("place", "loss")


def loss(
    recipe: Parts, prepared: Prepared, logp: Tensor, entropy: Tensor | None = None, values: Tensor | None = None
) -> tuple[Tensor, dict[str, float]]:
    """The number to minimise, and what to watch.

    Args:
        logp, entropy, values: [B,T] of the policy being trained, on `prepared.batch`; entropy and values where needed.
    Returns: a scalar with gradient, and plain numbers over the sampled tokens: ratio_mean, ratio_min, ratio_max; clip_share,
        the share of tokens with an advantage that get no gradient; kl, an estimate of KL(old || new); entropy if given.
    """
    mask, coefficient = prepared.mask, prepared.coefficient.to(logp.dtype)
    if logp.shape != mask.shape:
        raise ValueError(f"logp has shape {tuple(logp.shape)}; the prepared batch is {tuple(mask.shape)} [B,T]")
    old = prepared.batch.logp_old.to(logp.dtype)
    advantage = prepared.advantage.to(logp.dtype)
    ratio = recipe.ratio(logp, old, prepared.unit, mask)
    objective = recipe.surrogate(ratio, advantage, logp)
    if prepared.correction is not None:
        objective = prepared.correction.to(logp.dtype) * objective
    terms = Terms(
        logp=logp, mask=mask, ratio=ratio, entropy=entropy, values=values, logp_ref=_as(prepared.logp_ref, logp),
        values_old=_as(prepared.values, logp), returns=_as(prepared.returns, logp), turn=prepared.batch.turn,
        advantage=advantage, logp_old=old, entropy_past=_as(prepared.entropy_past, logp),
    )  # fmt: skip
    for penalty in recipe.regulariser:
        if _place(penalty) == "loss":
            objective = objective - penalty(terms)
    total = torch.where(mask, coefficient * objective, 0).sum()
    return -total, _watch(recipe.surrogate, prepared, ratio, advantage, logp, old, entropy)


def _as(value: Tensor | None, like: Tensor) -> Tensor | None:
    return None if value is None else value.to(like.dtype)


@torch.no_grad()
def _watch(
    surrogate: Part, prepared: Prepared, ratio: Tensor, advantage: Tensor, logp: Tensor, old: Tensor,
    entropy: Tensor | None,
) -> dict[str, float]:  # fmt: skip
    mask = prepared.mask
    names = ["ratio_mean", "ratio_min", "ratio_max", "clip_share", "kl"]
    if not mask.any():
        return dict.fromkeys([*names, "entropy"] if entropy is not None else names, float("nan"))
    r, change = ratio[mask], (logp - old)[mask]
    credited = mask & (advantage != 0)
    stuck = credited & (gradient_weight(surrogate, ratio, advantage, logp) == 0)
    numbers = [r.mean(), r.min(), r.max(), stuck.sum() / credited.sum().clamp(min=1), (change.exp() - 1 - change).mean()]
    if entropy is not None:
        names, numbers = [*names, "entropy"], [*numbers, entropy[mask].mean()]
    return dict(zip(names, torch.stack([number.to(logp.dtype) for number in numbers]).tolist()))


def active(recipe: Parts, prepared: Prepared) -> Tensor:
    """[B] bool: the episodes that can have a gradient. The others need no forward pass: `prepared.share(active(...))`."""
    carries = prepared.coefficient != 0
    if not any(_place(penalty) == "loss" for penalty in recipe.regulariser):
        carries = carries & (prepared.advantage != 0)
    return carries.any(1)


def dead(prepared: Prepared) -> float:
    """The share of groups in which no token has an advantage: rollouts that taught nothing."""
    _, group = torch.unique(prepared.batch.group, return_inverse=True)
    alive = torch.zeros(int(group.max()) + 1, dtype=torch.int64, device=group.device)
    alive = alive.scatter_add(0, group, (prepared.advantage != 0).any(1).to(torch.int64))
    return (alive == 0).float().mean().item()
