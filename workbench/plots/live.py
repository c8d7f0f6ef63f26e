"""A live panel: small line charts that grow while a cell runs, and a Stop button that works meanwhile.

An update sends a few numbers to the browser, which draws them as SVG (see live.js); the kernel never draws while it
trains. While a cell runs, the click on Stop reaches Python on a kernel subshell (ipykernel 7 with JupyterLab 4.4 or
newer); elsewhere the toolbar's interrupt does the same. When the cell ends the panel is replaced by a static figure
with alt text, which saved and exported notebooks keep.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.plots import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = (
    "#0173b2",
    "#029e73",
    "#d55e00",
    "#cc78bc",
    "#808080",
)  # 3:1 against white and against JupyterLab's dark
_LIMITS = {"success": (0.0, 1.0)}
_PAUSE = 0.05  # seconds between messages: a browser draws no faster, and a fast loop should not pay for more


@cache
def _widget_class() -> type:
    import anywidget
    import traitlets

    class Panel(anywidget.AnyWidget):
        _esm = Path(__file__).with_name("live.js")
        _css = Path(__file__).with_name("live.css")
        metrics: Any = traitlets.List().tag(sync=True)
        title: Any = traitlets.Unicode().tag(sync=True)
        smooth: Any = traitlets.Int().tag(sync=True)
        rows: Any = traitlets.List().tag(
            sync=True
        )  # grown in place: a message carries new rows, a late browser gets all

    return Panel


def _can_draw() -> bool:
    return figure.in_kernel() and importlib.util.find_spec("anywidget") is not None


class LivePanel:
    """Small charts side by side, one a metric, that grow with `update` and stop a run by a button.

    `metrics` names entries of the records (a mapping or an object with attributes), or maps them to labels. `limits`
    fixes a metric's vertical range (success: 0 to 1). The bold line is the mean of the last `smooth` values, the pale
    one the values. Without a kernel (or anywidget), `update` prints a line every `every` records. The horizontal axis
    is the record's `step`, or a count. `history` holds what was drawn; `stopped` is True once somebody pressed Stop.

        for record in live.watch(train(policy, task, "grpo", steps=200, seed=0)):
            pass
    """

    def __init__(
        self,
        metrics: Sequence[str] | Mapping[str, str] = ("success", "reward"),
        *,
        limits: Mapping[str, tuple[float, float]] | None = None,
        smooth: int = 5,
        every: int = 10,
        title: str = "",
    ) -> None:
        if isinstance(metrics, str) or not metrics:
            raise ValueError(f"metrics must be names such as ('success', 'reward'), not {metrics!r}")
        if smooth < 1 or every < 1:
            raise ValueError(f"smooth and every must be at least 1, not {smooth} and {every}")
        if not isinstance(metrics, Mapping):
            metrics = {name: name.replace("_", " ") for name in metrics}
        self.labels = dict(metrics)
        self.limits = {**_LIMITS, **(limits or {})}
        if unknown := set(limits or {}) - set(self.labels):
            raise ValueError(
                f"limits for {sorted(unknown)}, which are not among the metrics {list(self.labels)}"
            )
        self.smooth, self.every, self.title = smooth, every, title
        self.history: list[dict[str, Any]] = []
        self.stopped = False
        self._widget: Any = None
        self._handle: Any = None
        self._sent = 0
        self._last = 0.0
        self._hooked = False

    def update(self, record: Any) -> None:
        """Add one record. Raises ValueError if it has none of the metrics."""
        get = record.get if isinstance(record, Mapping) else lambda name: getattr(record, name, None)
        values = {name: _number(get(name)) for name in self.labels}
        if all(value is None for value in values.values()) and all(get(name) is None for name in self.labels):
            raise ValueError(f"the record has none of {list(self.labels)}: {str(record)[:200]}")
        step = _number(get("step"))
        if step is not None and self.history and step < self.history[-1]["step"]:
            self._restart()  # a new run in the same panel
        self.history.append({"step": len(self.history) + 1 if step is None else step, **values})
        if not _can_draw():
            if len(self.history) % self.every == 0:
                print(self._line())
            return
        if self._handle is None:
            self.show()
        if not self._hooked:
            self._hook(True)
        now = time.monotonic()
        if now - self._last >= _PAUSE:
            self._last = now
            self._flush()

    def watch(self, records: Iterable[Any]) -> Iterator[Any]:
        """Yield `records`, each drawn first, until they end or somebody stops; closes the generator in every case.

        An interrupt while the next record is being made counts as Stop. What was yielded is yours.
        """
        self.stopped = False
        try:
            for record in records:
                self.update(record)
                yield record
                if self.stopped:
                    break
        except KeyboardInterrupt:
            self.stopped = True
        finally:
            close = getattr(records, "close", None)
            if close is not None:
                close()
            self.finish()

    def show(self) -> None:
        """Show the panel here; the first update does it by itself. Does nothing where it cannot be drawn."""
        if not _can_draw():
            return
        from IPython.display import display

        metrics = [
            {
                "name": name,
                "label": label,
                "color": _COLORS[i % len(_COLORS)],
                "limits": self.limits.get(name),
            }
            for i, (name, label) in enumerate(self.labels.items())
        ]
        self._widget = _widget_class()(metrics=metrics, title=self.title, smooth=self.smooth)
        self._widget.on_msg(self._hear)
        # ipykernel 7.4 hands a comm's messages to the loop that last wrote on it, here the one that is busy training;
        # without this hook they go to the subshell that the browser asked for, where a click is heard at once.
        self._widget.comm._reply_subshell_for = None
        self._sent = 0
        self._handle = display(self._widget, display_id=True)

    def finish(self) -> None:
        """Put the static figure in the panel's place. Happens by itself when a cell with updates ends."""
        self._hook(False)
        if self._handle is None or not self.history:
            if self.history and not _can_draw() and len(self.history) % self.every:
                print(self._line())
            return
        from IPython.display import HTML

        self._flush()
        self._handle.update(HTML(figure.html_of(self.figure(), self.describe())))
        self._widget.close()
        self._handle = self._widget = None

    def figure(self) -> Figure:
        """The history as a matplotlib figure; show it with `show(live.figure(), live.describe())`."""
        from matplotlib import pyplot

        across = min(4, len(self.labels))
        down = math.ceil(len(self.labels) / across)
        with figure.styled():
            fig, axes = pyplot.subplots(
                down, across, figsize=(min(9.5, 3.3 * across), 2.3 * down), squeeze=False
            )
            for ax in axes.flat[len(self.labels) :]:
                ax.axis("off")
            for i, (name, label) in enumerate(self.labels.items()):
                ax, color = axes.flat[i], _COLORS[i % len(_COLORS)]
                points = [(row["step"], row[name]) for row in self.history if row[name] is not None]
                ax.set_title(label, fontsize=11, fontweight="bold")
                ax.set_xlabel("step", fontsize=10)
                if points:
                    x, y = zip(*points, strict=True)
                    smooth = _smooth(y, self.smooth)
                    if self.smooth > 1:
                        ax.plot(x, y, color=color, linewidth=0.9, alpha=0.35, linestyle="-")
                    ax.plot(x, smooth, color=color, linestyle="-", marker="o", markevery=[len(x) - 1])
                    ax.set_title(f"{smooth[-1]:.3g}", loc="right", fontsize=11, color=color)
                if name in self.limits:
                    low, high = self.limits[name]
                    ax.set_ylim(low - 0.02 * (high - low), high + 0.02 * (high - low))
        return fig

    def describe(self) -> str:
        """The panel in a sentence: where each metric began and where it is."""
        parts = []
        for name, label in self.labels.items():
            values = [row[name] for row in self.history if row[name] is not None]
            if values:
                smooth = _smooth(values, self.smooth)
                parts.append(f"{label} from {values[0]:.3g} to {smooth[-1]:.3g}")
        last = f"{self.history[-1]['step']:g}" if self.history else "0"
        average = f" (mean of the last {self.smooth})" if self.smooth > 1 else ""
        return f"Training up to step {last}: " + ", ".join(parts) + average + "."

    def _ipython_display_(self) -> None:
        self.show()

    def _line(self) -> str:
        row = self.history[-1]
        parts = [f"{label} {row[name]:.3f}" for name, label in self.labels.items() if row[name] is not None]
        return f"step {row['step']:g}: " + ", ".join(parts)

    def _restart(self) -> None:
        self.history.clear()
        self._sent = 0
        if self._widget is not None:
            self._widget.rows = []

    def _flush(self) -> None:
        """Send the rows the browser has not seen. `rows` is grown in place, which sends nothing by itself."""
        if self._widget is None or self._sent == len(self.history):
            return
        fresh = [[row["step"], *(row[name] for name in self.labels)] for row in self.history[self._sent :]]
        self._widget.rows.extend(fresh)
        self._widget.send({"start": self._sent, "rows": fresh})
        self._sent = len(self.history)

    def _hear(self, widget: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, Mapping) and content.get("type") == "stop":
            self.stopped = True
            widget.send({"stopped": True})

    def _hook(self, on: bool) -> None:
        """Finish at the end of the cell that updates, however it ends."""
        if on == self._hooked:
            return
        from IPython import get_ipython

        events = get_ipython().events
        (events.register if on else events.unregister)("post_run_cell", self._cell_ended)
        self._hooked = on

    def _cell_ended(self, result: Any) -> None:
        self.finish()


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _smooth(values: Sequence[float], width: int) -> list[float]:
    """The mean of the last `width` values, of fewer at the start."""
    total, out = 0.0, []
    for i, value in enumerate(values):
        total += value - (values[i - width] if i >= width else 0.0)
        out.append(total / min(i + 1, width))
    return out
