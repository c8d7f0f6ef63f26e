"""Text tasks and their tools, as plain classes. `get("addition", digits=3)` makes one by name."""

from __future__ import annotations

from workbench.tasks.addition import Addition
from workbench.tasks.base import Episode, Hinted, Played, Problem, Reply, Rewriting, Task, Taught, play
from workbench.tasks.calculator import Calculator
from workbench.tasks.code import Katas, Programs, Repair
from workbench.tasks.lookup import Lookup
from workbench.tasks.spoken import Spoken, ToolKatas, spoken
from workbench.tasks.stream import Stream
from workbench.tasks.unlock import Unlock
from workbench.tasks.verbal_bandit import VerbalBandit

__all__ = [
    "Addition", "Calculator", "Episode", "Hinted", "Katas", "Lookup", "Played", "Problem", "Programs", "Repair", "Reply",
    "Rewriting", "Spoken", "Stream", "Task", "Taught", "ToolKatas", "Unlock", "VerbalBandit", "get", "names", "play", "spoken",
]  # fmt: skip

_KNOWN = (Addition, Calculator, Lookup, Programs, Repair, Katas, Spoken, Stream, ToolKatas, Unlock, VerbalBandit)
_TASKS = {task.name: task for task in _KNOWN}


def names() -> tuple[str, ...]:
    """The names `get` knows."""
    return tuple(_TASKS)


def get(task: str | Task, **settings: object) -> Task:
    """The task of that name with those settings (the fields of its class); a task given as such is handed back.

    Raises:
        ValueError: unknown name or bad setting. TypeError: the task has no such setting.
    """
    if not isinstance(task, str):
        if settings:
            raise TypeError(
                f"settings {sorted(settings)} only go with a task's name; this is already a {task.name!r}"
            )
        return task
    if task not in _TASKS:
        raise ValueError(f"unknown task {task!r}; there are {', '.join(_TASKS)}")
    return _TASKS[task](**settings)  # type: ignore[arg-type]
