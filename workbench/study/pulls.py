"""Policies on a bandit problem: one run is `repetitions` plays side by side, and its rows are means over them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.bandits import play, policies
from workbench.study.cell import Arm, Budget, Row


@dataclass
class Bandit:
    """A bandit problem as a setting: what `bandit` makes. See there."""

    problem: Any
    repetitions: int
    points: int
    name: str
    metric: str | None = "regret"
    better: str = "lower"
    bounds: tuple[float, float] | None = None
    units: tuple[str, ...] = ("samples", "updates")

    def identity(self) -> Any:
        return [self.problem, self.repetitions, self.points]

    def arm(self, given: Any) -> tuple[str, Arm]:
        try:
            policy = policies.get(given) if isinstance(given, str) else given
        except LookupError as error:
            raise ValueError(error.args[0]) from None
        if isinstance(policy, type) or not all(hasattr(policy, name) for name in ("start", "choose", "update", "feedback")):
            raise TypeError(f"on a bandit an arm is a policy, by name or as an object, not {given!r}")
        if policy.feedback not in self.problem.feedback:
            raise ValueError(
                f"{play.name_of(policy)} learns from {policy.feedback} feedback; {self.name} gives "
                f"{' or '.join(self.problem.feedback)}"
            )
        return play.name_of(policy), BanditArm(self, policy)

    def metrics(self) -> tuple[str, ...]:
        return ("regret",)

    def share(self, folder: Path) -> None:
        pass


def bandit(problem: Any, *, repetitions: int = 1, points: int = play.POINTS) -> Bandit:
    """A bandit problem for `compare`. The metric is `regret`, lower is better; a round is an update, a pull is a sample.

    All policies of one seed meet the same luck. Seeds are what the statistics count; with several `repetitions` each of them is
    a mean over so many plays, which cost little more than one.

    Args:
        problem: of `workbench.bandits`. points: at how many rounds, evenly spaced on a logarithmic axis, the regret is logged.
    """
    if repetitions < 1 or points < 1:
        raise ValueError(f"repetitions and points must be at least 1, not {repetitions} and {points}")
    return Bandit(problem, repetitions, points, str(getattr(problem, "name", type(problem).__name__)).lower())


@dataclass
class BanditArm:
    """One policy as a function (seed, budget) -> rows."""

    setting: Bandit
    policy: Any

    def identity(self) -> Any:
        """The policy as it is before its first round: what it has learned elsewhere is forgotten in a run."""
        fresh = copy.deepcopy(self.policy)
        fresh.start(1, self.setting.problem.arms, 1)
        return fresh

    def __repr__(self) -> str:
        return repr(self.policy)

    def __call__(self, seed: int, budget: Budget) -> Iterator[Row]:
        s = self.setting
        horizon = math.ceil(budget.amount / (s.repetitions if budget.unit == "samples" else 1))
        found = play.play(copy.deepcopy(self.policy), s.problem, horizon, s.repetitions, seed=seed, points=s.points)
        for time, regret in zip(found.times, found.regret.mean(0)):
            yield {"step": int(time), "samples": int(time) * s.repetitions, "regret": regret}
