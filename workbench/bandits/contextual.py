"""Bandits in which the best arm depends on who asks.

Three kinds of askers. *Linear*: features x [R,d], and arm k pays theta_k . x on average. *Tabular*: numbers 0 to S-1 [R], each
with means of its own. *Lipschitz*: numbers from 0 to 1 [R], and similar askers like similar arms. `LinUCB` and `LinearThompson`
keep a ridge regression of the reward on x for each arm; `ContextUCB` keeps a UCB1 for each kind of asker, or each bin of
[0, 1]; `ExploreFirstOracle` pulls at random for a while and then follows whichever of a class of policies would have earned
most. (`EXP4` of `adversarial` competes with the best of a class too, and with adversaries.)

Sources: Li, Chu, Langford and Schapire 2010 (LinUCB, algorithm 1: disjoint linear models); Agrawal and Goyal 2013
(linear Thompson sampling); Slivkins 2019 (arXiv 1904.07272), chapter 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.bandits.adversarial import check_count
from workbench.bandits.problems import Rounds

_SUM = 1e-9


def sherman_morrison(inverse: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The inverse of A + x x' from that of a symmetric A: inverse [...,d,d], x [...,d] -> [...,d,d].

    A^-1 - (A^-1 x)(A^-1 x)' / (1 + x' A^-1 x), in d^2 steps where inverting takes d^3 (Sherman and Morrison 1950).
    """
    ax = np.einsum("...ij,...j->...i", inverse, x)
    grown = 1 + np.einsum("...i,...i->...", x, ax)
    return inverse - ax[..., :, None] * ax[..., None, :] / grown[..., None, None]


def ridge_index(inverse: np.ndarray, moment: np.ndarray, x: np.ndarray, width: float) -> np.ndarray:
    """x . theta + width sqrt(x' A^-1 x) for each arm, with theta = A^-1 b: LinUCB's index [R,K].

    inverse [R,K,d,d] holds A^-1 and moment [R,K,d] the sums b of reward times features; x [R,d] is who asks now.
    """
    ax = np.einsum("rkij,rj->rki", inverse, x)
    return np.einsum("rki,rki->rk", ax, moment) + width * np.sqrt(np.einsum("rki,ri->rk", ax, x))


class _Asked:
    """Rounds of a problem with contexts: an asker is seen, then an arm is pulled."""

    def __init__(self, problem: Any, repetitions: int, rng: np.random.Generator) -> None:
        self.problem, self.repetitions, self.rng = problem, repetitions, rng

    def show(self) -> np.ndarray:
        context = self.problem.context(self.repetitions, self.rng)
        self.means = self.problem.means(context)
        return context

    def pull(self, arm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = self.means[np.arange(len(arm)), arm]
        return self.problem.reward(mean, self.rng), self.means.max(1) - mean


class _Contextual:
    feedback = ("contextual",)

    def start(self, repetitions: int, horizon: int, rng: np.random.Generator, *, full: bool = False) -> Rounds:
        """Begin `repetitions` of it. The luck of a round is the same for every arm."""
        return _Asked(self, repetitions, rng)


@dataclass(frozen=True)
class LinearContexts(_Contextual):
    """Askers have features of length 1, in all directions alike; arm k pays theta_k . x plus normal noise.

    Attributes:
        theta: [K,d]. noise: the standard deviation of rewards.
    Raises:
        ValueError: fewer than two arms, no features, numbers that are not finite, negative noise.
    """

    theta: np.ndarray
    noise: float = 0.1

    def __post_init__(self) -> None:
        theta = np.asarray(self.theta, dtype=float)
        if theta.ndim != 2 or theta.shape[0] < 2 or theta.shape[1] < 1 or not np.isfinite(theta).all():
            raise ValueError(f"theta must be finite numbers [K,d] of at least two arms, not shape {theta.shape}")
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise must be 0 or more, not {self.noise!r}")
        object.__setattr__(self, "theta", theta)

    @property
    def arms(self) -> int:
        """K."""
        return len(self.theta)

    def context(self, repetitions: int, rng: np.random.Generator) -> np.ndarray:
        """Who asks [R,d]."""
        x = rng.normal(size=(repetitions, self.theta.shape[1]))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def means(self, context: np.ndarray) -> np.ndarray:
        """What each arm pays each asker on average [R,K]."""
        return context @ self.theta.T

    def reward(self, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rewards with these means, of any shape."""
        return mean + self.noise * rng.normal(size=mean.shape)


@dataclass(frozen=True)
class TabularContexts(_Contextual):
    """S kinds of askers; arm k pays an asker of kind s 1 with the chance table[s,k], else 0.

    Attributes:
        table: [S,K] chances. chance: [S], how often each kind asks; equally often by default.
    Raises:
        ValueError: chances outside [0, 1] or that do not add up to 1, fewer than two arms.
    """

    table: np.ndarray
    chance: np.ndarray | None = None

    def __post_init__(self) -> None:
        table = np.asarray(self.table, dtype=float)
        if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] < 2:
            raise ValueError(f"means are a table [S,K] of at least two arms, not shape {table.shape}")
        if not ((table >= 0) & (table <= 1)).all():
            raise ValueError(f"chances to pay must lie in [0, 1], not {table.tolist()}")
        chance = np.full(len(table), 1 / len(table)) if self.chance is None else np.asarray(self.chance, dtype=float)
        if chance.shape != (len(table),) or (chance < 0).any() or abs(chance.sum() - 1) > _SUM:
            raise ValueError(f"chance must be {len(table)} chances that add up to 1, not {chance.tolist()}")
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "chance", chance)

    @property
    def arms(self) -> int:
        """K."""
        return self.table.shape[1]

    @property
    def best_arm(self) -> float:
        """What the best single arm earns in a round on average."""
        return float((self.chance @ self.table).max())

    @property
    def optimum(self) -> float:
        """What the best arm for each kind earns in a round on average."""
        return float(self.chance @ self.table.max(1))

    def context(self, repetitions: int, rng: np.random.Generator) -> np.ndarray:
        """Who asks [R]."""
        return rng.choice(len(self.table), size=repetitions, p=self.chance)

    def means(self, context: np.ndarray) -> np.ndarray:
        """What each arm pays each asker on average [R,K]."""
        return self.table[context]

    def reward(self, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rewards 0 or 1 with these means, of any shape."""
        return (rng.random(mean.shape) < mean).astype(float)


@dataclass(frozen=True)
class LipschitzContexts(_Contextual):
    """Askers are numbers from 0 to 1, all alike likely; arm k pays 1 with a chance of max(0, height - slope |x - peak_k|).

    Attributes:
        peaks: [K], whom each arm suits best. slope: L, by how much an arm's mean can change with x. height: from 0 to 1.
    Raises:
        ValueError: fewer than two peaks, a negative slope, a height outside [0, 1].
    """

    peaks: np.ndarray
    slope: float = 1.0
    height: float = 0.9

    def __post_init__(self) -> None:
        peaks = np.asarray(self.peaks, dtype=float)
        if peaks.ndim != 1 or len(peaks) < 2 or not np.isfinite(peaks).all():
            raise ValueError(f"peaks must be at least two finite numbers [K], not {self.peaks!r}")
        if not self.slope >= 0 or not 0 <= self.height <= 1:
            raise ValueError(f"slope must be 0 or more and height from 0 to 1, not {self.slope!r} and {self.height!r}")
        object.__setattr__(self, "peaks", peaks)

    @property
    def arms(self) -> int:
        """K."""
        return len(self.peaks)

    @property
    def optimum(self) -> float:
        """What the best arm for each asker earns in a round on average: the area under the upper envelope, which is made of
        straight pieces between peaks, places where two arms tie, and places where an arm stops paying."""
        ties = (self.peaks[:, None] + self.peaks).ravel() / 2
        reach = self.height / self.slope if self.slope else 1.0
        x = np.unique(np.concatenate([[0, 1], self.peaks, ties, self.peaks - reach, self.peaks + reach]).clip(0, 1))
        return float(np.trapezoid(self.means(x).max(1), x))

    def context(self, repetitions: int, rng: np.random.Generator) -> np.ndarray:
        """Who asks [R]."""
        return rng.random(repetitions)

    def means(self, context: np.ndarray) -> np.ndarray:
        """What each arm pays each asker on average [R,K]."""
        return (self.height - self.slope * np.abs(context[:, None] - self.peaks)).clip(0)

    def reward(self, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rewards 0 or 1 with these means, of any shape."""
        return (rng.random(mean.shape) < mean).astype(float)


class LinUCB:
    """Pull the arm with the largest x . theta_k + width sqrt(x' A_k^-1 x), theta_k being the arm's ridge regression.

    Li et al. 2010, algorithm 1 (alpha there is `width` here). State: `inverse` [R,K,d,d] holds each arm's A^-1, kept by
    `sherman_morrison`, and `moment` [R,K,d] its b. Ties go to the lowest arm. Raises ValueError for contexts of a wrong shape.
    """

    feedback = "contextual"

    def __init__(self, *, width: float = 1.0, ridge: float = 1.0) -> None:
        if not width >= 0 or not ridge > 0:
            raise ValueError(f"width must not be negative and ridge must be positive, not {width!r} and {ridge!r}")
        self.width, self.ridge = width, ridge

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        self._shape = (repetitions, arms)
        self.inverse = np.zeros((repetitions, arms, 0, 0))  # how many features there are is seen in the first round
        self.moment = np.zeros((repetitions, arms, 0))

    def estimates(self) -> np.ndarray:
        """theta of each arm by ridge regression [R,K,d]."""
        return np.einsum("rkij,rkj->rki", self.inverse, self.moment)

    def choose(self, rng: np.random.Generator, *context: Any) -> np.ndarray:
        self._x = self._features(*context)
        return ridge_index(self.inverse, self.moment, self._x, self.width).argmax(1)

    def update(self, arm: np.ndarray, reward: np.ndarray) -> None:
        at = np.arange(len(arm)), arm
        self.inverse[at] = sherman_morrison(self.inverse[at], self._x)
        self.moment[at] += reward[:, None] * self._x

    def _features(self, context: np.ndarray) -> np.ndarray:
        x = np.asarray(context, dtype=float)
        known = self.inverse.shape[-1]
        if x.ndim != 2 or len(x) != self._shape[0] or x.shape[1] < 1 or (known and x.shape[1] != known):
            wanted = f"[{self._shape[0]}, {known or 'd'}]"
            raise ValueError(f"contexts must be features of shape {wanted}, one row a repetition, not {x.shape}")
        if not known:
            self.inverse = np.tile(np.eye(x.shape[1]) / self.ridge, (*self._shape, 1, 1))
            self.moment = np.zeros((*self._shape, x.shape[1]))
        return x


class LinearThompson(LinUCB):
    """Draw each theta_k from a normal with the ridge regression's mean and covariance width^2 A_k^-1, and pull the best for x.

    Agrawal and Goyal 2013, with a model for each arm. With a normal prior of variance noise^2 / ridge on each entry and
    width = noise, that normal is the posterior.
    """

    def choose(self, rng: np.random.Generator, *context: Any) -> np.ndarray:
        x = self._x = self._features(*context)
        # of the draw of theta_k only theta_k . x matters, a normal with the variance width^2 x' A^-1 x
        mean = ridge_index(self.inverse, self.moment, x, 0.0)
        spread = ridge_index(self.inverse, 0 * self.moment, x, self.width)
        return (mean + spread * rng.normal(size=mean.shape)).argmax(1)


class ContextUCB:
    """A UCB1 for each kind of asker: mean + sqrt(2 ln(n_s) / n_sk), n_s rounds with that kind, n_sk of them with arm k.

    `kinds` is S; with `bins`, contexts are numbers from 0 to 1 and a kind is one of S bins of equal width (Slivkins 2019,
    chapter 8). With one bin, contexts are ignored. Each arm is pulled once for each kind first, lowest first.
    """

    feedback = "contextual"

    def __init__(self, kinds: int, *, bins: bool = False) -> None:
        check_count("kinds", kinds)
        self.kinds, self.bins = kinds, bins

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        self.pulls = np.zeros((repetitions, self.kinds, arms))
        self.reward = np.zeros((repetitions, self.kinds, arms))

    def choose(self, rng: np.random.Generator, *context: Any) -> np.ndarray:
        self._now = self._kind(*context)
        at = np.arange(len(self.pulls)), self._now
        pulls = self.pulls[at]
        n = np.maximum(pulls, 1)
        radius = np.sqrt(2 * np.log(np.maximum(pulls.sum(1, keepdims=True), 1)) / n)
        return np.where(pulls > 0, self.reward[at] / n + radius, np.inf).argmax(1)

    def update(self, arm: np.ndarray, reward: np.ndarray) -> None:
        at = np.arange(len(arm)), self._now, arm
        self.pulls[at] += 1
        self.reward[at] += reward

    def _kind(self, context: np.ndarray) -> np.ndarray:
        x = np.asarray(context)
        if self.kinds == 1 and self.bins:
            return np.zeros(len(self.pulls), dtype=int)
        if x.shape != (len(self.pulls),):
            raise ValueError(f"contexts must be one number a repetition, [{len(self.pulls)}], not shape {x.shape}")
        if self.bins:
            if not ((x >= 0) & (x <= 1)).all():
                raise ValueError(f"contexts must lie in [0, 1] to be put into bins, not {x.min():.3g} to {x.max():.3g}")
            return np.minimum((x * self.kinds).astype(int), self.kinds - 1)
        if x.dtype.kind not in "iu" or not ((x >= 0) & (x < self.kinds)).all():
            raise ValueError(f"contexts must be whole numbers from 0 to {self.kinds - 1}; for numbers in [0, 1] say bins=True")
        return x


class ExploreFirstOracle:
    """Pull at random for a while, then follow the policy that would have earned most: the best of a class, by an oracle.

    Slivkins 2019, chapter 8. `advice` maps contexts to what each of N policies would pull, [R,N]. Under uniform
    pulls a policy's value is estimated by the mean of K x reward where it agrees with the pull and 0 elsewhere, without bias.
    The default for `rounds` is T^(2/3) (K ln N)^(1/3), which balances the regret of exploring and of choosing wrongly.
    """

    feedback = "contextual"

    def __init__(self, advice: Callable[[np.ndarray], np.ndarray], *, rounds: int | None = None) -> None:
        if rounds is not None:
            check_count("rounds", rounds)
        self.advice, self.rounds = advice, rounds

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        self._shape, self._horizon, self._t = (repetitions, arms), horizon, 0
        self.value = np.zeros((repetitions, 0))

    def choose(self, rng: np.random.Generator, *context: Any) -> np.ndarray:
        advised = np.asarray(self.advice(*context))
        if advised.ndim != 2 or len(advised) != self._shape[0] or not ((advised >= 0) & (advised < self._shape[1])).all():
            raise ValueError(
                f"advice must be arms from 0 to {self._shape[1] - 1}, shape [{self._shape[0]}, N], not shape {advised.shape}"
            )
        if not self.value.size:
            self.value = np.zeros(advised.shape)
            policies = max(advised.shape[1], 2)
            default = math.ceil(self._horizon ** (2 / 3) * (self._shape[1] * math.log(policies)) ** (1 / 3))
            self._explore = min(self._horizon, default if self.rounds is None else self.rounds)
        self._advised = advised
        if self._t < self._explore:
            return rng.integers(self._shape[1], size=self._shape[0])
        return advised[np.arange(len(advised)), self.value.argmax(1)]

    def update(self, arm: np.ndarray, reward: np.ndarray) -> None:
        if self._t < self._explore:
            self.value += self._shape[1] * reward[:, None] * (self._advised == arm[:, None]) / self._explore
        self._t += 1
