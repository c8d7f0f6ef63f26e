"""The figures of a study: curves with bands, final scores, performance profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench import plots, stats
from workbench.plots import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.study.result import Study

KINDS = ("curves", "final", "profile")
_AXES = {
    "step": "updates",
    "samples": "samples",
    "tokens": "generated tokens",
    "seconds": "seconds of wall-clock time",
}


def draw(study: Study, kind: str, metric: str, x: str, at: str) -> tuple[Figure, str]:
    """The figure and its alt text. Raises ValueError for a kind that there is not."""
    if kind == "curves":
        return _curves(study, metric, x)
    if kind == "final":
        return _final(study, metric, at)
    if kind == "profile":
        return _profile(study, metric, at)
    raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")


def _curves(study: Study, metric: str, x: str) -> tuple[Figure, str]:
    frame = study.curves(metric, x=x)
    arms = {
        arm: part.pivot(index="seed", columns=x, values=metric).to_numpy()
        for arm, part in frame.groupby("arm", sort=False)
    }
    few = min(len(values) for values in arms.values()) < 10
    fig = plots.learning_curves(
        arms, steps=np.sort(frame[x].unique()), value=metric, xlabel=_AXES[x], band="t" if few else "bootstrap"
    )
    return fig, plots.describe_curves(arms, value=metric)


def _final(study: Study, metric: str, at: str) -> tuple[Figure, str]:
    """Every run as a dot, the interquartile mean with its interval beside the dots."""
    from matplotlib import pyplot

    summary = study.summary(metric, at=at)
    table = summary.table
    with figure.styled():
        fig, ax = pyplot.subplots(figsize=(7.0, 0.9 + 0.55 * len(study.arms)))
        for place, arm in enumerate(study.arms):
            color = figure.COLORS[place % len(figure.COLORS)]
            values, line = summary.scores[arm].dropna().to_numpy(), table.loc[arm]
            ax.plot(values, np.full(len(values), place + 0.18), "o", color=color, alpha=0.45, markersize=4)
            ax.plot([line["low"], line["high"]], [place - 0.12] * 2, "-", color=color, linewidth=3)
            ax.plot(
                [line["iqm"]],
                [place - 0.12],
                figure.MARKERS[place % len(figure.MARKERS)],
                color=color,
                markersize=8,
            )
        ax.set_yticks(
            range(len(study.arms)), [f"{arm} ({table.loc[arm, 'runs']:.0f} seeds)" for arm in study.arms]
        )
        ax.set_ylim(len(study.arms) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        when = "at the end" if at == "last" else "mean over the run"
        ax.set_xlabel(f"{metric.replace('_', ' ')} {when}: runs (dots), IQM with 95 % interval (bar)")
    said = "; ".join(
        f"{arm} {line['iqm']:.3g} (95 % interval {line['low']:.3g} to {line['high']:.3g}, {line['runs']:.0f} runs)"
        for arm, line in table.iterrows()
    )
    return fig, f"Interquartile means of {metric.replace('_', ' ')} {when}: {said}."


def _profile(study: Study, metric: str, at: str) -> tuple[Figure, str]:
    """The share of runs above each score, with pointwise bands."""
    from matplotlib import pyplot

    scores = study.scores(metric, at=at)
    low, high = float(np.nanmin(scores.to_numpy())), float(np.nanmax(scores.to_numpy()))
    thresholds = np.linspace(low - 0.02 * (high - low), high, 200)
    middle = (low + high) / 2
    said = []
    with figure.styled():
        fig, ax = pyplot.subplots()
        for place, arm in enumerate(study.arms):
            color, dashes = (
                figure.COLORS[place % len(figure.COLORS)],
                figure.DASHES[place % len(figure.DASHES)],
            )
            values = scores[arm].dropna().to_numpy()
            if len(values) < 2:
                raise ValueError(f"a profile needs at least two runs an arm; {arm!r} has {len(values)}")
            found = stats.performance_profile(values, thresholds, seed=0)
            ax.fill_between(thresholds, found.low, found.high, color=color, alpha=0.18, linewidth=0)
            ax.plot(
                thresholds, found.estimate, color=color, linestyle=dashes, label=f"{arm} ({len(values)} seeds)"
            )
            said.append(f"{arm} {np.mean(values > middle):.0%}")
        ax.set_xlabel(metric.replace("_", " "))
        ax.set_ylabel("share of runs above it")
        ax.set_ylim(-0.02, 1.02)
        ax.legend(title="95 % pointwise band", alignment="left")
    return (
        fig,
        f"Share of runs whose {metric.replace('_', ' ')} is above a threshold; above {middle:.3g}: {', '.join(said)}.",
    )
