"""What a recipe does on average, exactly: every outcome of a small bandit is listed, none is drawn.

A softmax policy over K arms for each of S contexts; one update sees one group of G pulls for every context. On a problem this
small the true gradient of the expected reward is known, so the bias and the variance of any recipe are numbers, not opinions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.objective.correction import Correction
from workbench.objective.loss import Parts, loss, needs, prepare, rewards
from workbench.objective.part import Part

MOST = 300_000  # outcomes to list in one call


class WithRollout(Parts, Protocol):
    """An objective that also says how prompts are rolled out; a `Recipe` does."""

    @property
    def rollout(self) -> Part: ...


def policy_gradient(logits: Tensor, means: Tensor) -> Tensor:
    """The gradient [S,K] of the mean reward over contexts, (1/S) sum_s sum_a pi(a|s) means[s,a].

    Args:
        logits: [S,K] of the softmax policy. means: [S,K] the expected reward of each arm.
    """
    policy = logits.double().softmax(1)
    reward = means.double()
    return policy * (reward - (policy * reward).sum(1, keepdim=True)) / len(logits)


@dataclass(frozen=True)
class Update:
    """The distribution of one update: minus the gradient of the loss with respect to the logits.

    Attributes:
        mean: [S,K]. covariance: [S*K,S*K].
        kept: [S] the probability that a group is not thrown away by dynamic sampling; everything else is given that it is not.
    """

    mean: Tensor
    covariance: Tensor
    kept: Tensor

    @property
    def variance(self) -> float:
        """The sum of the variances of all S*K components."""
        return self.covariance.diagonal().sum().item()


@dataclass(frozen=True)
class Bias:
    """The mean update against the true gradient.

    Attributes:
        factor: the multiple of the true gradient that is nearest to the mean update; a learning rate can undo it.
        direction: the length of what is left over, as a share of the mean update: 0 is the right direction, 1 a right angle.
        total: |mean update - gradient| / |gradient|.
        variance: of the update divided by `factor`, relative to |gradient|^2: comparable between recipes.
    """

    factor: float
    direction: float
    total: float
    variance: float


def measure(recipe: WithRollout, logits: Tensor, means: Tensor, **settings: Any) -> Bias:
    """Bias and variance of a recipe; `settings` are those of `expected_update`."""
    update, gradient = expected_update(recipe, logits, means, **settings), policy_gradient(logits, means)
    square = (gradient**2).sum()
    factor = (update.mean * gradient).sum() / square
    length = update.mean.norm().clamp(min=1e-300)
    return Bias(
        factor=factor.item(),
        direction=((update.mean - factor * gradient).norm() / length).item(),
        total=((update.mean - gradient).norm() / square.sqrt()).item(),
        variance=update.variance / (factor**2 * square).item() if factor else math.inf,
    )


def expected_update(
    recipe: WithRollout, logits: Tensor, means: Tensor, *, bernoulli: bool = True, group_size: int | None = None,
    behaviour: Tensor | None = None, values: Tensor | None = None, reference: Tensor | None = None,
    correction: Correction | None = None,
) -> Update:  # fmt: skip
    """Mean and covariance of the update of `recipe`, over all outcomes of one group of pulls for every context.

    Args:
        logits: [S,K] the policy being trained. means: [S,K] expected reward of each arm, from 0 to 1 if `bernoulli`.
        bernoulli: a pull pays 1 with probability `means`, else 0; or, if false, exactly `means`.
        group_size: G; default: the recipe's.
        behaviour: [S,K] logits of the policy that pulled the arms, if it was another one (off-policy).
        correction: take the policy's own log-probabilities for the old ones, and weigh what `behaviour` sampled.
        values: [S] what the value head says of each context; 0 if not given. reference: [S,K] logits, for a KL penalty.
            A gold answer's probability and a judge have nothing to tell the turns of an episode of one turn apart: they are
            taken to be silent.
    Raises:
        ValueError: for bad shapes or means, more than `MOST` outcomes, or when dynamic sampling would keep nothing.
    """
    logits, means = logits.detach().double(), means.detach().double()
    if logits.ndim != 2 or logits.shape != means.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and means {tuple(means.shape)} must both be [S,K]")
    if bernoulli and ((means < 0) | (means > 1)).any():
        raise ValueError("a Bernoulli arm pays 1 with probability `means`, which must be from 0 to 1; or set bernoulli=False")
    world = _World(recipe, logits, means, bernoulli, behaviour, values, reference, correction)
    size = recipe.rollout.get("size", 8) if group_size is None else group_size
    tables = [world.outcomes(context, size) for context in range(len(logits))]
    kept = torch.stack([table.kept for table in tables])
    if (kept == 0).any():
        raise ValueError(f"{recipe.rollout!r} keeps no outcome of context {int((kept == 0).nonzero()[0])}: nothing to average")
    return (_separate if _groups_do_not_meet(recipe) else _together)(world, tables, kept)


def _groups_do_not_meet(recipe: Parts) -> bool:
    """Whether what a group contributes is known to depend on that group alone, but for the size of the batch."""
    a = recipe.advantage
    alone = {
        "episode_advantage": not (str(a.get("baseline")).startswith("batch") or "batch" in str(a.get("scale"))),
        "turn_returns": True,
        **dict.fromkeys(("gae", "turn_gae", "bilevel_gae", "action_gae"), True),
        **dict.fromkeys(("turn_and_outcome", "information_gain", "implicit_steps"), True),
        "token_returns": not a.get("whiten"),
    }
    plain = all(term.name != "calibrated" for term in recipe.reward) and recipe.select.name == "all_tokens"
    plain = plain and recipe.aggregate.name in ("sequence_mean", "token_mean", "token_sum")
    return alone.get(a.name, False) and plain


@dataclass(frozen=True)
class _Table:
    """All N outcomes of one group: arms and rewards [N,G], probability [N] given that the group is kept."""

    context: int
    arms: Tensor
    paid: Tensor
    probability: Tensor
    kept: Tensor


@dataclass(frozen=True)
class _World:
    recipe: WithRollout
    logits: Tensor
    means: Tensor
    bernoulli: bool
    behaviour: Tensor | None
    values: Tensor | None
    reference: Tensor | None
    correction: Correction | None

    def outcomes(self, context: int, size: int) -> _Table:
        """Multisets of (arm, reward) with their multinomial probabilities: the order of the pulls does not matter."""
        sampler = self.logits if self.behaviour is None else self.behaviour.detach().double()
        chances = sampler[context].softmax(0).tolist()
        single = []
        for arm, (chance, mean) in enumerate(zip(chances, self.means[context].tolist())):
            pays = [(1.0, mean), (0.0, 1 - mean)] if self.bernoulli else [(mean, 1.0)]
            single += [(arm, reward, chance * p) for reward, p in pays if p > 0]
        count = math.comb(len(single) + size - 1, size)
        if count > MOST:
            raise ValueError(f"{count} outcomes of {size} pulls are too many to list: use fewer arms or a smaller group")
        picks = torch.tensor(list(itertools.combinations_with_replacement(range(len(single)), size)))
        arms, paid, chance = (torch.tensor(column, dtype=torch.float64) for column in zip(*single))
        times = torch.stack([(picks == i).sum(1) for i in range(len(single))], 1).double()
        orders = math.lgamma(size + 1) - torch.lgamma(times + 1).sum(1)
        probability = (orders + (times * chance.log()).sum(1)).exp()
        table = _Table(context, arms[picks].long(), paid[picks], probability, probability.sum())
        batch = self.batch([table])
        keep = self.recipe.rollout(batch, rewards(self.recipe, batch)).view(-1, size).all(1)
        total = (probability * keep).sum()
        return _Table(context, table.arms[keep], table.paid[keep], probability[keep] / total, total)

    def batch(self, tables: list[_Table]) -> Batch:
        """The outcomes of all tables as one batch, a group each."""
        context = torch.cat([torch.full(table.arms.shape, table.context) for table in tables]).flatten()
        arms = torch.cat([table.arms for table in tables])
        sampler = self.logits if self.behaviour is None else self.behaviour.detach().double()
        logp = sampler.log_softmax(1)[context, arms.flatten()]
        group = torch.arange(len(arms)).repeat_interleave(arms.shape[1])
        paid = torch.cat([table.paid for table in tables]).flatten()
        return Batch.from_pulls(arms.flatten(), paid, logp, context=context, group=group)

    def updates(self, batch: Batch) -> Tensor:
        """[B,K] what each pull adds to minus the gradient of the loss with respect to its context's logits."""
        context, arms = batch.tokens.T
        policy, log_policy = self.logits.softmax(1)[context], self.logits.log_softmax(1)[context]
        entropy_each = -(policy * log_policy).sum(1)

        def on_arm(value: Tensor) -> Tensor:
            return torch.stack([torch.zeros_like(value), value], 1)

        exact = log_policy.gather(1, arms[:, None])[:, 0]
        logp = batch.logp_old.double() if self.behaviour is None else on_arm(exact)  # rounded alike: the ratio is exactly 1
        weight = None
        if self.correction is not None:
            weight = self.correction(logp, batch.logp_old.double(), batch.mask)
            batch = batch.replace(logp_old=logp.float())
            logp = batch.logp_old.double()
        values = None
        if "values" in needs(self.recipe):
            values = on_arm(torch.zeros(len(batch)).double() if self.values is None else self.values.double()[context])
        logp_ref = None
        if self.reference is not None:
            logp_ref = on_arm(self.reference.double().log_softmax(1)[context].gather(1, arms[:, None])[:, 0])
        entropy = on_arm(entropy_each)
        same: dict[str, Any] = {name: torch.zeros_like(entropy) for name in ("answer", "implicit") if name in needs(self.recipe)}
        if "turn_entropy" in needs(self.recipe):
            same["entropy_past"] = torch.full_like(entropy, math.nan)  # the first update: nothing is usual yet
        prepared = prepare(self.recipe, batch, entropy=entropy, values=values, logp_ref=logp_ref, correction=weight, **same)
        with torch.enable_grad():
            logp, entropy = logp.detach().requires_grad_(), entropy.detach().requires_grad_()
            value, _ = loss(self.recipe, prepared, logp, entropy, values)
            by_logp, by_entropy = torch.autograd.grad(value, (logp, entropy), allow_unused=True)
        score = torch.nn.functional.one_hot(arms, policy.shape[1]) - policy
        total = -by_logp[:, 1:] * score
        if by_entropy is not None:
            total = total + by_entropy[:, 1:] * policy * (log_policy + entropy_each[:, None])
        return total


def _separate(world: _World, tables: list[_Table], kept: Tensor) -> Update:
    """One big batch a context; the average over its outcomes is undone, and done again over the contexts."""
    contexts, arms = world.logits.shape
    mean = torch.zeros(contexts, arms, dtype=torch.float64)
    covariance = torch.zeros(contexts, arms, contexts, arms, dtype=torch.float64)
    for s, table in enumerate(tables):
        outcomes, size = table.arms.shape
        each = world.updates(world.batch([table])).view(outcomes, size, arms).sum(1) * outcomes / contexts
        mean[s], covariance[s, :, s] = _moments(each, table.probability)
    return Update(mean, covariance.view(contexts * arms, contexts * arms), kept)


def _together(world: _World, tables: list[_Table], kept: Tensor) -> Update:
    """All combinations of the contexts' outcomes, each its own batch."""
    total = math.prod(len(table.arms) for table in tables)
    if total > MOST // 30:
        raise ValueError(f"{total} combinations of outcomes are too many to list: use fewer contexts, arms or pulls")
    contexts, arms = world.logits.shape
    rows, chances = [], []
    for combination in _combinations(tables):
        batch = world.batch(combination)
        each = world.updates(batch)
        rows.append(torch.zeros(contexts, arms, dtype=each.dtype).index_add(0, batch.tokens[:, 0], each).flatten())
        chances.append(math.prod(table.probability.item() for table in combination))
    mean, covariance = _moments(torch.stack(rows), torch.tensor(chances, dtype=torch.float64))
    return Update(mean.view(contexts, arms), covariance, kept)


def _combinations(tables: list[_Table]) -> Iterator[list[_Table]]:
    for picks in itertools.product(*(range(len(table.arms)) for table in tables)):
        yield [
            _Table(t.context, t.arms[i : i + 1], t.paid[i : i + 1], t.probability[i], t.kept) for t, i in zip(tables, picks)
        ]


def _moments(values: Tensor, probability: Tensor) -> tuple[Tensor, Tensor]:
    """[N,D], [N] -> mean [D] and covariance [D,D]."""
    mean = (probability[:, None] * values).sum(0)
    centred = values - mean
    return mean, centred.T @ (probability[:, None] * centred)
