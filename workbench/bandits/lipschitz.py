"""Arms on the interval [0, 1] whose means change no faster than a known slope: too many to try each.

The interval is held as K arms at the middles of K equal cells, K so large that the cells do not matter; a policy learns their
places from K alone. So such a problem is a `Bernoulli` like any other: every policy may play it, and `Played.pulls` shows
where on the interval it went. `FixedGrid` looks at a few points and forgets the rest; `Zooming` puts points where they pay.
Source: Slivkins 2019 (arXiv 1904.07272), chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from workbench.bandits.play import Policy
from workbench.bandits.policies import UCB1, _positive, _whole
from workbench.bandits.problems import Array, Bernoulli

ARMS = 1024


def places(arms: int) -> Array:
    """[K] where on [0, 1] the arms are."""
    return (np.arange(arms) + 0.5) / arms


def on_interval(mean: Callable[[Array], Array], arms: int = ARMS) -> Bernoulli:
    """Coins on [0, 1]: at x a reward of 1 has the chance mean(x); `mean` maps [K] to [K].

    Raises:
        ValueError: fewer than two arms, a chance outside [0, 1], or not one chance for each place.
    """
    x = places(_whole("arms", arms))
    chances = np.asarray(mean(x), dtype=float)
    if chances.shape != x.shape:
        raise ValueError(f"mean must map places [K] to chances [K]: shape {x.shape} became {chances.shape}")
    return Bernoulli(chances)


def tent(peak: float = 0.6, height: float = 0.9, slope: float = 1.0) -> Callable[[Array], Array]:
    """The function height - slope |x - peak|, not below 0: one best place, and worse the further away from it."""
    return lambda x: np.maximum(height - slope * np.abs(x - peak), 0.0)


class FixedGrid:
    """A few evenly spaced places, and a policy for ordinary arms on them.

    Args:
        points: how many; default (T slope^2 / ln T)^(1/3), with which regret is of order T^(2/3) (slope ln T)^(1/3). The two
            errors of a grid are then alike: that the best place is not on it, and that there are so many to try.
        slope: how fast the mean may change. policy: which one plays the places; default UCB1.
    """

    feedback = "bandit"

    def __init__(self, points: int | None = None, *, slope: float = 1.0, policy: Policy | None = None) -> None:
        self.points = None if points is None else _whole("points", points)
        self.slope, self.policy = _positive("slope", slope), UCB1() if policy is None else policy

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        points = self.points or math.ceil((horizon * self.slope**2 / math.log(max(horizon, 3))) ** (1 / 3))
        if points > arms:
            raise ValueError(f"a grid of {points} points on {arms} arms: ask for fewer points, or for more arms")
        self.grid = ((np.arange(points) + 0.5) / points * arms).astype(np.int64)
        self.policy.start(repetitions, points, horizon)

    def choose(self, rng: np.random.Generator) -> Array:
        self._point = self.policy.choose(rng)
        return self.grid[self._point]

    def update(self, arm: Array, reward: Array) -> None:
        self.policy.update(self._point, reward)


class Zooming:
    """Few active places where little is won, many where much is (Kleinberg, Slivkins and Upfal 2008; Slivkins 2019, chapter 4).

    An active place that was pulled n times speaks for all within r / slope of it, r = sqrt(scale ln T / (n + 1)). As its radius
    shrinks it leaves others without a speaker; the leftmost of them becomes active. The active place with the largest
    mean + 2 r is pulled.

    Args:
        slope: how fast the mean may change. scale: the theory asks for 2, which zooms only after thousands of rounds.
    """

    feedback = "bandit"

    def __init__(self, *, slope: float = 1.0, scale: float = 2.0) -> None:
        self.slope, self.scale = _positive("slope", slope), _positive("scale", scale)

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        self.x, self._level = places(arms), self.scale * math.log(max(horizon, 2))
        self.active = np.zeros(repetitions, dtype=np.int64)  # [R] how many of the slots are in use
        self.place: Array = np.zeros((repetitions, 8), dtype=np.int64)  # [R,S] the arm in each slot
        self.n: Array = np.zeros((repetitions, 8))
        self.s: Array = np.zeros((repetitions, 8))
        self.speakers = np.zeros((repetitions, arms), dtype=np.int32)  # [R,K] how many active places speak for each arm
        self._rows = np.arange(repetitions)
        self._activate(self._rows)

    def choose(self, rng: np.random.Generator) -> Array:
        radius = np.sqrt(self._level / (self.n + 1))
        index = self.s / np.maximum(self.n, 1) + 2 * radius
        index[np.arange(index.shape[1]) >= self.active[:, None]] = -np.inf
        self._slot = index.argmax(1)
        return self.place[self._rows, self._slot]

    def update(self, arm: Array, reward: Array) -> None:
        slot, rows = self._slot, self._rows
        before = self._reach(self.n[rows, slot])
        self.n[rows, slot] += 1
        self.s[rows, slot] += reward
        after = self._reach(self.n[rows, slot])
        left, right = self._ends(arm, before)
        inner_left, inner_right = self._ends(arm, after)
        shrunk = np.flatnonzero((left != inner_left) | (right != inner_right))
        if not len(shrunk):
            return
        cell = np.arange(len(self.x))
        within = (cell >= left[shrunk, None]) & (cell < right[shrunk, None])
        within &= (cell < inner_left[shrunk, None]) | (cell >= inner_right[shrunk, None])
        self.speakers[shrunk] -= within
        self._activate(shrunk)

    def _activate(self, rows: Array) -> None:
        """Give every arm of these repetitions a speaker."""
        while len(rows := rows[(self.speakers[rows] == 0).any(1)]):
            arm = (self.speakers[rows] == 0).argmax(1)
            if self.active[rows].max() == self.place.shape[1]:
                self.place, self.n, self.s = (np.pad(a, ((0, 0), (0, a.shape[1]))) for a in (self.place, self.n, self.s))
            self.place[rows, self.active[rows]] = arm
            self.active[rows] += 1
            left, right = self._ends(arm, self._reach(np.zeros(len(rows))))
            cell = np.arange(len(self.x))
            self.speakers[rows] += (cell >= left[:, None]) & (cell < right[:, None])

    def _reach(self, n: Array) -> Array:
        return np.sqrt(self._level / (n + 1)) / self.slope

    def _ends(self, arm: Array, reach: Array) -> tuple[Array, Array]:
        """The arms from `left` to before `right` are within reach; an arm always reaches itself."""
        cells = np.minimum(np.floor(reach * len(self.x) + 1e-9), len(self.x)).astype(np.int64)
        return np.maximum(arm - cells, 0), np.minimum(arm + cells + 1, len(self.x))
