"""What demonstrations cannot tell, as an interval: natural bounds, sensitivity models, and linear programs that agree.

Watching an expert gives P(s', x | s), not T(s' | s, do x): with chance 1 - e(x|s) the expert did something else, and what x
would have led to then is unknown. The natural bounds (Manski 1990) put that share anywhere,

    T(s'|s,x) in [P(s',x|s), P(s',x|s) + 1 - e(x|s)],   R(s,x) in [e r + (1-e) low, e r + (1-e) high],   r = E[Y | s, x].

They are sharp, and sharp together (our derivation): any mixture T = P(., x|s) + (1-e) q with q any distribution has a model
with the same demonstrations, see `witness`. So for a planner they are a contamination model, each pair (s, x) by itself.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats as scipy_stats
from scipy.optimize import linprog
from scipy.sparse import coo_array

from workbench.causal.scm import ConfoundedMDP, Observed, as_policy, check_discount, distribution

_TYPES = 200_000  # variables of a linear program at most


@dataclass(frozen=True)
class Uncertainty:
    """All MDPs with T(.|s,x) between `low` and `high` (summing to 1) and R(s,x) between its ends, each (s,x) by itself.

    Arrays may have leading axes: that many sets at once.

    Attributes:
        low: [S,X,S], its sum over s' at most 1. high: [S,X,S], or None: the mass that `low` leaves may go anywhere.
        reward_low, reward_high: [S,X]. start: [S]. discount.

    Raises ValueError for an empty set, naming the state and action.
    """

    low: np.ndarray
    high: np.ndarray | None
    reward_low: np.ndarray
    reward_high: np.ndarray
    start: np.ndarray
    discount: float

    def __post_init__(self) -> None:
        check_discount(self.discount)
        _refuse(self.low.sum(-1) > 1 + 1e-9, "the lower bounds of T({at}) add up to more than 1")
        _refuse((self.low < 0).any(-1), "the lower bounds of T({at}) are negative")
        _refuse(self.reward_low > self.reward_high + 1e-12, "R({at}) has a lower bound above its upper bound")
        if self.high is not None:
            _refuse((self.high < self.low - 1e-12).any(-1), "T({at}) has a lower bound above its upper bound")
            _refuse(self.high.sum(-1) < 1 - 1e-9, "the upper bounds of T({at}) add up to less than 1")

    @property
    def free(self) -> np.ndarray:
        """The probability [S,X] that may be moved."""
        return np.maximum(1 - self.low.sum(-1), 0)

    def expectation(self, value: np.ndarray, *, worst: bool = True) -> np.ndarray:
        """The least (or largest) of sum T(s'|s,x) value(s') over the set: value [S] -> [S,X].

        Where mass may go anywhere this is one line: all of it goes to the worst state."""
        known = (self.low @ value[..., None, :, None])[..., 0]
        if self.high is None:
            end = value.min(-1) if worst else value.max(-1)
            return known + self.free * end[..., None, None]
        order, put = self._filled(value, worst)
        return known + (put @ np.take_along_axis(value, order, -1)[..., None, :, None])[..., 0]

    def extreme(self, value: np.ndarray, *, worst: bool = True) -> np.ndarray:
        """The transitions [S,X,S] that attain `expectation`: states are filled up in order of their value."""
        order, put = self._filled(value, worst)
        moved = np.empty_like(put)
        np.put_along_axis(moved, np.broadcast_to(order[..., None, None, :], put.shape), put, -1)
        return self.low + moved

    def _filled(self, value: np.ndarray, worst: bool) -> tuple[np.ndarray, np.ndarray]:
        """The states in order of their value [S], and the mass [S,X,S] that each gets, in that order."""
        order = np.argsort(value if worst else -value, axis=-1, kind="stable")
        if self.high is None:
            put = np.zeros_like(self.low)
            put[..., 0] = self.free
            return order, put
        at = np.broadcast_to(order[..., None, None, :], self.low.shape)
        room = np.take_along_axis(self.high - self.low, at, -1) if order.ndim > 1 else (self.high - self.low)[..., order]
        before = room.cumsum(-1) - room
        return order, np.clip(self.free[..., None] - before, 0, room)

    def contains(self, transitions: Any, rewards: Any, *, tolerance: float = 1e-9) -> Any:
        """Whether T [S,X,S] and R [S,X] are in the set; one answer for each leading axis."""
        inside = (transitions >= self.low - tolerance).all((-1, -2, -3))
        if self.high is not None:
            inside &= (transitions <= self.high + tolerance).all((-1, -2, -3))
        low, high = rewards >= self.reward_low - tolerance, rewards <= self.reward_high + tolerance
        return inside & (low & high).all((-1, -2))


def _refuse(bad: Any, message: str) -> None:
    if bad.any():
        s, x = np.argwhere(bad)[0][-2:]
        raise ValueError(message.format(at=f"s={s}, x={x}"))


def point(transitions: Any, rewards: Any, start: Any, discount: float) -> Uncertainty:
    """The set of one MDP: T [S,X,S], R [S,X], start [S]."""
    transitions = distribution(transitions, "the next state S'")
    rewards = np.asarray(rewards, dtype=float)
    return Uncertainty(transitions, None, rewards, rewards, np.asarray(start), discount)


def identified(observed: Observed, policy: Any = None) -> Uncertainty:
    """The one MDP that demonstrations give if nothing hidden enters the expert's choice: P(s'|s,x) and E[Y|s,x].

    Raises ValueError (positivity) where the expert never takes an action that `policy` takes; any action, if None.
    """
    states, actions = observed.expert.shape[-2:]
    takes = np.ones((states, actions)) if policy is None else as_policy(policy, states, actions)
    _refuse((takes > 0) & (observed.expert <= 0), "positivity: e(x|s) = 0 at {at}, so nothing is known of that action there")
    seen = observed.expert > 0
    share = np.where(seen, observed.expert, 1)
    kernel = np.where(seen[..., None], observed.joint / share[..., None], 1 / states)
    return point(kernel, np.where(seen, observed.reward / share, 0), observed.start, observed.discount)


def natural(
    observed: Observed, *, transitions: bool = True, rewards: bool = True, support: Any = None
) -> Uncertainty:
    """The natural bounds: nothing is assumed of the hidden cause.

    Args:
        transitions, rewards: whether the hidden cause may enter them; if not, they are what the demonstrations show.
        support: which next states are possible at all, boolean, to be broadcast to [S,X,S].

    An action that the expert never takes somewhere (e = 0) is bounded by nothing there, whatever is assumed.
    Raises ValueError for a `support` that the demonstrations contradict.
    """
    return _bounds(observed, math.inf, transitions, rewards, support, seen_only=False)


def sensitivity(
    observed: Observed, gamma: float, *, transitions: bool = True, rewards: bool = True, support: Any = None
) -> Uncertainty:
    """Between "nothing is hidden" (gamma = 1) and the natural bounds on what was ever shown (gamma = infinity).

    A marginal sensitivity model, after Tan (2006) (the form is our derivation): where the expert did something else, x
    would have led to s' with a chance q(s') that differs from what was seen, P(s'|s,x), by a factor of gamma at most,
    either way. So T(s'|s,x) is within P(s'|s,x) [e + (1-e)/gamma, e + (1-e) gamma], and sums to 1. For rewards the same
    factor holds for their distribution; of that only the mean is used, and the ends are those of a reward that is always
    `low` or `high`. Each end is sharp by itself; the transition and the reward of one pair cannot always be at their ends
    together, so planning on both is cautious. An infinite gamma keeps the support of what was seen, which `natural` does
    not.

    Raises ValueError for gamma below 1, and as `natural`.
    """
    if not gamma >= 1:
        raise ValueError(f"gamma is a factor of at least 1 (1: nothing hidden, math.inf: anything), not {gamma!r}")
    return _bounds(observed, gamma, transitions, rewards, support, seen_only=True)


def _bounds(
    observed: Observed, gamma: float, transitions: bool, rewards: bool, support: Any, *, seen_only: bool
) -> Uncertainty:
    e = observed.expert
    seen, other = e > 0, 1 - e
    share = np.where(seen, e, 1)
    shown = observed.joint / share[..., None]  # P(s'|s,x)
    if support is None:
        possible = np.ones(observed.joint.shape, bool)
    else:
        possible = np.broadcast_to(np.asarray(support, bool), observed.joint.shape)
    _refuse(~possible.any(-1), "the support leaves no next state at {at}")
    _refuse(((observed.joint > 0) & ~possible).any(-1), "the demonstrations show a next state outside the support at {at}")
    high: np.ndarray | None
    if not transitions or gamma == 1:
        low, high = shown, None  # which leaves no mass to move
    elif math.isinf(gamma):
        low = observed.joint
        high = None
        if seen_only:
            high = np.where(shown > 0, low + other[..., None], low)
        elif support is not None:
            high = np.where(possible, low + other[..., None], low)
    else:
        low = shown * (e + other / gamma)[..., None]
        high = np.minimum(shown * (e + other * gamma)[..., None], 1)
    if high is None and support is not None:
        high = np.where(possible, 1.0, 0.0)
    if high is not None:  # nothing was seen of an action: anything possible
        high = np.where(seen[..., None], high, possible)
    span = observed.high - observed.low
    mean = np.clip((observed.reward / share - observed.low) / span, 0, 1)  # E[Y|s,x] on a scale from 0 to 1
    if not rewards:
        least = most = mean
    elif math.isinf(gamma):
        least, most = np.zeros_like(mean), np.ones_like(mean)
        if seen_only:
            least, most = np.where(mean > 1 - 1e-12, 1, least), np.where(mean < 1e-12, 0, most)
    else:
        least = np.maximum(mean / gamma, 1 - (1 - mean) * gamma)
        most = np.minimum(mean * gamma, 1 - (1 - mean) / gamma)
    least, most = np.where(seen, e * mean + other * least, 0), np.where(seen, e * mean + other * most, 1)
    return Uncertainty(
        low, high, observed.low + span * least, observed.low + span * most, observed.start, observed.discount
    )


def witness(observed: Observed, leftover: Any, leftover_reward: Any) -> ConfoundedMDP:
    """A world with these very demonstrations in which, where the expert did something else, x would have led to a state drawn
    from `leftover` [S,X,S] and paid `leftover_reward` [S,X]: the proof that the natural bounds are sharp (our derivation).

    Raises ValueError for a leftover that is not a distribution, or rewards outside the range.
    """
    leftover = distribution(leftover, "leftover")
    states, actions = observed.expert.shape
    steps = np.clip(observed.expert.cumsum(-1)[:, :-1], 0, 1)
    edges = np.unique(np.concatenate([[0.0, 1.0], steps.ravel()]))
    middle = (edges[1:] + edges[:-1]) / 2
    did = (middle[:, None] > steps[:, None, :]).sum(-1)  # the expert's choice [S,U]
    same = did[:, None, :] == np.arange(actions)[:, None]  # [S,X,U]
    share = np.where(observed.expert > 0, observed.expert, 1)
    shown = np.where(observed.expert[..., None] > 0, observed.joint / share[..., None], 1 / states)
    kernel = np.where(same[..., None], shown[:, :, None], leftover[:, :, None])
    reward = np.where(same, (observed.reward / share)[..., None], np.asarray(leftover_reward, dtype=float)[..., None])
    return ConfoundedMDP(
        np.diff(edges),
        np.eye(actions)[did],
        kernel,
        reward,
        observed.start,
        observed.discount,
        observed.low,
        observed.high,
        name="witness",
    )


# Linear programs over response types


def response_type_bounds(law: Any, weight: Any) -> tuple[float, float]:
    """Bounds on sum over x, y of weight[x,y] P(Y_x = y) from P(x, y | z), z being an instrument, by linear programming.

    The canonical model (Balke and Pearl 1997): all that a hidden cause can do is to choose how X answers to z and how Y
    answers to x, so every model is a distribution over those pairs of answers, and the law is linear in it. With a single
    value of z there is no instrument and the program gives the natural bounds; with Y a next state it bounds a row of T.

    Args:
        law: P(x, y | z) [Z,X,Y]. weight: [X,Y], e.g. [[0, -1], [0, 1]] for the effect of a binary X on the mean of Y.

    Raises ValueError where the law is no distribution, too large, or could not come from any model with this instrument.
    """
    law, weight = np.asarray(law, dtype=float), np.asarray(weight, dtype=float)
    if law.ndim != 3 or weight.shape != law.shape[1:]:
        raise ValueError(f"law must be [Z,X,Y] and weight [X,Y], not {law.shape} and {weight.shape}")
    values, actions, outcomes = law.shape
    distribution(law.reshape(values, -1), "P(x, y | z)")
    if (size := actions**values * outcomes**actions) > _TYPES:
        raise ValueError(f"{size} response types are too many for a linear program ({_TYPES} at most)")
    chooses = np.array(list(itertools.product(range(actions), repeat=values)))  # [types of X, Z]
    answers = np.array(list(itertools.product(range(outcomes), repeat=actions)))  # [types of Y, X]
    x = np.repeat(chooses, len(answers), axis=0)  # [types, Z]
    y = np.tile(answers, (len(chooses), 1))  # [types, X]
    lands = np.take_along_axis(y, x, 1)  # the outcome seen under each z
    rows = (np.arange(values) * actions + x) * outcomes + lands
    columns = np.broadcast_to(np.arange(size)[:, None], rows.shape)
    shown = coo_array((np.ones(rows.size), (rows.ravel(), columns.ravel())), shape=(law.size, size)).tocsc()
    aim = weight[np.arange(actions), y].sum(1)
    ends = []
    for sign in (1, -1):
        found = linprog(sign * aim, A_eq=shown, b_eq=law.ravel(), method="highs")
        if found.status == 2:
            raise ValueError("no model with this instrument has this law: z must touch y in some other way than through x")
        if found.status != 0:
            raise ValueError(f"the linear program failed: {found.message}")
        ends.append(sign * found.fun)
    return ends[0], ends[1]


# From a finite number of demonstrations


def from_counts(
    counts: Any,
    reward_sums: Any,
    *,
    start: Any,
    discount: float,
    level: float = 0.95,
    low: float = 0.0,
    high: float = 1.0,
    support: Any = None,
    looks: int = 1,
) -> Uncertainty:
    """Natural bounds from counts: with probability `level` at least, T and R are inside, all pairs together.

    Only lower bounds on P(s', x | s), E[(Y - low) 1{X=x} | s] and E[(high - Y) 1{X=x} | s] are needed: the rest may go
    anywhere. Each is one-sided, by Clopper and Pearson (1934) for counts and by Chernoff's bound (Hoeffding 1963, theorem
    1) for sums of rewards; the chance of a mistake is shared out among all of them, and among `looks`. The guarantee is for
    a number of rows in each state that was fixed beforehand. Along trajectories it is random: pass the total number of rows
    as `looks`, since each state was then visited one of that many times.

    Args:
        counts: demonstrated transitions [S,X,S]. reward_sums: [S,X], of rewards from `low` to `high`. support: as in
        `natural`.

    Raises ValueError for counts that are no counts, sums out of range, or a level outside (0, 1).
    """
    counts, sums = np.asarray(counts, dtype=float), np.asarray(reward_sums, dtype=float)
    if counts.ndim < 3 or (counts < 0).any() or (counts != np.round(counts)).any():
        raise ValueError(f"counts must be whole numbers [S,X,S], 0 or more; got shape {counts.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95, not {level!r}")
    if looks < 1:
        raise ValueError(f"looks must be at least 1, not {looks}")
    times = counts.sum(-1)
    _refuse((sums < low * times - 1e-9) | (sums > high * times + 1e-9), "the rewards at {at} are outside low to high")
    rows = times.sum(-1)[..., None]  # [S,1]
    states, actions = counts.shape[-3:-1]
    delta = (1 - level) / ((states * states * actions + 2 * states * actions) * looks)
    least = np.where(counts > 0, scipy_stats.beta.ppf(delta, np.maximum(counts, 1), rows[..., None] - counts + 1), 0.0)
    share = np.maximum(rows, 1) * (high - low)
    up, down = (sums - low * times) / share, (high * times - sums) / share
    span = high - low
    ends = low + span * _chernoff(up, rows, delta), high - span * _chernoff(down, rows, delta)
    most = None
    if support is not None:
        possible = np.broadcast_to(np.asarray(support, bool), counts.shape)
        _refuse(((counts > 0) & ~possible).any(-1), "the demonstrations show a next state outside the support at {at}")
        most = np.where(possible, least + np.maximum(1 - least.sum(-1, keepdims=True), 0), least)
    return Uncertainty(least, most, *ends, np.asarray(start, dtype=float), discount)


def _chernoff(mean: np.ndarray, rows: np.ndarray, delta: float) -> np.ndarray:
    """The least m with rows * kl(mean, m) <= log(1/delta), for means of numbers from 0 to 1; by bisection."""
    mean, limit = np.clip(mean, 0, 1), math.log(1 / delta)
    floor, ceiling = np.zeros_like(mean), mean.copy()
    for _ in range(50):
        middle = (floor + ceiling) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            kl = np.where(mean > 0, mean * np.log(mean / middle), 0) + np.where(
                mean < 1, (1 - mean) * np.log((1 - mean) / (1 - middle)), 0
            )
        far = rows * kl > limit
        floor, ceiling = np.where(far, middle, floor), np.where(far, ceiling, middle)
    return np.where(mean > 0, floor, 0.0)


def count(states: Any, actions: Any, rewards: Any, sizes: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Counts [S,X,S] and sums of rewards [S,X] of episodes: states [N,T+1], actions [N,T], rewards [N,T]; sizes (S, X)."""
    s, x, y = np.asarray(states), np.asarray(actions), np.asarray(rewards, dtype=float)
    if s.shape[:-1] != x.shape[:-1] or s.shape[-1] != x.shape[-1] + 1 or y.shape != x.shape:
        raise ValueError(f"episodes need states [N,T+1], actions and rewards [N,T], not {s.shape}, {x.shape} and {y.shape}")
    here, there, shape = s[..., :-1].ravel(), s[..., 1:].ravel(), (sizes[0], sizes[1], sizes[0])
    counts, sums = np.zeros(shape), np.zeros(shape[:2])
    np.add.at(counts, (here, x.ravel(), there), 1)
    np.add.at(sums, (here, x.ravel()), y.ravel())
    return counts, sums
