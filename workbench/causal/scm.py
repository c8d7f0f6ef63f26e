"""Structural causal models with finite variables, and Markov decision processes with a hidden cause.

A model is a list of hidden causes (exogenous variables, independent of one another) and, for each other variable, a
deterministic function of its parents (Pearl 2009, definition 7.1.1). Everything is finite, so every question is answered
exactly by going through all values of the hidden causes: a row each, with its probability. `Model` answers whoever asks;
a learner is given a `World`, which answers what it is permitted to ask and hides what it may not see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from workbench import seeding
from workbench.permission import Layer, require

_ROWS = 2**22  # values of the hidden causes that are enumerated at most
_SUM = 1e-9  # how far a distribution's sum may be from 1


@dataclass(frozen=True)
class Mechanism:
    """How a variable comes about: `function(*parents)` of integer arrays [N] -> integers [N] below `size`."""

    parents: tuple[str, ...]
    function: Callable[..., Any]
    size: int = 2


@dataclass(frozen=True)
class Chance:
    """A variable drawn from `table` [*sizes of the parents, size], one distribution for each value of the parents.

    The randomness is one private hidden cause, shared by all rows of the table through their cumulative sums. A table says
    nothing of counterfactuals; this is one of the models that fit it, the one whose outcomes move together most.
    """

    parents: tuple[str, ...]
    table: Any


class Model:
    """A structural causal model with finite variables.

    Args:
        exogenous: the probabilities of each hidden cause [K]; a number p stands for [1 - p, p].
        mechanisms: a `Mechanism` or `Chance` for each variable, parents being hidden causes or variables, in any order.
        hidden: variables that nobody but the model sees (hidden causes never are).

    Raises:
        ValueError: a distribution that is not one, an unknown parent, a cycle, a value out of range: with the variable's name.
    """

    def __init__(
        self,
        exogenous: Mapping[str, Any],
        mechanisms: Mapping[str, Mechanism | Chance],
        *,
        hidden: Collection[str] = (),
    ) -> None:
        self.exogenous: dict[str, np.ndarray] = {}
        for name, probability in exogenous.items():
            row = np.asarray(probability, dtype=float)
            self.exogenous[name] = distribution(np.stack([1 - row, row]) if row.ndim == 0 else row, name)
        self.mechanisms: dict[str, Mechanism] = {}
        for name, mechanism in mechanisms.items():
            if name in self.exogenous:
                raise ValueError(f"{name} is both a hidden cause and a variable; rename one")
            self.mechanisms[name] = self._with_noise(name, mechanism) if isinstance(mechanism, Chance) else mechanism
        self.hidden = frozenset(hidden)
        self._known(self.hidden, self.mechanisms, "hidden")
        for name, made in self.mechanisms.items():
            self._known(made.parents, {**self.exogenous, **self.mechanisms}, f"the parents of {name}")
        self.order = self._sorted()
        rows = math.prod(len(p) for p in self.exogenous.values())
        if rows > _ROWS:
            raise ValueError(
                f"{rows} values of the hidden causes {', '.join(self.exogenous)} are too many to enumerate ({_ROWS} at most)"
            )

    def _with_noise(self, name: str, chance: Chance) -> Mechanism:
        """The mechanism of a `Chance`, after adding its private hidden cause "U_name": one value for each stretch of
        [0, 1] between two steps of any row's cumulative sum."""
        table = distribution(np.asarray(chance.table, dtype=float), name)
        if table.ndim != len(chance.parents) + 1:
            raise ValueError(
                f"{name}: {len(chance.parents)} parents need a table of {len(chance.parents) + 1} axes, not shape {table.shape}"
            )
        steps = table.cumsum(-1)[..., :-1]
        edges = np.unique(np.clip(np.round(steps.ravel(), 15), 0, 1))
        edges = np.concatenate([[0.0], edges[(edges > 0) & (edges < 1)], [1.0]])
        middle = (edges[1:] + edges[:-1]) / 2
        values = (middle[:, None] > steps[..., None, :]).sum(-1)  # [*parents, stretches]
        noise = f"U_{name}"
        while noise in self.exogenous:  # of a mechanism that a policy replaces
            noise += "'"
        self.exogenous[noise] = np.diff(edges)
        return Mechanism((*chance.parents, noise), lambda *at: values[at], table.shape[-1])

    def _known(self, names: Collection[str], among: Collection[str], what: str) -> None:
        for name in names:
            if name not in among:
                raise ValueError(f"unknown name {name!r} in {what}; there are {', '.join(among)}")

    def _sorted(self) -> tuple[str, ...]:
        done: dict[str, None] = {}
        while len(done) < len(self.mechanisms):
            ready = [
                name
                for name, made in self.mechanisms.items()
                if name not in done and all(p in done or p in self.exogenous for p in made.parents)
            ]
            if not ready:
                left = ", ".join(name for name in self.mechanisms if name not in done)
                raise ValueError(f"the mechanisms go round in a circle through {left}; a variable must not cause itself")
            done.update(dict.fromkeys(ready))
        return tuple(done)

    @property
    def observed(self) -> tuple[str, ...]:
        """The variables a learner may see, in causal order."""
        return tuple(name for name in self.order if name not in self.hidden)

    def size(self, name: str) -> int:
        """How many values a variable has."""
        self._known([name], self.mechanisms, "a question")
        return self.mechanisms[name].size

    @cached_property
    def weights(self) -> np.ndarray:
        """The probability [N] of each row, a row being one value of all hidden causes."""
        weights = np.ones(1)
        for probability in self.exogenous.values():
            weights = np.multiply.outer(weights, probability).ravel()
        return weights

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """The value [N] of each hidden cause and variable in each row."""
        return self._run(self.mechanisms, self.order)

    def _run(self, mechanisms: Mapping[str, Mechanism], order: Sequence[str]) -> dict[str, np.ndarray]:
        grid = np.indices([len(p) for p in self.exogenous.values()], dtype=np.int32)
        rows = dict(zip(self.exogenous, grid.reshape(len(self.exogenous), len(self.weights))))
        return self._through(rows, len(self.weights), mechanisms, order)

    def _through(
        self, rows: dict[str, np.ndarray], n: int, mechanisms: Mapping[str, Mechanism], order: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Hidden causes [n] and, one after the other, all that they lead to."""
        for name in order:
            made = mechanisms[name]
            value = np.asarray(made.function(*(rows[parent] for parent in made.parents)))
            value = np.broadcast_to(value, (n,)).astype(np.int32)
            if value.min(initial=0) < 0 or value.max(initial=0) >= made.size:
                raise ValueError(
                    f"{name} takes the values {value.min()} to {value.max()}, but has size {made.size}: 0 to {made.size - 1}"
                )
            rows[name] = value
        return rows

    def _where(self, rows: Mapping[str, np.ndarray], event: Mapping[str, int]) -> np.ndarray:
        self._known(event, self.mechanisms, "the evidence")
        kept = np.ones(len(self.weights), bool)
        for name, value in event.items():
            kept &= rows[name] == value
        if self.weights[kept].sum() <= 0:
            said = ", ".join(f"{name} = {value}" for name, value in event.items())
            raise ValueError(f"{said} has probability 0, so nothing follows from seeing it")
        return kept

    def joint(self, *names: str, given: Mapping[str, int] | None = None) -> np.ndarray:
        """P(names | given), an array with one axis for each name. Raises ValueError for evidence of probability 0."""
        return self._table(names, self.rows, self._where(self.rows, given or {}))

    def _table(self, names: Sequence[str], rows: Mapping[str, np.ndarray], kept: np.ndarray) -> np.ndarray:
        sizes = [self.size(name) for name in names]
        at = (
            np.ravel_multi_index([rows[name][kept] for name in names], sizes) if names else np.zeros(kept.sum(), np.int64)
        )
        table = np.bincount(at, self.weights[kept], math.prod(sizes)).reshape(sizes)
        return table / table.sum()

    def conditional(self, name: str, given: Sequence[str]) -> np.ndarray:
        """P(name | given) [*sizes of given, size of name]; nan where the given values never happen."""
        table = self.joint(*given, name)
        total = table.sum(-1, keepdims=True)
        return np.divide(table, total, out=np.full_like(table, np.nan), where=total > 0)

    def mean(self, name: str, given: Mapping[str, int] | None = None) -> float:
        """E[name | given], the values of a variable being 0, 1, 2, ..."""
        return float(self.joint(name, given=given) @ np.arange(self.size(name)))

    def do(self, actions: Mapping[str, int | Chance | Mechanism]) -> Model:
        """The model in which the mechanism of each action is replaced: by a value, a policy (`Chance`: it sees its
        parents and has randomness of its own), or another mechanism.

        Raises ValueError for an unknown action, a value it does not have, a policy whose table does not fit it or has
        no distribution somewhere (the policy was never defined there), and a policy that would see its own effects.
        """
        self._known(actions, self.mechanisms, "do")
        return self._done(actions)._pruned()

    def _done(self, actions: Mapping[str, int | Chance | Mechanism]) -> Model:
        """`do`, with every hidden cause kept."""
        self._known(actions, self.mechanisms, "do")
        mechanisms: dict[str, Mechanism | Chance] = dict(self.mechanisms)
        for name, action in actions.items():
            size = self.size(name)
            if isinstance(action, (int, np.integer)):
                if not 0 <= action < size:
                    raise ValueError(f"do({name} = {action}): {name} has the values 0 to {size - 1}")
                mechanisms[name] = Mechanism((), lambda value=int(action): value, size)
                continue
            if isinstance(action, Chance):
                wanted = (*(self.size(parent) for parent in action.parents), size)
                if np.shape(action.table) != wanted:
                    raise ValueError(
                        f"a policy for {name} that sees {action.parents} needs a table {wanted}, not {np.shape(action.table)}"
                    )
                distribution(action.table, f"the policy of {name}")
            mechanisms[name] = action
        return Model(self.exogenous, mechanisms, hidden=self.hidden)

    def _pruned(self) -> Model:
        """The same model without the hidden causes that nothing depends on."""
        used = {parent for made in self.mechanisms.values() for parent in made.parents}
        if used.issuperset(self.exogenous):
            return self
        kept = {name: p for name, p in self.exogenous.items() if name in used}
        return Model(kept, self.mechanisms, hidden=self.hidden)

    def imagine(
        self, *names: str, evidence: Mapping[str, int], actions: Mapping[str, int | Chance | Mechanism]
    ) -> np.ndarray:
        """The counterfactual P(names under do(actions) | evidence): the evidence is from the world as it was.

        Abduction, action, prediction (Pearl 2009, theorem 7.1.7): rows that fit the evidence keep their weights.
        """
        twin = self._done(actions)
        factual = twin._run(self.mechanisms, self.order)
        return twin._table(names, twin.rows, twin._where(factual, evidence))

    def sample(self, n: int, seed: int | np.random.Generator) -> dict[str, np.ndarray]:
        """`n` draws of every variable, hidden ones too: arrays [n]."""
        rng = seed if isinstance(seed, np.random.Generator) else seeding.generator(seed, "model")
        drawn = {name: rng.choice(len(p), size=n, p=p) for name, p in self.exogenous.items()}
        values = self._through(drawn, n, self.mechanisms, self.order)
        return {name: values[name] for name in self.order}

    def edges(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """The arrows between variables, and the pairs that share a hidden cause (to be drawn with two heads)."""
        directed = [(p, name) for name in self.order for p in self.mechanisms[name].parents if p in self.mechanisms]
        causes = {name: {p for p in made.parents if p in self.exogenous} for name, made in self.mechanisms.items()}
        shared = [(a, b) for i, a in enumerate(self.order) for b in self.order[i + 1 :] if causes[a] & causes[b]]
        return directed, shared


@dataclass(frozen=True)
class World:
    """What a learner is given of a model: the layers in `allow`, and no hidden variable.

    Raises:
        NotPermitted: for a question from a layer that is not in `allow`.
        ValueError: for a hidden or unknown variable in the question.
    """

    model: Model
    allow: Collection[Layer | str] = (Layer.SEE,)

    def _visible(self, names: Collection[str], what: str) -> None:
        for name in names:
            if name not in self.model.observed:
                raise ValueError(f"{what} names {name!r}; a learner sees {', '.join(self.model.observed)}")

    def _draw(self, model: Model, n: int, seed: int, key: str) -> dict[str, np.ndarray]:
        drawn = model.sample(n, seeding.generator(seed, "world", key))
        return {name: drawn[name] for name in self.model.observed}

    def see(self, n: int, *, seed: int) -> dict[str, np.ndarray]:
        """`n` observations while the expert acts: arrays [n]."""
        require(Layer.SEE, self.allow, "see()")
        return self._draw(self.model, n, seed, "see")

    def do(self, actions: Mapping[str, int | Chance], n: int, *, seed: int) -> dict[str, np.ndarray]:
        """`n` observations while the learner acts; a policy may see observed variables only."""
        said = ", ".join(f"{name} = {a}" if isinstance(a, int) else f"{name} by a policy" for name, a in actions.items())
        require(Layer.DO, self.allow, f"do({said})")
        self._visible(actions, f"do({said})")
        for name, action in actions.items():
            self._visible(action.parents if isinstance(action, Chance) else (), f"the policy of {name}")
        return self._draw(self.model.do(actions), n, seed, "do")

    def imagine(self, *names: str, evidence: Mapping[str, int], actions: Mapping[str, int]) -> np.ndarray:
        """P(names had the actions been so | evidence), exactly."""
        said = ", ".join(f"{name} = {value}" for name, value in actions.items())
        require(Layer.IMAGINE, self.allow, f"imagine(do({said}))")
        self._visible([*names, *evidence, *actions], "imagine")
        return self.model.imagine(*names, evidence=evidence, actions=actions)


def distribution(table: Any, name: str) -> np.ndarray:
    """`table` [..., K] as floats whose last axis sums to 1. Raises ValueError naming the variable where it is not one."""
    table = np.asarray(table, dtype=float)
    if table.ndim == 0 or not np.all(np.isfinite(table)):
        raise ValueError(f"{name}: probabilities must be finite numbers with the variable on the last axis")
    if table.min(initial=0) < -_SUM or np.abs(table.sum(-1) - 1).max() > _SUM:
        worst = table.sum(-1).ravel()[np.abs(table.sum(-1) - 1).argmax()]
        raise ValueError(
            f"{name}: not a distribution: a row sums to {worst:.6g} or has a negative entry; normalise the last axis"
        )
    return table


# Markov decision processes with a hidden cause


class Observed(NamedTuple):
    """What watching the expert for ever tells (leading axes: that many worlds at once).

    Attributes:
        expert: e(x|s) [S,X]. joint: P(s', x | s) [S,X,S]; it sums to e over s'. reward: E[Y 1{X=x} | s] [S,X], which is
            e(x|s) E[Y | s, x]. occupancy: the expert's discounted state-action distribution [S,X], sum 1.
        start: distribution of the first state [S]. discount. low, high: the range of one reward.
    """

    expert: np.ndarray
    joint: np.ndarray
    reward: np.ndarray
    occupancy: np.ndarray
    start: np.ndarray
    discount: float
    low: float
    high: float

    @property
    def expert_value(self) -> np.ndarray:
        """The expert's normalised value, (1 - discount) E sum discount^t Y_t: identified, whatever is hidden."""
        seen = np.divide(self.reward, self.expert, out=np.zeros_like(self.reward), where=self.expert > 0)
        return (self.occupancy * seen).sum((-1, -2))


@dataclass(frozen=True)
class ConfoundedMDP:
    """An MDP in which a hidden cause, drawn anew each step, may enter the expert's choice, the next state and the reward.

    U ~ noise; X = expert's choice given (s, u); S' ~ kernel(s, x, u); Y = reward(s, x, u). A learner's policy sees s only.
    Arrays may have leading axes: that many MDPs at once. Values are normalised: (1 - discount) E sum discount^t Y_t.

    Attributes:
        noise: [U]. choice: P(x | s, u) [S,U,X]. kernel: P(s' | s, x, u) [S,X,U,S]. mean_reward: [S,X,U].
        start: [S]. low, high: the range of one reward. confounded: whether the hidden cause of the expert's choice also enters
        (the transition, the reward): structure, not something data could tell.
    """

    noise: np.ndarray
    choice: np.ndarray
    kernel: np.ndarray
    mean_reward: np.ndarray
    start: np.ndarray
    discount: float
    low: float = 0.0
    high: float = 1.0
    confounded: tuple[bool, bool] = (True, True)
    name: str = "mdp"

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "noise", distribution(self.noise, f"{self.name}: the hidden cause U"))
        put(self, "choice", distribution(self.choice, f"{self.name}: the expert's action X"))
        put(self, "kernel", distribution(self.kernel, f"{self.name}: the next state S'"))
        put(self, "start", distribution(self.start, f"{self.name}: the first state"))
        put(self, "mean_reward", np.asarray(self.mean_reward, dtype=float))
        check_discount(self.discount)
        states, actions, noise = self.kernel.shape[-4:-1]
        shapes = {
            "noise": (noise,),
            "choice": (states, noise, actions),
            "kernel": (states, actions, noise, states),
            "mean_reward": (states, actions, noise),
            "start": (states,),
        }
        for name, wanted in shapes.items():
            if (got := getattr(self, name).shape)[-len(wanted) :] != wanted:
                raise ValueError(f"{self.name}: {name} must have shape {wanted}, not {got}")
        if self.mean_reward.min() < self.low - _SUM or self.mean_reward.max() > self.high + _SUM:
            raise ValueError(
                f"{self.name}: the reward Y goes from {self.mean_reward.min():.6g} to {self.mean_reward.max():.6g}, "
                f"outside low={self.low} to high={self.high}"
            )

    @property
    def states(self) -> int:
        """How many states there are."""
        return self.kernel.shape[-1]

    @property
    def actions(self) -> int:
        """How many actions there are."""
        return self.kernel.shape[-3]

    @cached_property
    def transitions(self) -> np.ndarray:
        """T(s' | s, do x) [S,X,S]."""
        return np.einsum("...u,...sxut->...sxt", self.noise, self.kernel)

    @cached_property
    def rewards(self) -> np.ndarray:
        """R(s, x) = E[Y | s, do x] [S,X]."""
        return np.einsum("...u,...sxu->...sx", self.noise, self.mean_reward)

    @cached_property
    def observed(self) -> Observed:
        """What watching the expert tells, exactly."""
        acts = np.einsum("...u,...sux->...sxu", self.noise, self.choice)  # P(x, u | s)
        joint = np.einsum("...sxu,...sxut->...sxt", acts, self.kernel)
        expert = acts.sum(-1)
        visits = occupancy_of(joint.sum(-2), self.start, self.discount)
        seen = np.einsum("...sxu,...sxu->...sx", acts, self.mean_reward)
        start = np.broadcast_to(self.start, visits.shape)
        return Observed(expert, joint, seen, visits[..., None] * expert, start, self.discount, self.low, self.high)

    def occupancy(self, policy: Any) -> np.ndarray:
        """Discounted state-action distribution [S,X] of `policy` (actions [S], or probabilities [S,X]) under do."""
        policy = as_policy(policy, self.states, self.actions)
        kernel = np.einsum("...sx,...sxt->...st", policy, self.transitions)
        return occupancy_of(kernel, self.start, self.discount)[..., None] * policy

    def value(self, policy: Any) -> Any:
        """Exact normalised value of a learner's policy, actions [S] or probabilities [S,X]."""
        return (self.occupancy(policy) * self.rewards).sum((-1, -2))

    def demonstrations(self, episodes: int, steps: int, *, seed: int) -> Episodes:
        """`episodes` of the expert, `steps` long: what see gives."""
        return self._roll(None, episodes, steps, seeding.generator(seed, "demonstrations", self.name))

    def rollouts(self, policy: Any, episodes: int, steps: int, *, seed: int) -> Episodes:
        """`episodes` of a learner's policy, `steps` long: what do gives."""
        policy = as_policy(policy, self.states, self.actions)
        return self._roll(policy, episodes, steps, seeding.generator(seed, "rollouts", self.name))

    def _roll(self, policy: np.ndarray | None, episodes: int, steps: int, rng: np.random.Generator) -> Episodes:
        states = np.empty((episodes, steps + 1), np.int32)
        actions, rewards = np.empty((episodes, steps), np.int32), np.empty((episodes, steps))
        states[:, 0] = draw(np.broadcast_to(self.start, (episodes, self.states)), rng)
        for t in range(steps):
            s = states[:, t]
            u = draw(np.broadcast_to(self.noise, (episodes, len(self.noise))), rng)
            x = draw(self.choice[s, u] if policy is None else policy[s], rng)
            actions[:, t], rewards[:, t] = x, self.mean_reward[s, x, u]
            states[:, t + 1] = draw(self.kernel[s, x, u], rng)
        return Episodes(states, actions, rewards)


class Episodes(NamedTuple):
    """Trajectories: states [N,T+1], actions [N,T], rewards [N,T]."""

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


def draw(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One value from each row of `table` [N,K] -> [N]."""
    return (rng.random((len(table), 1)) > table.cumsum(-1)[:, :-1]).sum(-1)


def check_discount(discount: float) -> None:
    """Refuse a discount outside [0, 1)."""
    if not 0 <= discount < 1:
        raise ValueError(f"discount must be at least 0 and below 1, not {discount!r}")


def as_policy(policy: Any, states: int, actions: int) -> np.ndarray:
    """A policy as probabilities [..., S, X], from actions [S] or probabilities. Raises ValueError for anything else."""
    policy = np.asarray(policy)
    if policy.shape == (states,) and np.issubdtype(policy.dtype, np.integer):
        if policy.min() < 0 or policy.max() >= actions:
            raise ValueError(f"a policy's actions must be 0 to {actions - 1}, not {policy.min()} to {policy.max()}")
        return np.eye(actions)[policy]
    if policy.shape[-2:] != (states, actions):
        raise ValueError(
            f"a policy must be actions [{states}] (integers) or probabilities [{states},{actions}], not shape {policy.shape}"
        )
    return distribution(policy, "the policy")


def occupancy_of(kernel: np.ndarray, start: np.ndarray, discount: float) -> np.ndarray:
    """Normalised discounted state distribution [..., S] of a chain kernel [..., S, S]."""
    system = np.eye(kernel.shape[-1]) - discount * np.swapaxes(kernel, -1, -2)
    start = np.broadcast_to(start, kernel.shape[:-1])
    return (1 - discount) * np.linalg.solve(system, start[..., None])[..., 0]


def confounded_mdp(
    noise: Mapping[str, Any],
    *,
    expert: Mechanism,
    move: Mechanism,
    reward: Mechanism,
    discount: float,
    start: Any = None,
    low: float = 0.0,
    high: float = 1.0,
    name: str = "mdp",
) -> ConfoundedMDP:
    """A confounded MDP from functions, so that who shares which hidden cause can be read off.

    Args:
        noise: independent hidden causes, as in `Model`.
        expert: parents from "S" and causes, X out of `expert.size`. move: parents from "S", "X" and causes, the next state out
            of `move.size`. reward: parents likewise; its size is not used, it may return any number from low to high.
        start: distribution of the first state [S]; uniform if None.

    Raises ValueError as `Model` and `ConfoundedMDP` do.
    """
    causes = Model(noise, {}).exogenous
    states, actions = move.size, expert.size
    sizes = [len(p) for p in causes.values()]
    total = math.prod(sizes)
    grid = dict(zip(causes, np.indices(sizes).reshape(len(sizes), total)))
    weights = np.ones(1)
    for probability in causes.values():
        weights = np.multiply.outer(weights, probability).ravel()

    def run(what: str, made: Mechanism, allowed: tuple[str, ...]) -> np.ndarray:
        full = {"S": np.arange(states)[:, None, None], "X": np.arange(actions)[:, None], **grid}
        for parent in made.parents:
            if parent not in (*allowed, *causes):
                raise ValueError(f"{name}: unknown name {parent!r} in the parents of the {what}; there are {(*allowed, *causes)}")
        return np.broadcast_to(made.function(*(full[parent] for parent in made.parents)), (states, actions, total))

    x, s, y = run("expert", expert, ("S",))[:, 0], run("move", move, ("S", "X")), run("reward", reward, ("S", "X"))
    for what, value, size in (("expert", x, actions), ("move", s, states)):
        if value.min() < 0 or value.max() >= size:
            raise ValueError(f"{name}: the {what} gives {value.min()} to {value.max()}, but has size {size}")
    shares = [bool(set(expert.parents) & set(made.parents) & set(causes)) for made in (move, reward)]
    return ConfoundedMDP(
        weights,
        np.eye(actions)[x.astype(int)],
        np.eye(states)[s.astype(int)],
        np.asarray(y, dtype=float),
        np.full(states, 1 / states) if start is None else start,
        discount,
        low,
        high,
        (shares[0], shares[1]),
        name,
    )
