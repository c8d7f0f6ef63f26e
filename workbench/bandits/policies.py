"""Policies for arms with independent rewards, each as its index or its dice.

Every policy is a small object with three methods, `start`, `choose` and `update`; its state are the pulls n [R,K] and the
summed rewards s [R,K] of R repetitions. Confidence radii expect rewards between 0 and 1, and ties go to the arm with the
lowest number. Sources: Slivkins 2019 (arXiv 1904.07272), chapters 1 and 3; Lattimore and Szepesvari 2020; where a policy has
a paper of its own, its docstring names it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from workbench.bandits.play import Policy
from workbench.bandits.problems import Array


class Counting:
    """Keeps n and s, and pulls every arm once before anything else."""

    feedback = "bandit"

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        self.t, self.horizon, self.arms = 0, horizon, arms
        self.n, self.s = np.zeros((repetitions, arms)), np.zeros((repetitions, arms))
        self._rows, self._width, self._mean = np.arange(repetitions), np.empty_like(self.n), np.empty_like(self.n)
        self._first = self._rows * arms  # where a repetition begins in [R,K] laid out flat: one index is cheaper than two

    def choose(self, rng: np.random.Generator) -> Array:
        """The arm of the round; the first K rounds go through all of them."""
        self.t += 1
        if self.t <= self.arms:
            return np.full(len(self._rows), self.t - 1)
        return self.decide(rng)

    def decide(self, rng: np.random.Generator) -> Array:
        """The arm once every arm has been pulled."""
        raise NotImplementedError

    def update(self, arm: Array, reward: Array) -> None:
        place = self._first + arm
        self.n.reshape(-1)[place] += 1
        self.s.reshape(-1)[place] += reward

    def means(self) -> Array:
        """[R,K] what each arm has paid on average."""
        return np.divide(self.s, self.n, out=self._mean)

    def optimistic(self, scale: float) -> Array:
        """[R] the arm with the largest mean + sqrt(scale / n)."""
        np.sqrt(np.divide(scale, self.n, out=self._width), out=self._width)
        self._width += self.means()
        return self._width.argmax(1)

    def __repr__(self) -> str:
        given = {k: v for k, v in vars(self).items() if not k.startswith("_") and k not in _STATE}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"


_STATE = ("t", "horizon", "arms", "n", "s", "best", "alive", "rounds")


class Uniform(Counting):
    """Every arm with the same chance: what learning has to beat."""

    def decide(self, rng: np.random.Generator) -> Array:
        return rng.integers(0, self.arms, len(self._rows))


class Greedy(Counting):
    """Every arm once, then always the one with the best mean so far."""

    def decide(self, rng: np.random.Generator) -> Array:
        return self.means().argmax(1)


class ExploreFirst(Counting):
    """Each arm `pulls` times, then the best one for good (Slivkins 2019, chapter 1).

    pulls: default (T / K)^(2/3) (ln T)^(1/3), for which regret is of order T^(2/3) (K ln T)^(1/3), at most T / K.
    """

    def __init__(self, pulls: int | None = None) -> None:
        self.pulls = None if pulls is None else _whole("pulls", pulls)

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        super().start(repetitions, arms, horizon)
        wanted = (horizon / arms) ** (2 / 3) * math.log(max(horizon, 2)) ** (1 / 3)
        self.rounds = arms * (self.pulls or max(1, min(int(wanted), horizon // arms)))
        self.best: Array | None = None

    def decide(self, rng: np.random.Generator) -> Array:
        if self.t <= self.rounds:
            return np.full(len(self._rows), (self.t - 1) % self.arms)
        if self.best is None:
            self.best = self.means().argmax(1)
        return self.best


class EpsilonGreedy(Counting):
    """The best arm so far, but with chance epsilon any arm.

    epsilon: a fixed chance, or None for t^(-1/3) (K ln t)^(1/3), at most 1, which needs no horizon (Slivkins 2019, chapter 1).
    """

    def __init__(self, epsilon: float | None = 0.1) -> None:
        if epsilon is not None and not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon is a chance, between 0 and 1, not {epsilon!r}")
        self.epsilon = epsilon
        self.name = "EpsilonGreedy" if epsilon is None else f"EpsilonGreedy({epsilon:g})"

    def decide(self, rng: np.random.Generator) -> Array:
        epsilon = self.epsilon
        if epsilon is None:
            epsilon = min(1.0, (self.arms * math.log(self.t) / self.t) ** (1 / 3))
        random = rng.integers(0, self.arms, len(self._rows))
        return np.where(rng.random(len(self._rows)) < epsilon, random, self.means().argmax(1))


class SuccessiveElimination(Counting):
    """All arms in turn; one whose upper bound is below another's lower bound is given up (Even-Dar, Mannor and Mansour 2006).

    The radius is sqrt(2 ln T / n), as in Slivkins 2019, chapter 1.
    """

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        super().start(repetitions, arms, horizon)
        self.alive = np.ones((repetitions, arms), dtype=bool)

    def decide(self, rng: np.random.Generator) -> Array:
        behind = np.where(self.alive, self.n, np.inf)
        done = behind.max(1, where=self.alive, initial=0) == behind.min(1)  # a round over the living arms is complete
        if done.any():
            means = self.means()
            radius = np.sqrt(2 * math.log(self.horizon) / self.n)
            best = np.where(self.alive, means - radius, -np.inf).max(1, keepdims=True)
            self.alive &= ~done[:, None] | (means + radius >= best)
            behind = np.where(self.alive, self.n, np.inf)
        return behind.argmin(1)


class UCB1(Counting):
    """The arm with the largest mean + sqrt(2 ln t / n) after t rounds (Auer, Cesa-Bianchi and Fischer 2002).

    scale: in place of the 2.
    """

    def __init__(self, scale: float = 2.0) -> None:
        self.scale = _positive("scale", scale)

    def decide(self, rng: np.random.Generator) -> Array:
        return self.optimistic(self.scale * math.log(self.t - 1))  # t counts the round to come


class MOSS(Counting):
    """The arm with the largest mean + sqrt(max(0, ln(T / (K n))) / n) (Audibert and Bubeck 2009): of order sqrt(K T)."""

    def decide(self, rng: np.random.Generator) -> Array:
        np.log(np.divide(self.horizon / self.arms, self.n, out=self._width), out=self._width)
        np.divide(np.maximum(self._width, 0, out=self._width), self.n, out=self._width)
        np.sqrt(self._width, out=self._width)
        self._width += self.means()
        return self._width.argmax(1)


class KLUCB(Counting):
    """The arm with the largest q for which n kl(mean, q) <= ln t: for coins (Garivier and Cappe 2011, with c = 0).

    Its regret grows with the Lai-Robbins constant, which no policy can better in the long run.
    """

    def decide(self, rng: np.random.Generator) -> Array:
        return kl_upper(self.means(), math.log(self.t) / self.n).argmax(1)

    def update(self, arm: Array, reward: Array) -> None:
        _check_coin(self, reward, "UCB1")
        super().update(arm, reward)


def kl_upper(mean: Array, level: Array, steps: int = 6) -> Array:
    """The largest q in [mean, 1] with kl(mean, q) <= level, for coins; mean, level [...] -> [...].

    Newton's method from above on a convex function: from the smaller of two upper bounds, Pinsker's and the one that drops
    the mean's heads, where `steps` leave an error below 1e-6.
    """
    p = np.clip(mean, 0.0, 1.0)
    tails = 1 - p
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.where((p > 0) & (p < 1), p * np.log(p) + tails * np.log(tails), 0.0)  # minus the entropy
        far = 1 - np.exp((inside - level) / tails)  # -tails ln(1 - q) alone uses up the level
        q = np.minimum(p + np.sqrt(level / 2), far)
        for _ in range(steps):
            value = inside - p * np.log(q) - tails * np.log1p(-q) - level
            q = np.maximum(q - value * q * (1 - q) / (q - p), p)
    return np.where((p >= 1) | ~np.isfinite(q), np.maximum(p, np.where(p > 0, 1.0, -np.expm1(-level))), q)


class Thompson(Counting):
    """Thompson sampling for coins: draw a chance for each arm from its Beta posterior, pull the largest (Thompson 1933).

    The prior is uniform, Beta(1, 1). Rewards between 0 and 1 count as that share of a success.
    """

    def choose(self, rng: np.random.Generator) -> Array:
        self.t += 1
        return rng.beta(self.s + 1, self.n - self.s + 1).argmax(1)

    def update(self, arm: Array, reward: Array) -> None:
        _check_coin(self, reward, "GaussianThompson")
        super().update(arm, reward)


class GaussianThompson(Counting):
    """Thompson sampling for normal rewards of known standard deviation, with a normal prior on the means."""

    def __init__(self, std: float = 1.0, prior_mean: float = 0.0, prior_std: float = 1.0) -> None:
        self.std, self.prior_std = _positive("std", std), _positive("prior_std", prior_std)
        self.prior_mean = float(prior_mean)

    def choose(self, rng: np.random.Generator) -> Array:
        self.t += 1
        precision = self.n / self.std**2 + self.prior_std**-2
        centre = (self.s / self.std**2 + self.prior_mean * self.prior_std**-2) / precision
        return (centre + rng.standard_normal(centre.shape) / np.sqrt(precision)).argmax(1)


POLICIES: dict[str, Any] = {
    "uniform": Uniform, "greedy": Greedy, "explore_first": ExploreFirst, "epsilon_greedy": EpsilonGreedy,
    "successive_elimination": SuccessiveElimination, "ucb1": UCB1, "moss": MOSS, "kl_ucb": KLUCB, "thompson": Thompson,
    "gaussian_thompson": GaussianThompson,
}  # fmt: skip


def get(name: str) -> Policy:
    """A policy with its default settings.

    Raises:
        LookupError: an unknown name; lists those there are.
    """
    if name not in POLICIES:
        raise LookupError(f"no policy {name!r}; there are {', '.join(POLICIES)}")
    return POLICIES[name]()


def _check_coin(policy: object, reward: Array, instead: str) -> None:
    if reward.min() < 0 or reward.max() > 1:
        outside = reward[(reward < 0) | (reward > 1)][0]
        raise ValueError(
            f"{type(policy).__name__} expects rewards between 0 and 1, not {outside:g}: scale them, or use {instead}"
        )


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive, not {value!r}")
    return float(value)


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    return int(value)
