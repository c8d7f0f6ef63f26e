"""Reinforcement learning in notebooks, from a two-armed bandit to a language model that uses tools.

    import workbench as wb

Names are loaded when they are first used: importing the package takes milliseconds and does not load torch.
Every part of an objective is here under its own name too: `wb.clip(high=0.28)` is `wb.objective.clip(high=0.28)`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench import bandits as bandits
    from workbench import causal as causal
    from workbench import course as course
    from workbench import models as models
    from workbench import objective as objective
    from workbench import plots as plots
    from workbench import recipes as recipes
    from workbench import sample as sample
    from workbench import sandbox as sandbox
    from workbench import seeding as seeding
    from workbench import stats as stats
    from workbench import study as study
    from workbench import tasks as tasks
    from workbench.batch import Batch as Batch
    from workbench.batch import Origin as Origin
    from workbench.batch import Stop as Stop
    from workbench.objective import *  # noqa: F403
    from workbench.study import compare as compare
    from workbench.study import runs as runs
    from workbench.study import sweep as sweep
    from workbench.train import evaluate as evaluate
    from workbench.train import sft as sft
    from workbench.train import train as train

__version__ = "0.1.0"

# What `wb.<name>` is, and the module that has it. None: the module itself.
_HOME = {
    "Batch": "batch", "Origin": "batch", "Stop": "batch",
    "compare": "study", "credit_view": "recipes", "runs": "study", "sweep": "study",
    "evaluate": "train", "sft": "train", "train": "train",
    "bandits": None, "causal": None, "course": None, "models": None, "objective": None, "plots": None, "recipes": None,
    "sample": None, "sandbox": None, "scale": None, "seeding": None, "stats": None, "study": None, "tasks": None,
}  # fmt: skip


def _parts() -> dict[str, Any]:
    """The factories of all parts, by name."""
    return importlib.import_module("workbench.objective").PARTS


def __getattr__(name: str) -> Any:
    """Load what `wb.<name>` is, once."""
    if name in _HOME:
        home = _HOME[name]
        module = importlib.import_module(f"workbench.{home or name}")
        value = getattr(module, name) if home else module
    elif name.startswith("_") or name not in (parts := _parts()):
        raise AttributeError(_unknown(name), name=name, obj=sys.modules[__name__])
    else:
        value = parts[name]
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_parts()})


def _unknown(name: str) -> str:
    """The message for a name that is not here: what is close to it, or what there is."""
    if name.startswith("_"):  # asked for by tools that probe any module; they must not load anything
        return f"module 'workbench' has no attribute {name!r}"
    import difflib

    known = [*_HOME, *_parts()]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(sorted(_HOME))}, and the parts of objectives"
    return f"module 'workbench' has no attribute {name!r}; {hint}"


class _Workbench(ModuleType):
    """`import workbench.train` makes Python put that module where `wb.train(...)` is; the function stays there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """So that a function that mentions `wb` can be sent to another process, as with an ordinary module."""
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Workbench
