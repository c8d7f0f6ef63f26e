"""Causal diagrams: drawn, and as a thing to change by dragging while somebody says what follows.

Plain names and pairs in: what is seen as circles in order of time, hidden variables and hidden causes dashed.
"""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from workbench.plots import figure
from workbench.plots.play import _HIDE, _NOTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pairs = Sequence[tuple[str, str]]
_ACTION, _OUTCOME, _OPEN, _LOOKS = figure.COLORS[0], figure.COLORS[2], figure.COLORS[3], figure.COLORS[1]
_RADIUS = 0.2  # of a node, in units of the plane


def _place(
    directed: Pairs, bidirected: Pairs, order: Sequence[str], hidden: Collection[str], at: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Where each variable stands: as told, else in order of time on a line, hidden ones above what they cause."""
    if len(set(order)) < len(order):
        raise ValueError(f"the order names a variable twice: {', '.join(order)}")
    place = {name: at.get(name, (float(i), 0.0)) for i, name in enumerate(order)}
    for name in sorted(set(hidden) - set(order)):
        caused = [place[b][0] for a, b in directed if a == name and b in place] or [0.0]
        place[name] = at.get(name, (sum(caused) / len(caused), 1.1))
    for edge in (*directed, *bidirected):
        for end in edge:
            if end not in place:
                raise ValueError(f"unknown name {end!r} in an arrow; the order has {', '.join(order)}")
    return place


def causal_diagram(
    directed: Pairs,
    bidirected: Pairs = (),
    *,
    order: Sequence[str],
    hidden: Collection[str] = (),
    actions: Collection[str] = (),
    outcome: str | None = None,
    looks_at: Collection[str] = (),
    path: Collection[tuple[str, str]] = (),
    at: Mapping[str, tuple[float, float]] | None = None,
    title: str | None = None,
    ax: Any = None,
) -> Figure:
    """A causal diagram: arrows, dashed two-headed arrows for hidden causes, dashed circles for hidden variables.

    Args:
        order: the variables as they happen, from left to right. hidden: those that the learner does not see.
        actions, outcome: drawn as a square, and as a circle with a double line. looks_at: what a policy may look at, filled.
        path: pairs of neighbours whose connection is drawn bold, such as an open path.
        at: (x, y) of some variables, in widths of a place; the rest stand on a line. ax: draw there.

    Returns the figure; show it with `show(fig, describe_diagram(...))`. Raises ValueError for an arrow to an unknown name.
    """
    from matplotlib import pyplot
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    place = _place(directed, bidirected, order, hidden, at or {})
    xs, ys = zip(*place.values())
    bold = {frozenset(pair) for pair in path}
    with figure.styled():
        fig = ax.figure if ax is not None else None
        if ax is None:
            fig, ax = pyplot.subplots(figsize=(1.25 * (max(xs) - min(xs)) + 1.6, 1.25 * (max(ys) - min(ys)) + 2.4))
        reach_x, reach_y = [], []
        for pairs, style in ((directed, "-|>"), (bidirected, "<|-|>")):
            for a, b in pairs:
                (x0, y0), (x1, y1) = place[a], place[b]
                bend = _bend(place, a, b, two_headed=pairs is bidirected)
                control = (x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0)
                strong = frozenset((a, b)) in bold
                line = [_towards(place[a], control), control, _towards(place[b], control)]
                arrow = FancyArrowPatch(
                    path=Path(line, [Path.MOVETO, Path.CURVE3, Path.CURVE3]),
                    arrowstyle=style,
                    mutation_scale=15,
                    linewidth=3 if strong else 1.5,
                    linestyle=(0, (4, 2.5)) if pairs is bidirected else "-",
                    color=_OPEN if strong else "#777777" if pairs is bidirected else "#222222",
                    zorder=2 if strong else 1,
                )
                ax.add_patch(arrow)
                reach_x.append((x0 + x1) / 2 + bend * (y1 - y0) / 2)
                reach_y.append((y0 + y1) / 2 - bend * (x1 - x0) / 2)
        for name, (x, y) in place.items():
            _node(ax, name, x, y, name in hidden, name in actions, name == outcome, name in looks_at)
        ax.set_aspect("equal")
        ax.axis("off")
        wide, high = [*xs, *reach_x], [*ys, *reach_y]
        ax.set(xlim=(min(wide) - 0.4, max(wide) + 0.4), ylim=(min(high) - 0.4, max(high) + 0.4))
        if title:
            ax.set_title(title, fontsize=11)
    return fig


def _towards(end: tuple[float, float], control: tuple[float, float]) -> tuple[float, float]:
    """Where an arrow that leaves a variable for `control` starts: just outside of its circle."""
    dx, dy = control[0] - end[0], control[1] - end[1]
    part = 1.3 * _RADIUS / max((dx * dx + dy * dy) ** 0.5, 1e-9)
    return end[0] + part * dx, end[1] + part * dy


def _bend(place: Mapping[str, tuple[float, float]], a: str, b: str, *, two_headed: bool) -> float:
    """How far an arrow bends: two-headed ones hang below, one-headed ones pass above what stands between."""
    (x0, y0), (x1, y1) = place[a], place[b]
    if two_headed:
        return 0.45 if x1 > x0 else -0.45
    between = any(
        min(x0, x1) < x < max(x0, x1) and abs(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y) < 0.35
        for name, (x, y) in place.items()
        if name not in (a, b) and x0 != x1
    )
    return (-0.4 if x1 > x0 else 0.4) if between else 0.0


def _node(ax: Any, name: str, x: float, y: float, unseen: bool, action: bool, outcome: bool, looked_at: bool) -> None:
    from matplotlib.patches import Circle, Rectangle

    edge = _ACTION if action else _OUTCOME if outcome else "#222222"
    style = {
        "facecolor": "#fdeccf" if looked_at else "white",
        "edgecolor": _LOOKS if looked_at else edge,
        "linewidth": 2.2 if action or outcome or looked_at else 1.4,
        "linestyle": (0, (3, 2)) if unseen else "-",
        "zorder": 3,
    }
    r = _RADIUS
    ax.add_patch(Rectangle((x - r, y - r), 2 * r, 2 * r, **style) if action else Circle((x, y), r * 1.08, **style))
    if outcome:
        ax.add_patch(Circle((x, y), r * 0.85, fill=False, edgecolor=edge, linewidth=1.2, zorder=4))
    ax.text(x, y, name, ha="center", va="center", fontsize=11 if len(name) < 3 else 9, zorder=5)


def describe_diagram(
    directed: Pairs, bidirected: Pairs = (), *, hidden: Collection[str] = (), path: str | None = None
) -> str:
    """Alt text for `causal_diagram`: every arrow, every hidden cause, what is hidden, and an open path if one is drawn."""
    parts = ["A causal diagram with " + (", ".join(f"{a} to {b}" for a, b in directed) or "no arrows")]
    if bidirected:
        parts.append("hidden causes of " + ", ".join(f"{a} and {b}" for a, b in bidirected))
    if hidden:
        parts.append(f"{' and '.join(sorted(hidden))} not seen")
    if path:
        parts.append(f"the open path {path} in bold")
    return "; ".join(parts) + "."


# A diagram to change


@dataclass(frozen=True)
class DiagramAnswer:
    """What follows from a diagram, for the line under it: good (green tick) or not, in words, and an open path to draw."""

    good: bool
    text: str
    details: str = ""
    path: Sequence[tuple[str, str]] = ()
    looks_at: Collection[str] = field(default_factory=tuple)


@cache
def _widget_class() -> type:
    import anywidget
    import traitlets

    class Editor(anywidget.AnyWidget):
        _esm = pathlib.Path(__file__).with_name("diagram.js")
        _css = pathlib.Path(__file__).with_name("diagram.css")
        nodes: Any = traitlets.List().tag(sync=True)
        directed: Any = traitlets.List().tag(sync=True)
        bidirected: Any = traitlets.List().tag(sync=True)
        answer: Any = traitlets.Dict().tag(sync=True)

    return Editor


class DiagramEditor:
    """A diagram in which arrows and hidden causes are dragged in and out, and what follows is said at once.

    `answer(directed, bidirected)` is called with lists of pairs after each change; a ValueError from it (a circle, an arrow
    back in time) is shown and the change taken back. By keyboard: Tab to a variable, Enter, Tab to another, Enter; Tab to an
    arrow, Delete. Where nothing can be dragged (an exported page, no kernel) there is a still figure with the first answer.
    """

    def __init__(
        self,
        directed: Pairs,
        bidirected: Pairs = (),
        *,
        order: Sequence[str],
        answer: Callable[[list[tuple[str, str]], list[tuple[str, str]]], DiagramAnswer],
        hidden: Collection[str] = (),
        actions: Collection[str] = (),
        outcome: str | None = None,
        at: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self._respond = answer
        self.order, self.hidden, self.actions, self.outcome = tuple(order), frozenset(hidden), frozenset(actions), outcome
        self.at = _place(directed, bidirected, order, hidden, at or {})
        self.directed, self.bidirected = [(a, b) for a, b in directed], [(a, b) for a, b in bidirected]
        self.answer = answer(list(self.directed), list(self.bidirected))  # a diagram that is refused is an error here
        self._widget: Any = None
        self._settling = False

    def change(self, directed: Pairs, bidirected: Pairs) -> DiagramAnswer:
        """Ask about another diagram and keep it, unless it is refused; returns the answer (a refusal says why)."""
        directed, bidirected = [(a, b) for a, b in directed], [(a, b) for a, b in bidirected]
        try:
            self.answer = self._respond(list(directed), list(bidirected))
        except ValueError as error:
            return DiagramAnswer(False, f"That cannot be: {error}", "The diagram is as it was.", self.answer.path)
        self.directed, self.bidirected = directed, bidirected
        return self.answer

    def _heard(self, change: Any) -> None:
        if self._settling:
            return
        widget = self._widget
        answer = self.change(widget.directed, widget.bidirected)
        self._settling = True
        try:
            with widget.hold_sync():
                widget.directed = [list(p) for p in self.directed]
                widget.bidirected = [list(p) for p in self.bidirected]
                widget.answer = _plain(answer)
        finally:
            self._settling = False
            # taking a change back sets what Python already had, which sends nothing: the browser is told
            widget.send_state(["directed", "bidirected"])

    def figure(self) -> Figure:
        """The diagram as it is, with the open path of its answer."""
        return causal_diagram(
            self.directed,
            self.bidirected,
            order=self.order,
            hidden=self.hidden,
            actions=self.actions,
            outcome=self.outcome,
            looks_at=self.answer.looks_at,
            path=self.answer.path,
            at=self.at,
        )

    def show(self) -> None:
        """Show the editor here, and the still figure where it cannot be."""
        describe = describe_diagram(self.directed, self.bidirected, hidden=self.hidden)
        words = f"{self.answer.text} {self.answer.details}".strip()
        if not figure.in_kernel() or importlib.util.find_spec("anywidget") is None:
            figure.show(self.figure(), f"{describe} {words}")
            return
        from IPython.display import display

        nodes = [
            {
                "name": name,
                "x": x,
                "y": y,
                "hidden": name in self.hidden,
                "action": name in self.actions,
                "outcome": name == self.outcome,
            }
            for name, (x, y) in self.at.items()
        ]
        self._widget = _widget_class()(
            nodes=nodes,
            directed=[list(p) for p in self.directed],
            bidirected=[list(p) for p in self.bidirected],
            answer=_plain(self.answer),
        )
        self._widget.observe(self._heard, names=["directed", "bidirected"])
        display(self._widget)
        still = figure.html_of(self.figure(), f"{describe} {words}", words)
        figure.emit(f'{_HIDE}<div class="workbench-still">{still}{_NOTE}arrows and hidden causes to drag.</p></div>')

    def _ipython_display_(self) -> None:
        self.show()


def _plain(answer: DiagramAnswer) -> dict[str, Any]:
    return {
        "good": answer.good,
        "text": answer.text,
        "details": answer.details,
        "path": [list(pair) for pair in answer.path],
        "looks_at": sorted(answer.looks_at),
    }
