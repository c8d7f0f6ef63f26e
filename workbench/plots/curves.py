"""Learning curves over seeds, with bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import stats
from workbench.plots import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STATISTICS = {"mean": (stats.mean, "mean"), "iqm": (stats.iqm, "interquartile mean")}


def _arms(data: Any, value: str) -> dict[str, np.ndarray]:
    """Arm -> [R, T] from a mapping, or from a frame with columns arm, seed, step and `value`."""
    if not isinstance(data, Mapping) and hasattr(data, "groupby"):
        missing = {"arm", "seed", "step", value} - set(data.columns)
        if missing:
            raise ValueError(f"the frame lacks the columns {sorted(missing)}; it has {sorted(data.columns)}")
        data = {
            str(arm): part.pivot(index="seed", columns="step", values=value).to_numpy()
            for arm, part in data.groupby("arm", sort=False)
        }
    arms = {str(arm): np.asarray(values, dtype=float) for arm, values in data.items()}
    if not arms:
        raise ValueError("there is no arm to draw")
    for arm, values in arms.items():
        if values.ndim != 2 or 0 in values.shape:
            raise ValueError(f"arm {arm!r} must be an array [seeds, steps], not shape {values.shape}")
        if not np.all(np.isfinite(values)):
            raise ValueError(
                f"arm {arm!r} has values that are not finite: runs of unequal length, or failed ones?"
            )
    return arms


def learning_curves(
    data: Any,
    *,
    value: str = "success",
    ylabel: str | None = None,
    xlabel: str = "training step",
    steps: Any = None,
    statistic: str = "mean",
    band: str = "bootstrap",
    level: float = 0.95,
    runs: bool = False,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """One line an arm, the mean (or "iqm") over seeds, with a band, and the number of seeds in the legend.

    `data` maps an arm to an array [R seeds, T steps], or is a frame with columns arm, seed, step and `value`. `band` is
    "bootstrap" (percentile, pointwise, over seeds) or "t" (better below ten seeds; mean only). `runs` adds each seed
    as a thin line. Returns the figure; show it with `show(fig, describe_curves(data))`.
    """
    from matplotlib import pyplot

    arms = _arms(data, value)
    if statistic not in _STATISTICS:
        raise ValueError(f"statistic must be 'mean' or 'iqm', not {statistic!r}")
    if band not in ("bootstrap", "t") or (band == "t" and statistic != "mean"):
        raise ValueError(f"band must be 'bootstrap', or 't' for the mean, not {band!r} for {statistic!r}")
    function, words = _STATISTICS[statistic]
    with figure.styled():
        if ax is None:
            _, ax = pyplot.subplots()
        for i, (arm, values) in enumerate(arms.items()):
            color, dashes = figure.COLORS[i % len(figure.COLORS)], figure.DASHES[i % len(figure.DASHES)]
            x = np.arange(1, values.shape[1] + 1) if steps is None else np.asarray(steps)
            seeds = len(values)
            if runs:
                ax.plot(x, values.T, color=color, linestyle="-", linewidth=0.6, alpha=0.35)
            if seeds > 1:
                columns = values.T  # [T, R]
                spread = (
                    stats.t_interval(columns, level=level)
                    if band == "t"
                    else stats.bootstrap(columns, function, seed=seed, draws=1000, level=level)
                )
                ax.fill_between(x, spread.low, spread.high, color=color, alpha=0.18, linewidth=0)
            label = f"{arm} ({seeds} seed{'s' if seeds > 1 else ''})"
            marks = max(1, len(x) // 8)
            ax.plot(
                x,
                function(values.T),
                color=color,
                linestyle=dashes,
                marker=figure.MARKERS[i % len(figure.MARKERS)],
                markevery=(marks // 2 + i * marks // max(1, len(arms)) // 2, marks),
                label=label,
            )
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel or value.replace("_", " "))
        if limits:
            ax.set_ylim(*limits)
        ax.margins(x=0.01)
        what = f"{words} over seeds" + (
            f", {level:.0%} {band} band" if any(len(v) > 1 for v in arms.values()) else ""
        )
        ax.set_title(title or "")
        ax.legend(title=what, alignment="left", loc="best")
    return ax.figure


def describe_curves(data: Any, *, value: str = "success") -> str:
    """Alt text for `learning_curves`: where each arm starts and ends."""
    parts = []
    for arm, values in _arms(data, value).items():
        centre = values.mean(0)
        end = f"{arm} from {centre[0]:.3g} to {centre[-1]:.3g}"
        if len(values) > 1:
            interval = stats.bootstrap(values[:, -1], seed=0)
            end += f" (95 % interval {interval.low:.3g} to {interval.high:.3g}, {len(values)} seeds)"
        parts.append(end)
    return f"Learning curves of {value.replace('_', ' ')}: " + "; ".join(parts) + "."
