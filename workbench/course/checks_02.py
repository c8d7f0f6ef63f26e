"""Checks of chapter 02, contexts, adversaries and budgets."""

from __future__ import annotations

import numpy as np

from workbench.course.checks import expect


def _index(design: np.ndarray, moment: np.ndarray, x: np.ndarray, width: float) -> np.ndarray:
    inverse = np.linalg.inv(design)
    return (inverse @ moment[..., None])[..., 0] @ x + width * np.sqrt(x @ inverse @ x)


def _linucb_round(
    design: np.ndarray,
    moment: np.ndarray,
    x: np.ndarray,
    pays: np.ndarray,
    width: float,
    *,
    index: np.ndarray | None = None,
    learners: str = "chosen",
) -> tuple[int, np.ndarray, np.ndarray]:
    index = _index(design, moment, x, width) if index is None else index
    arm = int(index.argmax())
    design, moment = design.copy(), moment.copy()
    who = slice(None) if learners == "all" else arm
    design[who] = design[who] + np.outer(x, x)
    moment[arm] = moment[arm] + pays[arm] * x
    return arm, design, moment


def _round_arguments(rng: np.random.Generator) -> tuple:
    """Three arms tried unequally often, so that bonus and estimate both matter."""
    features = rng.normal(size=(3, 6, 2)) * np.array([0.4, 1.0, 2.0])[rng.permutation(3), None, None]
    design = np.eye(2) + np.einsum("kni,knj->kij", features, features)
    moment = np.einsum("kni,kn->ki", features, rng.random((3, 6)))
    return design, moment, rng.normal(size=2), rng.random(3), float(rng.uniform(0.6, 1.5))


def _without_root(d: np.ndarray, m: np.ndarray, x: np.ndarray, pays: np.ndarray, width: float) -> tuple:
    inverse = np.linalg.inv(d)
    index = (inverse @ m[..., None])[..., 0] @ x + width * (x @ inverse @ x)
    return _linucb_round(d, m, x, pays, width, index=index)


expect(
    "02.linucb_round",
    _linucb_round,
    inputs=_round_arguments,
    cases=20,
    mistakes={
        "you added x x' before choosing: the bonus must come from what was known before this round":
            lambda d, m, x, pays, width:
                _linucb_round(d, m, x, pays, width, index=_index(d + np.outer(x, x), m, x, width)),
        "you updated the design matrix of every arm; only the arm that was pulled has seen x":
            lambda d, m, x, pays, width: _linucb_round(d, m, x, pays, width, learners="all"),
        "your bonus lacks its square root: width times sqrt(x' A^-1 x)": _without_root,
        "you chose by the estimate alone; without the bonus it is greedy":
            lambda d, m, x, pays, width: _linucb_round(d, m, x, pays, 0.0),
        "your estimate is x . b; the regression is x . A^-1 b":
            lambda d, m, x, pays, width: _linucb_round(
                d, m, x, pays, width, index=m @ x + width * np.sqrt(x @ np.linalg.inv(d) @ x)),
        "your bonus uses A where it should use its inverse: it must shrink as an arm is pulled more":
            lambda d, m, x, pays, width: _linucb_round(
                d, m, x, pays, width,
                index=(np.linalg.inv(d) @ m[..., None])[..., 0] @ x + width * np.sqrt(x @ d @ x)),
        "you learnt from the largest payment; you are only told what the pulled arm paid":
            lambda d, m, x, pays, width: _linucb_round(d, m, x, np.full(3, pays.max()), width),
        "you chose well, but learnt nothing: add x x' to A and payment times x to b, of the arm pulled":
            lambda d, m, x, pays, width: (_linucb_round(d, m, x, pays, width)[0], d, m),
    },
    praise="correct: choose, then learn, and only about the arm you pulled",
)  # fmt: skip


def _loss_estimate(chances: np.ndarray, arm: int, loss: float) -> np.ndarray:
    estimate = np.zeros(len(chances))
    estimate[arm] = loss / chances[arm]
    return estimate


def _at(chances: np.ndarray, arm: int, value: float) -> np.ndarray:
    return np.where(np.arange(len(chances)) == arm, value, 0.0)


def _estimate_arguments(rng: np.random.Generator) -> tuple:
    chances = rng.dirichlet(np.ones(4))
    return chances, int(rng.integers(4)), float(rng.uniform(0.1, 1))


expect(
    "02.loss_estimate",
    _loss_estimate,
    inputs=_estimate_arguments,
    cases=8,
    mistakes={
        "the weight is on the wrong arms: you divided by each arm's own chance, but nothing is known of the arms not pulled":
            lambda p, arm, loss: loss / p,
        "every arm gets the estimate; those not pulled get 0": lambda p, arm, loss: np.full(len(p), loss / p[arm]),
        "you divided by the chance of the likeliest arm; divide by the chance of the arm that was pulled":
            lambda p, arm, loss: _at(p, arm, loss / p.max()),
        "you divided by the chance of *not* pulling that arm": lambda p, arm, loss: _at(p, arm, loss / (1 - p[arm])),
        "that is the loss as it is: an arm pulled one time in ten is only seen one time in ten, so count it ten times":
            lambda p, arm, loss: _at(p, arm, loss),
        "you multiplied by the chance; divide by it": lambda p, arm, loss: _at(p, arm, loss * p[arm]),
        "the weight is on the wrong arm: the arm pulled gets 0, and the others get the estimate":
            lambda p, arm, loss: loss / p[arm] - _loss_estimate(p, arm, loss),
    },
    praise="correct: right on average, whatever the chances",
)  # fmt: skip


def _exploitability(payoff: np.ndarray, row: np.ndarray, column: np.ndarray) -> float:
    return float((payoff @ column).max() - (row @ payoff).min())


expect(
    "02.exploitability",
    _exploitability,
    inputs=lambda rng: (rng.normal(size=(3, 4)), rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4))),
    mistakes={
        "that is what the row player alone could gain; add what the column player could":
            lambda a, x, y: (a @ y).max() - x @ a @ y,
        "that is what the column player alone could gain; add what the row player could":
            lambda a, x, y: x @ a @ y - (x @ a).min(),
        "each player must answer the *other's* mixture: rows are chosen against `column`, columns against `row`":
            lambda a, x, y: (x @ a).max() - (a @ y).min(),
        "the column player pays, so it looks for the smallest entry of row @ payoff":
            lambda a, x, y: (a @ y).max() - (x @ a).max(),
        "the sign is turned round": lambda a, x, y: -_exploitability(a, x, y),
        "that is what the mixtures earn against each other; wanted is what best responses would gain":
            lambda a, x, y: x @ a @ y,
        "you added the two; the column player's gain is minus the smallest entry":
            lambda a, x, y: (a @ y).max() + (x @ a).min(),
    },
    praise="correct: 0 exactly at an equilibrium",
)  # fmt: skip


def _mixture_value(
    reward: np.ndarray, cost: np.ndarray, budget: np.ndarray, horizon: int, mixture: np.ndarray
) -> float:
    return float(mixture @ reward * min(horizon, (budget / (mixture @ cost)).min()))


def _mixture_arguments(rng: np.random.Generator) -> tuple:
    """Horizon and either budget bind in turn."""
    cost = rng.uniform(0.1, 1, size=(3, 2))
    return rng.random(3), cost, rng.uniform(20, 90, size=2), 100, rng.dirichlet(np.ones(3))


expect(
    "02.mixture_value",
    _mixture_value,
    inputs=_mixture_arguments,
    cases=12,
    mistakes={
        "you play on when a budget is gone: the first one to run out ends the game":
            lambda r, c, b, t, x: x @ r * min(t, (b / (x @ c)).max()),
        "you forgot that the evening ends: never more than `horizon` rounds":
            lambda r, c, b, t, x: x @ r * (b / (x @ c)).min(),
        "you forgot the budgets": lambda r, c, b, t, x: x @ r * t,
        "you looked at the first budget only": lambda r, c, b, t, x: x @ r * min(t, (b / (x @ c))[0]),
        "you added the budgets up; each runs out by itself":
            lambda r, c, b, t, x: x @ r * min(t, b.sum() / (x @ c).sum()),
        "that is the number of rounds; multiply by what a round earns":
            lambda r, c, b, t, x: min(t, (b / (x @ c)).min()),
        "you averaged what each arm earns alone; the arms share one evening and one stock":
            lambda r, c, b, t, x: x @ (r * np.minimum(t, (b / c).min(1))),
    },
    praise="correct: what a round earns, times the rounds until something runs out",
)  # fmt: skip


def _whom_to_serve(value: np.ndarray, chance: np.ndarray, rate: float, *, by: np.ndarray | None = None) -> np.ndarray:
    p, left = np.zeros(len(value)), rate
    for j in np.argsort(-(value if by is None else by), kind="stable"):
        p[j] = min(1.0, left / chance[j])
        left = left - p[j] * chance[j]
    return p


def _whole(value: np.ndarray, chance: np.ndarray, rate: float) -> np.ndarray:
    return np.floor(_whom_to_serve(value, chance, rate) + 1e-9)


def _as_if_one_each(value: np.ndarray, chance: np.ndarray, rate: float) -> np.ndarray:
    return _whom_to_serve(value, np.ones(len(value)), rate)


def _serve_arguments(rng: np.random.Generator) -> tuple:
    return rng.random(4), rng.dirichlet(2 * np.ones(4)), float(rng.uniform(0.15, 0.85))


expect(
    "02.whom_to_serve",
    _whom_to_serve,
    inputs=_serve_arguments,
    cases=10,
    mistakes={
        "you sorted by value times share; a serving costs the same for everybody, so sort by value alone":
            lambda u, phi, rate: _whom_to_serve(u, phi, rate, by=u * phi),
        "you began with the least valuable class": lambda u, phi, rate: _whom_to_serve(u, phi, rate, by=-u),
        "a class that does not fit whole can be served part of the time": _whole,
        "you forgot that class j is only a share of the guests: serving it with p uses p times its share": _as_if_one_each,
        "you serve everybody equally often; that uses the budget, but not on the best":
            lambda u, phi, rate: np.full(len(u), rate),
        "that is the share of all guests; wanted is how often a guest *of that class* is served: divide by its share":
            lambda u, phi, rate: _whom_to_serve(u, phi, rate) * phi,
    },
    praise="correct: a knapsack whose last item may be cut",
)  # fmt: skip
