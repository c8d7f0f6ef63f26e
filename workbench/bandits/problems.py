"""What a bandit is: K arms, a reward for each pull, and everything about it that can be known exactly.

A problem is immutable; `start` begins R repetitions of it side by side, which run on their own. A repetition's luck depends on
the seed and the round alone, not on the arm: policies that play with one seed meet the same luck (common random numbers), so
their differences are less noisy than their regrets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray
BLOCK = 256  # rounds for which luck is drawn at once: the memory needed does not grow with the horizon


class Rounds(Protocol):
    """R repetitions of a problem, a round at a time: `show`, then `pull`."""

    def show(self) -> Any:
        """What is seen before the choice: None, or a context for each repetition, e.g. [R,d]."""
        ...

    def pull(self, arm: Array) -> tuple[Array, Array]:
        """What the choice arm [R] is told, and its pseudo-regret [R].

        Told: the reward of the arm pulled [R], or, if the rounds were started with full feedback, those of all arms [R,K].
        """
        ...


class Problem(Protocol):
    """Something with arms."""

    @property
    def arms(self) -> int:
        """K."""
        ...

    @property
    def feedback(self) -> tuple[str, ...]:
        """What a policy may be told here: "bandit" (the reward of its arm), "full" (the rewards of all arms), "contextual" (a
        context before the choice, then the reward of its arm)."""
        ...

    def start(self, repetitions: int, horizon: int, rng: np.random.Generator, *, full: bool = False) -> Rounds:
        """Begin `repetitions` of it side by side."""
        ...


class Stochastic:
    """Arms whose rewards are independent draws from distributions that stay as they are."""

    means: tuple[float, ...]
    feedback = ("bandit", "full")

    @property
    def arms(self) -> int:
        return len(self.means)

    @property
    def optimum(self) -> float:
        """The mean of the best arm."""
        return max(self.means)

    @property
    def gaps(self) -> Array:
        """[K] how much each arm falls short of the best on average."""
        return self.optimum - np.array(self.means)

    @property
    def lai_robbins(self) -> float:
        """The sum of gap / divergence over the arms that are not best: the regret of every policy that is good on all problems
        of this kind grows at least this fast with ln T in the long run (Lai and Robbins 1985). A slope, not a floor.
        """
        gaps, divergence = self.gaps, self.divergences
        return float(sum(gap / d for gap, d in zip(gaps, divergence) if gap > 0))

    @property
    def divergences(self) -> Array:
        """[K] Kullback-Leibler divergence of each arm from the best, in nats."""
        raise NotImplementedError

    def luck(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """One number for each round and repetition; the same one decides for every arm."""
        raise NotImplementedError

    def reward(self, mean: Array, luck: Array) -> Array:
        """What an arm of this mean pays with this luck."""
        raise NotImplementedError

    def start(self, repetitions: int, horizon: int, rng: np.random.Generator, *, full: bool = False) -> Rounds:
        return _Independent(self, repetitions, horizon, rng, full)


class _Independent:
    def __init__(
        self, problem: Stochastic, repetitions: int, horizon: int, rng: np.random.Generator, full: bool
    ) -> None:
        self.problem, self.repetitions, self.left, self.rng, self.full = problem, repetitions, horizon, rng, full
        self.means, self.gaps = np.array(problem.means), problem.gaps
        self.block: Array = np.empty((0, repetitions))
        self.place = 0

    def show(self) -> None:
        return None

    def pull(self, arm: Array) -> tuple[Array, Array]:
        if self.place == len(self.block):
            self.block, self.place = self.problem.luck(self.rng, (min(BLOCK, max(self.left, 1)), self.repetitions)), 0
            self.left -= len(self.block)
        luck = self.block[self.place]
        self.place += 1
        if self.full:
            return self.problem.reward(self.means, luck[:, None]), self.gaps[arm]
        return self.problem.reward(self.means[arm], luck), self.gaps[arm]


@dataclass(frozen=True)
class Bernoulli(Stochastic):
    """Arm k pays 1 with a chance of means[k], otherwise 0.

    Raises:
        ValueError: fewer than two arms, or a chance outside [0, 1].
    """

    means: tuple[float, ...]

    def __init__(self, means: Sequence[float] | ArrayLike) -> None:
        object.__setattr__(self, "means", _checked(means))
        outside = [mean for mean in self.means if not 0 <= mean <= 1]
        if outside:
            raise ValueError(f"the chance of a reward must lie between 0 and 1, not {outside[0]:g}")

    @property
    def divergences(self) -> Array:
        return bernoulli_kl(np.array(self.means), self.optimum)

    def luck(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.random(shape)

    def reward(self, mean: Array, luck: Array) -> Array:
        return (luck < mean).astype(float)


@dataclass(frozen=True)
class Gaussian(Stochastic):
    """Arm k pays means[k] plus normal noise of standard deviation `std`.

    Raises:
        ValueError: fewer than two arms, a mean that is not finite, or a negative `std`.
    """

    means: tuple[float, ...]
    std: float = 1.0

    def __init__(self, means: Sequence[float] | ArrayLike, std: float = 1.0) -> None:
        object.__setattr__(self, "means", _checked(means))
        object.__setattr__(self, "std", float(std))
        if not 0 <= self.std < math.inf:
            raise ValueError(f"the standard deviation of the reward must be 0 or more, not {std!r}")

    @property
    def divergences(self) -> Array:
        with np.errstate(divide="ignore"):
            return self.gaps**2 / (2 * self.std**2) if self.std else np.where(self.gaps > 0, np.inf, 0.0)

    def luck(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.normal(0.0, self.std, shape)

    def reward(self, mean: Array, luck: Array) -> Array:
        return mean + luck


def bernoulli_kl(p: ArrayLike, q: ArrayLike) -> Array:
    """Kullback-Leibler divergence, in nats, of a coin with chance p from one with chance q; infinite where q rules p out."""
    p, q = np.asarray(p, float), np.asarray(q, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = np.where(p > 0, p * np.log(p / q), 0.0)
        tails = np.where(p < 1, (1 - p) * np.log((1 - p) / (1 - q)), 0.0)
    return heads + tails


def minimax_floor(arms: int, horizon: int) -> float:
    """sqrt((K-1) T) / 27: for every policy and horizon T >= K - 1 there is a Gaussian problem of unit variance with means in
    [0, 1] on which its regret is at least this (Lattimore and Szepesvari 2020, theorem 15.2)."""
    return math.sqrt((arms - 1) * horizon) / 27


def _checked(means: Sequence[float] | ArrayLike) -> tuple[float, ...]:
    array = np.asarray(means, dtype=float)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"a bandit needs the means of at least two arms in a row, not an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"the means of the arms must be finite numbers, not {array.tolist()}")
    return tuple(array.tolist())
