"""Causal diagrams, and what they say about imitation before any data are looked at.

A diagram has arrows, two-headed arrows (a hidden cause of both ends), perhaps hidden variables drawn in full, and the order
in time of what is seen. The question is which variables a learner may copy an expert's choice from, so that the outcome
comes out as it does for the expert in *every* model of the diagram.

One action: the pi-backdoor criterion (Zhang, Kumor and Bareinboim 2020). Several in turn: the sequential pi-backdoor
criterion and its algorithm FindOx (Kumor, Zhang and Bareinboim 2021). Both are complete: where they find nothing there is a
model that nobody can imitate in. d-separation is networkx's.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np

_SUBSETS = 16  # candidates whose subsets are gone through at most

Sets = dict[str, frozenset[str]]


@dataclass(frozen=True)
class Diagram:
    """A causal diagram.

    Attributes:
        directed, bidirected: arrows (cause, effect), and pairs that share a hidden cause.
        order: the variables as they happen, hidden ones may be left out. A policy may look at what comes before its action.
        hidden: variables that are drawn but that the learner does not see.

    Raises:
        ValueError: an arrow to or from an unknown name, an arrow back in time, a cycle: with the names.
    """

    directed: tuple[tuple[str, str], ...]
    bidirected: tuple[tuple[str, str], ...] = ()
    order: tuple[str, ...] = ()
    hidden: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "directed", tuple(dict.fromkeys((a, b) for a, b in self.directed)))
        put(self, "bidirected", tuple(dict.fromkeys((a, b) for a, b in self.bidirected)))
        put(self, "hidden", frozenset(self.hidden))
        for a, b in (*self.directed, *self.bidirected):
            if a == b:
                raise ValueError(f"an arrow from {a} to itself; a variable must not cause itself")
        try:
            loop = nx.find_cycle(nx.DiGraph(self.directed)) if self.directed else []
        except nx.NetworkXNoCycle:
            loop = []
        if loop:
            around = " -> ".join([loop[0][0], *(b for _, b in loop)])
            raise ValueError(f"the arrows go round in a circle: {around}; take one of them away")
        ends = list(dict.fromkeys(end for edge in (*self.directed, *self.bidirected) for end in edge))
        if not self.order:
            graph = nx.DiGraph(self.directed)
            graph.add_nodes_from(ends)
            put(self, "order", tuple(nx.lexicographical_topological_sort(graph, key=ends.index)))
        put(self, "order", tuple(self.order))
        if len(set(self.order)) < len(self.order):
            raise ValueError(f"the order names a variable twice: {', '.join(self.order)}")
        for end in ends:
            if end not in self.order and end not in self.hidden:
                raise ValueError(f"unknown name {end!r}: it has an arrow, but is neither in the order {self.order} nor hidden")
        for a, b in self.directed:
            if a in self.order and b in self.order and self.order.index(a) > self.order.index(b):
                raise ValueError(f"the arrow {a} -> {b} goes back in time; the order is {', '.join(self.order)}")

    @property
    def observed(self) -> tuple[str, ...]:
        """What is seen, in order."""
        return tuple(name for name in self.order if name not in self.hidden)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All variables: those of the order, then hidden ones that have no place in it."""
        return (*self.order, *sorted(self.hidden - set(self.order)))

    @cached_property
    def explicit(self) -> nx.DiGraph:
        """The diagram with a node (a, b) for the hidden cause of each pair, so that networkx can be asked about it."""
        graph = nx.DiGraph(self.directed)
        graph.add_nodes_from(self.names)
        for pair in self.bidirected:
            graph.add_edges_from([(pair, pair[0]), (pair, pair[1])])
        return graph

    def before(self, name: str) -> tuple[str, ...]:
        """What is seen before `name` happens. Raises ValueError for an unknown name."""
        self.know([name], "the question")
        return self.observed[: self.observed.index(name)] if name in self.observed else ()

    def know(self, names: Collection[str], what: str, *, seen: bool = False) -> None:
        """Raise ValueError, with the name, unless the diagram has all of `names` (and they are seen)."""
        if isinstance(names, str):
            raise ValueError(f"{what} must be names in a list or tuple, not the text {names!r}")
        for name in names:
            if name not in self.names:
                raise ValueError(f"unknown name {name!r} in {what}; the diagram has {', '.join(self.names)}")
            if seen and name not in self.observed:
                raise ValueError(f"{name} in {what} is not observed; observed are {', '.join(self.observed)}")

    def projected(self) -> Diagram:
        """The diagram over what is seen: hidden variables become arrows and two-headed arrows (Verma and Pearl 1990)."""
        kept = set(self.observed)
        directed: list[tuple[str, str]] = []
        bidirected: set[tuple[str, str]] = set()

        def reached(node: Any) -> set[str]:
            """What is seen at the ends of directed paths from `node` on which all between is hidden."""
            found: set[str] = set()
            todo = list(self.explicit.successors(node))
            while todo:
                child = todo.pop()
                if child in kept:
                    found.add(child)
                else:
                    todo.extend(self.explicit.successors(child))
            return found

        place = {name: i for i, name in enumerate(self.observed)}
        for node in self.explicit:
            ends = sorted(reached(node), key=place.__getitem__)
            if node in kept:
                directed += [(node, end) for end in ends]
            else:
                bidirected |= set(itertools.combinations(ends, 2))
        return Diagram(tuple(directed), tuple(sorted(bidirected)), self.observed)


def diagram(arrows: str, order: str = "", *, hidden: str = "") -> Diagram:
    """A diagram from text: `diagram("Z->X Z->Y X->Y X<->W", "Z W X Y")`; names and arrows are separated by spaces.

    Raises ValueError for an arrow that is not written a->b or a<->b, and as `Diagram` does.
    """
    directed: list[tuple[str, str]] = []
    bidirected: list[tuple[str, str]] = []
    for arrow in arrows.split():
        into = bidirected if "<->" in arrow else directed
        ends = arrow.split("<->" if "<->" in arrow else "->")
        if len(ends) != 2 or not all(end and not set(end) & set("<>-") for end in ends):
            raise ValueError(f"an arrow is written a->b or a<->b, without spaces, not {arrow!r}")
        into.append((ends[0], ends[1]))
    return Diagram(tuple(directed), tuple(bidirected), tuple(order.split()), frozenset(hidden.split()))


def of_model(model: Any, order: Sequence[str] = ()) -> Diagram:
    """The diagram of a structural causal model (`scm.Model`), with its hidden variables; `order` is that of time."""
    directed, bidirected = model.edges()
    return Diagram(tuple(directed), tuple(bidirected), tuple(order) or model.order, model.hidden)


# d-separation, and the path that is open


def d_separated(graph: Diagram, x: str, y: str, given: Collection[str] = ()) -> bool:
    """Whether `given` separates x from y (Pearl 2009, definition 1.2.3). Raises ValueError for unknown or repeated names."""
    graph.know([x, y], "the question")
    graph.know(given, "what is given")
    if x == y or {x, y} & set(given):
        raise ValueError(f"x, y and what is given must be different variables, not {x}, {y} and {sorted(given)}")
    return bool(nx.is_d_separator(graph.explicit, x, y, set(given)))


@dataclass(frozen=True)
class Path:
    """A path of a diagram: nodes, and for each step whether the arrow points forward ("->"), back ("<-") or both ("<->").

    `str(path)` writes it: "X <- L -> W <-> Y".
    """

    nodes: tuple[str, ...]
    arrows: tuple[str, ...]

    def __str__(self) -> str:
        return self.nodes[0] + "".join(f" {arrow} {node}" for arrow, node in zip(self.arrows, self.nodes[1:]))

    @property
    def colliders(self) -> tuple[str, ...]:
        """The nodes at which two arrowheads meet."""
        met = zip(self.nodes[1:-1], self.arrows, self.arrows[1:])
        return tuple(node for node, left, right in met if left.endswith(">") and right.startswith("<"))


def open_path(graph: Diagram, x: str, y: str, given: Collection[str] = ()) -> Path | None:
    """A shortest path between x and y that is open given `given`; None if there is none, that is, if they are separated.

    Raises ValueError as `d_separated`.
    """
    if d_separated(graph, x, y, given):
        return None
    return path_between(graph.explicit, x, y, set(given))


def path_between(
    graph: nx.DiGraph, x: str, y: str, given: set[str], avoid: Collection[str] = (), *, colliders: bool = True
) -> Path | None:
    """A shortest open path in a graph whose hidden causes are nodes, or None.

    Breadth first over (node, whether it was entered through an arrowhead). `avoid`: nodes it must not pass.
    """
    open_colliders = set(given).union(*(nx.ancestors(graph, node) for node in given)) if colliders else set()
    start = (x, False)
    came: dict[tuple[Any, bool], tuple[Any, bool] | None] = {start: None}
    queue = deque([start])
    while queue:
        node, head = state = queue.popleft()
        if node == y:
            return _as_path(came, state)
        passable = node == x or (node not in given and node not in avoid)
        steps = [(child, True) for child in graph.successors(node)] if passable else []
        if (not head and passable) or (head and node in open_colliders):
            steps += [(parent, False) for parent in graph.predecessors(node)]
        for step in steps:
            if step not in came and step[0] != x:
                came[step] = state
                queue.append(step)
    return None


def _as_path(came: Mapping, state: Any) -> Path:
    states = [state]
    while (state := came[state]) is not None:
        states.append(state)
    states.reverse()
    nodes = [states[0][0]]
    arrows: list[str] = []
    for node, head in states[1:]:
        if isinstance(nodes[-1], tuple):  # through the hidden cause of a pair
            nodes[-1], arrows[-1] = node, "<->"
        else:
            nodes.append(node)
            arrows.append("->" if head else "<-")
    return Path(tuple(nodes), tuple(arrows))


# Which variables may be looked at


@dataclass(frozen=True)
class Verdict:
    """Whether an expert can be imitated, and why.

    Attributes:
        sets: for each action what its policy looks at; None if not imitable (or, from `admissible`, if these sets fail).
        reason: in words. path: the open path that the reason is about, if any. action: the one that fails, if any.
    """

    sets: Sets | None
    reason: str
    path: Path | None = None
    action: str | None = None

    @property
    def imitable(self) -> bool:
        """Whether there are sets."""
        return self.sets is not None

    def __str__(self) -> str:
        return f"{'imitable' if self.imitable else 'not imitable'}: {self.reason}"


def _checked(graph: Diagram, actions: Collection[str], outcome: str) -> tuple[str, ...]:
    """The actions in order. Raises ValueError for what is unknown, not observed, or no action."""
    graph.know([outcome], "the outcome")
    graph.know(actions, "the actions", seen=True)
    if not actions:
        raise ValueError("there must be at least one action")
    if outcome in actions:
        raise ValueError(f"{outcome} is both an action and the outcome")
    return tuple(name for name in graph.order if name in set(actions))


def _with_outcome(graph: Diagram, outcome: str) -> Diagram:
    """The projection to what is seen and the outcome, which need not be."""
    order = graph.order if outcome in graph.order else (*graph.order, outcome)
    return Diagram(graph.directed, graph.bidirected, order, graph.hidden - {outcome}).projected()


def replaced(graph: nx.DiGraph, action: str, looks_at: Collection[str]) -> nx.DiGraph:
    """The graph after the action's mechanism has been replaced by a policy."""
    changed = graph.copy()
    changed.remove_edges_from(list(graph.in_edges(action)))
    changed.add_edges_from((name, action) for name in looks_at)
    return changed


def without_effects(graph: nx.DiGraph, action: str) -> nx.DiGraph:
    """The graph without the arrows out of the action."""
    changed = graph.copy()
    changed.remove_edges_from(list(graph.out_edges(action)))
    return changed


def admissible(graph: Diagram, sets: Mapping[str, Collection[str]], outcome: str) -> Verdict:
    """Whether copying each action from its set imitates in every model: the sequential pi-backdoor criterion, by definition.

    From the last action to the first: the action is cut off from its causes and takes those of its set instead, if it is no
    cause of the outcome any more, or if its set separates it from the outcome once its own effects are cut (Kumor et al.
    2021, definition 3.1). For one action this is the pi-backdoor criterion (Zhang et al. 2020, theorem 2).

    Raises ValueError for unknown names, an action that is not observed, and a set with what comes after its action.
    """
    actions = _checked(graph, sets, outcome)
    for action in actions:
        graph.know(sets[action], f"what {action} looks at", seen=True)
        for name in sets[action]:
            if name not in graph.before(action):
                raise ValueError(f"{name} does not happen before {action}, so no policy of {action} can look at it")
            if name == outcome:
                raise ValueError(f"{action} cannot look at the outcome {outcome}")
    now = graph.explicit
    for action in reversed(actions):
        looks_at = set(sets[action])
        if nx.has_path(now, action, outcome):
            path = path_between(without_effects(now, action), action, outcome, looks_at)
            if path is not None:
                why = f"{_given(looks_at)}, {path} is open: {_explained(graph, path, looks_at, action)}"
                return Verdict(None, why, path, action)
        now = replaced(now, action, looks_at)
    return Verdict({a: frozenset(sets[a]) for a in actions}, _praise({a: frozenset(sets[a]) for a in actions}))


def _given(names: Collection[str]) -> str:
    return f"given {' and '.join(sorted(names))}" if names else "looking at nothing"


def _praise(sets: Sets) -> str:
    copies = [f"{a} from {', '.join(sorted(found)) or 'nothing'}" for a, found in sets.items()]
    return f"copy {'; '.join(copies)}: no path is left open but through what the actions do"


def _explained(graph: Diagram, path: Path, given: Collection[str], action: str) -> str:
    """Why each node lets the path through."""
    why = []
    for node in path.nodes[1:-1]:
        if node in path.colliders:
            if node in given:
                why.append(f"{node} is a collider, and looking at it opens the path")
            else:
                down = nx.descendants(graph.explicit, node)
                seen = sorted(down & set(given)) or sorted(given)
                why.append(f"{node} is a collider, and looking at its effect {seen[0]} opens the path")
        elif node in graph.hidden:
            why.append(f"{node} is hidden")
        elif node not in graph.before(action):
            why.append(f"{node} cannot be looked at before {action}")
        else:
            why.append(f"{node} is not looked at")
    for a, b, arrow in zip(path.nodes, path.nodes[1:], path.arrows):
        if arrow == "<->":
            why.append(f"{a} and {b} share a hidden cause")
    return "; ".join(why) or "nothing stands between"


def _failure(graph: Diagram, now: nx.DiGraph, action: str, outcome: str, scope: Collection[str]) -> Verdict:
    """No subset of `scope` separates: the reason, by a path that passes nothing one could look at if there is one."""
    cut = without_effects(now, action)
    path = path_between(cut, action, outcome, set(), scope, colliders=False)
    if path is not None:
        why = f"nothing that {action} may look at closes {path}: {_explained(graph, path, (), action)}"
        return Verdict(None, why, path, action)
    above = nx.ancestors(cut, action) | nx.ancestors(cut, outcome)
    given = set(scope) & above
    path = path_between(cut, action, outcome, given)
    if path is None:
        raise RuntimeError(f"no open path between {action} and {outcome}, yet no separating set")
    why = (
        f"no choice among {', '.join(sorted(scope))} closes every path from {action} to {outcome}. "
        f"{_given(given).capitalize()}, {path} is open: {_explained(graph, path, given, action)}"
    )
    return Verdict(None, why, path, action)


def pi_backdoor(graph: Diagram, action: str, outcome: str, scope: Collection[str] | None = None) -> Verdict:
    """The pi-backdoor criterion for one action: complete for imitability (Zhang, Kumor and Bareinboim 2020, theorem 2).

    Args:
        scope: what a policy may look at; everything seen before the action if None.

    Returns a smallest-by-inclusion set, or the reason why there is none. An action without effect on the outcome can be
    copied from nothing.
    Raises ValueError for unknown names, an action that is not observed, and a scope with what comes after it.
    """
    (action,) = _checked(graph, [action], outcome)
    scope = _scope(graph, action, outcome, scope)
    whole = graph.explicit
    if not nx.has_path(whole, action, outcome):
        return Verdict({action: frozenset()}, f"{action} has no effect on {outcome}, so any policy imitates")
    found = nx.find_minimal_d_separator(without_effects(whole, action), action, outcome, restricted=set(scope))
    if found is None:
        return _failure(graph, whole, action, outcome, scope)
    return Verdict({action: frozenset(found)}, _praise({action: frozenset(found)}))


def _scope(graph: Diagram, action: str, outcome: str, scope: Collection[str] | None) -> tuple[str, ...]:
    seen = tuple(name for name in graph.before(action) if name != outcome)
    if scope is None:
        return seen
    graph.know(scope, f"the scope of {action}", seen=True)
    for name in scope:
        if name not in seen:
            raise ValueError(f"{name} does not happen before {action}, so no policy of {action} can look at it")
    return tuple(scope)


def find_ox(graph: Diagram, actions: Collection[str], outcome: str) -> dict[str, str]:
    """FindOx: which observed variables need not agree with the expert's world, each with the action that answers for it.

    Imitable if and only if every action that is a cause of the outcome is among the keys. (Kumor et al. 2021, algorithm 1;
    on the projection of the diagram to what is seen.) Raises ValueError for unknown names and unobserved actions.
    """
    return _Sweep(graph, _checked(graph, actions, outcome), outcome).covered


class _Sweep:
    """FindOx on the ancestors of the outcome: `covered`, the set O^X as a mapping to actions, and the sets that follow."""

    def __init__(self, graph: Diagram, actions: Sequence[str], outcome: str) -> None:
        flat = _with_outcome(graph, outcome)
        whole = nx.DiGraph(flat.directed)
        whole.add_nodes_from(flat.order)
        above = nx.ancestors(whole, outcome) | {outcome}
        self.actions, self.place = tuple(actions), {name: i for i, name in enumerate(flat.order)}
        self.graph = nx.DiGraph(whole.subgraph(above))
        self.pairs = nx.Graph()
        self.pairs.add_nodes_from(above)
        self.pairs.add_edges_from(pair for pair in flat.bidirected if above.issuperset(pair))
        self.component = {name: part for part in nx.connected_components(self.pairs) for name in part}
        self.covered: dict[str, str] = {}
        names = sorted(above - {outcome}, key=self.place.__getitem__, reverse=True)
        grown = True
        while grown:
            before = len(self.covered)
            for name in names:
                if name not in self.covered and (action := self._answers(name)) is not None:
                    self.covered[name] = action
            grown = len(self.covered) > before

    @property
    def missing(self) -> list[str]:
        """The actions that cause the outcome and are not covered."""
        return [name for name in self.actions if name in self.graph and name not in self.covered]

    def _answers(self, name: str) -> str | None:
        """The action that answers for `name`, if one can."""
        children = set(self.graph.successors(name))
        if children and children <= self.covered.keys():
            first = min((self.covered[child] for child in children), key=self.place.__getitem__)
            if self._closed(name, first):
                return first
        if name in self.actions and self._closed(name, name):
            return name
        return None

    def _closed(self, name: str, action: str) -> bool:
        """Whether what `action` can see of the c-component of `name` tells all that `name` and the rest of it share."""
        part = self.component[name]
        free = part - self.covered.keys() - {name}
        seen = {other for other in free if self.place[other] < self.place[action]}
        if free == seen:
            return True
        local = nx.DiGraph((parent, child) for child in part for parent in self.graph.predecessors(child))
        local.add_nodes_from(part)
        for pair in self.pairs.subgraph(part).edges:
            local.add_edges_from([(pair, pair[0]), (pair, pair[1])])
        if name == action:
            local.remove_edges_from(list(local.out_edges(name)))
        return bool(nx.is_d_separator(local, {name}, free - seen, seen))

    def sets(self) -> Sets:
        """For each action the boundary of what is covered, as far as it happens before (Kumor et al. 2021, theorem 3.3)."""
        bounding = {a for a in self.actions if a in self.graph and not set(self.graph.successors(a)) <= self.covered.keys()}
        cut = self.graph.copy()
        cut.remove_edges_from(list(self.graph.out_edges(bounding)))
        reached = set(self.covered).union(*(cut.successors(name) for name in self.covered))
        near = set().union(*(self.component[name] for name in reached))
        near |= {parent for name in near for parent in cut.predecessors(name)}
        boundary = (near - self.covered.keys()) | bounding
        return {
            action: frozenset(name for name in boundary if self.place[name] < self.place[action])
            if action in self.graph
            else frozenset()
            for action in self.actions
        }


def sequential_pi_backdoor(
    graph: Diagram, actions: Collection[str], outcome: str, *, minimal: bool = True
) -> Verdict:
    """Whether several actions in turn can be imitated, by FindOx, with sets that do it.

    `minimal`: make the sets smallest by inclusion (from the last action to the first: dropping a name from a later set never
    spoils an earlier one); else those of FindOx. Raises ValueError for unknown names and actions that are not observed.
    """
    ordered = _checked(graph, actions, outcome)
    sweep = _Sweep(graph, ordered, outcome)
    if not sweep.missing:
        sets = sweep.sets()
        if minimal:
            sets = _reduced(graph, sets, outcome)
        return Verdict(sets, _praise(sets))
    # the longest tail of the actions that can be imitated; the one before it is where it fails, whatever the tail looks at
    for first in range(len(ordered) - 1, -1, -1):
        tail = _Sweep(graph, ordered[first:], outcome)
        if tail.missing:
            break
    now = graph.explicit
    if first + 1 < len(ordered):
        for action, looks_at in reversed(_Sweep(graph, ordered[first + 1 :], outcome).sets().items()):
            now = replaced(now, action, looks_at)
    action = ordered[first]
    return _failure(graph, now, action, outcome, _scope(graph, action, outcome, None))


def _reduced(graph: Diagram, sets: Sets, outcome: str) -> Sets:
    now, found = graph.explicit, {}
    for action in reversed(sets):
        looks_at: Collection[str] = ()
        if nx.has_path(now, action, outcome):
            cut = without_effects(now, action)
            looks_at = nx.find_minimal_d_separator(cut, action, outcome, restricted=set(sets[action]))
        found[action] = frozenset(looks_at)
        now = replaced(now, action, looks_at)
    return {action: found[action] for action in sets}


def minimal_sets(graph: Diagram, actions: Collection[str], outcome: str) -> list[Sets]:
    """All admissible choices of sets that are smallest by inclusion (no set can be shrunk and the rest kept).

    A choice is smallest if and only if, from the last action to the first, each set is a smallest separator given the later
    ones; so they are found by going back and forth over these. [] if not imitable.
    Raises ValueError as `sequential_pi_backdoor`, and where too many candidates would have to be tried.
    """
    ordered = _checked(graph, actions, outcome)
    if _Sweep(graph, ordered, outcome).missing:
        return []
    found: list[Sets] = []

    def choose(left: int, now: nx.DiGraph, chosen: Sets) -> None:
        if left == 0:
            found.append({action: chosen[action] for action in ordered})
            return
        action = ordered[left - 1]
        options: Iterator[frozenset[str]] = iter([frozenset()])
        if nx.has_path(now, action, outcome):
            candidates = _scope(graph, action, outcome, None)
            options = _separators(without_effects(now, action), action, outcome, candidates)
        for looks_at in options:
            choose(left - 1, replaced(now, action, looks_at), {**chosen, action: looks_at})

    choose(len(ordered), graph.explicit, {})
    return sorted(found, key=lambda sets: [(len(looks_at), sorted(looks_at)) for looks_at in sets.values()])


def _separators(graph: nx.DiGraph, x: str, y: str, candidates: Collection[str]) -> Iterator[frozenset[str]]:
    """All smallest separators among the candidates: only ancestors of x or y can be in one."""
    above = nx.ancestors(graph, x) | nx.ancestors(graph, y)
    useful = [name for name in candidates if name in above]
    if len(useful) > _SUBSETS:
        raise ValueError(f"{len(useful)} candidates for {x} have too many subsets to try ({_SUBSETS} candidates at most)")
    found: list[frozenset[str]] = []
    for size in range(len(useful) + 1):
        for subset in map(frozenset, itertools.combinations(useful, size)):
            if not any(smaller <= subset for smaller in found) and nx.is_d_separator(graph, x, y, set(subset)):
                found.append(subset)
                yield subset


# What watching tells about doing, and imitation by way of it


class NotIdentified(ValueError):
    """What was asked does not follow from data and diagram: two models agree on both and differ in the answer.

    `hedge`: the larger and the smaller of the two sets of variables that witness it (Shpitser and Pearl 2006).
    """

    def __init__(self, message: str, hedge: tuple[frozenset[str], frozenset[str]]) -> None:
        super().__init__(message)
        self.hedge = hedge


@dataclass(frozen=True)
class Estimand:
    """P(outcomes | do(actions)), known to be identified on `graph` (over what is seen)."""

    outcomes: tuple[str, ...]
    actions: tuple[str, ...]
    graph: Diagram

    def evaluate(self, joint: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Its value [*sizes of actions, *sizes of outcomes] for the distribution `joint`, with one axis for each of `names`.

        Raises ValueError for names that are not those of the graph, and where a conditional probability is needed given
        what never happens (positivity).
        """
        names, joint = tuple(names), np.asarray(joint, dtype=float)
        if joint.ndim != len(names) or set(names) != set(self.graph.order):
            needed = ", ".join(self.graph.order)
            raise ValueError(f"the table must have one axis for each of {needed}; it has {joint.ndim}, named {', '.join(names)}")
        ordered = joint.transpose([names.index(name) for name in self.graph.order])
        value = _Effect(self.graph, self.outcomes, self.actions, ordered).value
        if np.isnan(value).any():
            raise ValueError(
                f"P({', '.join(self.outcomes)} | do {', '.join(self.actions)}) needs choices that are never seen: "
                f"some values of {', '.join(names)} have probability 0 together"
            )
        kept = [name for name in self.graph.order if name in self.outcomes or name in self.actions]
        # a formula may mention a variable that it does not depend on; any value of it does
        value = value[tuple(slice(None) if name in kept else slice(0, 1) for name in self.graph.order)]
        sizes = dict(zip(names, joint.shape))
        value = np.broadcast_to(value, [sizes[name] if name in kept else 1 for name in self.graph.order])
        wanted = (*self.actions, *self.outcomes)
        return value.reshape([sizes[name] for name in kept]).transpose([kept.index(name) for name in wanted])


class _Effect:
    """The effect of actions, c-component by c-component (Tian and Pearl 2002; complete: Huang and Valtorta 2006).

    Tables have one axis for each variable of the graph, of size 1 where they do not depend on it. With `joint` None only
    whether it is identified is found out. Raises NotIdentified.
    """

    def __init__(
        self, graph: Diagram, outcomes: Collection[str], actions: Collection[str], joint: np.ndarray | None = None
    ) -> None:
        self.order, self.asked = graph.order, f"P({', '.join(outcomes)} | do {', '.join(actions)})"
        self.directed = nx.DiGraph(graph.directed)
        self.directed.add_nodes_from(graph.order)
        self.pairs = nx.Graph(graph.bidirected)
        self.pairs.add_nodes_from(graph.order)
        everything = frozenset(graph.order)
        above = self._above(frozenset(outcomes), everything - set(actions))
        product = None if joint is None else np.ones((1,) * joint.ndim)
        for part in self._parts(above):
            (home,) = (other for other in self._parts(everything) if part <= other)
            factor = self._shrink(part, home, self._factor(home, everything, joint))
            if product is not None:
                # what is weighted by 0 does not matter, even where it is not defined
                product = np.where((product == 0) | (factor == 0), 0.0, product * factor)
        self.value = self._sum(product, above - set(outcomes))

    def _above(self, names: frozenset[str], within: frozenset[str]) -> frozenset[str]:
        inside = self.directed.subgraph(within)
        return names.union(*(nx.ancestors(inside, name) for name in names))

    def _parts(self, names: Collection[str]) -> list[frozenset[str]]:
        return [frozenset(part) for part in nx.connected_components(self.pairs.subgraph(names))]

    def _sum(self, table: Any, gone: Collection[str]) -> Any:
        over = tuple(i for i, name in enumerate(self.order) if name in gone)
        return None if table is None else table.sum(over, keepdims=True)

    def _factor(self, part: frozenset[str], whole: frozenset[str], table: Any) -> Any:
        """Q[part] from Q[whole] for a c-component of `whole`: a product of conditionals along the order."""
        if table is None:
            return None
        product = np.ones((1,) * table.ndim)
        ordered = [name for name in self.order if name in whole]
        for i, name in enumerate(ordered):
            if name in part:
                top, below = (self._sum(table, ordered[j:]) for j in (i + 1, i))
                with np.errstate(invalid="ignore", divide="ignore"):
                    factor = np.where(below > 0, top / below, np.nan)
                product = np.where((product == 0) | (factor == 0), 0.0, product * factor)
        return product

    def _shrink(self, part: frozenset[str], whole: frozenset[str], table: Any) -> Any:
        """Q[part] from Q[whole], both of one c-component."""
        above = self._above(part, whole)
        if above == part:
            return self._sum(table, whole - part)
        if above == whole:
            large, small = (", ".join(name for name in self.order if name in names) for names in (whole, part))
            raise NotIdentified(
                f"{self.asked} is not identified: hidden causes tie {{{large}}} together, and {{{small}}} among them (a hedge), "
                "so two models can agree on all that is seen and differ in the answer",
                (whole, part),
            )
        (home,) = (other for other in self._parts(above) if part <= other)
        return self._shrink(part, home, self._factor(home, above, self._sum(table, whole - above)))


def identify(graph: Diagram, outcomes: Collection[str], actions: Collection[str]) -> Estimand:
    """P(outcomes | do(actions)) from what is seen, if it follows from that: complete (Huang and Valtorta 2006).

    Written out here because the formula that y0 0.2.11 gives for a nested case (W -> Z -> X -> Y with W <-> X and W <-> Y) is
    P(Y | X), which is not the effect; on *whether* an effect is identified the two agree (in the tests).

    Raises:
        NotIdentified: with the hedge that witnesses it.
        ValueError: for unknown names, and actions or outcomes that are not observed.
    """
    graph.know(outcomes, "the outcomes", seen=True)
    graph.know(actions, "the actions", seen=True)
    if not outcomes or not actions or set(outcomes) & set(actions):
        raise ValueError(f"there must be outcomes and actions, all different; not {list(outcomes)} and {list(actions)}")
    flat = graph.projected()
    _Effect(flat, outcomes, actions)
    return Estimand(tuple(outcomes), tuple(actions), flat)


@dataclass(frozen=True)
class Instrument:
    """Imitation by way of a surrogate: policies that look at `looks_at` and reproduce the surrogate's distribution reproduce
    the outcome's; and `estimand` tells what each of them does to it, None if it is the action alone (Zhang, Kumor and
    Bareinboim 2020, definitions 4 and 5)."""

    action: str
    surrogate: frozenset[str]
    looks_at: tuple[str, ...]
    estimand: Estimand | None


def surrogates(graph: Diagram, action: str, outcome: str, looks_at: Collection[str] = ()) -> list[frozenset[str]]:
    """All smallest sets S that tell the outcome whoever acts, the expert or a policy that looks at `looks_at`: given S, the
    outcome does not depend on which of the two it is. Raises ValueError as `pi_backdoor`."""
    _checked(graph, [action], outcome)
    _scope(graph, action, outcome, looks_at)
    who = ("who acts",)
    changed = graph.explicit.copy()
    changed.add_edges_from([(who, action), *((name, action) for name in looks_at)])
    return list(_separators(changed, outcome, who, [name for name in graph.observed if name != outcome]))  # type: ignore[arg-type]


def instruments(
    graph: Diagram, action: str, outcome: str, scope: Collection[str] | None = None
) -> list[Instrument]:
    """All surrogates with policy spaces in which their distribution is identified, richest policies first.

    Whether one of the policies reproduces the surrogate depends on the data: see `imitation.through_surrogate`. The scopes
    are gone through one by one. Raises ValueError as `pi_backdoor`.
    """
    scope = _scope(graph, action, outcome, scope)
    found = []
    for size in range(len(scope), -1, -1):
        for looks_at in itertools.combinations(scope, size):
            for surrogate in surrogates(graph, action, outcome, looks_at):
                asked = tuple(name for name in graph.observed if name in surrogate.union(looks_at) and name != action)
                try:
                    estimand = identify(graph, asked, [action]) if asked else None
                except NotIdentified:
                    continue
                found.append(Instrument(action, surrogate, looks_at, estimand))
    return found
