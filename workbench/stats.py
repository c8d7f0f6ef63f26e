"""Estimates with honest intervals, tests that hold their level with few runs, and verdicts in words.

One vector of runs [R]: mean, interquartile mean, bootstrap, t, permutation tests. A matrix of scores, runs x tasks [R, M]:
what Agarwal et al. recommend, each with a bootstrap that resamples the runs within each task. Several arms: `compare_arms`,
whose verdicts rest on permutation tests and keep one error rate over all pairs, with or without `Sequential` looks.

Sources: Agarwal et al. 2021 (arXiv 2108.13264) for the interquartile mean, profiles, probability of improvement and their
bootstrap; Efron and Tibshirani 1993, chapters 13 (percentile interval) and 15 (permutation test); Hartigan 1969 (JASA 64)
for the interval that a permutation test implies; Holm 1979; Lan and DeMets 1983 (Biometrika 70) for spending.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy import special
from scipy import stats as scipy_stats

from workbench import seeding

_EXACT = 20_000  # permutation tests enumerate all arrangements up to this many
_CHUNK = 4_000_000  # numbers held at once by the bootstrap
_ARRANGEMENTS = 9_999  # drawn at random where there are more than _EXACT
_MOST_SEEDS = 1_000_000  # a study that would need more has no use for the number


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


# One matrix of scores, runs x tasks.


def iqm_all(x: Any) -> Any:
    """Interquartile mean of all scores of a matrix, x [..., R, M] -> [...]: `scipy.stats.trim_mean(x, 0.25, axis=None)`
    of each matrix."""
    x = _numbers(x, "x")
    return iqm(x.reshape(*x.shape[:-2], -1))


def optimality_gap(x: Any, target: float = 1.0) -> Any:
    """How far the scores x [..., R, M] fall short of `target` on average, scores above it counting as on it -> [...]."""
    return np.maximum(0.0, target - _numbers(x, "x")).mean((-2, -1))


def stratified_bootstrap(
    x: Any, statistic: Callable[[Any], Any] = iqm_all, *, seed: int, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap of a statistic of the scores x [R, M] (or [R]: one task): runs are resampled within each task,
    so every task keeps its weight. `statistic` maps [..., R, M] to [...].

    For few runs it is too short: the interquartile mean of normal scores on one task is covered by 72 % of the intervals of
    three runs, 90 % at five, 94 % at ten (1000 simulated studies). It is for the eye; claims rest on `compare_arms`.
    Raises ValueError for fewer than two runs or scores that are not finite.
    """
    x = _runs(_numbers(_scores(x, "x"), "x").T, "x", 2).T
    _check_level(level)
    rng = seeding.generator(seed, "stratified")
    block = max(1, _CHUNK // x.size)
    sizes = [min(block, draws - i) for i in range(0, draws, block)]
    if statistic is iqm_all:
        drawn = np.concatenate([_resampled_iqm(x, rng, size) for size in sizes])
    else:
        drawn = np.concatenate([statistic(_resample(x, rng, size)) for size in sizes])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(statistic(x), low[()], high[()])


def performance_profile(
    x: Any, thresholds: Any, *, seed: int, draws: int = 2000, level: float = 0.95
) -> Interval:
    """The share of scores of x [R, M] (or [R]) above each of the thresholds [T], with pointwise bootstrap bands -> [T]."""
    x, thresholds = _scores(x, "x"), np.atleast_1d(_numbers(thresholds, "thresholds"))

    def share(drawn: np.ndarray) -> np.ndarray:
        return np.stack([(drawn > threshold).mean((-2, -1)) for threshold in thresholds], axis=-1)

    return stratified_bootstrap(x, share, seed=seed, draws=draws, level=level)


def probability_of_improvement(x: Any, y: Any) -> Any:
    """The chance that a run of x [..., R, M] beats a run of y [..., R', M] on the same task, ties counting half, averaged
    over tasks -> [...]: Mann and Whitney's U / (R R') of each task."""
    x, y = _numbers(x, "x"), _numbers(y, "y")
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(f"both arms need scores [runs, tasks] on the same tasks, not {x.shape} and {y.shape}")
    difference = np.sign(x[..., :, None, :] - y[..., None, :, :])
    return 0.5 + difference.mean((-3, -2, -1)) / 2


def improvement_interval(
    x: Any, y: Any, *, seed: int, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Probability of improvement of x [R, M] (or [R]) over y [R', M] with its stratified bootstrap interval; the runs of
    the two arms are resampled independently."""
    x, y = _numbers(_scores(x, "x"), "x"), _numbers(_scores(y, "y"), "y")
    _check_level(level)
    estimate = probability_of_improvement(x, y)
    rng = seeding.generator(seed, "improvement")
    size = max(1, _CHUNK // (x.shape[0] * y.shape[0] * x.shape[1]))
    drawn: list[np.ndarray] = []
    for start in range(0, draws, size):
        count = min(size, draws - start)
        drawn.append(probability_of_improvement(_resample(x, rng, count), _resample(y, rng, count)))
    low, high = np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, low, high)


# Two arms: tests, power.


def welch_test(a: Any, b: Any, *, level: float = 0.95) -> tuple[Interval, float]:
    """Welch's t-test of runs a [R] against b [R']: the difference of means with its interval, and the two-sided p-value.

    Its level is approximate; with three runs of skewed scores it can be far off. Raises ValueError for fewer than two runs.
    """
    a, b = _runs(a, "a", 2), _runs(b, "b", 2)
    _check_level(level)
    found = scipy_stats.ttest_ind(a, b, equal_var=False)
    low, high = found.confidence_interval(level)
    return Interval(a.mean() - b.mean(), float(low), float(high)), float(found.pvalue)


def holm(p: Any) -> np.ndarray:
    """Holm's adjusted p-values of p [H]: calling those at most alpha errs at all with chance at most alpha, however the
    tests depend on each other."""
    p = _numbers(p, "p")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order]))
    return adjusted


def power(effect: float, seeds: int, *, paired: bool = False, level: float = 0.95) -> float:
    """The chance that a two-sided t-test at `level` calls a difference, `seeds` runs an arm.

    `effect` is the true difference of means in standard deviations: of one arm's runs, or, if `paired`, of the differences
    between runs of one seed. Exact for normal scores (noncentral t). Raises ValueError for fewer than two seeds.
    """
    _check_level(level)
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2, not {seeds!r}")
    freedom = seeds - 1 if paired else 2 * seeds - 2
    shift = effect * math.sqrt(seeds if paired else seeds / 2)
    limit = special.stdtrit(freedom, (1 + level) / 2)
    wrong_side = special.nctdtr(freedom, abs(shift), -limit)  # NaN where it is too small for a float
    return float(1 - special.nctdtr(freedom, abs(shift), limit) + np.nan_to_num(wrong_side))


def least_seeds(*, paired: bool = True, level: float = 0.95, comparisons: int = 1) -> int:
    """The fewest seeds an arm with which a permutation test can call anything at all: its smallest p-value, 2 / 2^R paired
    and 2 / C(2R, R) not, must not exceed (1 - level) / comparisons."""
    _check_level(level)
    seeds = 1
    while 2 / (2**seeds if paired else math.comb(2 * seeds, seeds)) > (1 - level) / comparisons * (1 + 1e-9):
        seeds += 1
    return seeds


def seeds_for(
    effect: float, *, target: float = 0.8, paired: bool = False, level: float = 0.95, comparisons: int = 1
) -> int:
    """Seeds an arm for power `target` against a true `effect` (as in `power`), when `comparisons` tests share the level;
    never fewer than `least_seeds`. At most a million, which means: not feasible.

    Raises ValueError for an effect that is not positive.
    """
    if not effect > 0:
        raise ValueError(f"effect must be a positive number of standard deviations, not {effect!r}")
    if not 0 < target < 1:
        raise ValueError(f"target must be a power between 0 and 1, such as 0.8, not {target!r}")
    each = 1 - (1 - level) / comparisons
    least = least_seeds(paired=paired, level=level, comparisons=comparisons)
    low, high = 1, max(2, least)
    while high < _MOST_SEEDS and power(effect, high, paired=paired, level=each) < target:
        low, high = high, min(2 * high, _MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, paired=paired, level=each) >= target else (middle, high)
    return max(high, least)


# Several arms: verdicts.


@dataclass(frozen=True)
class Verdict:
    """What may be said about two arms. `print` it."""

    a: str
    b: str
    call: str  # ">", "<", "=" (no difference as large as the margin) or "?" (undecided)
    difference: Interval  # mean score of a minus b; leaves out 0 exactly when the call is ">" or "<"; ends may be infinite
    level: float  # of that interval: higher where several comparisons or looks share the error rate
    p: float  # of the permutation test, before correction for other comparisons and looks
    seeds: int  # runs an arm that were planned (the smaller number if they differ)
    missing: int  # scores of the two arms that are missing, taken at their worst for every claim
    more: int | None  # seeds an arm still needed, if undecided; None if the pilot cannot say
    least: int  # seeds an arm below which nothing could have been called
    margin: float | None  # differences smaller than this do not matter
    points: bool  # print in hundredths

    @property
    def decided(self) -> bool:
        return self.call != "?"

    def __str__(self) -> str:
        lost = f", {self.missing} missing" if self.missing else ""
        runs = f"{self.seeds} seed{'s' * (self.seeds != 1)}{lost}"
        margin = self.margin or 0.0
        limit = f"{100 * margin:.3g} point{'s' * (margin != 0.01)}" if self.points else f"{margin:.3g}"
        small = max(abs(self.difference.low), abs(self.difference.high)) < margin
        runs += f", but less than {limit}" if small and self.call in "<>" else ""
        if self.call == "<":
            sizes = -self.difference.estimate, -self.difference.high, -self.difference.low
            return f"{self.b} > {self.a}: {self._size(*sizes)}, {runs}"
        if self.call == ">":
            return f"{self.a} > {self.b}: {self._size(*self.difference)}, {runs}"
        if self.call == "=":
            return f"{self.a} = {self.b} within {limit}: {self._size(*self.difference)}, {runs}"
        if self.seeds < self.least:
            why = f"{self.least} seeds are the fewest that can decide"
        elif self.more is None:
            why = "no difference was seen to plan for" if not self.missing else "too many runs are missing"
        elif self.more >= 10_000:
            why = "no feasible number of seeds would decide a difference this small"
        else:
            why = f"about {self.more} more seed{'s' * (self.more != 1)} for 80 % power"
        return f"undecided: {why} ({self.a} - {self.b}: {self._size(*self.difference)}, {runs})"

    def _size(self, middle: float, low: float, high: float) -> str:
        scale, unit = (100, " points") if self.points else (1, "")
        half = scale * (high - low if math.isfinite(high - low) else abs(middle)) / 2
        digits = min(9, max(0, math.ceil(-math.log10(half / 4)))) if half > 1e-9 * abs(middle) else 2
        ends = [f"{scale * end:.{digits}f}" for end in (low, high)]
        return f"{scale * middle:+.{digits}f}{unit} [{ends[0]}, {ends[1]}]"


@dataclass(frozen=True)
class Sequential:
    """Looks at a growing study that may stop it, at one error rate over all looks.

    `looks` are the numbers of seeds an arm at which to look; the last is the most that will be run. Each look may spend
    what the spending function allows up to its share of the seeds, less what earlier looks spent; "obrien_fleming" (the
    default) saves most of it for the end, "pocock" spends it evenly (Lan and DeMets 1983). Levels of looks are added up
    rather than computed from their joint distribution: that is valid for every distribution of scores and costs a little
    power. What a permutation test with few arrangements cannot spend is carried over: with two arms the first look of (8, 16,
    24) is too early to call anything, that of (12, 18, 24) is not; `levels` tells.
    """

    looks: tuple[int, ...]
    spending: str = "obrien_fleming"

    def __post_init__(self) -> None:
        object.__setattr__(self, "looks", tuple(int(n) for n in self.looks))
        if not self.looks or self.looks[0] < 2 or any(b <= a for a, b in zip(self.looks, self.looks[1:])):
            raise ValueError(f"looks must be rising numbers of seeds from 2 on, such as (8, 16, 24), not {self.looks}")
        if self.spending not in ("obrien_fleming", "pocock"):
            raise ValueError(f'spending must be "obrien_fleming" or "pocock", not {self.spending!r}')

    def spent(self, share: float, alpha: float) -> float:
        """The error rate that may have been spent when `share` of the seeds have run."""
        if self.spending == "pocock":
            return alpha * math.log(1 + (math.e - 1) * share)
        return float(2 * scipy_stats.norm.sf(scipy_stats.norm.isf(alpha / 2) / math.sqrt(share)))

    def levels(self, alpha: float, *, paired: bool = True) -> list[float]:
        """The error rate of the test at each look; together at most alpha."""
        used, found = 0.0, []
        for n in self.looks:
            left = self.spent(n / self.looks[-1], alpha) - used
            found.append(left)
            total = _count(n, n, paired) + 1
            used += 2 * math.floor(left * total / 2 + 1e-9) / total  # the size of that test
        return found


@dataclass(frozen=True)
class Comparison:
    """Arms compared. `print` it for the verdicts; `iqm` and `improvement` are for the eye, `verdicts` for claims."""

    iqm: dict[str, Interval]  # per arm, over all runs and tasks, with its bootstrap interval
    improvement: dict[tuple[str, str], Interval]  # chance that a run of the first beats one of the second, per pair
    verdicts: dict[tuple[str, str], Verdict]
    missing: dict[str, int]  # scores missing per arm
    seeds: int
    last: bool  # no further look is planned

    @property
    def done(self) -> bool:
        """Nothing is left to run: every pair is decided, or this was the last look."""
        return self.last or all(v.decided for v in self.verdicts.values())

    @property
    def more(self) -> int | None:
        """Seeds an arm still needed for the hardest undecided pair that can be planned for; 0 if all are decided."""
        open_ = [v.more for v in self.verdicts.values() if not v.decided]
        known = [n for n in open_ if n is not None]
        return max(known) if known else (None if open_ else 0)

    def __str__(self) -> str:
        return "\n".join(str(v) for v in self.verdicts.values())


def compare_arms(
    scores: Mapping[str, Any],
    *,
    paired: bool = True,
    reference: str | None = None,
    level: float = 0.95,
    margin: float | None = None,
    bounds: tuple[float, float] | None = None,
    sequential: Sequential | None = None,
    points: bool | None = None,
    seed: int = 0,
    draws: int = 2000,
) -> Comparison:
    """Compare arms over seeds: per arm IQM with interval, per pair probability of improvement and a verdict.

    `scores`: name -> scores [R] or [R, M] (runs x tasks), higher is better; NaN where a run is missing. `paired`: row r of
    every arm ran on seed r, with common random numbers (then all arms need the same R). `reference`: compare only with that
    arm, else every pair. `margin`: the smallest difference that matters; with it, "=" can be called, and power is planned
    for it rather than for the difference seen. `bounds`: lowest and highest possible score. `sequential`: the runs given
    are those of one of its looks (the first rows those of earlier looks). `points`: print differences in hundredths
    (default: where all scores lie within 0 and 1). `draws`: of the bootstrap; with 0, IQM and improvement come without
    intervals.

    **The test.** A verdict is about mean scores (for [R, M], of the mean over tasks of each run) and rests on a permutation
    test: signs of paired differences, or labels of runs. Its level is exact for arms that do the same thing, for every
    distribution of scores and any R; t-tests and bootstraps err too often with few runs or few distinct scores. The price:
    nothing can be called with fewer than `least_seeds`. The interval is the same test, inverted (Hartigan 1969), exact
    for differences symmetric about their mean.

    **Several pairs.** Holm's procedure: whatever the truth, the chance of any false difference among all pairs is at most
    1 - level. It is chosen over permuting labels of all arms together (max-T) because that only holds its rate when all arms
    are equal: one arm that really differs spoils the null distribution of the other pairs. "=" is called where the
    interval at level 1 - (1 - level) / pairs lies within the margin, which errs with chance at most 1 - level too.
    With `sequential`, each pair has its equal share of the error rate instead.

    **Missing runs** count as the worst possible for each claim: for the lower end of a - b, those of a score bounds[0]
    and those of b bounds[1]; for the upper end the reverse. The interval so contains the one that the complete study
    would have given, however the failures came about. Without `bounds` the extremes seen in any arm stand in, which is
    an assumption. IQM and probability of improvement are widened the same way.

    Raises ValueError for fewer than two arms, an unknown reference, arms of different tasks, or, if paired, different R.
    """
    arms, ends = _arms(scores, bounds)
    verdicts = _verdicts(arms, ends, paired, reference, level, margin, bounds, sequential, points, seed)
    seeds = min(len(x) for x in arms.values())
    return Comparison(
        {name: _iqm_interval(x, ends, seed, draws, level) for name, x in arms.items()},
        {(a, b): _improvement(arms[a], arms[b], ends, seed, draws, level) for a, b in verdicts},
        verdicts,
        {name: int(np.isnan(x).sum()) for name, x in arms.items()},
        seeds,
        sequential is None or seeds == sequential.looks[-1],
    )


def verdict(
    a: Any,
    b: Any,
    *,
    names: tuple[str, str] = ("a", "b"),
    paired: bool = True,
    level: float = 0.95,
    margin: float | None = None,
    bounds: tuple[float, float] | None = None,
    sequential: Sequential | None = None,
    points: bool | None = None,
    seed: int = 0,
) -> Verdict:
    """The verdict on two arms a [R] or [R, M] and b [R'] or [R', M]; everything as in `compare_arms`."""
    arms, ends = _arms(dict(zip(names, (a, b), strict=True)), bounds)
    return _verdicts(arms, ends, paired, None, level, margin, bounds, sequential, points, seed)[names]


class _Permutation:
    """The permutation test of a [R, M] against b [R', M] for every shift at once.

    Moving some runs to the other arm makes the difference of means larger exactly if the means of the moved runs differ by
    less than the shift that is tested. So the sorted differences of moved runs, `values`, hold the p-value of every shift:
    for paired runs they are the means of subsets of the differences, Hartigan's typical values.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, ends: tuple[float, float], paired: bool, seed: int) -> None:
        self._a, self._b, self._paired = a, b, paired
        self.seeds = min(len(a), len(b))
        self.missing = int(np.isnan(a).sum() + np.isnan(b).sum())
        self.weights, self.same = _arrangements(len(a), len(b), paired, seed)
        self.total = len(self.weights) + self.same
        low, high = ends
        self.values = [self._typical(low, high)]  # for the lower end and, where runs are missing, for the upper
        self.values.append(self._typical(high, low) if self.missing else self.values[0])

    def _typical(self, a_missing: float, b_missing: float) -> np.ndarray:
        a = np.where(np.isnan(self._a), a_missing, self._a).mean(1)
        b = np.where(np.isnan(self._b), b_missing, self._b).mean(1)
        values = np.sort(self.weights @ (a - b if self._paired else np.concatenate([a, b])))
        values[np.abs(values) <= 1e-12 * max(np.abs(a).max(), np.abs(b).max())] = 0.0  # ties up to rounding are ties
        return values

    @property
    def p(self) -> float:
        tails = np.searchsorted(self.values[0], 0.0, "right"), (self.values[1] >= 0).sum()
        return min(1.0, 2 * (self.same + int(min(tails))) / self.total)

    def interval(self, alpha: float, limits: tuple[float, float]) -> Interval:
        k = math.floor(alpha / 2 * self.total + 1e-9) - self.same
        low, high = (self.values[0][k], self.values[1][-1 - k]) if k >= 0 else (-math.inf, math.inf)
        return Interval(self.estimate, max(float(low), limits[0]), min(float(high), limits[1]))

    @property
    def estimate(self) -> float:
        """Mean difference over the tasks, of the runs there are."""
        if not self.missing:
            return float(self._a.mean() - self._b.mean())
        if self._paired:
            return float(_present_mean(self._a - self._b).mean())
        return float((_present_mean(self._a) - _present_mean(self._b)).mean())

    def more(self, margin: float | None, level: float, comparisons: int) -> int | None:
        effect = abs(self.estimate) if margin is None else margin
        if self._paired:
            spreads = [_present_mean((self._a - self._b).T)]
        else:
            spreads = [_present_mean(self._a.T), _present_mean(self._b.T)]
        spreads = [x[~np.isnan(x)] for x in spreads]
        if not effect > 0 or any(len(x) < 2 for x in spreads):
            return None
        spread = math.sqrt(sum(x.var(ddof=1) for x in spreads) / len(spreads))
        if spread <= 1e-12 * effect:
            needed = least_seeds(paired=self._paired, level=level, comparisons=comparisons)
        else:
            needed = seeds_for(effect / spread, paired=self._paired, level=level, comparisons=comparisons)
        return needed - self.seeds if needed > self.seeds else (None if self.missing else 1)


def _verdicts(
    arms: Mapping[str, np.ndarray],
    ends: tuple[float, float],
    paired: bool,
    reference: str | None,
    level: float,
    margin: float | None,
    bounds: tuple[float, float] | None,
    sequential: Sequential | None,
    points: bool | None,
    seed: int,
) -> dict[tuple[str, str], Verdict]:
    if paired and len({x.shape[0] for x in arms.values()}) > 1:
        sizes = {name: x.shape[0] for name, x in arms.items()}
        raise ValueError(f"paired arms need equally many runs, not {sizes}; mark a run that failed as NaN")
    _check_level(level)
    if reference is not None and reference not in arms:
        raise ValueError(f"no arm {reference!r} to compare with; there are {', '.join(arms)}")
    if margin is not None and not margin > 0:
        raise ValueError(f"margin must be a positive difference of scores, not {margin!r}")
    seeds = min(x.shape[0] for x in arms.values())
    if sequential is not None and any(x.shape[0] not in sequential.looks for x in arms.values()):
        raise ValueError(f"{seeds} runs are not one of the looks {sequential.looks}")
    pairs = list(combinations(arms, 2))
    if reference is not None:
        pairs = [(name, reference) for name in arms if name != reference]
    if points is None:
        points = 0 <= ends[0] and ends[1] <= 1
    alpha = (1 - level) / len(pairs)
    limits = (bounds[0] - bounds[1], bounds[1] - bounds[0]) if bounds is not None else (-math.inf, math.inf)
    verdicts, found = {}, {}
    if sequential is None:
        tests = [_Permutation(arms[a], arms[b], ends, paired, seed) for a, b in pairs]
        p = np.array([test.p for test in tests])
        adjusted = holm(p)
        for step, i in enumerate(np.argsort(p, kind="stable")):
            called = adjusted[i] <= (1 - level) * (1 + 1e-9)
            found[pairs[i]] = (tests[i], (1 - level) / (len(pairs) - step) if called else alpha)
    else:
        for pair in pairs:
            for n, own in zip(sequential.looks, sequential.levels(alpha, paired=paired)):
                found[pair] = (_Permutation(arms[pair[0]][:n], arms[pair[1]][:n], ends, paired, seed), own)
                if n == seeds or _call(found[pair][0].interval(own, limits), margin) != "?":
                    break
    least = least_seeds(paired=paired, level=level, comparisons=len(pairs))
    for a, b in pairs:
        test, own = found[a, b]
        difference = test.interval(own, limits)
        call = _call(difference, margin)
        more = test.more(margin, level, len(pairs)) if call == "?" else None
        verdicts[a, b] = Verdict(
            a, b, call, difference, 1 - own, test.p, test.seeds, test.missing, more, least, margin, points
        )
    return verdicts


def _count(a: int, b: int, paired: bool) -> int:
    """How many arrangements a permutation test looks at, with the one seen."""
    count = 2**a if paired else math.comb(a + b, a)
    return count if count <= _EXACT else _ARRANGEMENTS + 1


@lru_cache(maxsize=64)
def _arrangements(a: int, b: int, paired: bool, seed: int) -> tuple[np.ndarray, int]:
    """Weights [N, R] (or [N, R + R']) that take runs to the difference in mean of those moved, and how many arrangements
    move nothing: the one seen, and random ones that happen to equal it."""
    count = _count(a, b, paired)
    exact = count == (2**a if paired else math.comb(a + b, a))
    rng = seeding.generator(seed, "arrangements", a, b)
    if paired:
        if exact:
            moved = (np.arange(count)[:, None] >> np.arange(a)) & 1
        else:
            moved = rng.integers(0, 2, size=(count - 1, a))
        size = moved.sum(1, keepdims=True)
        weights = moved.astype(float)
    else:
        if exact:
            first = np.array(list(combinations(range(a + b), a)))
        else:
            first = rng.permuted(np.tile(np.arange(a + b), (count - 1, 1)), axis=1)[:, :a]
        stays = np.zeros((len(first), a + b))
        np.put_along_axis(stays, first, 1.0, axis=1)
        weights = np.concatenate([1 - stays[:, :a], -stays[:, a:]], axis=1)
        size = weights[:, :a].sum(1, keepdims=True)
    moving = size[:, 0] > 0
    weights = weights[moving] / size[moving]
    weights.setflags(write=False)
    return weights, int((~moving).sum()) + (not exact)


def _call(difference: Interval, margin: float | None) -> str:
    if difference.low > 0:
        return ">"
    if difference.high < 0:
        return "<"
    if margin is not None and -margin < difference.low and difference.high < margin:
        return "="
    return "?"


def _present_mean(x: np.ndarray) -> np.ndarray:
    """Mean over the first axis of the numbers there are; NaN where there is none."""
    there = ~np.isnan(x)
    with np.errstate(invalid="ignore"):
        return np.where(there, x, 0.0).sum(0) / there.sum(0)


def _iqm_interval(x: np.ndarray, ends: tuple[float, float], seed: int, draws: int, level: float) -> Interval:
    present = x[~np.isnan(x)]
    estimate = float(iqm(present)) if len(present) else math.nan
    if len(x) < 2 or not draws:
        return Interval(estimate, math.nan, math.nan)
    sides = [
        stratified_bootstrap(np.where(np.isnan(x), end, x), seed=seed, draws=draws, level=level)
        for end in (ends if np.isnan(x).any() else ends[:1])
    ]
    return Interval(estimate, float(sides[0].low), float(sides[-1].high))


def _improvement(
    a: np.ndarray, b: np.ndarray, ends: tuple[float, float], seed: int, draws: int, level: float
) -> Interval:
    sides = [(np.where(np.isnan(a), ends[i], a), np.where(np.isnan(b), ends[1 - i], b)) for i in (0, 1)]
    middle = float(np.mean([probability_of_improvement(x, y) for x, y in sides]))  # missing runs: better or worse alike
    if len(a) < 2 or len(b) < 2 or not draws:
        return Interval(middle, math.nan, math.nan)
    same = not (np.isnan(a).any() or np.isnan(b).any())
    found = [improvement_interval(x, y, seed=seed, draws=draws, level=level) for x, y in sides[: 1 if same else 2]]
    return Interval(middle, float(found[0].low), float(found[-1].high))


def _arms(
    scores: Mapping[str, Any], bounds: tuple[float, float] | None
) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    """Scores [R, M] of each arm, and the worst and best that a missing run can have been."""
    if len(scores) < 2:
        raise ValueError(f"a comparison needs at least two arms, not {list(scores)}")
    arms = {name: _scores(x, f"arm {name!r}") for name, x in scores.items()}
    if len({x.shape[1] for x in arms.values()}) > 1:
        raise ValueError(f"arms need scores on the same tasks, not { {n: x.shape[1] for n, x in arms.items()} }")
    present = np.concatenate([x[~np.isnan(x)] for x in arms.values()])
    if not len(present):
        raise ValueError("no run of any arm finished: there is nothing to compare")
    ends = (float(present.min()), float(present.max()))
    if bounds is not None:
        if not bounds[0] <= ends[0] <= ends[1] <= bounds[1]:
            raise ValueError(f"scores from {ends[0]:g} to {ends[1]:g} do not lie within bounds {bounds}")
        ends = (float(bounds[0]), float(bounds[1]))
    return arms, ends


def _resample(x: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Scores x [R, M] with the runs of each task resampled -> [draws, R, M]."""
    picks = rng.integers(0, x.shape[0], size=(draws, *x.shape))
    return x[picks, np.arange(x.shape[1])]


def _resampled_iqm(x: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """`iqm_all(_resample(x, rng, draws))`, three times as fast: ranks are small integers, which sort faster than scores."""
    order = np.argsort(x, axis=None)
    ranks = np.empty(x.size, np.int16 if x.size < 2**15 else np.int64)
    ranks[order] = np.arange(x.size)
    drawn = np.sort(_resample(ranks.reshape(x.shape), rng, draws).reshape(draws, -1), axis=1)
    cut = x.size // 4
    return x.ravel()[order][drawn[:, cut : x.size - cut]].mean(1)


def _scores(x: Any, name: str) -> np.ndarray:
    """Scores [R] or [R, M] as [R, M] floats, NaN where a run is missing."""
    x = np.asarray(x, dtype=float)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2 or not x.size:
        raise ValueError(f"{name} must hold scores [runs] or [runs, tasks], not shape {x.shape}")
    if np.isinf(x).any():
        raise ValueError(f"{name} has infinite scores; a run that failed is missing: mark it as NaN")
    return x


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
