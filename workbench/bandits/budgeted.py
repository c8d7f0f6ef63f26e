"""Bandits that run out: a pull may use up some of several budgets, and the game ends when one of them is gone.

Learning becomes a linear program. If the mean rewards and costs were known, the best one could plan is a *mixture* of arms, and
no policy beats its value on average (`bound`). The mixture may beat every single arm, by up to as many times as there are
resources, time included. `LagrangeBwK` finds it as the equilibrium of a game between one who picks arms and one who
prices resources; `UcbBwK` solves the program with optimistic numbers; `Hatch` first decides whom to serve, by a program over
classes of askers, and then how.

Sources: Badanidiyuru, Kleinberg and Slivkins 2013 (bandits with knapsacks); Agrawal and Devanur 2014 (UcbBwK); Immorlica,
Sankararaman, Schapire and Slivkins 2019 (LagrangeBwK); Yang et al. 2020 (HATCH, arXiv 2004.01136); Slivkins 2019 (arXiv
1904.07272), chapter 10.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from workbench import seeding
from workbench.bandits.adversarial import EXP3P, Hedge, check_count, draw
from workbench.bandits.contextual import ridge_index, sherman_morrison

_SUM = 1e-9


class Plan(NamedTuple):
    """What a mixture of arms earns in a round on average, and the mixture [K]; the rest of the time one is idle."""

    value: float
    mixture: np.ndarray


def best_plan(reward: ArrayLike, cost: ArrayLike, rate: ArrayLike) -> Plan:
    """max x . reward over mixtures x >= 0 with sum(x) <= 1 and x . cost <= rate, by linear programming (HiGHS).

    reward [K] and cost [K,D] are means of one pull, rate [D] is what may be used in a round: budget over horizon.
    Raises ValueError for shapes that do not fit and for negative costs or rates.
    """
    r, c, allowed = (np.asarray(x, dtype=float) for x in (reward, cost, rate))
    _check_shapes(r, c, allowed, "rate")
    if not ((c >= 0).all() and (allowed >= 0).all()):
        raise ValueError("costs and rates must not be negative")
    solved = linprog(-r, A_ub=np.c_[c, np.ones(len(r))].T, b_ub=np.r_[allowed, 1.0], method="highs")
    return Plan(float(-solved.fun), solved.x)


def best_mixtures(reward: np.ndarray, cost: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """`best_plan` for R instances at once: reward [R,K], cost [R,K,D], rate [R,D] -> mixtures [R,K].

    A linear program has its optimum at a vertex, where at most D + 1 arms and slacks are not zero: all choices of them are
    tried. That is fast for few arms and resources; the work grows as (K + D + 1) choose (D + 1).
    """
    runs, arms, resources = cost.shape
    rows = resources + 1
    slack = np.broadcast_to(np.eye(rows), (runs, rows, rows))
    columns = np.concatenate([np.concatenate([cost, np.ones((runs, arms, 1))], 2), slack], 1)  # [R,K+D+1,D+1]
    worth = np.concatenate([reward, np.zeros((runs, rows))], 1)
    limits = np.concatenate([rate, np.ones((runs, 1))], 1)
    bases = np.array(list(itertools.combinations(range(arms + rows), rows)))  # [C,D+1]
    systems = np.swapaxes(columns[:, bases], -1, -2).copy()
    singular = np.abs(np.linalg.det(systems)) < 1e-12
    systems[singular] = np.eye(rows)
    right = np.broadcast_to(limits[:, None, :, None], (*systems.shape[:-1], 1))
    share = np.linalg.solve(systems, right)[..., 0]
    value = np.where((share >= -_SUM).all(-1) & ~singular, (share * worth[:, bases]).sum(-1), -np.inf)
    best = value.argmax(1)
    mixture = np.zeros((runs, arms + rows))
    np.put_along_axis(mixture, bases[best], share[np.arange(runs), best], 1)
    return mixture[:, :arms].clip(0, 1)


def whom_to_serve(value: ArrayLike, chance: ArrayLike, rate: ArrayLike) -> np.ndarray:
    """HATCH's program: how often to serve each class of askers, p [...,J], when a serving costs 1.

    Maximises sum_j p_j chance_j value_j over 0 <= p <= 1 with sum_j p_j chance_j <= rate. value [...,J] is what a serving of
    class j earns, chance [...,J] its share of the askers, rate [...] the budget left over the rounds left. That is a
    fractional knapsack: fill it class by class, the most valuable first; a class worth nothing or less is left out.
    """
    u = np.asarray(value, dtype=float)
    order = np.argsort(-u, axis=-1, kind="stable")
    share = np.take_along_axis(np.broadcast_to(np.asarray(chance, dtype=float), u.shape), order, -1)
    before = share.cumsum(-1) - share
    left = np.asarray(rate, dtype=float)[..., None] - before
    filled = np.where(share > 0, left / np.where(share > 0, share, 1), left > 0).clip(0, 1)
    p = np.empty(u.shape)
    np.put_along_axis(p, order, filled, -1)
    return np.where(u > 0, p, 0.0)


@dataclass(frozen=True)
class BudgetedBandit:
    """Arms whose pulls pay, and use up resources: all 0 or 1, at random and independently.

    Attributes:
        reward: [K], the chance that a pull pays 1. cost: [K,D], the chance that it uses one unit of each resource.
        budget: [D], how many units there are. horizon: T, the most rounds there can be.

    One more arm, number K, is to be idle; it pays and uses nothing. A repetition is over as soon as less than one unit of some
    resource is left, so no policy can overspend.

    Raises:
        ValueError: chances outside [0, 1], shapes that do not fit, a budget below 1, a horizon below 1.
    """

    reward: np.ndarray
    cost: np.ndarray
    budget: np.ndarray
    horizon: int
    feedback = ("budgeted",)  # `play` has no budgets: use `play_budgeted`

    def __post_init__(self) -> None:
        check_count("horizon", self.horizon)
        for name in ("reward", "cost", "budget"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        _check_shapes(self.reward, self.cost, self.budget, "budget")
        for name in ("reward", "cost"):
            if not ((getattr(self, name) >= 0) & (getattr(self, name) <= 1)).all():
                raise ValueError(f"{name} must hold chances from 0 to 1, not {getattr(self, name).tolist()}")
        if not (self.budget >= 1).all():
            raise ValueError(f"every budget must be at least 1, what a pull can use, not {self.budget.tolist()}")

    @property
    def arms(self) -> int:
        """K + 1: the arms, and to be idle."""
        return len(self.reward) + 1

    def plan(self) -> Plan:
        """The best mixture, were budgets to be kept on average only."""
        return best_plan(self.reward, self.cost, self.budget / self.horizon)

    def best_arm(self) -> Plan:
        """The best plan with a single arm (and idling)."""
        rate = self.budget / self.horizon
        each = [best_plan(self.reward[[k]], self.cost[[k]], rate) for k in range(self.arms - 1)]
        best = int(np.argmax([plan.value for plan in each]))
        return Plan(each[best].value, np.eye(self.arms - 1)[best] * each[best].mixture[0])

    def bound(self) -> float:
        """T times the value of the best plan: no policy earns more on average (Badanidiyuru et al. 2013)."""
        return self.horizon * self.plan().value

    def context(self, repetitions: int, rng: np.random.Generator) -> None:
        """Nobody in particular asks."""
        return None

    def pull(self, context: None, arm: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Reward [R] and cost [R,D] of pulling arm [R]."""
        reward = np.append(self.reward, 0.0)[arm]
        cost = np.vstack([self.cost, np.zeros(self.cost.shape[1])])[arm]
        return (rng.random(reward.shape) < reward).astype(float), (rng.random(cost.shape) < cost).astype(float)


@dataclass(frozen=True)
class BudgetedAskers:
    """Askers of J classes arrive at random, each can be served in K ways at a cost of 1, and there are not enough servings.

    Attributes:
        contexts: [J,M,d], the features of the M askers of each class, all equally likely within it.
        chance: [J], how likely each class is. theta: [K,d]: serving x in way k pays 1 with a chance of theta_k . x.
        budget: servings there are. horizon: T.

    Arm K is to let the asker go. Raises ValueError for chances outside [0, 1] or shapes that do not fit.
    """

    contexts: np.ndarray
    chance: np.ndarray
    theta: np.ndarray
    budget: float
    horizon: int
    feedback = ("budgeted",)

    def __post_init__(self) -> None:
        check_count("horizon", self.horizon)
        for name in ("contexts", "chance", "theta"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        if self.contexts.ndim != 3 or self.theta.ndim != 2 or self.contexts.shape[2] != self.theta.shape[1]:
            raise ValueError(
                f"contexts [J,M,d] and theta [K,d] do not fit: shapes {self.contexts.shape} and {self.theta.shape}"
            )
        if self.chance.shape != self.contexts.shape[:1]:
            raise ValueError(f"chance must have one entry a class, {len(self.contexts)}, not shape {self.chance.shape}")
        if not ((self.chance >= 0).all() and abs(self.chance.sum() - 1) < _SUM):
            raise ValueError(f"the chances of the classes must add up to 1, not {self.chance.tolist()}")
        if not self.budget >= 1:
            raise ValueError(f"the budget must be at least 1, the cost of a serving, not {self.budget!r}")
        pays = self.contexts @ self.theta.T
        if not ((pays >= -_SUM) & (pays <= 1 + _SUM)).all():
            raise ValueError(f"theta . x must be a chance for every asker; it ranges from {pays.min():.3g} to {pays.max():.3g}")

    @property
    def arms(self) -> int:
        """K + 1: the ways to serve, and to let go."""
        return len(self.theta) + 1

    @property
    def centres(self) -> np.ndarray:
        """The mean features of each class [J,d]."""
        return self.contexts.mean(1)

    def bound(self) -> float:
        """T times the best plan of somebody who knows theta and sees each asker: no policy earns more on average."""
        pays = (self.contexts @ self.theta.T).max(2)  # [J,M]
        share = np.repeat(self.chance / pays.shape[1], pays.shape[1])
        served = whom_to_serve(pays.ravel(), share, min(1.0, self.budget / self.horizon))
        return self.horizon * float((served * share) @ pays.ravel())

    def class_bound(self) -> float:
        """The same for a plan that serves all askers of a class equally often, as HATCH does."""
        value = (self.contexts @ self.theta.T).max(2).mean(1)
        served = whom_to_serve(value, self.chance, min(1.0, self.budget / self.horizon))
        return self.horizon * float((served * self.chance) @ value)

    def context(self, repetitions: int, rng: np.random.Generator) -> np.ndarray:
        """The features [R,d] of whoever asks."""
        classes = rng.choice(len(self.chance), size=repetitions, p=self.chance)
        return self.contexts[classes, rng.integers(self.contexts.shape[1], size=repetitions)]

    def pull(self, context: np.ndarray, arm: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Reward [R] and cost [R,1] of serving context [R,d] in way arm [R]."""
        served = arm < len(self.theta)
        chance = (self.theta[np.where(served, arm, 0)] * context).sum(1) * served
        return (rng.random(chance.shape) < chance).astype(float), served[:, None].astype(float)


class BudgetedPolicy(Protocol):
    """What `play_budgeted` asks of a policy, whose last arm is to be idle. `feedback` says "budgeted"."""

    feedback: str

    def start(self, repetitions: int, arms: int, budget: np.ndarray, horizon: int) -> None:
        """Forget everything: R repetitions of K + 1 arms, budget [D] and at most `horizon` rounds."""
        ...

    def choose(
        self, context: np.ndarray | None, left: np.ndarray, rounds: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Arms [R], given the askers' features [R,d] (or None), the budgets left [R,D] and the rounds left."""
        ...

    def update(self, arm: np.ndarray, reward: np.ndarray, cost: np.ndarray) -> None:
        """Learn from arm [R], reward [R] and cost [R,D]; a repetition that is over reports that it was idle."""
        ...


class Earned(NamedTuple):
    """What R repetitions came to: reward [R], used [R,D], how many rounds each lasted [R], pulls of each arm [R,K+1]."""

    reward: np.ndarray
    used: np.ndarray
    rounds: np.ndarray
    pulls: np.ndarray


def play_budgeted(
    policy: BudgetedPolicy, problem: BudgetedBandit | BudgetedAskers, repetitions: int, *, seed: int
) -> Earned:
    """Play `repetitions` games side by side, each until a budget or the horizon is used up.

    Raises ValueError for fewer than one repetition, a policy or a problem without budgets, and a policy that returns arms of
    another shape or arms there are not.
    """
    check_count("repetitions", repetitions)
    for thing in (policy, problem):
        if "budgeted" not in getattr(thing, "feedback", ()):
            raise ValueError(f"{type(thing).__name__} knows no budgets; use `play`, or something of this module")
    nature = seeding.generator(seed, "budgeted", "nature")
    own = seeding.generator(seed, "budgeted", "policy")
    budget = np.atleast_1d(np.asarray(problem.budget, dtype=float))
    left = np.tile(budget, (repetitions, 1))
    earned, rounds = np.zeros(repetitions), np.zeros(repetitions, dtype=int)
    pulls, rows = np.zeros((repetitions, problem.arms), dtype=int), np.arange(repetitions)
    policy.start(repetitions, problem.arms, budget, problem.horizon)
    for t in range(problem.horizon):
        alive = (left >= 1).all(1)
        if not alive.any():
            break
        context = problem.context(repetitions, nature)
        arm = np.asarray(policy.choose(context, left.copy(), problem.horizon - t, own))
        if arm.shape != (repetitions,) or not ((arm >= 0) & (arm < problem.arms)).all():
            raise ValueError(f"a policy must choose {repetitions} arms from 0 to {problem.arms - 1}, not {arm!r}")
        arm = np.where(alive, arm, problem.arms - 1)
        reward, cost = problem.pull(context, arm, nature)  # type: ignore[arg-type]
        policy.update(arm, reward, cost)
        earned, left, rounds = earned + reward, left - cost, rounds + alive
        pulls[rows, arm] += alive
    return Earned(earned, budget - left, rounds, pulls)


class FixedMixture:
    """Draw each arm from one mixture [K], and be idle with what is missing to 1: a plan carried out without looking."""

    feedback = "budgeted"

    def __init__(self, mixture: ArrayLike) -> None:
        x = np.asarray(mixture, dtype=float)
        if x.ndim != 1 or (x < -_SUM).any() or x.sum() > 1 + _SUM:
            raise ValueError(f"a mixture has one share an arm, none negative, at most 1 in all, not {mixture!r}")
        self.mixture = np.append(x.clip(0), max(0.0, 1 - x.sum()))

    def start(self, repetitions: int, arms: int, budget: np.ndarray, horizon: int) -> None:
        if arms != len(self.mixture):
            raise ValueError(f"a mixture of {len(self.mixture) - 1} arms on a problem that has {arms - 1}")

    def choose(
        self, context: np.ndarray | None, left: np.ndarray, rounds: int, rng: np.random.Generator
    ) -> np.ndarray:
        return draw(np.tile(self.mixture, (len(left), 1)), rng)

    def update(self, arm: np.ndarray, reward: np.ndarray, cost: np.ndarray) -> None:
        pass


class LagrangeBwK:
    """EXP3.P picks arms, Hedge prices resources, and each pull is worth reward + (T/B)(1 - price . cost).

    Immorlica et al. 2019; Slivkins 2019, chapter 10. B is the smallest budget (at most T), costs are scaled
    so that all budgets are B, and time is one more resource, of which each round uses B / T. Payoffs are scaled to [0, 1].
    Instead of drawing one resource from the prices we use their mean, which has the same expectation.
    """

    feedback = "budgeted"

    def start(self, repetitions: int, arms: int, budget: np.ndarray, horizon: int) -> None:
        smallest = min(float(budget.min()), float(horizon))
        self._scale, self._time = smallest / budget, smallest / horizon
        self._picker, self._pricer = EXP3P(), Hedge()
        self._picker.start(repetitions, arms, horizon)
        self._pricer.start(repetitions, len(budget) + 1, horizon)

    def choose(
        self, context: np.ndarray | None, left: np.ndarray, rounds: int, rng: np.random.Generator
    ) -> np.ndarray:
        return self._picker.choose(rng)

    def update(self, arm: np.ndarray, reward: np.ndarray, cost: np.ndarray) -> None:
        used = np.c_[cost * self._scale, np.full(len(arm), self._time)]
        price = (self._pricer.probabilities() * used).sum(1)
        self._picker.update(arm, (self._time * reward + 1 - price) / (1 + self._time))
        self._pricer.update(arm, used / (1 + self._time))


class UcbBwK:
    """Solve the linear program with optimistic numbers, and draw the arm from its mixture (Agrawal and Devanur 2014).

    Rewards are overestimated and costs underestimated by sqrt(g m / n) + g / n, where m is the mean of n pulls and
    g = `width` x ln(K (D + 1) T). The program is solved with the budgets left over the rounds left; the paper's has
    (1 - e) B / T for a small e instead, which guards its proof. For few arms and resources: see `best_mixtures`.
    """

    feedback = "budgeted"

    def __init__(self, *, width: float = 0.25) -> None:
        if not width >= 0:
            raise ValueError(f"width must not be negative, not {width!r}")
        self.width = width

    def start(self, repetitions: int, arms: int, budget: np.ndarray, horizon: int) -> None:
        self._g = self.width * math.log(max(2.0, (arms - 1) * (len(budget) + 1) * horizon))
        self.pulls = np.zeros((repetitions, arms))
        self.reward = np.zeros((repetitions, arms))
        self.cost = np.zeros((repetitions, arms, len(budget)))

    def choose(
        self, context: np.ndarray | None, left: np.ndarray, rounds: int, rng: np.random.Generator
    ) -> np.ndarray:
        pulls = self.pulls[:, :-1]
        n = np.maximum(pulls, 1)
        reward, cost = self.reward[:, :-1] / n, self.cost[:, :-1] / n[..., None]
        high = np.where(pulls > 0, reward + np.sqrt(self._g * reward / n) + self._g / n, 1.0)
        low = cost - np.sqrt(self._g * cost / n[..., None]) - self._g / n[..., None]
        low = np.where(pulls[..., None] > 0, low, 0.0)
        mixture = best_mixtures(high.clip(0, 1), low.clip(0, 1), left / rounds)
        return draw(np.c_[mixture, (1 - mixture.sum(1)).clip(0)], rng)

    def update(self, arm: np.ndarray, reward: np.ndarray, cost: np.ndarray) -> None:
        rows = np.arange(len(arm))
        self.pulls[rows, arm] += 1
        self.reward[rows, arm] += reward
        self.cost[rows, arm] += cost


class Hatch:
    """Decide whom to serve by a program over classes, and how by a LinUCB of each class (Yang et al. 2020).

    The class of an asker is that of the nearest of `centres` [J,d], classes have the shares `chance` [J]. The worth of a class is
    a ridge regression on its centre, overestimated by `width` times its standard deviation, and learnt from servings in any
    way; `whom_to_serve` gives the chance that the asker is served. The paper clusters past askers by a Gaussian mixture model;
    we take its centres and shares as given.
    """

    feedback = "budgeted"

    def __init__(self, centres: ArrayLike, chance: ArrayLike, *, width: float = 1.0, ridge: float = 1.0) -> None:
        self.centres, self.chance = np.asarray(centres, dtype=float), np.asarray(chance, dtype=float)
        if self.centres.ndim != 2 or self.chance.shape != self.centres.shape[:1]:
            raise ValueError(f"centres [J,d] and chance [J] do not fit: {self.centres.shape} and {self.chance.shape}")
        if not ((self.chance >= 0).all() and abs(self.chance.sum() - 1) < _SUM):
            raise ValueError(f"the shares of the classes must add up to 1, not {self.chance.tolist()}")
        if not width >= 0 or not ridge > 0:
            raise ValueError(f"width must not be negative and ridge must be positive, not {width!r} and {ridge!r}")
        self.width, self.ridge = width, ridge

    def start(self, repetitions: int, arms: int, budget: np.ndarray, horizon: int) -> None:
        if len(budget) != 1:
            raise ValueError(f"HATCH has one budget, that of servings; this problem has {len(budget)}")
        classes, d = self.centres.shape
        self.served = np.zeros((repetitions, classes))
        self.earned = np.zeros((repetitions, classes))
        self.inverse = np.tile(np.eye(d) / self.ridge, (repetitions, classes, arms - 1, 1, 1))
        self.moment = np.zeros((repetitions, classes, arms - 1, d))

    def class_values(self) -> np.ndarray:
        """The optimistic worth of each class [R,J]: with one feature vector a class, ridge regression is a shrunk mean."""
        size = (self.centres**2).sum(1)
        weight = size / (self.ridge + self.served * size)
        return weight * self.earned + self.width * np.sqrt(weight)

    def choose(
        self, context: np.ndarray | None, left: np.ndarray, rounds: int, rng: np.random.Generator
    ) -> np.ndarray:
        if context is None or context.shape[1:] != self.centres.shape[1:]:
            seen = "nothing" if context is None else f"shape {context.shape}"
            raise ValueError(f"HATCH needs the asker's {self.centres.shape[1]} features, contexts [R,d]; it got {seen}")
        rows = np.arange(len(context))
        self._x = context
        self._class = ((context[:, None] - self.centres) ** 2).sum(2).argmin(1)
        p = whom_to_serve(self.class_values(), self.chance, left[:, 0] / rounds)[rows, self._class]
        index = ridge_index(self.inverse[rows, self._class], self.moment[rows, self._class], context, self.width)
        return np.where(rng.random(len(p)) < p, index.argmax(1), index.shape[1])

    def update(self, arm: np.ndarray, reward: np.ndarray, cost: np.ndarray) -> None:
        rows = np.flatnonzero(arm < self.moment.shape[2])
        of_class = rows, self._class[rows]
        self.served[of_class] += 1
        self.earned[of_class] += reward[rows]
        at = (*of_class, arm[rows])
        self.inverse[at] = sherman_morrison(self.inverse[at], self._x[rows])
        self.moment[at] += reward[rows, None] * self._x[rows]


def _check_shapes(reward: np.ndarray, cost: np.ndarray, limit: np.ndarray, name: str) -> None:
    if reward.ndim != 1 or cost.ndim != 2 or cost.shape != (len(reward), *limit.shape) or not cost.size:
        raise ValueError(
            f"reward [K], cost [K,D] and {name} [D] do not fit: shapes {reward.shape}, {cost.shape} and {limit.shape}"
        )
