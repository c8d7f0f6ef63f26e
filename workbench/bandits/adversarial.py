"""Losses chosen by an opponent: tables fixed in advance, adversaries that react, and the policies that hold out against both.

A policy here never trusts the past to repeat itself. It draws its arm at random and keeps a weight for each arm, so that no
opponent can know what it does next. `Hedge` and `FollowPerturbedLeader` are told what every arm would have lost (full
feedback); `EXP3`, `EXP3P` and `EXP4` see only the loss of the arm they pulled and put an importance-weighted estimate in the
place of the rest. Two copies of Hedge that play a zero-sum game against each other find its equilibrium.

Losses lie in [0, 1]; what a policy is told is the reward, 1 - loss, so that these policies and those of `policies` can be
played on each other's problems. Sources: Cesa-Bianchi and Lugosi 2006; Bubeck and Cesa-Bianchi 2012; Slivkins 2019
(arXiv 1904.07272), chapters 5, 6 and 9; Lattimore and Szepesvari 2020, chapters 11 and 18.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from workbench.bandits.play import log_spaced
from workbench.bandits.problems import Rounds


@dataclass(frozen=True)
class LossTable:
    """An oblivious adversary: all losses [T,K], from 0 to 1, are written down before the game. It is a `Problem` for `play`.

    Attributes:
        table: [T,K]. rival: the arm that regret is measured against; by default the one that is best so far, in hindsight.
    Raises:
        ValueError: losses outside [0, 1], fewer than two arms, no rounds, a rival that is not an arm.
    """

    table: np.ndarray
    rival: int | None = None
    feedback = ("bandit", "full")

    def __post_init__(self) -> None:
        table = np.asarray(self.table, dtype=float)
        if table.ndim != 2 or len(table) < 1 or table.shape[1] < 2:
            raise ValueError(f"losses are a table [T,K] of at least one round and two arms, not shape {table.shape}")
        if not ((table >= 0) & (table <= 1)).all():
            bad = table[~((table >= 0) & (table <= 1))]
            raise ValueError(f"losses must lie in [0, 1], not {bad[0]:.3g} ({bad.size} do not); rescale them")
        object.__setattr__(self, "table", table)
        _check_rival(self.rival, table.shape[1])

    @property
    def arms(self) -> int:
        """K."""
        return self.table.shape[1]

    def start(self, repetitions: int, horizon: int, rng: np.random.Generator, *, full: bool = False) -> Rounds:
        """Begin `repetitions` of it; raises ValueError for a horizon longer than the table."""
        if horizon > len(self.table):
            raise ValueError(f"the table has losses for {len(self.table)} rounds, not for a horizon of {horizon}")
        losses = self.table
        return _Opposed(lambda t, pulls, last: losses[t], repetitions, self.arms, self.rival, full)


@dataclass(frozen=True)
class Reactive:
    """An adaptive adversary: `rule` sees what was pulled before, not what is about to be. It is a `Problem` for `play`.

    Attributes:
        rule: (t, pulls [R,K], last [R] or None in the first round) -> losses [R,K] in [0, 1]: t = 0, 1, ..., pulls counts each
            repetition's pulls so far, last is the arm pulled last.
        arms: K. rival: as for `LossTable`. The regret measured is that on the losses that were played: an arm is judged by
            what it would have lost in those rounds, not by what the adversary would have done to somebody who always pulls it.
    Raises:
        ValueError: fewer than two arms, a rival that is not an arm.
    """

    rule: Callable[[int, np.ndarray, np.ndarray | None], np.ndarray]
    arms: int
    rival: int | None = None
    feedback = ("bandit", "full")

    def __post_init__(self) -> None:
        if self.arms < 2:
            raise ValueError(f"a bandit needs at least two arms, not {self.arms!r}")
        _check_rival(self.rival, self.arms)

    def start(self, repetitions: int, horizon: int, rng: np.random.Generator, *, full: bool = False) -> Rounds:
        """Begin `repetitions` of it."""
        return _Opposed(self._losses, repetitions, self.arms, self.rival, full)

    def _losses(self, t: int, pulls: np.ndarray, last: np.ndarray | None) -> np.ndarray:
        losses = np.asarray(self.rule(t, pulls, last), dtype=float)
        if losses.shape != pulls.shape or not ((losses >= 0) & (losses <= 1)).all():
            raise ValueError(f"the rule must return losses in [0, 1] of shape {pulls.shape}, not {losses!r}")
        return losses


class _Opposed:
    """Rounds against an adversary: the losses of a round are fixed before the arm is known."""

    def __init__(
        self, rule: Callable[..., np.ndarray], repetitions: int, arms: int, rival: int | None, full: bool
    ) -> None:
        self.rule, self.rival, self.full, self.t = rule, rival, full, 0
        self.pulls = np.zeros((repetitions, arms), dtype=int)
        self.alone = np.zeros((repetitions, arms))  # what each arm would have lost so far
        self.last: np.ndarray | None = None

    def show(self) -> None:
        return None

    def pull(self, arm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        losses = np.broadcast_to(self.rule(self.t, self.pulls, self.last), self.pulls.shape)
        rows = np.arange(len(arm))
        before, self.alone = self.alone, self.alone + losses
        if self.rival is None:
            rival = self.alone.min(1) - before.min(1)
        else:
            rival = losses[:, self.rival]
        self.pulls[rows, arm] += 1
        self.last, self.t = arm, self.t + 1
        lost = losses[rows, arm]
        return (1 - losses if self.full else 1 - lost), lost - rival


def hit_the_favourite(t: int, pulls: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """A rule for `Reactive`: the arm pulled most often so far loses 1 (the first of them, if several), all others lose 0."""
    return np.eye(pulls.shape[1])[pulls.argmax(1)]


def hit_the_last(t: int, pulls: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """A rule for `Reactive`: the arm pulled last loses 1, all others lose 0. Who never pulls twice in a row is never hit."""
    return np.zeros(pulls.shape) if last is None else np.eye(pulls.shape[1])[last]


def bear_a_grudge(t: int, pulls: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """A rule for `Reactive`: pull arm 0 but once, and everything loses 1 for ever. Arm 1 loses 1/4 until then, the others 1/2.

    Whoever tries everything has hardly any regret on the losses that were played, and a *policy regret* that grows as T, since
    arm 1 all along would have lost T / 4 (Arora, Dekel and Tewari 2012, arXiv 1206.6400).
    """
    calm = np.where(np.arange(pulls.shape[1]) == 1, 0.25, 0.5)
    return np.where(pulls[:, :1] > 0, 1.0, calm)


def leader_trap(horizon: int, arms: int = 2) -> LossTable:
    """The table on which whoever follows the leader loses about T, and the best arm about T / K.

    After a first round of losses k / K for arm k, the arms lose 1 in turn, each just when it has become the leader.
    """
    check_count("horizon", horizon)
    table = np.zeros((horizon, arms))
    table[0] = np.arange(arms) / arms
    table[np.arange(1, horizon), np.arange(horizon - 1) % arms] = 1
    return LossTable(table)


def check_count(name: str, value: int) -> None:
    """Refuse what is not a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def softmax(score: np.ndarray) -> np.ndarray:
    """Chances in proportion to exp(score), along the last axis; no score is too large."""
    weight = np.exp(score - score.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def draw(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One arm [R] from each row of chances [R,K]; an arm without a chance is never drawn."""
    edges = chances.cumsum(-1)
    return (edges <= rng.random((*chances.shape[:-1], 1)) * edges[..., -1:]).sum(-1)


def importance_weighted(chances: np.ndarray, arm: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Estimates [R,K] of all arms' losses from that of the one pulled: loss / chance for it, 0 for the others.

    chances [R,K] of the draw, arm [R], loss [R]. On average over the draw each entry is the arm's loss.
    """
    estimate = np.zeros_like(chances)
    rows = np.arange(len(arm))
    estimate[rows, arm] = loss / chances[rows, arm]
    return estimate


class Hedge:
    """Exponential weights on full feedback: the chance of an arm is in proportion to exp(-rate x what it has lost).

    Freund and Schapire 1997. `rate` is sqrt(8 ln(K) / T) by default, for which `hedge_bound` holds.
    """

    feedback = "full"

    def __init__(self, *, rate: float | None = None) -> None:
        self.rate = _positive("rate", rate)

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        self._rate = math.sqrt(8 * math.log(arms) / horizon) if self.rate is None else self.rate
        self.loss = np.zeros((repetitions, arms))

    def probabilities(self) -> np.ndarray:
        """The chance of each arm in the coming round [R,K]."""
        return softmax(-self._rate * self.loss)

    def choose(self, rng: np.random.Generator, *context: Any) -> np.ndarray:
        return draw(self.probabilities(), rng)

    def update(self, arm: np.ndarray, reward: np.ndarray) -> None:
        self.loss += 1 - _unit(reward)


class FollowPerturbedLeader:
    """Pull the arm that has lost least so far, after taking random amounts off all losses, drawn anew in each round.

    noise "uniform": from 0 to 1 / rate, with rate sqrt(2 / (K T)) by default, for which `perturbed_leader_bound` holds (Kalai and
    Vempala 2005). noise "gumbel": of scale 1 / rate with Hedge's default rate; the choice then has exactly Hedge's chances.
    """

    feedback = "full"

    def __init__(self, *, noise: str = "uniform", rate: float | None = None) -> None:
        self.rate = _positive("rate", rate)
        if noise not in ("uniform", "gumbel"):
            raise ValueError(f'noise must be "uniform" or "gumbel", not {noise!r}')
        self.noise = noise

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        default = 2 / (arms * horizon) if self.noise == "uniform" else 8 * math.log(arms) / horizon
        self._rate = math.sqrt(default) if self.rate is None else self.rate
        self.loss = np.zeros((repetitions, arms))

    def choose(self, rng: np.random.Generator, *context: Any) -> np.ndarray:
        noise = rng.random(self.loss.shape) if self.noise == "uniform" else rng.gumbel(size=self.loss.shape)
        return (self.loss - noise / self._rate).argmin(1)

    def update(self, arm: np.ndarray, reward: np.ndarray) -> None:
        self.loss += 1 - _unit(reward)


class EXP3:
    """Exponential weights on bandit feedback: the loss of an arm is estimated by loss / chance if it was pulled and by 0 if not.

    Auer, Cesa-Bianchi, Freund and Schapire 2002, in the form without uniform mixing of Lattimore and Szepesvari 2020, chapter 11.
    `rate` is sqrt(2 ln(K) / (T K)) by default, for which `exp3_bound` holds.
    """

    feedback = "bandit"

    def __init__(self, *, rate: float | None = None) -> None:
        self.rate = _positive("rate", rate)

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        self._rate = math.sqrt(2 * math.log(arms) / (horizon * arms)) if self.rate is None else self.rate
        self.loss = np.zeros((repetitions, arms))

    def probabilities(self) -> np.ndarray:
        """The chance of each arm in the coming round [R,K]."""
        return softmax(-self._rate * self.loss)

    def choose(self, rng: np.random.Generator, *context: Any) -> np.ndarray:
        self._chances = self.probabilities()
        return draw(self._chances, rng)

    def update(self, arm: np.ndarray, reward: np.ndarray) -> None:
        self.loss += importance_weighted(self._chances, arm, 1 - _unit(reward))


class EXP3P(EXP3):
    """EXP3 with a bonus for arms rarely pulled and some uniform exploration, so that its regret is small with high probability.

    Bubeck and Cesa-Bianchi 2012, chapter 3: gains are estimated by (reward + beta) / chance for the arm pulled and by
    beta / chance for the others; rate 0.95 sqrt(ln K / (T K)), exploration 1.05 sqrt(K ln K / T), beta
    sqrt(ln(K / delta) / (T K)). `exp3p_bound` holds with a chance of 1 - delta.
    """

    def __init__(self, *, delta: float = 0.05) -> None:
        if not 0 < delta < 1:
            raise ValueError(f"delta must lie between 0 and 1, not {delta!r}")
        super().__init__()
        self.delta = delta

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        super().start(repetitions, arms, horizon)
        self._rate = 0.95 * math.sqrt(math.log(arms) / (horizon * arms))
        self._explore = min(1.0, 1.05 * math.sqrt(arms * math.log(arms) / horizon))
        self._bonus = math.sqrt(math.log(arms / self.delta) / (horizon * arms))

    def probabilities(self) -> np.ndarray:
        return (1 - self._explore) * super().probabilities() + self._explore / self.loss.shape[1]

    def update(self, arm: np.ndarray, reward: np.ndarray) -> None:
        self.loss -= importance_weighted(self._chances, arm, _unit(reward)) + self._bonus / self._chances


class EXP4:
    """EXP3 over N experts, each of whom advises a mixture of arms; an expert's estimated loss is that of its advice.

    Auer et al. 2002; Lattimore and Szepesvari 2020, chapter 18, without mixing. `advice` is a table of mixtures [N,K], or a
    function from contexts to mixtures [R,N,K]. `rate` is sqrt(2 ln(N) / (T K)) by default, for which `exp4_bound` holds. With
    one expert for each arm, who always advises it, this is EXP3. Raises ValueError for advice that is not mixtures.
    """

    def __init__(
        self, advice: ArrayLike | Callable[[np.ndarray], np.ndarray], *, rate: float | None = None
    ) -> None:
        self.rate = _positive("rate", rate)
        self.feedback = "contextual" if callable(advice) else "bandit"
        self.advice = advice if callable(advice) else np.asarray(advice, dtype=float)
        if not callable(self.advice) and self.advice.ndim != 2:
            raise ValueError(f"a table of advice has the shape [N,K], not {self.advice.shape}")

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        self._shape, self._horizon = (repetitions, arms), horizon
        self.loss = np.zeros((repetitions, 0))  # of experts [R,N]; how many there are is seen in the first round

    def choose(self, rng: np.random.Generator, *context: Any) -> np.ndarray:
        advice = self.advice(*context) if callable(self.advice) else np.tile(self.advice, (self._shape[0], 1, 1))
        self._advice = _mixtures(np.asarray(advice, dtype=float), self._shape)
        experts = self._advice.shape[1]
        if not self.loss.size:
            self.loss = np.zeros((self._shape[0], experts))
            default = math.sqrt(2 * math.log(max(experts, 2)) / (self._horizon * self._shape[1]))
            self._rate = default if self.rate is None else self.rate
        self._chances = np.einsum("rn,rnk->rk", softmax(-self._rate * self.loss), self._advice)
        return draw(self._chances, rng)

    def update(self, arm: np.ndarray, reward: np.ndarray) -> None:
        estimate = importance_weighted(self._chances, arm, 1 - _unit(reward))
        self.loss += np.einsum("rnk,rk->rn", self._advice, estimate)


def weighted_majority(advice: ArrayLike, outcome: ArrayLike, *, penalty: float = 0.5) -> np.ndarray:
    """Mistakes [T] (0 or 1) of the weighted majority vote of K experts who advise 0 or 1, `advice` [T,K], on `outcome` [T].

    An expert's weight is multiplied by 1 - `penalty` at each mistake of its own; a tied vote says 1. With penalty 1 this is the
    majority vote of those never wrong (Halving): at most log2 K mistakes if somebody is never wrong. With penalty e at most
    1/2 the mistakes are at most 2 (1 + e) times the best expert's plus (2 / e) ln K (Littlestone and Warmuth 1994).
    Raises ValueError for anything but zeros and ones, for a penalty outside (0, 1], and, with penalty 1, if every expert errs.
    """
    advised, truth = np.asarray(advice), np.asarray(outcome)
    if advised.ndim != 2 or truth.shape != advised.shape[:1] or not advised.size:
        raise ValueError(f"advice [T,K] and outcome [T] do not fit: shapes {advised.shape} and {truth.shape}")
    if not (np.isin(advised, (0, 1)).all() and np.isin(truth, (0, 1)).all()):
        raise ValueError("advice and outcomes must be 0 or 1; for losses in between use Hedge")
    if not 0 < penalty <= 1:
        raise ValueError(f"penalty must lie above 0 and at most at 1, not {penalty!r}")
    wrong = advised != truth[:, None]
    if penalty == 1 and wrong.any(0).all():
        raise ValueError("every expert errs, and with penalty 1 none has any weight left; use a penalty below 1")
    before = np.cumsum(wrong, 0) - wrong  # mistakes of each expert before round t
    weight = (1 - penalty) ** (before - before.min(1, keepdims=True))
    vote = (weight * advised).sum(1) >= weight.sum(1) / 2
    return (vote != truth).astype(int)


def hedge_bound(horizon: int, arms: int) -> float:
    """sqrt(T ln(K) / 2), Hedge's regret with its default rate (Cesa-Bianchi and Lugosi 2006, theorem 2.2).

    It holds on every sequence of losses, so also against an adaptive adversary, for what Hedge loses on average over its own
    coin (the sum of p_t . loss_t) minus what the best arm lost on the losses that were played.
    """
    return math.sqrt(horizon * math.log(arms) / 2)


def exp3_bound(horizon: int, arms: int) -> float:
    """sqrt(2 T K ln K), EXP3's pseudo-regret with its default rate (Lattimore and Szepesvari 2020, theorem 11.2).

    Pseudo-regret: expected loss minus that of the arm that is best in expectation. For losses fixed in advance that is the
    expected regret. Against an adaptive adversary the bound on the pseudo-regret stays, but the expected regret against
    the best arm of each repetition can be larger (use EXP3.P), and policy regret, against what the adversary would have done
    to a constant arm, is out of reach of everybody (Arora, Dekel and Tewari 2012, arXiv 1206.6400).
    """
    return math.sqrt(2 * horizon * arms * math.log(arms))


def exp3p_bound(horizon: int, arms: int, delta: float) -> float:
    """5.15 sqrt(T K ln(K / delta)), which EXP3.P's regret exceeds with a chance of at most `delta`, also against an adaptive
    adversary and its best arm in hindsight (Bubeck and Cesa-Bianchi 2012, chapter 3)."""
    return 5.15 * math.sqrt(horizon * arms * math.log(arms / delta))


def exp4_bound(horizon: int, arms: int, experts: int) -> float:
    """sqrt(2 T K ln N), EXP4's pseudo-regret against the best of N experts (Lattimore and Szepesvari 2020, chapter 18)."""
    return math.sqrt(2 * horizon * arms * math.log(experts))


def perturbed_leader_bound(horizon: int, arms: int) -> float:
    """2 sqrt(2 K T), the expected regret of follow the perturbed leader with its default noise: D = 2 (distance of two
    arms), R = 1, A = K in theorem 1.1 of Kalai and Vempala 2005."""
    return 2 * math.sqrt(2 * arms * horizon)


class Equilibrium(NamedTuple):
    """The value of a zero-sum game for the row player, and a best mixture of each player."""

    value: float
    row: np.ndarray
    column: np.ndarray


def minimax(payoff: ArrayLike) -> Equilibrium:
    """Solve the zero-sum game `payoff` [N,M] (what the column player pays the row player) by linear programming.

    The row player's mixture maximises the least payoff over columns (von Neumann 1928); the column player's is read off
    the dual prices. Raises ValueError for a payoff that is not a table of finite numbers.
    """
    table = _game(payoff)
    rows, columns = table.shape
    # variables: the mixture x and the value v; maximise v with v <= (x' payoff)_j for every column j
    solved = linprog(
        c=np.r_[np.zeros(rows), -1.0],
        A_ub=np.c_[-table.T, np.ones(columns)],
        b_ub=np.zeros(columns),
        A_eq=np.r_[np.ones(rows), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, None)] * rows + [(None, None)],
        method="highs",
    )
    return Equilibrium(float(-solved.fun), solved.x[:-1], -solved.ineqlin.marginals)


def exploitability(payoff: ArrayLike, row: ArrayLike, column: ArrayLike) -> float:
    """What two best responses together would gain against the mixtures `row` [N] and `column` [M]: 0 at an equilibrium.

    max_i (payoff column)_i - min_j (row payoff)_j, in units of `payoff` [N,M]. Raises ValueError for mixtures of the wrong
    length or that do not add up to 1.
    """
    table = _game(payoff)
    x, y = _mixture(row, table.shape[0], "row"), _mixture(column, table.shape[1], "column")
    return float((table @ y).max() - (x @ table).min())


class SelfPlay(NamedTuple):
    """Average mixtures of both players after each of `times` [L] rounds: row [L,N], column [L,M], exploitability [L]."""

    times: np.ndarray
    row: np.ndarray
    column: np.ndarray
    exploitability: np.ndarray


def hedge_against_hedge(
    payoff: ArrayLike, horizon: int, *, row: ArrayLike | None = None, column: ArrayLike | None = None
) -> SelfPlay:
    """Let two copies of Hedge play the zero-sum game `payoff` [N,M] for `horizon` rounds, each told all its payoffs.

    They start at the mixtures `row` [N] and `column` [M] (uniform by default; every entry positive) and play mixtures, so nothing
    is drawn at random. Rates are sqrt(8 ln N / T) and sqrt(8 ln M / T) on payoffs scaled to [0, 1]. The average mixtures of two
    uniform starts have an exploitability of at most (sqrt(ln N) + sqrt(ln M)) / sqrt(2 T) times the range of `payoff`, because it
    is the sum of the two average regrets (Freund and Schapire 1999; Slivkins 2019, chapter 9). The mixtures
    themselves do not settle: only their averages do.

    Raises ValueError for a payoff that is not a table of finite numbers, a horizon below 1, or a start that is not a mixture.
    """
    table = _game(payoff)
    check_count("horizon", horizon)
    rows, columns = table.shape
    scaled = (table - table.min()) / max(np.ptp(table), 1e-300)
    first = np.full(rows, 1 / rows) if row is None else _mixture(row, rows, "row")
    second = np.full(columns, 1 / columns) if column is None else _mixture(column, columns, "column")
    if not ((first > 0).all() and (second > 0).all()):
        raise ValueError("Hedge cannot start with a chance of 0: it would stay there; make every entry positive")
    x, y = np.log(first), np.log(second)
    rate_x, rate_y = math.sqrt(8 * math.log(rows) / horizon), math.sqrt(8 * math.log(columns) / horizon)
    times = log_spaced(horizon)
    sum_x, sum_y = np.zeros(rows), np.zeros(columns)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for t in range(1, horizon + 1):
        p, q = softmax(x), softmax(y)
        sum_x, sum_y = sum_x + p, sum_y + q
        x, y = x + rate_x * (scaled @ q), y - rate_y * (p @ scaled)
        if t == times[len(kept)]:
            kept.append((sum_x / t, sum_y / t))
    row_mean, column_mean = (np.array(side) for side in zip(*kept, strict=True))
    gap = (column_mean @ table.T).max(1) - (row_mean @ table).min(1)
    return SelfPlay(times, row_mean, column_mean, gap)


def _unit(reward: np.ndarray) -> np.ndarray:
    if not ((reward >= 0) & (reward <= 1)).all():
        raise ValueError(
            f"this policy needs rewards from 0 to 1, not {np.min(reward):.3g} to {np.max(reward):.3g}; rescale them"
        )
    return reward


def _positive(name: str, value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise ValueError(f"{name} must be positive, not {value!r}")
    return value


def _check_rival(rival: int | None, arms: int) -> None:
    if rival is not None and not 0 <= rival < arms:
        raise ValueError(f"the rival must be an arm from 0 to {arms - 1}, or None for the best, not {rival!r}")


def _mixtures(advice: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if advice.ndim != 3 or (advice.shape[0], advice.shape[2]) != shape:
        raise ValueError(f"advice must be mixtures [R,N,K] with R, K = {shape}, or [N,K]; it has the shape {advice.shape}")
    if not ((advice >= 0).all() and np.allclose(advice.sum(2), 1)):
        raise ValueError("each expert's advice must be chances that add up to 1")
    return advice


def _game(payoff: ArrayLike) -> np.ndarray:
    table = np.asarray(payoff, dtype=float)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError(f"a game is a table of finite payoffs [N,M], not shape {table.shape}")
    return table


def _mixture(weights: ArrayLike, size: int, name: str) -> np.ndarray:
    mixture = np.asarray(weights, dtype=float)
    if mixture.shape != (size,) or not (mixture >= -1e-9).all() or abs(mixture.sum() - 1) > 1e-6:
        raise ValueError(f"{name} must be {size} chances that add up to 1, not {weights!r}")
    return mixture
