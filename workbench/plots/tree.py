"""The family tree of methods: who changed what in whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from workbench.plots import figure

if TYPE_CHECKING:
    import networkx
    from matplotlib.figure import Figure

Edge = tuple[str, "str | None", Sequence[str]]  # child, parent (None for a root), the slots it replaced


def _graph(edges: Iterable[Edge]) -> networkx.DiGraph:
    import networkx

    graph = networkx.DiGraph()
    for child, parent, changed in edges:
        if child in graph and "changed" in graph.nodes[child]:
            raise ValueError(f"{child!r} is named twice as a child; a method has one parent")
        graph.add_node(child, changed=tuple(changed))
        if parent is not None:
            graph.add_edge(parent, child)
    for node in graph:
        graph.nodes[node].setdefault("changed", ())
    if not graph:
        raise ValueError("there is no edge to draw")
    if not networkx.is_directed_acyclic_graph(graph):
        raise ValueError(f"the tree has a cycle: {networkx.find_cycle(graph)}")
    return graph


def _layout(graph: networkx.DiGraph) -> dict[str, tuple[int, float]]:
    """(generation, row) of each node: leaves take the next free row, a parent sits at its first child's height.

    Children with the largest families come last, so that short branches do not cross long ones.
    """
    import networkx

    place: dict[str, tuple[int, float]] = {}
    row = 0

    def visit(node: str, depth: int) -> float:
        nonlocal row
        children = sorted(graph.successors(node), key=lambda c: (len(networkx.descendants(graph, c)), c))
        if not children:
            height, row = float(row), row + 1
        else:
            heights = [visit(child, depth + 1) for child in children]
            height = (heights[0] + heights[-1]) / 2
        place[node] = (depth, height)
        return height

    for root in sorted(node for node in graph if graph.in_degree(node) == 0):
        visit(root, 0)
    return place


def family_tree(edges: Iterable[Edge], *, title: str | None = None) -> Figure:
    """The tree of `edges` (child, parent or None, changed slots), oldest on the left; under each name what it changed.

    Returns the figure; show it with `show(fig, describe_tree(edges))`. Raises ValueError for a cycle or two parents.
    """
    from matplotlib import pyplot
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    graph = _graph(edges)
    place = _layout(graph)
    slots = list(dict.fromkeys(slot for node in graph for slot in graph.nodes[node]["changed"]))
    color = {slot: figure.COLORS[i % len(figure.COLORS)] for i, slot in enumerate(slots)}
    marker = {slot: "sD^"[i // len(figure.COLORS) % 3] for i, slot in enumerate(slots)}

    def inches(text: str, size: float, weight: str = "normal") -> float:
        return TextPath((0, 0), text, size=size, prop=FontProperties(weight=weight)).get_extents().width / 72

    name_size, slot_size, gap = 11, 8.5, 0.5
    generations = 1 + max(depth for depth, _ in place.values())
    wide = [0.0] * generations  # the widest node of each generation, in inches
    for node, (depth, _) in place.items():
        under = sum(inches(slot, slot_size) + 0.21 for slot in graph.nodes[node]["changed"])
        wide[depth] = max(wide[depth], 0.2 + inches(node, name_size, "bold"), under + 0.1)
    left = [sum(wide[:d]) + gap * d for d in range(generations)]
    rows = 1 + max(row for _, row in place.values())
    width, height = left[-1] + wide[-1] + 0.3, 0.46 * rows + (0.5 if title else 0.15)
    with figure.styled():
        fig, ax = pyplot.subplots(figsize=(width, height), layout="none")
    ax.set_position((0, 0, 1, 1))
    top = -0.6 if title else -0.25
    ax.set(xlim=(-0.15, width - 0.15), ylim=(top + height, top))
    ax.axis("off")
    for parent, child in graph.edges:
        (d0, r0), (d1, r1) = place[parent], place[child]
        x0 = left[d0] + 0.22 + inches(parent, name_size, "bold")
        x1, y0, y1 = left[d1] - 0.04, 0.46 * r0, 0.46 * r1
        middle = left[d1] - gap * 0.55
        ax.plot(
            [x0, middle - 0.001, middle, x1],
            [y0, y0, y1, y1],
            color="#b5b5b5",
            linewidth=1.3,
            linestyle="-",
            zorder=1,
        )
    for node, (depth, r) in place.items():
        x, y = left[depth], 0.46 * r
        ax.plot([x + 0.04], [y], marker="o", color="#333333", markersize=5, zorder=3)
        ax.text(x + 0.15, y, node, size=name_size, weight="bold", va="center", color="#111111", zorder=3)
        at = x + 0.15
        for slot in graph.nodes[node]["changed"]:
            ax.plot([at + 0.04], [y + 0.19], marker=marker[slot], color=color[slot], markersize=5, zorder=3)
            ax.text(at + 0.12, y + 0.19, slot, size=slot_size, va="center", color="#444444", zorder=3)
            at += inches(slot, slot_size) + 0.23
    if title:
        ax.text(0, -0.36, title, size=12.5, weight="bold", va="center", color="#111111")
    return fig


def describe_tree(edges: Iterable[Edge]) -> str:
    """Alt text for `family_tree`: every method with its parent and what it changed."""
    edges = list(edges)
    graph = _graph(edges)
    roots = [node for node in graph if graph.in_degree(node) == 0]
    parts = [
        f"{child} from {parent} by {', '.join(changed) or 'nothing'}"
        for child, parent, changed in edges
        if parent is not None
    ]
    return (
        f"A family tree of {len(graph)} methods, starting from {', '.join(roots)}: " + "; ".join(parts) + "."
    )
