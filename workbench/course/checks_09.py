"""Checks of chapter 09, from a bandit to GRPO."""

from __future__ import annotations

import math

import numpy as np

from workbench.course.checks import expect


def _softmax(logits: np.ndarray) -> np.ndarray:
    weight = np.exp(logits - logits.max())
    return weight / weight.sum()


def _exact_gradient(logits: np.ndarray, reward: np.ndarray) -> np.ndarray:
    policy = _softmax(logits)
    return policy * (reward - policy @ reward)


expect(
    "09.exact_gradient",
    _exact_gradient,
    inputs=lambda rng: (rng.normal(size=4), rng.random(4)),
    mistakes={
        "you left out the average: an answer is pushed up only if it pays more than J, so it is r - J and not r":
            lambda z, r: _softmax(z) * r,
        "your average treats all answers alike: J is the mean under the policy, sum of pi_k r_k":
            lambda z, r: _softmax(z) * (r - r.mean()),
        "you left out the factor pi_k: an answer that is rarely given is rarely pushed":
            lambda z, r: r - _softmax(z) @ r,
        "that is the expected reward itself; wanted is its slope in each logit":
            lambda z, r: _softmax(z) @ r,
        "the sign is turned round: the gradient points uphill, r - J": lambda z, r: -_exact_gradient(z, r),
        "these are logits, not probabilities: take the softmax first": lambda z, r: z * (r - z @ r),
    },
    praise="correct: pi_k (r_k - J)",
)  # fmt: skip


def _squared(policy: np.ndarray) -> np.ndarray:
    return ((np.eye(len(policy)) - policy) ** 2).sum(1)


def _best_baseline(policy: np.ndarray, reward: np.ndarray) -> float:
    weight = policy * _squared(policy)
    return weight @ reward / weight.sum()


def _with_lengths(policy: np.ndarray, reward: np.ndarray) -> float:
    weight = policy * np.sqrt(_squared(policy))
    return weight @ reward / weight.sum()


expect(
    "09.best_baseline",
    _best_baseline,
    inputs=lambda rng: (_softmax(rng.normal(size=4)), rng.random(4)),
    mistakes={
        "that is the mean reward: good, but answers with a long score must count for more":
            lambda p, r: p @ r,
        "that is the plain mean of the rewards: weigh each answer by its probability, and by its squared score":
            lambda p, r: r.mean(),
        "you weighed by the squared score but not by the probability of the answer":
            lambda p, r: _squared(p) @ r / _squared(p).sum(),
        "you weighed by the length of the score; the variance wants its square": _with_lengths,
        "you did not divide by the sum of the weights, E[|s|^2]": lambda p, r: (p * _squared(p)) @ r,
        "you used only entry k of score k; |s_k|^2 is the sum over all entries":
            lambda p, r: (p * (1 - p) ** 2) @ r / (p @ (1 - p) ** 2),
    },
    praise="correct: E[|s|² r] / E[|s|²]",
)  # fmt: skip


def _leave_one_out(rewards: np.ndarray) -> np.ndarray:
    return rewards - (rewards.sum() - rewards) / (len(rewards) - 1)


def _standardised(rewards: np.ndarray) -> np.ndarray:
    return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)


expect(
    "09.leave_one_out",
    _leave_one_out,
    inputs=lambda rng: (rng.integers(0, 2, 6) + 0.3 * rng.random(6),),
    mistakes={
        "your baseline includes the sample itself: subtract the mean of the *others*": lambda r: r - r.mean(),
        "there are only G - 1 others: you divided their sum by G": lambda r: r - (r.sum() - r) / len(r),
        "you divided the sum of all G rewards by G - 1: leave the sample's own reward out of the sum":
            lambda r: r - r.sum() / (len(r) - 1),
        "that is the baseline itself; subtract it from the reward": lambda r: (r.sum() - r) / (len(r) - 1),
        "the sign is turned round: reward minus baseline": lambda r: -_leave_one_out(r),
        "you also divided by the standard deviation; that comes in section 6": _standardised,
    },
    praise="correct: this is RLOO, without bias",
)  # fmt: skip


def _question_weight(p: float, size: int, *, ddof: int = 1, power: float = 0.5, over: bool = True) -> float:
    k = np.arange(1, size)
    chance = np.array([math.comb(size, int(i)) for i in k]) * p**k * (1 - p) ** (size - k)
    share = k / size
    variance = share * (1 - share) * size / (size - ddof)
    return (chance * share * (1 - share) / variance**power).sum() / (p * (1 - p) if over else 1)


expect(
    "09.question_weight",
    _question_weight,
    inputs=lambda rng: (float(rng.uniform(0.05, 0.95)), int(rng.integers(3, 12))),
    mistakes={
        "your standard deviation divides by G; the one above divides by G - 1":
            lambda p, size: _question_weight(p, size, ddof=0),
        "you divided by the variance: take its square root": lambda p, size: _question_weight(p, size, power=1.0),
        "you did not divide by the spread at all, so this is the group mean's factor, (G - 1) / G":
            lambda p, size: _question_weight(p, size, power=0.0),
        "that is the length of GRPO's arrow; divide by p(1 - p) to compare it with the exact one":
            lambda p, size: _question_weight(p, size, over=False),
        "that is the limit of very large groups; here some groups are dead and sigma varies":
            lambda p, size: 1 / math.sqrt(p * (1 - p)),
        "you averaged over the groups that are not dead; the dead ones count, with a contribution of nothing":
            lambda p, size: _question_weight(p, size) / (1 - p**size - (1 - p) ** size),
    },
    praise="correct: GRPO asks every question with a loudness of its own",
)  # fmt: skip


def _still_counts(ratio: np.ndarray, advantage: np.ndarray, low: float = 0.2, high: float = 0.2) -> np.ndarray:
    cut = ((advantage > 0) & (ratio > 1 + high)) | ((advantage < 0) & (ratio < 1 - low))
    return np.where(cut, 0.0, 1.0)


def _clip_arguments(rng: np.random.Generator) -> tuple:
    """All four corners, points inside, and unequal bounds."""
    ratio = np.array([0.5, 0.5, 1.7, 1.7, 1.05, 0.95, 1.25, 0.78]) + 0.01 * rng.random(8)
    sign = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    return ratio, sign * (0.2 + rng.random(8)), 0.2, float(rng.choice([0.2, 0.28]))


expect(
    "09.still_counts",
    _still_counts,
    inputs=_clip_arguments,
    cases=8,
    mistakes={
        "you cut on both sides whatever the sign of the advantage: a sample that moved the wrong way must still count":
            lambda w, a, low=0.2, high=0.2: np.where((w > 1 + high) | (w < 1 - low), 0.0, 1.0),
        "the two sides are swapped: a good answer is cut when its ratio is too *high*, a bad one when it is too *low*":
            lambda w, a, low=0.2, high=0.2:
                np.where(((a > 0) & (w < 1 - low)) | ((a < 0) & (w > 1 + high)), 0.0, 1.0),
        "you only cut good answers; a bad one is cut too, once its ratio is below 1 - low":
            lambda w, a, low=0.2, high=0.2: np.where((a > 0) & (w > 1 + high), 0.0, 1.0),
        "that is 1 where a sample is cut; wanted is 1 where it still counts":
            lambda w, a, low=0.2, high=0.2: 1 - _still_counts(w, a, low, high),
        "that is the value of the objective; wanted is 1 or 0: does it depend on the ratio?":
            lambda w, a, low=0.2, high=0.2: np.minimum(w * a, np.clip(w, 1 - low, 1 + high) * a),
        "you used the lower bound on both sides; the upper one is `high`":
            lambda w, a, low=0.2, high=0.2: _still_counts(w, a, low, low),
    },
    praise="correct: the clip looks at the sign of the advantage",
)  # fmt: skip
