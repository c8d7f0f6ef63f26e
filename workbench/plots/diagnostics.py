"""The diagnostics of a training as small multiples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.plots import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Title, unit of the axis, and the numbers in it: whole names, or a stem that is followed by a number or a term's name.
PANELS = (
    ("Success", "share of episodes", ("success",)),
    ("Malformed and void turns", "share of turns", ("malformed", "void")),
    ("Calls", "calls an episode", ("calls",)),
    ("Groups that teach nothing", "share of groups", ("zero_advantage",)),
    ("Correct episodes", "log-probability of a token, nats", ("logp_correct",)),
    ("Turn rewards and success", "correlation", ("correlation_",)),
    ("Entropy of each turn", "nats a token", ("entropy_turn_",)),
    ("Gradient of each turn", "share", ("gradient_turn_",)),
    ("Gradient by length of episode", "share", ("gradient_quarter_",)),
)
_ALWAYS = {"share of episodes": (0, 1), "share of groups": (0, 1), "correlation": (-1, 1)}
Row = Mapping[str, float | None]


def diagnostics(rows: Iterable[Row], *, smooth: int = 1, width: float = 10.0) -> Figure:
    """A small panel for each thing to watch, over the steps of one run; panels without numbers are left out.

    Args:
        rows: one for each step, as `StepRecord.as_row()` gives it or a run folder keeps it; None where nothing was measured.
        smooth: steps in a running mean. width: of the figure, inches.
    Raises:
        ValueError: no rows, rows without any of these numbers, or `smooth` below 1.
    """
    from matplotlib import pyplot

    steps, panels = _read(rows, smooth)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    with figure.styled():
        fig, axes = pyplot.subplots(lines, columns, figsize=(width, 2.5 * lines), squeeze=False, sharex=True)
        for ax, (title, unit, series) in zip(axes.flat, panels):
            graded = len(series) > 3  # turns and quarters have an order, which lightness shows
            for i, (name, values) in enumerate(series.items()):
                color = pyplot.get_cmap("viridis")(0.8 * i / (len(series) - 1)) if graded else figure.COLORS[i]
                dashes = figure.DASHES[i % len(figure.DASHES)]
                alone = np.isfinite(values).sum() < 2
                marker = figure.MARKERS[i % len(figure.MARKERS)]
                ax.plot(steps, values, color=color, linestyle=dashes, linewidth=1.6, marker=marker, label=name,
                        markersize=4, markevery=1 if alone else (i, max(1, len(steps) // 5)))  # fmt: skip
            if unit in _ALWAYS:
                ax.set_ylim(*_ALWAYS[unit])
            if unit == "correlation":
                ax.axhline(0, color="#444444", linewidth=0.8)
            ax.set_title(title, fontsize=11)
            ax.set_ylabel(unit, fontsize=9)
            ax.tick_params(labelsize=9)
            if unit == "share":
                ax.set_ylim(bottom=0)
            if len(series) > 1 or next(iter(series)) != title:
                low, high = ax.get_ylim()
                columns_in = 2 if len(series) <= 4 else 4
                if unit != "correlation":  # room for the legend above the lines
                    ax.set_ylim(low, high + (0.1 + 0.11 * -(-len(series) // columns_in)) * (high - low))
                ax.legend(
                    fontsize=8, handlelength=1.6, columnspacing=0.8, handletextpad=0.4, borderaxespad=0.2, ncols=columns_in,
                    loc="upper center",
                )  # fmt: skip
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for ax in axes.flat[max(0, len(panels) - columns) : len(panels)]:
            ax.set_xlabel("training step")
            ax.xaxis.set_tick_params(labelbottom=True)
    return fig


def describe_diagnostics(rows: Iterable[Row]) -> str:
    """Alt text for `diagnostics`: from where to where each number went."""
    steps, panels = _read(rows, 1)
    parts = []
    for title, _, series in panels:
        for name, values in series.items():
            known = values[np.isfinite(values)]
            label = "" if name == title else f", {name}"
            parts.append(f"{title}{label}: {known[0]:.3g} to {known[-1]:.3g}")
    return f"Small panels over {len(steps)} training steps. " + "; ".join(parts) + "."


def _read(rows: Iterable[Row], smooth: int) -> tuple[np.ndarray, list[tuple[str, str, dict[str, np.ndarray]]]]:
    """Steps, and (title, unit, label -> values) of each panel that has any."""
    if smooth < 1:
        raise ValueError(f"smooth must be at least 1 step, not {smooth!r}")
    rows = list(rows)
    if not rows:
        raise ValueError("no rows: give one for each step, such as [step.as_row() for step in train(...)]")
    steps = np.array([row.get("step", number) for number, row in enumerate(rows, 1)], dtype=float)
    names = list(dict.fromkeys(name for row in rows for name in row))
    panels = []
    for title, unit, wanted in PANELS:
        series = {}
        for want in wanted:
            stem = want.endswith("_")
            for name in sorted((n for n in names if n == want or (stem and n.startswith(want))), key=_natural):
                values = np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=float)
                if np.isfinite(values).any():
                    series[_label(name, want, title, len(wanted))] = _smoothed(values, smooth)
        if series:
            panels.append((title, unit, series))
    if not panels:
        raise ValueError(f"none of these rows has a number to draw; they have {names[:12]}")
    return steps, panels


def _natural(name: str) -> tuple[str, int]:
    stem, number = re.fullmatch(r"(.*?)(\d*)", name).groups()  # type: ignore[union-attr]
    return stem, int(number or 0)


def _label(name: str, want: str, title: str, count: int) -> str:
    if not want.endswith("_"):
        return name.replace("_", " ") if count > 1 else title
    rest = name.removeprefix(want)
    if want == "gradient_quarter_":
        return {"1": "shortest", "4": "longest"}.get(rest, f"quarter {rest}")
    return f"turn {rest}" if rest.isdigit() else "what the task said" if rest == "turns" else rest.replace("_", " ")


def _smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the last `window` values that there are; NaN where the value itself is missing."""
    if window == 1:
        return values
    known = np.isfinite(values)
    total, count = np.cumsum(np.where(known, values, 0)), np.cumsum(known)
    total[window:], count[window:] = total[window:] - total[:-window], count[window:] - count[:-window]
    return np.where(known, total / np.maximum(count, 1), np.nan)
