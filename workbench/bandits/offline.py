"""Learning from logged choices: what to do next, and what a new policy would have earned, when somebody else chose.

A log holds N rounds of context, action and reward, and, if one is lucky, the *propensity*: the chance the logger's policy
gave to the action it took. Contexts are numbers 0 to S-1, policies are tables [S,K] of probabilities. Every function works
on many independent logs at once: leading axes are kept, so R logs of N rounds are arrays [R,N] and answers are [R].

Choosing (Rashidinejad, Zhu, Ma, Jiao and Russell 2021, arXiv 2103.12021): `most_played`, `empirical_best`,
`lower_confidence`, `imitation`. Judging: `ips` (Horvitz and Thompson 1952), `self_normalised` (Hájek), `direct`, and
`doubly_robust` (Dudík, Langford and Li 2011, arXiv 1103.4601).

All of it assumes that nothing else than the logged context moved both the logger's choice and the reward. Nothing in a log
can show whether that holds; `workbench.bandits.confounded` is about what happens where it does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from workbench import seeding
from workbench.stats import Interval, t_interval

_SUM = 1e-9  # how far from 1 a policy's probabilities may add up


@dataclass(frozen=True)
class Log:
    """N logged rounds, or leading axes of independent logs of N rounds each.

    Attributes:
        actions: [..., N], the arm chosen, from 0 to arms-1. rewards: [..., N].
        arms: K, how many there were to choose from, those never chosen included.
        propensities: [..., N], the chance that the logger's policy gave to the action it took; None if nobody wrote it down.
        contexts: [..., N], what the logger saw, from 0 to n_contexts-1; None if there was nothing to see.
        n_contexts: S. With features instead of numbers, give every distinct vector a number.

    Raises:
        ValueError: shapes that differ, numbers out of range, rewards that are not finite, propensities not in (0, 1].
    """

    actions: np.ndarray
    rewards: np.ndarray
    arms: int
    propensities: np.ndarray | None = None
    contexts: np.ndarray | None = None
    n_contexts: int = 1

    def __post_init__(self) -> None:
        if self.arms < 2:
            raise ValueError(f"a choice needs at least 2 arms, not {self.arms!r}")
        if self.n_contexts < 1:
            raise ValueError(f"n_contexts must be 1 or more, not {self.n_contexts!r}")
        if self.contexts is None and self.n_contexts > 1:
            raise ValueError(f"contexts are missing: n_contexts={self.n_contexts}, so say which each round had")
        actions = _whole("actions", self.actions, self.arms, "arms")
        if actions.ndim < 1 or actions.shape[-1] < 1:
            raise ValueError(f"a log needs at least one round on its last axis, not shape {actions.shape}")
        rewards = self._fitting("rewards", np.asarray(self.rewards, dtype=float), actions.shape)
        if not np.isfinite(rewards).all():
            raise ValueError(f"{int((~np.isfinite(rewards)).sum())} rewards are not finite; leave those rounds out")
        object.__setattr__(self, "actions", actions)
        object.__setattr__(self, "rewards", rewards)
        if self.contexts is not None:
            contexts = _whole("contexts", self.contexts, self.n_contexts, "n_contexts")
            object.__setattr__(self, "contexts", self._fitting("contexts", contexts, actions.shape))
        if self.propensities is not None:
            chance = self._fitting("propensities", np.asarray(self.propensities, dtype=float), actions.shape)
            if not ((chance > 0) & (chance <= 1)).all():  # nan fails both
                bad = chance[~((chance > 0) & (chance <= 1))]
                raise ValueError(
                    f"{bad.size} propensities are not in (0, 1], such as {bad[0]!r}: each is the chance the logger gave to the "
                    "action it did take, which cannot be zero; if it is not known, pass propensities=None"
                )
            object.__setattr__(self, "propensities", chance)

    @staticmethod
    def _fitting(name: str, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if x.shape != shape:
            raise ValueError(f"{name} must have the shape of the actions, {shape}, not {x.shape}")
        return x

    @property
    def rounds(self) -> int:
        """N."""
        return self.actions.shape[-1]

    @property
    def seen(self) -> np.ndarray:
        """The contexts [..., N], all 0 where there is nothing to see."""
        return np.zeros_like(self.actions) if self.contexts is None else self.contexts

    def counts(self) -> np.ndarray:
        """How often each arm was chosen in each context [..., S, K]."""
        return self._per_pair(None)

    def totals(self) -> np.ndarray:
        """The rewards of each arm in each context, added up [..., S, K]."""
        return self._per_pair(self.rewards.ravel())

    def _per_pair(self, weights: np.ndarray | None) -> np.ndarray:
        pairs, lead = self.n_contexts * self.arms, self.actions.shape[:-1]
        logs = math.prod(lead)
        flat = (self.seen * self.arms + self.actions).reshape(logs, -1) + pairs * np.arange(logs)[:, None]
        table = np.bincount(flat.ravel(), weights, minlength=pairs * logs)
        return table.reshape(*lead, self.n_contexts, self.arms)


# Worlds to make logs in, known exactly


def expert(means: Any, coverage: float) -> np.ndarray:
    """A logger of known quality: means [..., K] -> policy [..., K] that plays the best arm with chance 1/coverage.

    The other arms share the rest equally. `coverage` is C*, the largest ratio of the best policy's probability to the
    logger's (Rashidinejad et al. 2021): 1 is an expert who never errs, K chooses uniformly, more avoids the best arm.
    Raises ValueError for a coverage below 1.
    """
    means = np.asarray(means, dtype=float)
    if not coverage >= 1:
        raise ValueError(f"coverage is 1 / P(best arm), so at least 1, not {coverage!r}")
    best = np.arange(means.shape[-1]) == means.argmax(-1)[..., None]
    return np.where(best, 1 / coverage, (1 - 1 / coverage) / (means.shape[-1] - 1))


def record(
    means: Any, behaviour: Any, rounds: int, *, seed: int, logs: int | None = None, weights: Any = None
) -> Log:
    """Logs of a Bernoulli bandit whose logger plays `behaviour` and writes down its propensities.

    Args:
        means: chance of reward [K], [S,K], or [R,S,K] where each of R logs has its own bandit.
        behaviour: the logger's probabilities, of the same or a smaller shape.
        rounds: N. logs: R independent logs [R,N]; None for one log [N] (or the R of `means`).
        weights: chances of the contexts [S]; equal if None.
    Raises:
        ValueError: probabilities outside [0, 1] or not adding up to 1, shapes that do not fit.
    """
    truth = np.atleast_2d(np.asarray(means, dtype=float))
    if truth.ndim > 3 or not ((truth >= 0) & (truth <= 1)).all():
        raise ValueError(f"means must be chances of reward [K], [S,K] or [R,S,K] within 0 and 1, not {means!r}")
    if rounds < 1:
        raise ValueError(f"rounds must be 1 or more, not {rounds!r}")
    if truth.ndim == 3 and logs not in (None, len(truth)):
        raise ValueError(f"means describe {len(truth)} bandits, so logs must be that or None, not {logs!r}")
    number = len(truth) if truth.ndim == 3 else 1 if logs is None else logs
    states, arms = truth.shape[-2:]
    chance = np.broadcast_to(_policy(behaviour, states, arms, "behaviour"), (number, states, arms))
    truth = np.broadcast_to(truth, (number, states, arms))
    shown = _context_weights(weights, states)
    rng = seeding.generator(seed, "logged choices")
    row = np.arange(number)[:, None]
    contexts = _draw(shown, rng.random((number, rounds)))
    actions = _draw(chance, rng.random((number, rounds)), row, contexts)
    rewards = (rng.random((number, rounds)) < truth[row, contexts, actions]).astype(float)
    propensities = chance[row, contexts, actions]
    if logs is None and truth.shape[0] == 1 and np.ndim(means) < 3:
        contexts, actions, rewards, propensities = contexts[0], actions[0], rewards[0], propensities[0]
    return Log(actions, rewards, arms, propensities, contexts if states > 1 else None, states)


def value(policy: Any, means: Any, weights: Any = None) -> Any:
    """The exact expected reward of policy [..., S, K] where arms pay means [..., S, K] -> [...]; context chances [S]."""
    truth = np.atleast_2d(np.asarray(means, dtype=float))
    table = _policy(policy, *truth.shape[-2:])
    return ((table * truth).sum(-1) @ _context_weights(weights, truth.shape[-2]))[()]


def table(arms: Any, k: int) -> np.ndarray:
    """The policy that always plays `arms` [..., S], as probabilities [..., S, K]."""
    return np.eye(k)[_whole("arms", arms, k, "k")]


# What to play next: an arm for each context


def most_played(log: Log) -> np.ndarray:
    """The arm the logger chose most often in each context [..., S]; rewards are not looked at. Lowest number at ties."""
    return log.counts().argmax(-1)


def empirical_best(log: Log) -> np.ndarray:
    """The arm with the highest mean reward in each context [..., S]; arms never logged are left out. Lowest number at ties."""
    counts = log.counts()
    return np.where(counts > 0, log.totals() / np.maximum(counts, 1), -np.inf).argmax(-1)


def lower_confidence(log: Log, *, delta: float | None = None, scale: float = 1.0) -> np.ndarray:
    """The arm with the highest lower confidence bound in each context [..., S]: pessimism.

    The bound is mean - scale sqrt(ln(2 S K / delta) / (2 n)), Hoeffding's for rewards in [0, 1] (the rule studied by
    Rashidinejad et al. 2021); delta is 1/N unless given. An arm never logged has the bound -infinity. Lowest number at ties.

    Raises:
        ValueError: rewards outside [0, 1], for which the bound does not hold; delta outside (0, 1); a negative scale.
    """
    if log.rewards.min() < 0 or log.rewards.max() > 1:
        raise ValueError(
            f"Hoeffding's bound is for rewards in [0, 1]; these reach from {log.rewards.min():g} to {log.rewards.max():g}: "
            "rescale them first"
        )
    delta = 1 / max(log.rounds, 2) if delta is None else delta
    if not 0 < delta < 1 or not scale >= 0:
        raise ValueError(f"delta must lie between 0 and 1 and scale be 0 or more, not {delta!r} and {scale!r}")
    counts = log.counts()
    pairs = log.n_contexts * log.arms
    seen = np.maximum(counts, 1)
    bound = log.totals() / seen - scale * np.sqrt(math.log(2 * pairs / delta) / (2 * seen))
    return np.where(counts > 0, bound, -np.inf).argmax(-1)


def imitation(log: Log) -> np.ndarray:
    """The logger's policy as counted: the share of each arm in each context [..., S, K]; uniform where a context never came."""
    counts = log.counts()
    total = counts.sum(-1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / log.arms)


# What another policy would have earned


class Overlap(NamedTuple):
    """How much a log can say about another policy.

    Attributes:
        effective: Kish's effective number of rounds, (sum w)^2 / sum w^2; 0 if no logged choice could have been its own.
        largest: the largest weight w. mean: the mean weight, 1 in expectation if the propensities are right.
        unseen: the share of the new policy's choices, over the logged contexts, that the log holds no example of.
    """

    effective: Any
    largest: Any
    mean: Any
    unseen: Any


def weights(log: Log, policy: Any) -> np.ndarray:
    """The importance weight of each logged round [..., N]: the new policy's chance of the choice over the logger's.

    Raises ValueError if the log has no propensities.
    """
    if log.propensities is None:
        raise ValueError(
            "this log does not say how likely each choice was (propensities=None): use `direct`, or, if the logged contexts "
            "are all that the logger saw, `with_counted_propensities(log)`"
        )
    return _taken(_target(policy, log), log) / log.propensities


def overlap(log: Log, policy: Any) -> Overlap:
    """Effective number of rounds, largest and mean weight, and the share of choices never seen; see `Overlap`."""
    w = weights(log, policy)
    square = (w**2).sum(-1)
    effective = np.where(square > 0, w.sum(-1) ** 2 / np.where(square > 0, square, 1), 0.0)
    never = (_target(policy, log) * (log.counts() == 0)).sum(-1)  # [..., S]
    shown = log.counts().sum(-1) / log.rounds
    return Overlap(effective[()], w.max(-1), w.mean(-1), (shown * never).sum(-1))


def with_counted_propensities(log: Log) -> Log:
    """The log with each propensity replaced by the share of that arm among the rounds of the same context."""
    chance = _taken(imitation(log), log)
    return Log(log.actions, log.rewards, log.arms, chance, log.contexts, log.n_contexts)


def ips(log: Log, policy: Any, *, level: float = 0.95) -> Interval:
    """Inverse propensity scoring: the mean of w r, with Student's interval over rounds; each [...].

    Unbiased wherever the logger gives every arm that `policy` may choose a positive chance. The interval leans on the
    central limit theorem, so it covers too rarely when a few large weights decide: in our tests a 95 % interval from 200 rounds
    covers in 95 % of logs with weights up to 2.4, in 87 % up to 24, in 38 % up to 240. Look at `overlap` first.
    """
    return t_interval(weights(log, policy) * log.rewards, level=level)


def self_normalised(log: Log, policy: Any, *, level: float = 0.95) -> Interval:
    """Self-normalised IPS: sum of w r over sum of w, with the interval of the linearised ratio; each [...].

    One sum of weights for the whole log (not one an arm). It never leaves the range of the rewards seen; its bias is of
    order 1/N. Raises ValueError where all weights of a log are zero, and the ratio is 0/0.
    """
    w = weights(log, policy)
    if not (total := w.mean(-1, keepdims=True)).all():
        raise ValueError(
            f"in {int((total == 0).sum())} of {total.size} logs no logged choice could have been this policy's: such a log says "
            "nothing about it; look at `overlap`"
        )
    centre = (w * log.rewards).mean(-1, keepdims=True) / total
    return t_interval(centre + w * (log.rewards - centre) / total, level=level)


def reward_model(log: Log, *, unseen: float | None = None) -> np.ndarray:
    """The mean reward of each arm in each context [..., S, K]; `unseen` fills what was never logged.

    Raises ValueError if something was never logged and `unseen` is None.
    """
    counts = log.counts()
    if unseen is None:
        _refuse_unseen(counts == 0)
    return np.where(counts > 0, log.totals() / np.maximum(counts, 1), 0.0 if unseen is None else unseen)


def direct(log: Log, policy: Any, model: Any = None, *, level: float = 0.95) -> Interval:
    """The direct method: what `model` [..., S, K] predicts for the policy's choices in the logged contexts; each [...].

    With model None it is the table of mean rewards of the same log, and the interval holds its noise (this is IPS with
    counted propensities). With a model of yours the interval knows of the contexts' noise alone, not of the model's
    error: it can be short, and wrong, for any N.

    Raises:
        ValueError: with model None, the policy may choose an arm never logged in a context that was.
    """
    target = _target(policy, log)
    if model is None:
        counts = log.counts()
        _refuse_unseen((counts == 0) & (target > 0) & (counts.sum(-1, keepdims=True) > 0))
        return doubly_robust(with_counted_propensities(log), policy, reward_model(log, unseen=0.0), level=level)
    predicted = (target * _model(model, log)).sum(-1)  # [..., S]
    return t_interval(_at_contexts(predicted, log), level=level)


def doubly_robust(log: Log, policy: Any, model: Any, *, level: float = 0.95) -> Interval:
    """The direct method plus the weighted residuals of `model` [..., S, K], with Student's interval; each [...].

    Unbiased if the propensities are right, whatever the model (made without this log); consistent if the model is right,
    whatever the propensities. A model of zeros gives IPS.
    """
    target, guess = _target(policy, log), _model(model, log)
    predicted = _at_contexts((target * guess).sum(-1), log)
    return t_interval(predicted + weights(log, policy) * (log.rewards - _taken(guess, log)), level=level)


def _taken(values: np.ndarray, log: Log) -> np.ndarray:
    """Entries of a table [..., S, K] at the logged contexts and actions [..., N]."""
    lead = log.actions.shape[:-1]
    flat = np.broadcast_to(values, (*lead, log.n_contexts, log.arms)).reshape(*lead, -1)
    return np.take_along_axis(flat, log.seen * log.arms + log.actions, -1)


def _at_contexts(values: np.ndarray, log: Log) -> np.ndarray:
    """Entries of [..., S] at the logged contexts [..., N]."""
    return np.take_along_axis(np.broadcast_to(values, (*log.actions.shape[:-1], log.n_contexts)), log.seen, -1)


def _draw(chance: np.ndarray, uniform: np.ndarray, *at: np.ndarray) -> np.ndarray:
    """One category of chance[at] [..., K] for each uniform number; arm by arm, so that nothing of K times the size is made."""
    edges = chance.cumsum(-1)
    edges = edges / edges[..., -1:]  # rounding must not leave room above the last one
    drawn = np.zeros(uniform.shape, dtype=np.int64)
    for k in range(chance.shape[-1] - 1):
        drawn += uniform >= edges[(*at, k)]
    return drawn


def _whole(name: str, x: Any, below: int, limit: str) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype.kind not in "iu":
        raise ValueError(f"{name} must be whole numbers, not {x.dtype}")
    if x.size and (x.min() < 0 or x.max() >= below):
        raise ValueError(f"{name} must lie from 0 to {limit}-1 = {below - 1}, not reach from {x.min()} to {x.max()}")
    return x.astype(np.int64)


def _policy(policy: Any, states: int, arms: int, name: str = "policy") -> np.ndarray:
    policy = np.atleast_2d(np.asarray(policy, dtype=float))
    if policy.shape[-2:] not in ((states, arms), (1, arms)):
        raise ValueError(
            f"{name} must be a table of probabilities [S,K] = {(states, arms)}, not {policy.shape}; `table(arms, K)` makes one "
            "of chosen arms"
        )
    if not (policy >= 0).all() or not np.allclose(policy.sum(-1), 1, rtol=0, atol=_SUM):
        raise ValueError(f"{name} must hold probabilities that add up to 1 in every context")
    return policy


def _target(policy: Any, log: Log) -> np.ndarray:
    return _one_or_each("policy", _policy(policy, log.n_contexts, log.arms), log)


def _one_or_each(name: str, x: np.ndarray, log: Log) -> np.ndarray:
    if x.ndim > 2 and x.shape[:-2] != log.actions.shape[:-1]:
        raise ValueError(
            f"{name} must be one table for all logs or one for each, {log.actions.shape[:-1]}, not {x.shape[:-2]}"
        )
    return x


def _model(model: Any, log: Log) -> np.ndarray:
    model = np.asarray(model, dtype=float)
    if model.shape[-2:] != (log.n_contexts, log.arms):
        raise ValueError(
            f"model must be predicted rewards [S,K] = {(log.n_contexts, log.arms)}, not {model.shape}"
        )
    return _one_or_each("model", model, log)


def _context_weights(weights: Any, states: int) -> np.ndarray:
    if weights is None:
        return np.full(states, 1 / states)
    shown = np.asarray(weights, dtype=float)
    if shown.shape != (states,) or not (shown >= 0).all() or abs(shown.sum() - 1) > _SUM:
        raise ValueError(f"weights must be {states} chances of the contexts that add up to 1, not {weights!r}")
    return shown


def _refuse_unseen(missing: np.ndarray) -> None:
    if missing.any():
        context, arm = np.argwhere(missing)[0][-2:]
        raise ValueError(
            f"arm {arm} was never logged in context {context}, so this log says nothing about it: choose a policy that avoids "
            "it, or assume a value for it with reward_model(log, unseen=...)"
        )
