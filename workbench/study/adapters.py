"""What is compared on what: each kind of task turns what a user calls an arm into the one protocol of `workbench.study.cell`."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workbench.study.cell import UNITS, Arm, Budget, Row


class Setting(Protocol):
    """A kind of task. `identity` is what all arms have in common, for the hash of the study."""

    name: str
    metric: str | None  # what is compared unless something else is asked for
    better: str  # "higher" or "lower"
    bounds: tuple[float, float] | None  # between which that metric lies, whatever happens
    units: tuple[str, ...]  # of budgets that make sense here

    def identity(self) -> Any: ...

    def arm(self, given: Any) -> tuple[str, Arm]:
        """The arm's name, and the arm as a function (seed, budget) -> rows.

        Raises:
            ValueError, TypeError: this is no arm for such a task.
        """
        ...

    def metrics(self) -> tuple[str, ...] | None:
        """What its own arms log; None where that cannot be known before they run."""
        ...

    def share(self, folder: Path) -> None:
        """Told a folder for what arms may share, before any arm is made."""
        ...


def is_function(given: Any) -> bool:
    """Whether an arm is given as a function (seed, budget) -> rows."""
    return isinstance(given, (types.FunctionType, types.MethodType, functools.partial))


def function_name(given: Any) -> str:
    """How a function arm is called in figures."""
    while isinstance(given, functools.partial):
        given = given.func
    return getattr(given, "__name__", type(given).__name__)


def check_function(name: str, given: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called with (seed, budget)."""
    try:
        inspect.signature(given).bind(0, Budget(1, "updates"))
    except TypeError as error:
        raise TypeError(f"arm {name!r} must take (seed, budget) and yield rows: {error}") from None
    except ValueError:  # no signature to be had
        pass


@dataclass
class Functions:
    """No task: every arm is a function, and brings its own."""

    name: str = "study"
    metric: str | None = None
    better: str = "higher"
    bounds: tuple[float, float] | None = None
    units: tuple[str, ...] = UNITS

    def identity(self) -> Any:
        return {"task": None}

    def arm(self, given: Any) -> tuple[str, Arm]:
        if isinstance(given, str) or not callable(given):
            raise TypeError(
                f"without a task, an arm is a function (seed, budget) -> rows, not {given!r}; "
                "to compare recipes or policies, say on what: task=..."
            )
        return function_name(given), given

    def metrics(self) -> tuple[str, ...] | None:
        return None

    def share(self, folder: Path) -> None:
        pass


def setting_of(task: Any) -> Setting:
    """The setting that a task belongs to.

    Raises:
        TypeError, ValueError: nothing is known to be compared on it.
    """
    if task is None:
        return Functions()
    if all(hasattr(task, name) for name in ("identity", "arm", "metrics", "share")):
        return task
    if isinstance(task, str) or all(hasattr(task, name) for name in ("problem", "episode", "demonstration")):
        from workbench.study.language import text

        return text(task)
    if all(hasattr(task, name) for name in ("arms", "feedback", "start")):
        from workbench.study.pulls import bandit

        return bandit(task)
    if all(hasattr(task, name) for name in ("model", "actions", "outcome", "before")):
        from workbench.study.causes import world

        return world(task)
    raise TypeError(f"nothing is known to be compared on {task!r}")


__all__ = ["Arm", "Functions", "Iterator", "Row", "Setting", "check_function", "function_name", "is_function", "setting_of"]
