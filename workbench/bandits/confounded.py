"""Bandits with hidden causes: what people choose, and what it pays them, have a cause in common that nobody logs.

A hidden state U decides both which arm a natural player would pick, the *intent*, and what every arm would pay. Three
questions then have three answers (Pearl's layers), all worked out here by adding up over U:

    see                 E[Y | X=x]          what those who chose x got
    do                  E[Y | do(X=x)]      what x pays if it is chosen by a coin, or for everybody
    do given intent     E[Y_x | X=z]        what x would pay those who are about to choose z

Bareinboim, Forney and Pearl (NeurIPS 2015), "Bandits with unobserved confounders: a causal approach"; `FAMILY` holds the worlds
of their experiments, the greedy casino first. The exact answers are methods of `ConfoundedBandit`. A learner is handed a
`World`, which draws rounds and refuses the questions the learner has no permission to ask, or plays a `ConfoundedProblem`
(`workbench.bandits.play`), with `IntentThompson` if it may notice its intents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import seeding
from workbench.bandits.offline import Log
from workbench.bandits.problems import BLOCK, Array
from workbench.permission import Layer, require


@dataclass(frozen=True)
class ConfoundedBandit:
    """A structural causal bandit with finitely many hidden states.

    Attributes:
        chance: P(U=u) [U]. intent: the arm a natural player picks in state u [U].
        pays: P(Y=1 | do(X=x), U=u) [K,U]: one row for each arm.
    Raises:
        ValueError: chances that do not add up to 1, probabilities outside [0, 1], fewer than two arms, shapes that differ,
            or an intent that is not an arm.
    """

    chance: Array
    intent: Array
    pays: Array

    def __post_init__(self) -> None:
        chance, pays = np.asarray(self.chance, dtype=float), np.asarray(self.pays, dtype=float)
        intent = np.asarray(self.intent)
        if chance.ndim != 1 or not (chance >= 0).all() or abs(chance.sum() - 1) > 1e-9:
            raise ValueError(f"chance must be probabilities of the hidden states that add up to 1, not {self.chance!r}")
        if pays.ndim != 2 or pays.shape[1] != len(chance):
            raise ValueError(
                f"pays must be [K,U], one row for each arm and {len(chance)} hidden states, not {pays.shape}"
            )
        if len(pays) < 2:
            raise ValueError(f"a choice needs at least 2 arms, not {len(pays)}")
        if not ((pays >= 0) & (pays <= 1)).all():
            raise ValueError("pays must be chances of a reward, from 0 to 1")
        if intent.shape != chance.shape or intent.dtype.kind not in "iu":
            raise ValueError(f"intent must name an arm for each of the {len(chance)} hidden states, not {self.intent!r}")
        if intent.min() < 0 or intent.max() >= len(pays):
            raise ValueError(f"intent must lie from 0 to K-1 = {len(pays) - 1}, not reach from {intent.min()} to {intent.max()}")
        for name, x in (("chance", chance), ("intent", intent.astype(np.int64)), ("pays", pays)):
            object.__setattr__(self, name, x)

    @property
    def arms(self) -> int:
        """K."""
        return len(self.pays)

    def chosen(self) -> Array:
        """P(X=x): how often natural players choose each arm [K]."""
        return np.bincount(self.intent, self.chance, minlength=self.arms)

    def see(self) -> Array:
        """E[Y | X=x] [K], the first layer: what those who chose x got; nan for an arm that nobody chooses."""
        return np.diagonal(self.do_given_intent()).copy()

    def do(self) -> Array:
        """E[Y | do(X=x)] [K], the second layer: what x pays when it does not listen to the hidden state."""
        return self.pays @ self.chance

    def do_given_intent(self) -> Array:
        """E[Y_x | X=z] [Z,K], the third layer: row z is what each arm would pay those about to choose z.

        A row is nan if nobody ever is. The diagonal is what is seen, and the rows weighted by `chosen` give `do`.
        """
        share = self.chosen()
        joint = np.stack([self.pays @ np.where(self.intent == z, self.chance, 0) for z in range(self.arms)])
        return np.where(share[:, None] > 0, joint / np.where(share > 0, share, 1)[:, None], np.nan)

    def natural(self) -> float:
        """What natural players earn: E[Y]."""
        return float(self.chance @ self.pays[self.intent, np.arange(len(self.chance))])

    def best_do(self) -> float:
        """The most that a player without a look at the intent can earn: max over x of E[Y | do(X=x)]."""
        return float(self.do().max())

    def best_given_intent(self) -> float:
        """The most that a player who knows the intent can earn: the mean over z of max over x of E[Y_x | X=z]."""
        met = self.chosen() > 0
        return float(self.chosen()[met] @ self.do_given_intent()[met].max(1))

    def oracle(self) -> float:
        """The most that somebody who saw the hidden state could earn."""
        return float(self.chance @ self.pays.max(0))


def _casino(first: tuple[float, ...], second: tuple[float, ...]) -> ConfoundedBandit:
    """Two machines and two fair coins D (drunk?) and B (blinking?), states DB = 00, 01, 10, 11; the intent is D xor B."""
    return ConfoundedBandit(np.full(4, 0.25), np.array([0, 1, 1, 0]), np.array([first, second]))


FAMILY: Mapping[str, ConfoundedBandit] = {
    "greedy casino": _casino((0.10, 0.50, 0.40, 0.20), (0.50, 0.10, 0.20, 0.40)),
    "generous casino": _casino((0.50, 0.10, 0.20, 0.40), (0.10, 0.50, 0.40, 0.20)),
    "paradoxical switching": _casino((0.40, 0.30, 0.30, 0.40), (0.60, 0.10, 0.20, 0.60)),
    "sometimes switch": _casino((0.50, 0.50, 0.40, 0.20), (0.10, 0.10, 0.20, 0.15)),
    "no confounding": _casino((0.55, 0.55, 0.55, 0.55), (0.45, 0.45, 0.45, 0.45)),
    "inevitable regret": _casino((0.00, 1.00, 1.00, 0.00), (1.00, 0.00, 0.00, 1.00)),
}
GREEDY_CASINO = FAMILY["greedy casino"]


def unseen_from_see_and_do(see: Any, do: Any, share: Any) -> Array:
    """The third layer from the first two, for two arms: [2], what arm x would pay those about to choose the other one.

    From E[Y | do(x)] = P(X=x) E[Y | X=x] + P(X=x') E[Y_x | X=x'], solved for the last term (Bareinboim et al. 2015, section
    4, use it for the effect of treatment on the treated). With three arms it is one equation for two unknowns.

    Args:
        see: E[Y | X=x] [2]. do: E[Y | do(X=x)] [2]. share: P(X=x) [2].
    Raises:
        ValueError: another number of arms, or an arm that everybody chooses, so that nobody is left to ask about.
    """
    see, do, share = (np.asarray(x, dtype=float) for x in (see, do, share))
    if not see.shape == do.shape == share.shape == (2,):
        raise ValueError(
            f"see, do and share must have one number for each of two arms, not shapes {see.shape}, {do.shape}, {share.shape}; "
            "with more arms seeing and doing do not settle the third layer"
        )
    if not ((share > 0) & (share < 1)).all() or abs(share.sum() - 1) > 1e-9:
        raise ValueError(f"share must be two positive chances that add up to 1, not {share}")
    return (do - share * see) / share[::-1]


class World:
    """A confounded bandit as a learner meets it: three ways to get data, each needing its permission.

    Args:
        bandit: the world, whose exact answers stay hidden. allow: the layers granted (`workbench.permission.Layer`).
        seed: of everything drawn. A question asked twice is answered with new draws.
    Raises:
        ValueError: `allow` names a layer that does not exist.
    """

    def __init__(self, bandit: ConfoundedBandit, *, allow: Collection[Layer | str] = (Layer.SEE,), seed: int) -> None:
        self._bandit = bandit
        self.allow = frozenset(Layer(layer) for layer in ((allow,) if isinstance(allow, str) else allow))
        self.arms = bandit.arms
        self._rng = seeding.generator(seed, "confounded world")

    def see(self, rounds: int) -> Log:
        """Watch natural players: a log without propensities and without contexts, for nobody knows why they chose.

        Raises NotPermitted without Layer.SEE.
        """
        require(Layer.SEE, self.allow, "see()")
        state = self._states(rounds)
        return Log(self._bandit.intent[state], self._pay(self._bandit.intent[state], state), self.arms)

    def do(self, arm: int, rounds: int) -> Array:
        """Play `arm` whatever anybody intended; the rewards [rounds]. Raises NotPermitted without Layer.DO."""
        require(Layer.DO, self.allow, f"do(X={arm})")
        if isinstance(arm, bool) or not isinstance(arm, (int, np.integer)) or not 0 <= arm < self.arms:
            raise ValueError(f"arm must be a number from 0 to {self.arms - 1}, not {arm!r}")
        state = self._states(rounds)
        return self._pay(np.full(rounds, int(arm)), state)

    def do_given_intent(self, policy: Any, rounds: int) -> Log:
        """Notice the intent, then play by `policy` [Z,K], row z the chances of the arms when about to choose z.

        The log's contexts are the intents, its propensities the policy's. Raises NotPermitted without Layer.IMAGINE.
        """
        require(Layer.IMAGINE, self.allow, "do_given_intent()")
        table = np.asarray(policy, dtype=float)
        k = self.arms
        if table.shape != (k, k) or not (table >= 0).all() or not np.allclose(table.sum(1), 1, rtol=0, atol=1e-9):
            raise ValueError(f"policy must be chances of the arms for each intent, [{k},{k}] with rows adding up to 1")
        state = self._states(rounds)
        intents = self._bandit.intent[state]
        edges = table.cumsum(1) / table.sum(1, keepdims=True)
        arms = (self._rng.random(rounds)[:, None] >= edges[intents, :-1]).sum(1)
        return Log(arms, self._pay(arms, state), k, table[intents, arms], intents, k)

    def _states(self, rounds: int) -> Array:
        if rounds < 1:
            raise ValueError(f"rounds must be 1 or more, not {rounds!r}")
        return self._rng.choice(len(self._bandit.chance), size=rounds, p=self._bandit.chance)

    def _pay(self, arms: Array, state: Array) -> Array:
        return (self._rng.random(len(state)) < self._bandit.pays[arms, state]).astype(float)


@dataclass(frozen=True)
class ConfoundedProblem:
    """A confounded bandit to `play`: with Layer.DO one chooses blindly, with Layer.IMAGINE one is shown the intent [R] first.

    Regret is counted against the best arm for each intent, whether or not the player may know the intent.

    Raises:
        NotPermitted: neither layer is granted; who may only watch cannot play. ValueError: a layer that does not exist.
    """

    bandit: ConfoundedBandit
    allow: Collection[Layer | str] = (Layer.DO,)

    def __post_init__(self) -> None:
        layers = frozenset(Layer(layer) for layer in ((self.allow,) if isinstance(self.allow, str) else self.allow))
        object.__setattr__(self, "allow", layers)
        if Layer.IMAGINE not in layers:
            require(Layer.DO, layers, "play()")

    @property
    def arms(self) -> int:
        """K."""
        return self.bandit.arms

    @property
    def feedback(self) -> tuple[str, ...]:
        """("contextual",) if intents are shown, else ("bandit",)."""
        return ("contextual",) if Layer.IMAGINE in self.allow else ("bandit",)

    @property
    def optimum(self) -> float:
        """What is earned a round by choosing the best arm for each intent."""
        return self.bandit.best_given_intent()

    def start(self, repetitions: int, horizon: int, rng: np.random.Generator, *, full: bool = False) -> _ConfoundedRounds:
        """Begin `repetitions` of it side by side. Raises ValueError for full feedback, which nobody gets here."""
        if full:
            raise ValueError("a confounded bandit tells the reward of the arm played and no other")
        return _ConfoundedRounds(self, repetitions, horizon, rng)


class _ConfoundedRounds:
    def __init__(self, problem: ConfoundedProblem, repetitions: int, horizon: int, rng: np.random.Generator) -> None:
        self.bandit, self.shows = problem.bandit, Layer.IMAGINE in problem.allow
        self.repetitions, self.left, self.rng, self.place = repetitions, horizon, rng, 0
        table = self.bandit.do_given_intent()
        self.gaps = table.max(1, keepdims=True) - table
        self.states = np.empty((0, repetitions), dtype=np.int64)
        self.luck = np.empty((0, repetitions))

    def show(self) -> Array | None:
        if self.place == len(self.states):
            shape = (min(BLOCK, max(self.left, 1)), self.repetitions)
            self.states = self.rng.choice(len(self.bandit.chance), size=shape, p=self.bandit.chance)
            self.luck, self.place, self.left = self.rng.random(shape), 0, self.left - shape[0]
        return self.bandit.intent[self.states[self.place]] if self.shows else None

    def pull(self, arm: Array) -> tuple[Array, Array]:
        state, luck = self.states[self.place], self.luck[self.place]
        self.place += 1
        reward = (luck < self.bandit.pays[arm, state]).astype(float)
        return reward, self.gaps[self.bandit.intent[state], arm]


class IntentThompson:
    """Thompson sampling that takes its intent for a clue: a Beta(1, 1) prior for every pair of intent and arm.

    Args:
        seen: a log of natural players (`World.see`), one [N] for all repetitions or one for each [R,N]. Who chose x intended
            x, so it fills the diagonal of the table (Bareinboim et al. 2015, without the weights of their draws).
    """

    feedback = "contextual"

    def __init__(self, seen: Log | None = None) -> None:
        if seen is not None and (seen.rewards.min() < 0 or seen.rewards.max() > 1):
            raise ValueError("the rewards seen must lie between 0 and 1, as shares of a success")
        self.seen = seen
        self.name = "IntentThompson" if seen is None else "IntentThompson(seen)"

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        """Forget everything but what was seen. Raises ValueError if that was seen of another number of arms or repetitions."""
        self.wins = np.ones((repetitions, arms, arms))
        self.losses = np.ones((repetitions, arms, arms))
        self._rows = np.arange(repetitions)
        if self.seen is None:
            return
        counts, totals = self.seen.counts().sum(-2), self.seen.totals().sum(-2)  # [..., K]
        if counts.shape not in ((arms,), (repetitions, arms)):
            raise ValueError(
                f"what was seen has arms and repetitions {counts.shape[::-1]}, but {arms} arms are played {repetitions} times"
            )
        own = np.arange(arms)
        self.wins[:, own, own] += totals
        self.losses[:, own, own] += counts - totals

    def choose(self, rng: np.random.Generator, context: Array) -> Array:
        """An arm [R]; context is the intent [R]."""
        context = np.asarray(context)
        if context.shape != self._rows.shape or context.dtype.kind not in "iu":
            raise ValueError(
                f"an intent is one arm's number for each repetition, {self._rows.shape}, not {context.dtype} {context.shape}"
            )
        self._intent = context
        return rng.beta(self.wins[self._rows, context], self.losses[self._rows, context]).argmax(1)

    def update(self, arm: Array, reward: Array) -> None:
        """Learn from arm [R] and reward [R], from 0 to 1."""
        self.wins[self._rows, self._intent, arm] += reward
        self.losses[self._rows, self._intent, arm] += 1 - reward
