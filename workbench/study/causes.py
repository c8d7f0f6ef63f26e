"""Imitators in a causal world: one run learns from more and more of what it sees, and its value is worked out exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.bandits.play import log_spaced
from workbench.causal import imitation
from workbench.causal.scm import Chance, World
from workbench.causal.worlds import Problem
from workbench.study.adapters import function_name
from workbench.study.cell import Arm, Budget, Row

Learn = Callable[[Problem, np.ndarray, tuple[str, ...]], Mapping[str, Chance]]


@dataclass(frozen=True)
class Imitator:
    """An imitator as an arm: what `imitator` makes."""

    learn: Learn
    name: str


def imitator(learn: Learn, name: str | None = None) -> Imitator:
    """An arm: a function from what is seen to a policy for each action.

    It is called as `learn(problem, seen, names)`, where `seen` is the distribution of what was observed, an array with an axis
    for each of `names`; of `problem` it may use the diagram, the actions and the name of the outcome, which it does not see.
    """
    return Imitator(learn, name or function_name(learn))


def _behaviour(problem: Problem, seen: np.ndarray, names: tuple[str, ...]) -> Mapping[str, Chance]:
    scopes = {action: problem.before(action) for action in problem.actions}
    return _policies(imitation.behaviour_cloning(problem.diagram, seen, names, problem.outcome, scopes))


def _causal(problem: Problem, seen: np.ndarray, names: tuple[str, ...]) -> Mapping[str, Chance]:
    return _policies(imitation.causal_cloning(problem.diagram, seen, names, problem.outcome, problem.actions))


def _policies(found: imitation.Imitation) -> Mapping[str, Chance]:
    assert found.policies is not None
    return found.policies


IMITATORS = {"behaviour_cloning": _behaviour, "causal_cloning": _causal}


@dataclass
class CausalWorld:
    """A causal world as a setting: what `world` makes. See there."""

    problem: Problem
    points: int
    name: str
    bounds: tuple[float, float] | None
    metric: str | None = "value"
    better: str = "higher"
    units: tuple[str, ...] = ("samples", "updates")

    @property
    def names(self) -> tuple[str, ...]:
        """What an imitator sees, in the order in which it happens."""
        order = self.problem.order or self.problem.model.observed
        return tuple(name for name in order if name in self.problem.model.observed and name != self.problem.outcome)

    def identity(self) -> Any:
        """What happens while the expert acts, and what happens under each fixed action: not the code it is computed with."""
        p, model = self.problem, self.problem.model
        acts = [model.do({action: value}) for action in p.actions for value in range(model.size(action))]
        return [
            p.name, p.actions, p.outcome, p.order, self.points, *model.edges(),
            *([dict(one.rows), np.asarray(one.weights)] for one in (model, *acts)),
        ]  # fmt: skip

    def arm(self, given: Any) -> tuple[str, Arm]:
        if isinstance(given, str):
            if given not in IMITATORS:
                raise ValueError(f"no imitator {given!r}; there are {', '.join(IMITATORS)}, and imitator(function)")
            given = Imitator(IMITATORS[given], given)
        if not isinstance(given, Imitator):
            raise TypeError(f"in a causal world an arm is an imitator, by name or as imitator(function), not {given!r}")
        given.learn(self.problem, self.problem.model.joint(*self.names), self.names)  # what is refused is refused now
        return given.name, CausalArm(self, given.learn)

    def metrics(self) -> tuple[str, ...]:
        return ("value", "gap")

    def share(self, folder: Path) -> None:
        pass


def world(problem: Problem, *, points: int = 20) -> CausalWorld:
    """A causal world for `compare`. The metric is `value`: the outcome's exact mean when the imitator acts; `gap` is what it
    falls short of the expert's. A demonstration is a sample and an update; the outcome is not seen.

    All imitators of one seed see the same demonstrations.

    Args:
        problem: of `workbench.causal.worlds`. points: at how many numbers of demonstrations, on a logarithmic axis, to look.
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, not {points}")
    return CausalWorld(problem, points, problem.name, (0.0, float(problem.model.size(problem.outcome) - 1)))


@dataclass
class CausalArm:
    """One imitator as a function (seed, budget) -> rows."""

    setting: CausalWorld
    learn: Learn

    def identity(self) -> Any:
        return self.learn

    def __repr__(self) -> str:
        return function_name(self.learn)

    def __call__(self, seed: int, budget: Budget) -> Iterator[Row]:
        problem, names, count = self.setting.problem, self.setting.names, int(budget.amount)
        drawn = World(problem.model).see(count, seed=seed)
        expert, sizes = problem.expert_value, [problem.model.size(name) for name in names]
        for n in log_spaced(count, self.setting.points).tolist():
            table = np.zeros(sizes)
            np.add.at(table, tuple(drawn[name][:n] for name in names), 1 / n)
            value = problem.value(self.learn(problem, table, names))
            yield {"step": n, "samples": n, "value": value, "gap": expert - value}
