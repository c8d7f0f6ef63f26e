"""A figure with sliders, and a still of it for exported pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.plots import figure

# A page exported by nbconvert has no kernel to redraw and, offline, no library to draw a slider: it shows the still.
_HIDE = "<style>.jp-LabShell .workbench-still{display:none}</style>"
_NOTE = '<p style="font-size:.9em;opacity:.8">In the notebook this figure has controls: '


def play(draw: Callable[..., None], **controls: Any) -> None:
    """Show `draw(**values)` under a control for each keyword, redrawn whenever one changes; `draw` ends in `show`.

    A control is an ipywidgets widget, or what `ipywidgets.interact` makes one of: (least, most), (least, most, step), a
    list of choices, a bool. Sliders redraw when let go of, or at each key press. The exported page shows the figure at
    the first values; without a kernel the figure is drawn once.
    """
    import ipywidgets

    widgets = [ipywidgets.interactive.widget_from_abbrev(control) for control in controls.values()]
    for name, widget in zip(controls, widgets, strict=True):
        if not isinstance(widget, ipywidgets.ValueWidget):
            raise ValueError(
                f"no control can be made of {name}={controls[name]!r}: give a widget, (least, most), a list or a bool"
            )
        widget.description = widget.description or name
    first = {name: widget.value for name, widget in zip(controls, widgets, strict=True)}
    if not figure.in_kernel():
        draw(**first)
        return
    for widget in widgets:
        widget.style.description_width = "initial"
        slides = hasattr(widget, "continuous_update")
        widget.layout.width = "420px" if slides else "auto"
        if slides:
            widget.continuous_update = False
    output = ipywidgets.interactive_output(draw, dict(zip(controls, widgets, strict=True)))
    row = ipywidgets.HBox(widgets, layout=ipywidgets.Layout(flex_flow="row wrap"))
    from IPython.display import display

    display(ipywidgets.VBox([row, output]))
    with figure.caught() as pages:
        draw(**first)
    names = ", ".join(widget.description for widget in widgets)
    figure.emit(f'{_HIDE}<div class="workbench-still">{"".join(pages)}{_NOTE}{names}.</p></div>')
