"""Figures that say what they show: alt text, live panels, learning curves, family trees, rollouts. Plain numbers in."""

from workbench.plots.curves import describe_curves, learning_curves
from workbench.plots.diagnostics import describe_diagnostics, diagnostics
from workbench.plots.diagram import DiagramAnswer, DiagramEditor, causal_diagram, describe_diagram
from workbench.plots.figure import COLORS, DASHES, MARKERS, show, style
from workbench.plots.live import LivePanel
from workbench.plots.play import play
from workbench.plots.rollouts import RolloutViewer, tokens
from workbench.plots.tree import describe_tree, family_tree

__all__ = [
    "COLORS",
    "DASHES",
    "MARKERS",
    "DiagramAnswer",
    "DiagramEditor",
    "LivePanel",
    "RolloutViewer",
    "causal_diagram",
    "describe_curves",
    "describe_diagnostics",
    "describe_diagram",
    "describe_tree",
    "diagnostics",
    "family_tree",
    "learning_curves",
    "play",
    "show",
    "style",
    "tokens",
]
