"""Checks of chapter 03, learning from logged choices."""

from __future__ import annotations

import math

import numpy as np

from workbench.course.checks import expect


def _lower_bound(total: np.ndarray, count: np.ndarray, *, sign: float = -1, half: float = 2.0, unseen: float = -math.inf,
                 log: str = "all", arms: bool = True, root: bool = True) -> np.ndarray:  # fmt: skip
    n = np.maximum(count, 1)
    inside = 2 * (len(count) if arms else 1) * (count.sum() if log == "all" else n)
    square = np.log(inside) / (half * n)
    bound = total / n + sign * (np.sqrt(square) if root else square)
    return np.where(count > 0, bound, unseen)


def _tallies(rng: np.random.Generator) -> tuple:
    count = rng.integers(1, 40, 5)
    count[rng.integers(5)] = 0
    return rng.binomial(count, 0.5).astype(float), count


expect(
    "03.lower_bound",
    _lower_bound,
    inputs=_tallies,
    mistakes={
        "you added the radius: that is the upper bound, which seeks what is unknown; the lower one stays with what is proven":
            lambda t, c: _lower_bound(t, c, sign=1.0),
        "an arm that was never chosen promises nothing: its bound is minus infinity, not 0":
            lambda t, c: _lower_bound(t, c, unseen=0.0),
        "that is the mean without any radius, which is what the greedy rule looks at":
            lambda t, c: _lower_bound(t, c, sign=0.0),
        "under the root it is 2 n, twice the times the arm was chosen": lambda t, c: _lower_bound(t, c, half=1.0),
        "the logarithm is of 2 K N with N the length of the whole log, not of this arm's own count":
            lambda t, c: _lower_bound(t, c, log="own"),
        "you left out K: the bounds of all K arms must hold at once": lambda t, c: _lower_bound(t, c, arms=False),
        "you left out the square root": lambda t, c: _lower_bound(t, c, root=False),
    },
    praise="correct: what each arm has proven",
)  # fmt: skip


def _majority_errs(rounds: int, coverage: float, *, tie: float = 0.5, share: float | None = None) -> float:
    p = 1 / coverage if share is None else share
    chance = [math.comb(rounds, k) * p**k * (1 - p) ** (rounds - k) for k in range(rounds + 1)]
    fewer = math.fsum(chance[k] for k in range(rounds + 1) if 2 * k < rounds)
    return fewer + (tie * chance[rounds // 2] if rounds % 2 == 0 else 0.0)


expect(
    "03.majority_errs",
    _majority_errs,
    inputs=lambda rng: (2 * int(rng.integers(2, 15)), float(rng.uniform(1.1, 2.5))),
    mistakes={
        "you left out the ties: when both arms were chosen equally often, half of the time the wrong one is taken":
            lambda n, c: _majority_errs(n, c, tie=0.0),
        "a tie is not always an error: it counts half": lambda n, c: _majority_errs(n, c, tie=1.0),
        "that is the chance that the majority is right; or did you take 1 - 1/C* for the chance of the better arm?":
            lambda n, c: _majority_errs(n, c, share=1 - 1 / c),
    },
    praise="correct: rewards do not even appear in it",
)  # fmt: skip


def _logged(rng: np.random.Generator) -> tuple:
    """A log of twelve rounds with three arms, every one of them chosen, and two policies."""
    old, new = rng.dirichlet([4.0, 4.0, 4.0]), rng.dirichlet([4.0, 4.0, 4.0])
    action = rng.permutation(np.concatenate([np.arange(3), rng.integers(0, 3, 9)]))
    return rng.integers(0, 2, 12) + 0.5 * rng.random(12), action, old, new


def _ips_inputs(rng: np.random.Generator) -> tuple:
    reward, action, old, new = _logged(rng)
    return reward, new[action], old[action]


def _ips(reward: np.ndarray, new: np.ndarray, old: np.ndarray) -> float:
    return float((new / old * reward).mean())


expect(
    "03.ips",
    _ips,
    inputs=_ips_inputs,
    mistakes={
        "your ratio is upside down: you divided by the new policy's probability; what is divided by is the chance the "
        "reward had of getting into the log, the old one":
            lambda r, new, old: (old / new * r).mean(),
        "you divided by the new policy's probability and left the old one out: the log was not made by the new policy":
            lambda r, new, old: (r / new).mean(),
        "you divided by the old chance but did not multiply by the new one: that judges nobody's policy":
            lambda r, new, old: (r / old).mean(),
        "you multiplied by the new chance without dividing by the old one: what the logger did often still counts too often":
            lambda r, new, old: (new * r).mean(),
        "you divided by the sum of the weights; that is the next exercise. Here it is the number of rounds":
            lambda r, new, old: (new / old * r).sum() / (new / old).sum(),
        "take the mean over rounds, not the sum": lambda r, new, old: (new / old * r).sum(),
        "that is what the logger earned": lambda r, new, old: r.mean(),
    },
    praise="correct: every round stands for as many as it was too rare",
)  # fmt: skip


def _self_normalised_inputs(rng: np.random.Generator) -> tuple:
    reward, action, old, new = _logged(rng)
    return reward, action, new[action], old[action]


def _self_normalised(reward: np.ndarray, action: np.ndarray, new: np.ndarray, old: np.ndarray) -> float:
    weight = new / old
    return float(weight @ reward / weight.sum())


def _once_per_action(reward: np.ndarray, action: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """The trap: a ratio of sums for every arm. Within an arm all weights are equal, so they cancel."""
    w = new / old
    return np.array([w[action == a] @ reward[action == a] / w[action == a].sum() for a in np.unique(action)])


expect(
    "03.self_normalised",
    _self_normalised,
    inputs=_self_normalised_inputs,
    mistakes={
        "you normalised once per action and added up: within one action all weights are equal, so they cancel, and the new "
        "policy is gone from your answer; use one sum of weights for the whole log":
            lambda r, a, new, old: _once_per_action(r, a, new, old).sum(),
        "you normalised once per action and averaged the arms: within one action all weights are equal, so they cancel, and the "
        "new policy is gone from your answer; use one sum of weights for the whole log":
            lambda r, a, new, old: _once_per_action(r, a, new, old).mean(),
        "that is plain IPS: divide by the sum of the weights, not by the number of rounds":
            lambda r, a, new, old: _ips(r, new, old),
        "your ratio is upside down: new over old": lambda r, a, new, old: _self_normalised(r, a, old, new),
        "you normalised with the new probabilities alone; the weights are new over old":
            lambda r, a, new, old: (new / old) @ r / new.sum(),
    },
    praise="correct: a weighted mean, so it stays among the rewards seen",
)  # fmt: skip


def _dr_inputs(rng: np.random.Generator) -> tuple:
    reward, action, old, new = _logged(rng)
    return reward, action, old[action], new, rng.random(3)


def _doubly_robust(
    reward: np.ndarray, action: np.ndarray, old: np.ndarray, policy: np.ndarray, model: np.ndarray
) -> float:
    return float(policy @ model + (policy[action] / old * (reward - model[action])).mean())


expect(
    "03.doubly_robust",
    _doubly_robust,
    inputs=_dr_inputs,
    mistakes={
        "that is the direct method alone: add the weighted mean of what the model got wrong":
            lambda r, a, old, p, m: p @ m,
        "that is the correction alone: add what the model predicts for the new policy":
            lambda r, a, old, p, m: (p[a] / old * (r - m[a])).mean(),
        "you weighed the whole reward; the weights belong to the residual, reward minus prediction":
            lambda r, a, old, p, m: p @ m + (p[a] / old * r).mean(),
        "the residuals need the weights new / old: they come from the logger's choices":
            lambda r, a, old, p, m: p @ m + (r - m[a]).mean(),
        "the sign of the residual is turned round: reward minus prediction":
            lambda r, a, old, p, m: p @ m - (p[a] / old * (r - m[a])).mean(),
        "the prediction must be for the new policy, the sum over arms of policy times model, not for the arms in the log":
            lambda r, a, old, p, m: m[a].mean() + (p[a] / old * (r - m[a])).mean(),
        "the residual belongs to the arm that was chosen: subtract model[action], not the policy's mean prediction":
            lambda r, a, old, p, m: p @ m + (p[a] / old * (r - p @ m)).mean(),
        "the new policy's prediction is an average, policy @ model, not the best arm's":
            lambda r, a, old, p, m: m[p.argmax()] + (p[a] / old * (r - m[a])).mean(),
    },
    praise="correct: predict first, then let the log correct you",
)  # fmt: skip
