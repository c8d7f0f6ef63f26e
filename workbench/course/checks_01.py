"""Checks of chapter 01, multi-armed bandits."""

from __future__ import annotations

import math

import numpy as np

from workbench.course.checks import expect


def _radius(count: np.ndarray, t: int) -> np.ndarray:
    return np.sqrt(2 * math.log(t) / count)


expect(
    "01.radius",
    _radius,
    inputs=lambda rng: (count := rng.integers(1, 40, 4), int(count.sum())),
    mistakes={
        "you took the logarithm of the arm's own pulls; it is that of the time t, the same for all arms: so the bound of an arm "
        "that is left alone goes on growing, and one day it is tried again":
            lambda n, t: np.sqrt(2 * np.log(n) / n),
        "turned round: the more pulls, the narrower; divide by the pulls, take the logarithm of the time":
            lambda n, t: np.sqrt(2 * np.log(n) / t),
        "you left out the square root": lambda n, t: 2 * math.log(t) / n,
        "you left out the 2": lambda n, t: np.sqrt(math.log(t) / n),
        "in the lower half of the root there is n alone: UCB1's radius is sqrt(2 ln t / n), not Hoeffding's sqrt(ln t / 2n)":
            lambda n, t: np.sqrt(math.log(t) / (2 * n)),
        "the logarithm belongs under the root with the rest": lambda n, t: math.log(t) * np.sqrt(2 / n),
        "without the logarithm an unlucky arm is never tried again": lambda n, t: np.sqrt(2 / n),
    },
    praise="correct: wide where little is known, and slowly widening where nobody looks",
)  # fmt: skip


def _posterior(wins: np.ndarray, count: np.ndarray) -> tuple:
    return wins + 1.0, count - wins + 1.0


def _tallies(rng: np.random.Generator) -> tuple:
    count = rng.integers(2, 30, 4)
    return rng.integers(1, count), count


expect(
    "01.posterior",
    _posterior,
    inputs=_tallies,
    mistakes={
        "you counted pulls as successes: the first number counts wins, the second losses, and pulls are both together":
            lambda w, n: (n + 1.0, w + 1.0),
        "the second number counts losses, not pulls: subtract the wins": lambda w, n: (w + 1.0, n + 1.0),
        "the first number counts wins, not pulls": lambda w, n: (n + 1.0, n - w + 1.0),
        "you forgot the prior: a uniform one is Beta(1, 1), so add 1 to each (an arm never pulled has no Beta(0, 0))":
            lambda w, n: (w + 0.0, n - w + 0.0),
        "wins and losses have changed places": lambda w, n: (n - w + 1.0, w + 1.0),
    },
    praise="correct: Beta(1 + wins, 1 + losses)",
)  # fmt: skip


def _kl(p: np.ndarray, q: float) -> np.ndarray:
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def _constant(means: np.ndarray) -> float:
    best = means.max()
    worse = means[means < best]
    return float(((best - worse) / _kl(worse, best)).sum())


def _over_worse(rule):  # type: ignore[no-untyped-def]
    return lambda means: float(rule(means.max(), means[means < means.max()]).sum())


expect(
    "01.constant",
    _constant,
    inputs=lambda rng: (rng.uniform(0.05, 0.95, 4),),
    mistakes={
        "the divergence is turned round: it is that of the arm from the best, kl(mean, best): the worse arm's rewards must not "
        "look like the best one's":
            _over_worse(lambda best, p: (best - p) / np.array([float(_kl(np.array(best), q)) for q in p])),
        "you left out the gap: 1 / kl is how often (per ln T) the arm must be pulled; each of these pulls costs the gap":
            _over_worse(lambda best, p: 1 / _kl(p, best)),
        "you multiplied by the divergence; arms that are hard to tell apart take more pulls, so divide":
            _over_worse(lambda best, p: (best - p) * _kl(p, best)),
        "that is 2 / gap, what UCB1 pays: it does not look at the shape of the rewards":
            _over_worse(lambda best, p: 2 / (best - p)),
        "that is 1 / (2 gap), right for a coin near one half; the exact divergence says more near 0 and 1":
            _over_worse(lambda best, p: 1 / (2 * (best - p))),
    },
    praise="correct: gap over divergence, summed over the arms that are not best",
)  # fmt: skip


def _hard(arms: int, horizon: int, gap: float | None = None) -> np.ndarray:
    means = np.full(arms, 0.5)
    means[0] += 0.5 * math.sqrt(arms / horizon) if gap is None else gap
    return means


expect(
    "01.hard_problem",
    _hard,
    inputs=lambda rng: (int(rng.integers(2, 12)), int(rng.integers(500, 5000))),
    mistakes={
        "you compared with all T pulls; the arms share them, so an arm gets about T / K":
            lambda k, t: _hard(k, t, 0.5 * math.sqrt(1 / t)),
        "the standard deviation of one reward of a fair coin is 1/2, not 1": lambda k, t: _hard(k, t, math.sqrt(k / t)),
        "that is a variance: take its square root": lambda k, t: _hard(k, t, 0.25 * k / t),
        "that gap does not shrink with T: for so easy a problem the logarithm holds, and longer games are no harder":
            lambda k, t: _hard(k, t, 0.1),
        "so small a gap costs at most T times itself, which is nothing": lambda k, t: _hard(k, t, 1 / t),
        "the gap goes on top of 0.5 for the best arm; the others stay at 0.5":
            lambda k, t: 1.0 - _hard(k, t),
    },
    praise="correct: as large as the noise that is left after T / K pulls",
)  # fmt: skip
