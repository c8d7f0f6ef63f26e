"""One way to show a figure, and one style.

JupyterLab and nbconvert drop the alt text of an image output; an `<img alt>` inside HTML survives in both, so figures
are shown as HTML.
"""

from __future__ import annotations

import base64
import html
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# seaborn's "colorblind" palette without its palest tones, ordered so that neighbours differ in lightness too
COLORS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#555555", "#ca9161", "#56b4e9")
DASHES = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1)),
    (0, (8, 2, 2, 2, 2, 2)),
    "-",
    "--",
)
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "*")

_RC = {
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.figsize": (7.0, 3.6),
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "font.family": "sans-serif",
    "font.size": 11,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 2.6,
    "lines.linewidth": 2.0,
    "lines.markersize": 5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}


def _settings() -> dict:
    from matplotlib import cycler

    return {**_RC, "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=DASHES)}


def style() -> None:
    """Set matplotlib's defaults for this kernel: colour-blind safe colours with a line style each, readable sizes."""
    import matplotlib as mpl

    mpl.rcParams.update(_settings())


@contextmanager
def styled() -> Iterator[None]:
    """The same style for a block, so that drawing a figure of ours changes nobody's defaults."""
    import matplotlib as mpl

    with mpl.rc_context(_settings()):
        yield


def html_of(fig: Figure, alt: str, caption: str | None = None, *, dpi: int = 160) -> str:
    """`fig` as one `<figure>` with its alt text; closes the figure. Raises ValueError for an empty `alt`."""
    from matplotlib import pyplot

    if not isinstance(alt, str) or len(alt.split()) < 3:
        raise ValueError(
            f"alt must say in a sentence what the figure shows, for those who cannot see it; got {alt!r}"
        )
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi)
    width = round(fig.get_figwidth() * 96)
    pyplot.close(fig)
    data = base64.b64encode(buffer.getvalue()).decode()
    below = (
        f'<figcaption style="font-size:.9em;opacity:.8">{html.escape(caption)}</figcaption>'
        if caption
        else ""
    )
    return (
        f'<figure class="workbench-figure" style="margin:.5em 0"><img src="data:image/png;base64,{data}" width="{width}" '
        f'style="max-width:100%;height:auto;border-radius:4px" alt="{html.escape(alt, quote=True)}">{below}</figure>'
    )


def in_kernel() -> bool:
    """Whether there is a notebook (or any IPython kernel) to display in."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def show(fig: Figure, alt: str, caption: str | None = None) -> None:
    """Show `fig` under the cell with alt text that survives in JupyterLab and in exported HTML, and close it.

    `alt` says in a sentence what there is to see (not "a plot"). Outside a notebook the sentence is printed.
    """
    page = html_of(fig, alt, caption)
    if not in_kernel():
        print(f"[figure] {alt}")
        return
    emit(page)


_CAUGHT: ContextVar[list[str] | None] = ContextVar("caught", default=None)


def emit(page: str) -> None:
    """Display HTML under the cell, or hand it to whoever is catching (see `caught`)."""
    if (pages := _CAUGHT.get()) is not None:
        pages.append(page)
        return
    from IPython.display import HTML, display

    display(HTML(page))


@contextmanager
def caught() -> Iterator[list[str]]:
    """Collect what `show` and `tokens` would display."""
    pages: list[str] = []
    token = _CAUGHT.set(pages)
    try:
        yield pages
    finally:
        _CAUGHT.reset(token)
