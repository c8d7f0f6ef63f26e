"""Checks of chapter 21: the sign-flip test, seeds before the study, Holm, four verdicts."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from scipy.stats import ttest_1samp

from workbench import stats
from workbench.course.checks import expect


def _means(difference: np.ndarray) -> np.ndarray:
    return np.array(list(product([1, -1], repeat=len(difference)))) @ difference / len(difference)


def _sign_flip(difference: np.ndarray) -> float:
    return float(np.mean(np.abs(_means(difference)) >= abs(difference.mean()) - 1e-12))


expect(
    "21.sign_flip",
    _sign_flip,
    inputs=lambda rng: (rng.normal(0.8, 1, int(rng.integers(5, 9))).round(1),),
    cases=6,
    mistakes={
        "that is one-sided: a mean as far below zero counts too": lambda d: float(
            np.mean(_means(d) >= d.mean() - 1e-12)
        ),
        "you left out arrangements exactly as extreme as the one seen; it is one of them, so use >=": lambda d: float(
            np.mean(np.abs(_means(d)) > abs(d.mean()) + 1e-12)
        ),
        "you counted the arrangements; wanted is their share": lambda d: _sign_flip(d) * 2 ** len(d),
        "that is the share of arrangements *less* extreme than the one seen: 1 minus the p-value": lambda d: 1
        - _sign_flip(d),
        "that is the p-value of a t-test": lambda d: float(ttest_1samp(d, 0).pvalue),
        "you only looked at the signs of the differences; their sizes count too": lambda d: _sign_flip(np.sign(d)),
    },
    praise="correct: the permutation test for pairs",
)


def _seeds_needed(delta: float, spread: float, z: float = 1.96 + 0.84, power: int = 2) -> int:
    return math.ceil((z * spread / delta) ** power)


expect(
    "21.seeds_needed",
    _seeds_needed,
    inputs=lambda rng: (float(rng.uniform(0.5, 2)), float(rng.uniform(2, 6))),
    cases=8,
    mistakes={
        "you did not square: n grows with the square of spread / delta": lambda d, s: _seeds_needed(d, s, power=1),
        "with 1.96 alone half of all studies miss it; add the 0.84 for power 80 %": lambda d, s: _seeds_needed(d, s, 1.96),
        "you doubled it, as for unpaired arms; `spread` is that of the paired difference already":
            lambda d, s: math.ceil(2 * ((1.96 + 0.84) * s / d) ** 2),
        "you rounded down, or to the nearest; one seed too few is too few": lambda d, s: math.floor(((1.96 + 0.84) * s / d) ** 2),
        "delta and spread have changed places": lambda d, s: _seeds_needed(s, d),
        "round up to a whole number: nobody can run a part of a seed": lambda d, s: ((1.96 + 0.84) * s / d) ** 2,
        "the spread is a standard deviation; square it with the rest":
            lambda d, s: math.ceil((1.96 + 0.84) ** 2 * s / d**2),
    },
    praise="correct: half the difference, four times the seeds",
)  # fmt: skip


def _holm_calls(p: np.ndarray, alpha: float = 0.05) -> np.ndarray:
    return stats.holm(p) <= alpha


def _p_values(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Sets in which the common mistakes differ: p-values between alpha / m and alpha, in an order that is not sorted."""
    kinds = (
        [0.004, 0.012, 0.2, 0.019, 0.6], [0.03, 0.001, 0.04, 0.02], [0.012, 0.014, 0.011, 0.9], [0.013, 0.02, 0.01],
        [0.004, 0.03, 0.024, 0.02, 0.045],
    )  # fmt: skip
    p = np.array(kinds[int(rng.integers(len(kinds)))])
    return rng.permutation(p), 0.05


def _no_stop(p: np.ndarray, alpha: float = 0.05) -> np.ndarray:
    calls = np.zeros(len(p), bool)
    for step, i in enumerate(np.argsort(p)):
        calls[i] = p[i] <= alpha / (len(p) - step)
    return calls


def _step_up(p: np.ndarray, alpha: float, limit: list[float]) -> np.ndarray:
    order = np.argsort(p)
    passed = [k for k, i in enumerate(order) if p[i] <= limit[k]]
    calls = np.zeros(len(p), bool)
    calls[order[: max(passed) + 1 if passed else 0]] = True
    return calls


expect(
    "21.holm_calls",
    _holm_calls,
    inputs=_p_values,
    cases=12,
    mistakes={
        "that is Bonferroni: valid, but after each call the next one may use alpha / (m - 1), and so on":
            lambda p, alpha=0.05: p <= alpha / len(p),
        "there is no correction yet: each p-value is compared with alpha": lambda p, alpha=0.05: p <= alpha,
        "stop at the first that fails: larger p-values are not called after it, even if they pass their own limit": _no_stop,
        "that is Benjamini and Hochberg: it limits the share of false calls, not the chance of any":
            lambda p, alpha=0.05: _step_up(p, alpha, [alpha * (k + 1) / len(p) for k in range(len(p))]),
        "that is Hochberg's step-up: start at the smallest p-value and stop at the first that fails":
            lambda p, alpha=0.05: _step_up(p, alpha, [alpha / (len(p) - k) for k in range(len(p))]),
        "your calls are in sorted order; give them back in the order of p":
            lambda p, alpha=0.05: np.sort(_holm_calls(p, alpha))[::-1],
        "you gave back adjusted p-values; wanted is whether each is called": lambda p, alpha=0.05: stats.holm(p),
    },
    praise="correct: at most alpha for any false call, whatever is true",
)  # fmt: skip


def _call(low: float, high: float, margin: float) -> str:
    if low > 0:
        return ">"
    if high < 0:
        return "<"
    return "=" if -margin < low and high < margin else "?"


_SWAPPED = {">": "<", "<": ">", "=": "=", "?": "?"}
_INTERVALS = ((0.4, 2.0), (-2.0, -0.3), (-0.5, 0.7), (-0.5, 1.7), (-1.6, 0.2), (-3.0, 3.0), (0.1, 0.6), (-0.6, -0.2), (1.2, 2.1))


def _interval(rng: np.random.Generator) -> tuple[float, float, float]:
    """Every kind of interval there is, for margins that differ."""
    margin = float(rng.choice([0.5, 1.0, 2.0]))
    low, high = _INTERVALS[int(rng.integers(len(_INTERVALS)))]
    return low * margin, high * margin, margin


expect(
    "21.call",
    _call,
    inputs=_interval,
    cases=40,
    mistakes={
        "an interval that holds zero is not yet a tie: for '=' it must lie within the margin on both sides":
            lambda low, high, margin: ">" if low > 0 else "<" if high < 0 else "=",
        "look at the lower end too: b may be better by more than the margin":
            lambda low, high, margin: ">" if low > 0 else "<" if high < 0 else "=" if high < margin else "?",
        "look at the upper end too: a may be better by more than the margin":
            lambda low, high, margin: ">" if low > 0 else "<" if high < 0 else "=" if low > -margin else "?",
        "on one side of zero and within the margin: say who is better, as the exercise asks":
            lambda low, high, margin: "=" if -margin < low and high < margin else _call(low, high, margin),
        "the sides are swapped: the interval is of a - b, so above zero a is better":
            lambda low, high, margin: _SWAPPED[_call(low, high, margin)],
        "for '>' it is enough to leave out zero; the interval need not leave out the margin":
            lambda low, high, margin: ">" if low > margin else "<" if high < -margin
            else "=" if -margin < low and high < margin else "?",
    },
    praise="correct: and '?' is an honest answer",
)  # fmt: skip
