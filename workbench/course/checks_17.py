"""Checks of chapter 17, multi-turn code as a contextual bandit."""

from __future__ import annotations

import itertools

import numpy as np

from workbench.course.checks import expect


def _dialogue(rng: np.random.Generator) -> tuple:
    """The turns and the mask of a row of tokens: a prompt, attempts, and replies to all attempts but the last."""
    turn, mask = [-1] * int(rng.integers(3, 7)), []
    mask = [False] * len(turn)
    turns = int(rng.integers(2, 5))
    for j in range(turns):
        sampled, replied = int(rng.integers(2, 5)), int(rng.integers(1, 4)) if j < turns - 1 else 0
        turn += [j] * (sampled + replied)
        mask += [True] * sampled + [False] * replied
    return np.array(turn), np.array(mask)


def _starts(turn: np.ndarray, mask: np.ndarray) -> list[int]:
    return [int((turn == j).argmax()) for j in range(turn.max() + 1)]


def _after_attempts(turn: np.ndarray, mask: np.ndarray) -> list[int]:
    return [int(((turn == j) & mask).nonzero()[0][-1]) + 1 for j in range(turn.max() + 1)]


expect(
    "17.prefix_ends",
    _starts,
    inputs=_dialogue,
    mistakes={
        "your prefixes contain the attempt that is to be made: they leak the answer, above all the last one":
            _after_attempts,
        "each prefix goes on to the end of the attempt's reply: it leaks the attempt that is to be made":
            lambda turn, mask: [*_starts(turn, mask)[1:], len(turn)],
        "the bare prompt is missing: the first attempt has a context, too": lambda turn, mask: _starts(turn, mask)[1:],
        "your prefixes end before the reply: the model is not told that the attempt failed":
            lambda turn, mask: [_starts(turn, mask)[0], *_after_attempts(turn, mask)[:-1]],
        "you give the place of the last token of a prefix; its number of tokens is one more":
            lambda turn, mask: [end - 1 for end in _starts(turn, mask)],
        "the whole trajectory is among your prefixes: there is no attempt left to make":
            lambda turn, mask: [*_starts(turn, mask), len(turn)],
        "you stop one attempt early: the last one has a context as well": lambda turn, mask: _starts(turn, mask)[:-1],
    },
    praise="correct: prompt, or prompt up to a reply, and never the attempt itself",
)  # fmt: skip


def _best_subset(spreads: np.ndarray, most: int) -> list[int]:
    order = np.argsort(spreads, kind="stable")
    sets = [np.r_[order[:k], order[len(order) - most + k :]] for k in range(most + 1)]
    return sorted(max(sets, key=lambda chosen: np.var(spreads[chosen])).tolist())


def _fixed(spreads: np.ndarray, most: int, low: int) -> list[int]:
    order = np.argsort(spreads, kind="stable")
    return sorted(np.r_[order[:low], order[len(order) - most + low :]].tolist())


def _spreads(rng: np.random.Generator) -> tuple:
    """Spreads whose best subset is not always half and half."""
    skew = rng.choice([0.3, 1.0, 4.0])
    return rng.random(8) ** skew, int(rng.choice([3, 4, 5]))


expect(
    "17.most_varied",
    _best_subset,
    inputs=_spreads,
    cases=12,
    mistakes={
        "those are the highest: their variance is small if all are high": lambda s, m: _fixed(s, m, 0),
        "those are the lowest: their variance is small if all are low": lambda s, m: _fixed(s, m, m),
        "half from below and half from above is a good guess; try every k, and take the best": lambda s, m: _fixed(s, m, m // 2),
        "half from below and half from above is a good guess; try every number from below":
            lambda s, m: _fixed(s, m, m - m // 2),
        "those are values; return their places": lambda s, m: sorted(s[_best_subset(s, m)].tolist()),
        "that is the subset with the smallest variance":
            lambda s, m: sorted(min(itertools.combinations(range(len(s)), m), key=lambda chosen: np.var(s[list(chosen)]))),
    },
    praise="correct: no other subset varies more, and you looked at m + 1 of them instead of all",
)  # fmt: skip


def _paid(rate: float, best: float, *, worse: str = "penalty", bonus: bool = True, full: bool = False) -> float:
    base = 1.0 if rate == 1 else 0.2 if rate >= 0.5 else 0.0 if rate > 0 else -0.1
    if (rate == 1 and not full) or best == 0:
        return base
    if rate > best:
        return base + (0.1 * (rate - best) / (1 - best) if bonus else 0.0)
    step = 0.1 * (rate - best) / best
    return {"penalty": -0.1 + step, "none": base, "on top": base - 0.1 + step, "flat": -0.1}[worse]


def _shares(rng: np.random.Generator) -> tuple:
    return float(rng.choice([0.0, 0.25, 0.5, 0.75, 1.0])), float(rng.choice([0.0, 0.25, 0.5, 0.75]))


expect(
    "17.completion_reward",
    _paid,
    inputs=_shares,
    cases=40,
    mistakes={
        "a program no better than the best before it gets -0.1 and a little less; yours keeps its base":
            lambda r, b: _paid(r, b, worse="none"),
        "for a program that is no better the penalty takes the place of the base; you added them":
            lambda r, b: _paid(r, b, worse="on top"),
        "the more a program loses, the more it pays: up to 0.1 below -0.1": lambda r, b: _paid(r, b, worse="flat"),
        "the bonus for progress is missing": lambda r, b: _paid(r, b, bonus=False),
        "a program that passes all tests earns 1, whatever came before": lambda r, b: _paid(r, b, full=True),
        "a program that passes all tests earns 1, also if its share is 0.5 or more by your first test":
            lambda r, b: 0.2 if r >= 0.5 and b == 0 else _paid(r, b),
        "nothing passes: -0.1, not 0": lambda r, b: max(_paid(r, b), 0.0) if r == 0 else _paid(r, b),
    },
    praise="correct: all or little, and a nudge for getting nearer",
)  # fmt: skip


def _products(ratio: np.ndarray, episode: np.ndarray) -> np.ndarray:
    return np.array([ratio[episode == e].prod() for e in np.unique(episode)])


def _ratios(rng: np.random.Generator) -> tuple:
    lengths = rng.integers(1, 5, 6)
    return np.round(rng.uniform(0.2, 3, lengths.sum()), 2), np.repeat(np.arange(6), lengths)


expect(
    "17.episode_weights",
    _products,
    inputs=_ratios,
    mistakes={
        "an episode happens if all of its choices do: multiply, do not add":
            lambda r, e: np.array([r[e == n].sum() for n in np.unique(e)]),
        "that is the mean of the ratios; the chance of a sequence is a product":
            lambda r, e: np.array([r[e == n].mean() for n in np.unique(e)]),
        "those are the running products; one weight for each episode, please": lambda r, e: np.cumprod(r),
        "one product for the whole log; there is one for each episode": lambda r, e: np.array([r.prod()]),
        "that is the weight of the last attempt alone": lambda r, e: np.array([r[e == n][-1] for n in np.unique(e)]),
        "that is the weight of the first attempt alone": lambda r, e: np.array([r[e == n][0] for n in np.unique(e)]),
        "the ratios are turned round": lambda r, e: 1 / _products(r, e),
    },
    praise="correct: as many factors as there were attempts",
)  # fmt: skip


def _solved(rates: list[list[float]], turns: int) -> float:
    return float(np.mean([row[min(turns, len(row)) - 1] == 1 for row in rates]))


def _rates(rng: np.random.Generator) -> tuple:
    rows = [rng.choice([0.0, 0.5, 1.0], size=int(rng.integers(1, 7)), p=[0.4, 0.2, 0.4]).tolist() for _ in range(15)]
    return rows, int(rng.integers(2, 7))


expect(
    "17.solved_at",
    _solved,
    inputs=_rates,
    cases=8,
    mistakes={
        "you count an episode in which any attempt was right; what is handed in is the last one, and a right one may be given up":
            lambda rows, n: float(np.mean([1 in row[:n] for row in rows])),
        "you look at the very last attempt, which may come after the turns allowed":
            lambda rows, n: float(np.mean([row[-1] == 1 for row in rows])),
        "an episode that ended earlier counts with its last attempt; you left it out":
            lambda rows, n: float(np.mean([row[n - 1] == 1 for row in rows if len(row) >= n] or [0.0])),
        "an episode that ended earlier counts with its last attempt; you counted it as failed":
            lambda rows, n: float(np.mean([len(row) >= n and row[n - 1] == 1 for row in rows])),
        "you averaged the rates; solved means that every test passes":
            lambda rows, n: float(np.mean([row[min(n, len(row)) - 1] for row in rows])),
        "you are one attempt late: with n turns the last attempt has the index n - 1":
            lambda rows, n: _solved(rows, n + 1),
    },
    praise="correct: what counts is what is handed in when the turns are over",
)  # fmt: skip
