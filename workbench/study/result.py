"""What a study found: one tidy frame, a summary with intervals and a verdict in words, figures, rollouts."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.study.cell import AXES, Budget, Run

if TYPE_CHECKING:
    import pandas as pd

    from workbench.stats import Comparison, Sequential

Cell = tuple[str, int]  # arm and seed
MANY = 200  # points of a curve


@dataclass(eq=False)
class Study:
    """Arms run over seeds. `compare` makes one, `load` reads one; `print(study.summary())` says what may be claimed.

    Attributes:
        arms, seeds: what was asked for; with early stopping, the seeds up to the look at which it stopped.
        metric: what decides. better: "higher" or "lower". bounds: between which it lies, if that is known.
        runs: what each finished run logged, by (arm, seed). missing: why there is none, for the others.
        made_with: machine and versions of each run, by (arm, seed).
        path: its folder, or None if nothing was kept.
    """

    name: str
    path: Path | None
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    budget: Budget
    metric: str | None
    better: str = "higher"
    bounds: tuple[float, float] | None = None
    stop: Sequential | None = None
    runs: dict[Cell, Run] = field(default_factory=dict, repr=False)
    missing: dict[Cell, str] = field(default_factory=dict, repr=False)
    made_with: dict[Cell, dict[str, str]] = field(default_factory=dict, repr=False)

    def add(self, arm: str, seed: int, run: Run, made_with: Mapping[str, str]) -> None:
        """Take in a finished run.

        Raises:
            ValueError: it never logged the study's metric, or the study has none and the run logged several.
        """
        logged = sorted({name for row in run.rows for name in row} - set(AXES))
        if self.metric is None and len(logged) == 1:
            self.metric = logged[0]
        if self.metric is None:
            raise ValueError(f"arm {arm!r} logs {', '.join(logged) or 'no metric'}: say which one decides, with metric=")
        if self.metric not in logged:
            raise ValueError(f"arm {arm!r} never logs {self.metric!r}; it logs {', '.join(logged) or 'no metric'}")
        self.runs[arm, seed] = run
        self.made_with[arm, seed] = dict(made_with)
        self.missing.pop((arm, seed), None)

    def _cells(self) -> list[Cell]:
        return [(arm, seed) for arm in self.arms for seed in self.seeds if (arm, seed) in self.runs]

    # ---- numbers ------------------------------------------------------------------------------------------------

    @property
    def frame(self) -> pd.DataFrame:
        """One line for each arm, seed, step and metric: columns arm, seed, step, metric, value.

        The same to the bit wherever it is made: wall-clock time is not in it (see `curves`), "samples" and "tokens" are.
        """
        import pandas as pd

        lines = [
            (arm, seed, row["step"], name, value)
            for arm, seed in self._cells()
            for row in self.runs[arm, seed].rows
            for name, value in row.items()
            if name != "step"
        ]
        return pd.DataFrame(lines, columns=["arm", "seed", "step", "metric", "value"]).astype({"value": float})

    def scores(self, metric: str | None = None, *, at: str = "last") -> pd.DataFrame:
        """One number a run: a line for each seed, a column for each arm, NaN where the run is missing or ended in no number.

        Args:
            at: "last": the last value that the run logged; "mean": over all that it logged.
        Raises:
            ValueError: no run logged that metric.
        """
        import pandas as pd

        if at not in ("last", "mean"):
            raise ValueError(f"at must be 'last' or 'mean', not {at!r}")
        metric = self._metric(metric)
        table = pd.DataFrame(math.nan, index=pd.Index(self.seeds, name="seed"), columns=pd.Index(self.arms, name="arm"))
        for arm, seed in self._cells():
            values = [row[metric] for row in self.runs[arm, seed].rows if metric in row]
            found = (values[-1] if at == "last" else float(np.mean(values))) if values else math.nan
            table.loc[seed, arm] = found if math.isfinite(found) else math.nan
        return table

    def curves(self, metric: str | None = None, *, x: str = "step", points: int | None = None) -> pd.DataFrame:
        """A metric along an axis, on one grid for all runs: columns arm, seed, x and the metric.

        Between two of its rows a run has the value of the earlier one; the grid ends where the first run ends.

        Args:
            x: "step" (updates), "samples", "tokens" or "seconds" (of wall-clock time on the machine that ran it).
            points: of the grid; by default the places at which any run logged, or 200 evenly, where the axis has more of them.
        Raises:
            ValueError: a run did not log that axis or metric.
        """
        import pandas as pd

        if x not in AXES:
            raise ValueError(f"the axis of a curve is one of {', '.join(AXES)}, not {x!r}")
        metric = self._metric(metric)
        found: dict[Cell, tuple[np.ndarray, np.ndarray]] = {}
        for cell in self._cells():
            run = self.runs[cell]
            pairs = [
                (second if x == "seconds" else row.get(x), row[metric])
                for row, second in zip(run.rows, run.seconds)
                if metric in row
            ]
            if any(place is None for place, _ in pairs):
                raise ValueError(f"arm {cell[0]!r} does not log {x!r}; its curves can be drawn over 'step' and 'seconds'")
            found[cell] = np.array([p for p, _ in pairs], float), np.array([v for _, v in pairs], float)
        found = {cell: pair for cell, pair in found.items() if len(pair[0])}
        if not found:
            raise ValueError(f"no run logged {metric!r}")
        low, high = max(places[0] for places, _ in found.values()), min(places[-1] for places, _ in found.values())
        if low > high:
            raise ValueError(f"there is no stretch of {x!r} that all runs went through: some end before others begin")
        every = np.unique(np.concatenate([places for places, _ in found.values()]))
        grid = every[(low <= every) & (every <= high)]
        if points is not None or (x != "step" and len(grid) > MANY):
            grid = np.linspace(low, high, points or MANY)
        parts = [
            pd.DataFrame({"arm": arm, "seed": seed, x: grid, metric: values[np.searchsorted(places, grid, "right") - 1]})
            for (arm, seed), (places, values) in found.items()
        ]
        return pd.concat(parts, ignore_index=True)

    def comparison(
        self, metric: str | None = None, *, at: str = "last", reference: str | None = None, margin: float | None = None,
        level: float = 0.95, paired: bool = True,
    ) -> Comparison:  # fmt: skip
        """`stats.compare_arms` of the final scores, higher being better: where lower is, scores have changed sign.

        Raises:
            ValueError: fewer than two arms or seeds.
        """
        from workbench import stats

        sign = 1.0 if self.better == "higher" else -1.0
        table = self.scores(metric, at=at)
        bounds = self.bounds if metric in (None, self.metric) else None
        if bounds is not None and sign < 0:
            bounds = (-bounds[1], -bounds[0])
        return stats.compare_arms(
            {arm: sign * table[arm].to_numpy() for arm in self.arms}, paired=paired, reference=reference, margin=margin,
            level=level, bounds=bounds, sequential=self.stop,
        )  # fmt: skip

    def summary(
        self, metric: str | None = None, *, at: str = "last", reference: str | None = None, margin: float | None = None,
        level: float = 0.95, paired: bool = True,
    ) -> Summary:  # fmt: skip
        """What may be claimed: for each arm the IQM with its interval, for each pair the probability of improvement and a
        verdict in words, corrected for the number of pairs; what is missing, and what it was run on.

        Args:
            metric: another than the study's own, for exploring. at: which score of a run, see `scores`.
            reference: compare only with this arm. margin: the smallest difference that matters. paired: whether runs of one
                seed belong together. See `stats.compare_arms`.
        """
        comparison = None
        if len(self.arms) > 1:
            comparison = self.comparison(metric, at=at, reference=reference, margin=margin, level=level, paired=paired)
        return Summary(self, self._metric(metric), at, self.scores(metric, at=at), comparison)

    def ran_on(self) -> str:
        """The machines and versions behind the numbers, in a line each."""
        kinds = {tuple(sorted(made.items())) for made in self.made_with.values()}
        return "\n".join(sorted({_described(dict(kind)) for kind in kinds}))

    def _metric(self, metric: str | None) -> str:
        chosen = metric or self.metric
        known = {name for run in self.runs.values() for row in run.rows for name in row} - {"step"}
        if chosen is None or (known and chosen not in known):
            raise ValueError(f"no run logged {chosen!r}; there are {', '.join(sorted(known)) or 'no runs'}")
        return chosen

    # ---- to look at ---------------------------------------------------------------------------------------------

    def plot(
        self, kind: str = "curves", metric: str | None = None, *, x: str = "step", at: str = "last", caption: str | None = None
    ) -> None:  # fmt: skip
        """Show a figure, with its description for those who cannot see it.

        Args:
            kind: "curves" (mean over seeds with a 95 % band), "final" (each run, and the IQM with its interval) or "profile" (the
                share of runs above each score). x: axis of the curves, see `curves`. at: which score of a run, see `scores`.
        """
        from workbench import plots
        from workbench.study import figures

        plots.show(*figures.draw(self, kind, self._metric(metric), x, at), caption)

    def rollouts(self, arm: str | None = None, seed: int | None = None, *, step: int | None = None) -> Rollouts:
        """The examples that runs have kept: dicts with arm, seed, step and whatever the arm put in.

        Args:
            arm, seed, step: only these.
        """
        return Rollouts(
            {"arm": a, "seed": s, **shown}
            for a, s in self._cells()
            for shown in self.runs[a, s].rollouts
            if arm in (None, a) and seed in (None, s) and step in (None, shown["step"])
        )


class Rollouts(list[dict[str, Any]]):
    """Examples of what arms did. `view` shows some of them."""

    def view(self, count: int = 8) -> None:
        """Show up to `count` of them, turn by turn where they have turns: in a notebook in the rollout viewer, else in print."""
        from workbench.plots import RolloutViewer, figure

        if figure.in_kernel() and self and all("turns" in shown for shown in self[:count]):
            RolloutViewer.of_transcripts(self[:count]).show()
            return
        for shown in self[:count]:
            about = {name: value for name, value in shown.items() if name not in ("turns", "prompt", "row")}
            print(", ".join(f"{name} {value}" for name, value in about.items()))
            if "prompt" in shown:
                print(f"  {shown['prompt']}")
            for turn in shown.get("turns", ()):
                print(f"  > {turn.get('text', '')}" + (f"\n    {turn['reply']}" if turn.get("reply") else ""))
        if len(self) > count:
            print(f"... and {len(self) - count} more")


@dataclass(frozen=True)
class Summary:
    """What a study found. `print` it; in a notebook it is a table.

    Attributes:
        scores: one number a run, seeds x arms. comparison: intervals and verdicts, None for a single arm.
    """

    study: Study
    metric: str
    at: str
    scores: pd.DataFrame
    comparison: Comparison | None

    @property
    def table(self) -> pd.DataFrame:
        """For each arm: iqm, low, high (95 % interval), runs and missing."""
        import pandas as pd

        from workbench import stats

        lines = {}
        sign = 1.0 if self.study.better == "higher" else -1.0
        for arm in self.study.arms:
            values = self.scores[arm].dropna().to_numpy()
            if self.comparison is not None:
                found = self.comparison.iqm[arm]
                middle, *ends = (sign * number for number in found)
            elif len(values) > 1:
                middle, *ends = stats.bootstrap(values, stats.iqm, seed=0)
            else:
                middle, ends = (values[0] if len(values) else math.nan), [math.nan, math.nan]
            missing = len(self.scores) - len(values)
            lines[arm] = {"iqm": middle, "low": min(ends), "high": max(ends), "runs": len(values), "missing": missing}
        return pd.DataFrame.from_dict(lines, orient="index").rename_axis("arm")

    @property
    def verdicts(self) -> list[str]:
        """One sentence for each pair."""
        return [] if self.comparison is None else [str(one) for one in self.comparison.verdicts.values()]

    def notes(self) -> list[str]:
        """What a reader must know besides: what is missing, who did not spend the budget, what it was run on."""
        study, notes = self.study, []
        for (arm, seed), reason in study.missing.items():
            notes.append(f"missing: {arm}, seed {seed}: {reason.strip().splitlines()[-1]}")
        for arm in study.arms:
            gone = [seed for seed in study.seeds if (arm, seed) in study.runs and math.isnan(self.scores.loc[seed, arm])]
            if gone:
                notes.append(f"missing: {arm}, seed {', '.join(map(str, gone))}: ended in no finite number")
        short = _short_of_budget(study)
        if short:
            notes.append(f"ended before the budget of {study.budget}: {', '.join(short)}")
        return [*notes, *(f"run on {line}" for line in study.ran_on().splitlines())]

    def _title(self) -> str:
        seeds = f"{len(self.study.seeds)} seed{'s' * (len(self.study.seeds) != 1)}"
        at = "at the end" if self.at == "last" else "mean over the run"
        return f"{self.study.name}: {self.metric} {at} ({self.study.better} is better), {self.study.budget}, {seeds}"

    def _chances(self) -> list[str]:
        if self.comparison is None:
            return []
        return [
            f"a run of {a} beats one of {b} with probability {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"
            for (a, b), found in self.comparison.improvement.items()
        ]

    def __str__(self) -> str:
        table = self.table.to_string(float_format=lambda value: f"{value:.4g}")
        return "\n".join([self._title(), "", table, "", *self.verdicts, *self._chances(), *self.notes()])

    def _repr_html_(self) -> str:
        def listed(lines: Sequence[str], mark: str) -> str:
            return "".join(f"<li>{mark}{html.escape(line)}{mark.replace('<', '</')}</li>" for line in lines)

        table = self.table.to_html(float_format=lambda value: f"{value:.4g}", border=0)
        lines = listed(self.verdicts, "<b>") + listed([*self._chances(), *self.notes()], "")
        return f"<p>{html.escape(self._title())}</p>{table}<ul>{lines}</ul>"


def _short_of_budget(study: Study) -> list[str]:
    """Arms whose runs ended of themselves before the budget was spent."""
    unit = study.budget.unit
    found: dict[str, float] = {}
    for (arm, _), run in study.runs.items():
        spent = run.seconds[-1] if unit == "seconds" else run.rows[-1].get("step" if unit == "updates" else unit, math.nan)
        if spent < study.budget.amount:
            found[arm] = min(spent, found.get(arm, math.inf))
    return [f"{arm} (at {spent:g})" for arm, spent in found.items()]


def _described(made: dict[str, str]) -> str:
    known = ("processor", "cores", "system", "source")
    versions = ", ".join(f"{name} {version}" for name, version in made.items() if name not in known)
    return f"one core of {made.get('processor', '?')} ({made.get('cores', '?')} cores), {made.get('system', '?')}, {versions}"
