"""Estimates with honest intervals: interquartile mean, bootstrap, t, paired differences, permutation tests.

Sources: Agarwal et al. 2021 (arXiv 2108.13264) for the interquartile mean and its bootstrap over runs; Efron and
Tibshirani 1993, chapters 13 (percentile interval) and 15 (permutation test).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import stats as scipy_stats

from workbench import seeding

_EXACT = 20_000  # permutation tests enumerate all arrangements up to this many
_CHUNK = 4_000_000  # numbers held at once by the bootstrap


class Interval(NamedTuple):
    """An estimate and the ends of its interval; floats, or arrays of one shape."""

    estimate: Any
    low: Any
    high: Any


def iqm(x: Any) -> Any:
    """Interquartile mean over the last axis, x [..., R] -> [...]: the mean without the lowest and the highest
    int(R/4) values (`scipy.stats.trim_mean(x, 0.25)`)."""
    return scipy_stats.trim_mean(_numbers(x, "x"), 0.25, axis=-1)


def mean(x: Any) -> Any:
    """Mean over the last axis, x [..., R] -> [...]."""
    return _numbers(x, "x").mean(-1)


def bootstrap(
    x: Any, statistic: Callable[[Any], Any] = mean, *, seed: int, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap over the R runs of x [..., R], resampling whole runs: the leading axes share the draws.

    `statistic` maps [..., R] to [...]. With fewer than about ten runs the interval is too short (at R = 5 its real
    coverage is near 85 %, not 95 %): use `t_interval` for a mean then. Raises ValueError for fewer than two runs.
    """
    x = _runs(x, "x", 2)
    _check_level(level)
    picks = seeding.generator(seed, "bootstrap").integers(0, x.shape[-1], size=(draws, x.shape[-1]))
    rows = x.reshape(-1, x.shape[-1])
    block = max(1, _CHUNK // picks.size)
    edges = [(1 - level) / 2, (1 + level) / 2]
    ends = [
        np.quantile(statistic(rows[i : i + block, picks]), edges, axis=-1) for i in range(0, len(rows), block)
    ]
    low, high = np.concatenate(ends, axis=1).reshape(2, *x.shape[:-1])
    return Interval(statistic(x), low[()], high[()])


def t_interval(x: Any, *, level: float = 0.95) -> Interval:
    """Student's interval for the mean over the last axis of x [..., R]. Raises ValueError for fewer than two runs."""
    x = _runs(x, "x", 2)
    _check_level(level)
    runs = x.shape[-1]
    centre = x.mean(-1)
    half = scipy_stats.t.ppf((1 + level) / 2, runs - 1) * x.std(-1, ddof=1) / np.sqrt(runs)
    return Interval(centre, centre - half, centre + half)


def wilson_interval(share: float, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's interval (1927) for the chance of success after a `share` of n trials succeeded; it stays within 0 and 1."""
    if n < 1 or not 0 <= share <= 1:
        raise ValueError(f"share must lie between 0 and 1, of at least one trial, not {share!r} of {n!r}")
    _check_level(level)
    z = float(scipy_stats.norm.ppf((1 + level) / 2))
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))


def paired_difference(a: Any, b: Any, *, level: float = 0.95) -> Interval:
    """Student's interval for the mean of a - b, where a[..., r] and b[..., r] come from the same seed r."""
    a, b = _numbers(a, "a"), _numbers(b, "b")
    if a.shape != b.shape:
        raise ValueError(
            f"paired arms need one shape, not {a.shape} and {b.shape}; run both on the same seeds"
        )
    return t_interval(a - b, level=level)


def permutation_test(a: Any, b: Any, *, seed: int, paired: bool = False, draws: int = 10_000) -> float:
    """Two-sided p-value that arms a [R] and b [R'] differ in mean: runs change arms, or, if `paired`, signs flip.

    Exact where there are at most 20 000 arrangements, otherwise from `draws` random ones, counting the arrangement
    seen, so that the p-value is valid (never 0) in both cases.
    """
    a, b = _runs(a, "a", 1), _runs(b, "b", 1)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"each arm must be one number a run, not arrays of shape {a.shape} and {b.shape}")
    rng = seeding.generator(seed, "permutation")
    if paired:
        if len(a) != len(b):
            raise ValueError(f"paired arms need equally many runs, not {len(a)} and {len(b)}")
        difference = a - b
        exact = 2 ** len(a) <= _EXACT
        if exact:
            bits = (np.arange(2 ** len(a))[:, None] >> np.arange(len(a))) & 1
        else:
            bits = rng.integers(0, 2, size=(draws, len(a)))
        null, seen = (1 - 2 * bits) @ difference / len(a), difference.mean()
    else:
        pooled, size = np.concatenate([a, b]), len(a)
        exact = math.comb(len(pooled), size) <= _EXACT
        if exact:
            first = np.array(list(combinations(range(len(pooled)), size)))
        else:
            first = rng.permuted(np.tile(np.arange(len(pooled)), (draws, 1)), axis=1)[:, :size]
        sums = pooled[first].sum(1)
        null, seen = sums / size - (pooled.sum() - sums) / len(b), a.mean() - b.mean()
    scale = np.abs(np.concatenate([a, b])).max()  # ties up to rounding count as ties
    extreme = int((np.abs(null) >= abs(seen) - 1e-12 * scale).sum())
    return extreme / len(null) if exact else (1 + extreme) / (1 + len(null))


def _numbers(x: Any, name: str) -> np.ndarray:
    x = np.asarray(x, dtype=float)
    if not np.all(np.isfinite(x)):
        raise ValueError(
            f"{name} has {int((~np.isfinite(x)).sum())} values that are not finite; leave failed runs out by name"
        )
    return x


def _runs(x: Any, name: str, least: int) -> np.ndarray:
    x = _numbers(x, name)
    if x.ndim == 0 or x.shape[-1] < least:
        raise ValueError(f"{name} must hold at least {least} runs on its last axis, not shape {x.shape}")
    return x


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95, not {level!r}")
