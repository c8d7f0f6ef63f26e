"""Statistics: bootstrap intervals next to rliable's, the same number of resamples of the same scores."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from workbench import seeding, stats
from workbench.bench import Paired, paired

SHAPE, DRAWS = (10, 26), 2000  # ten runs of 26 tasks, as many as in Atari 100k
TARGET = 15.0


def rliable() -> tuple[ModuleType, ModuleType] | None:
    """rliable's modules `library` and `metrics`, or None where it is not installed.

    Version 1.2 needs arch 7, which calls pandas' `deprecate_kwarg` the way pandas 2 had it: so it is, for the import.
    """
    if importlib.util.find_spec("rliable") is None:
        return None
    decorators: Any = importlib.import_module("pandas.util._decorators")
    new = decorators.deprecate_kwarg
    decorators.deprecate_kwarg = lambda *_, **__: lambda function: function
    try:
        return importlib.import_module("rliable.library"), importlib.import_module("rliable.metrics")
    finally:
        decorators.deprecate_kwarg = new


def scores() -> tuple[np.ndarray, np.ndarray]:
    """Scores of two made-up arms [R, M]."""
    rng = seeding.generator(0, "bench", "statistics")
    return rng.beta(2, 2, SHAPE), rng.beta(3, 2, SHAPE)


def iqm_interval(pairs: int) -> Paired:
    """The interval of the interquartile mean of one arm."""
    library, metrics = _needed()
    x, _ = scores()
    return paired(
        lambda: library.get_interval_estimates({"x": x}, lambda z: np.array([metrics.aggregate_iqm(z)]), reps=DRAWS),
        lambda: stats.stratified_bootstrap(x, seed=0, draws=DRAWS),
        pairs,
    )


def improvement_interval(pairs: int, draws: int = 100) -> Paired:
    """The interval of the probability of improvement; fewer draws, as rliable takes 15 ms for each."""
    library, metrics = _needed()
    x, y = scores()

    def theirs() -> None:
        both = {"xy": (x, y)}
        library.get_interval_estimates(
            both, lambda *z: np.array([metrics.probability_of_improvement(*z)]), reps=draws
        )

    return paired(theirs, lambda: stats.improvement_interval(x, y, seed=0, draws=draws), pairs)


def report(pairs: int, *, quick: bool = False, show: Callable[[str], None] = print) -> dict[str, Paired]:
    """Time both sides in turn; the ratios by name."""
    show(f"statistics: bootstrap intervals for {SHAPE[0]} runs of {SHAPE[1]} tasks; how many times sooner ours is done")
    if rliable() is None:
        show("  rliable: skipped, it is not installed")
        return {}
    found = {"IQM interval": iqm_interval(pairs)}
    if not quick:
        found["improvement interval"] = improvement_interval(pairs)
    for name, result in found.items():
        show(f"  {name:38s} {result}")
    ratio = found["IQM interval"].ratio
    show(f"  IQM interval: {TARGET:g}x, {'reached' if ratio >= TARGET else 'not reached'} ({ratio:.1f}x)")
    return found


def _needed() -> tuple[ModuleType, ModuleType]:
    modules = rliable()
    if modules is None:
        raise ImportError("rliable is not installed: pip install -c requirements.lock -e '.[test]'")
    warnings.filterwarnings("ignore", message="random_state is deprecated", category=FutureWarning)
    return modules
