"""Studies: arms compared over seeds, with honest error bars.

    study = compare(["grpo", "gtpo"], "calculator", seeds=8, budget="100 updates")
    study.summary()

To read it: `cell` says what a run is, `adapters` how everything becomes one, `store` where finished ones are kept, `execute`
where they are made, `verbs` puts this together, and `result` says what came out.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from workbench.study.cell import Budget, Run, run_cell
from workbench.study.fingerprint import fingerprint
from workbench.study.loggers import tensorboard
from workbench.study.result import Rollouts, Study, Summary
from workbench.study.verbs import compare, listing, load, runs, sweep

if TYPE_CHECKING:
    from workbench.study.causes import imitator, world
    from workbench.study.language import WarmStart, text, trained
    from workbench.study.pulls import bandit

__all__ = [
    "Budget", "Rollouts", "Run", "Study", "Summary", "WarmStart", "bandit", "compare", "fingerprint", "imitator", "listing",
    "load", "run_cell", "runs", "sweep", "tensorboard", "text", "trained", "world",
]  # fmt: skip

# what loads torch, or a room that most studies do not need
_LATER = {
    "WarmStart": "language", "text": "language", "trained": "language", "bandit": "pulls", "imitator": "causes",
    "world": "causes",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
