"""Causal diagrams, and what can be imitated on them.

A diagram has observed variables in temporal order, arrows, and two-headed arrows where a hidden cause moves two variables.
Somebody who does not see what the expert sees may still imitate, if some set of variables blocks every path on which the
expert's secret reaches the outcome; which set, if any, can be read off the diagram. Nothing is estimated here.

Sources: Zhang, Kumor and Bareinboim 2020 (the pi-backdoor criterion, theorem 2); Kumor, Zhang and Bareinboim 2021 (arXiv
2208.06276: the sequential criterion and the algorithm FindOx). d-separation is networkx's.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import networkx as nx

Edge = tuple[str, str]
Scopes = dict[str, frozenset[str]]


@dataclass(frozen=True)
class Diagram:
    """Variables in temporal order, arrows, and two-headed arrows.

    Attributes:
        order: every variable, causes before effects; who decides may use what comes before. directed: (cause, effect) pairs.
        bidirected: pairs with a common hidden cause. hidden: variables of `order` that the learner cannot see.

    Raises:
        ValueError: a name twice, an arrow of an unknown name, or one that goes back in time (so cycles cannot be).
    """

    order: tuple[str, ...]
    directed: frozenset[Edge]
    bidirected: frozenset[Edge]
    hidden: frozenset[str]

    def __init__(
        self, order: Sequence[str], directed: Iterable[Edge], bidirected: Iterable[Edge] = (), hidden: Collection[str] = ()
    ) -> None:  # fmt: skip
        names = tuple(order)
        place = {name: n for n, name in enumerate(names)}
        if len(place) < len(names):
            raise ValueError(f"{next(n for n in names if names.count(n) > 1)} is there twice in the order")
        arrows, arcs = frozenset(directed), frozenset((min(e), max(e)) for e in bidirected)
        for name in {*hidden, *(end for edge in arrows | arcs for end in edge)} - set(names):
            raise ValueError(f"{name} is not in the order; there are {', '.join(names)}")
        for cause, effect in arrows:
            if place[cause] >= place[effect]:
                raise ValueError(f"the arrow {cause} -> {effect} goes back in time: {cause} must come first in the order")
        for a, b in arcs:
            if a == b:
                raise ValueError(f"{a} cannot share a hidden cause with itself")
        for name, value in (("order", names), ("directed", arrows), ("bidirected", arcs), ("hidden", frozenset(hidden))):
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, text: str, *, order: str | None = None, hidden: str = "") -> Diagram:
        """A diagram from chains such as "Z -> X -> Y, X <-> Z"; without an `order`, some order that fits the arrows.

        Raises:
            ValueError: text that is no chain of arrows, or a cycle; names it.
        """
        directed: list[Edge] = []
        bidirected: list[Edge] = []
        seen: dict[str, None] = {}
        for chain in text.replace(";", ",").split(","):
            words = re.split(r"\s*(<->|->)\s*", chain.strip())
            if any(not word.isidentifier() for word in words[::2]):
                raise ValueError(f"{chain.strip()!r} is no chain of variables and arrows, such as 'Z -> X -> Y'")
            seen.update(dict.fromkeys(words[::2]))
            for left, arrow, right in zip(words[::2], words[1::2], words[2::2]):
                (directed if arrow == "->" else bidirected).append((left, right))
        graph = nx.DiGraph(directed)
        graph.add_nodes_from(seen)
        if order is None:
            try:
                names = tuple(nx.lexicographical_topological_sort(graph, key=list(seen).index))
            except nx.NetworkXUnfeasible:
                cycle = [a for a, _ in nx.find_cycle(graph)]
                raise ValueError(f"the arrows go round in a circle: {' -> '.join([*cycle, cycle[0]])}") from None
        else:
            names = tuple(order.split())
        return cls(names, directed, bidirected, hidden.split())

    def change(
        self, *, directed: Iterable[Edge] | None = None, bidirected: Iterable[Edge] | None = None
    ) -> Diagram:
        """The same variables with other arrows."""
        arrows = self.directed if directed is None else directed
        return Diagram(self.order, arrows, self.bidirected if bidirected is None else bidirected, self.hidden)

    @cached_property
    def observed(self) -> tuple[str, ...]:
        return tuple(name for name in self.order if name not in self.hidden)

    def before(self, name: str) -> frozenset[str]:
        """The observed variables that come before `name`."""
        self.check(name)
        return frozenset(self.order[: self.order.index(name)]) - self.hidden

    def parents(self, names: Collection[str]) -> frozenset[str]:
        return frozenset(a for a, b in self.directed if b in names)

    def children(self, names: Collection[str]) -> frozenset[str]:
        return frozenset(b for a, b in self.directed if a in names)

    def ancestors(self, names: Collection[str]) -> frozenset[str]:
        """The variables that lead to `names` along arrows, and these themselves."""
        found, new = set(names), set(names)
        while new:
            new = set(self.parents(new)) - found
            found |= new
        return frozenset(found)

    def without(self, *, into: Collection[str] = (), out_of: Collection[str] = ()) -> Diagram:
        """Without the arrows into `into` (two-headed ones too) and those out of `out_of`."""
        return self.change(
            directed=[(a, b) for a, b in self.directed if b not in into and a not in out_of],
            bidirected=[(a, b) for a, b in self.bidirected if a not in into and b not in into],
        )

    def only(self, names: Collection[str]) -> Diagram:
        """The part of the diagram between `names`."""
        return Diagram(
            [name for name in self.order if name in names],
            [(a, b) for a, b in self.directed if a in names and b in names],
            [(a, b) for a, b in self.bidirected if a in names and b in names],
            self.hidden & frozenset(names),
        )

    def projected(self) -> Diagram:
        """The diagram of the observed variables alone: a hidden one becomes arrows and two-headed arrows (Verma 1993)."""
        directed, bidirected = set(self.directed), set(self.bidirected)
        for name in self.hidden:
            parents, children = ({a for a, b in directed if b == name}, {b for a, b in directed if a == name})
            friends = {a if b == name else b for a, b in bidirected if name in (a, b)}
            directed = {e for e in directed if name not in e} | set(product(parents, children))
            bidirected = {e for e in bidirected if name not in e} | {
                (min(e), max(e)) for e in (*combinations(children, 2), *product(friends, children)) if e[0] != e[1]
            }
        return Diagram(self.observed, directed, bidirected)

    @cached_property
    def explicit(self) -> nx.DiGraph:
        """With a node for every hidden cause, which are named by the pair they move."""
        graph = nx.DiGraph(self.directed)
        graph.add_nodes_from(self.order)
        for pair in self.bidirected:
            graph.add_edges_from((pair, end) for end in pair)
        return graph

    def separated(self, x: Collection[str], y: Collection[str], given: Collection[str] = ()) -> bool:
        """Whether `given` d-separates the sets x and y (Pearl 2009, definition 1.2.3)."""
        self.check(*x, *y, *given)
        return nx.is_d_separator(self.explicit, set(x), set(y), set(given))

    def open_path(self, x: str, y: str, given: Collection[str] = ()) -> list[str] | None:
        """A shortest path from x to y that `given` leaves open, such as ["X", "<->", "W", "<-", "L"]; None if separated."""
        self.check(x, y, *given)
        graph, known = self.explicit, set(given)
        told = set(self.ancestors(known))  # a collider is open if it, or something after it, is known
        start: tuple = (x, None)
        back: dict[tuple, tuple | None] = {start: None}
        queue = deque([start])
        while queue:
            node, came = queue.popleft()
            steps = [(n, "->") for n in graph.successors(node)] + [(n, "<-") for n in graph.predecessors(node)]
            for next_node, arrow in steps:
                if came is not None:
                    collider = came == "->" and arrow == "<-"
                    if (node not in told) if collider else (node in known):
                        continue
                step = (next_node, arrow)
                if step in back:
                    continue
                back[step] = (node, came)
                if next_node == y:
                    return _as_text(step, back)
                queue.append(step)
        return None

    def districts(self, name: str) -> frozenset[str]:
        """The variables that two-headed arrows connect with `name`, and itself (its c-component)."""
        graph = nx.Graph(self.bidirected)
        graph.add_node(name)
        return frozenset(nx.node_connected_component(graph, name))

    def check(self, *names: str) -> None:
        """Raise ValueError for a name that is not in the diagram."""
        for name in names:
            if name not in self.order:
                raise ValueError(f"there is no {name!r} in the diagram; there are {', '.join(self.order)}")


@dataclass(frozen=True)
class Answer:
    """Whether the expert can be imitated on a diagram, whatever the mechanisms are.

    Attributes:
        scopes: for each action, what the policy should look at; None if imitation is not possible. reason: why, in words.
    """

    scopes: Scopes | None
    reason: str

    @property
    def imitable(self) -> bool:
        return self.scopes is not None


# ---- one action -------------------------------------------------------------------------------------------------------


def is_pi_backdoor(diagram: Diagram, action: str, outcome: str, scope: Collection[str]) -> bool:
    """Whether `scope` blocks every path into the action: then P(action | scope) imitates (Zhang et al. 2020, theorem 2).

    Raises:
        ValueError: an unknown name, or something in `scope` that is not seen before the action.
    """
    _check_scope(diagram, action, outcome, scope)
    return diagram.without(out_of=[action]).separated([action], [outcome], scope)


def pi_backdoor(diagram: Diagram, action: str, outcome: str) -> Answer:
    """Whether one action can be imitated, with a smallest scope, or with the path that nothing seen can block.

    Complete: if the answer is no, some mechanisms on this diagram defeat every imitator (Zhang et al. 2020).
    """
    smallest = next(all_pi_backdoors(diagram, action, outcome), None)
    if smallest is not None:
        looks = f"{{{', '.join(sorted(smallest))}}}" if smallest else "nothing"
        return Answer({action: smallest}, f"looking at {looks} blocks every path into {action} that reaches {outcome}")
    cut = diagram.without(out_of=[action])
    allowed = diagram.before(action) & cut.ancestors([action, outcome])
    path = cut.open_path(action, outcome, allowed) or []
    return Answer(None, f"{' '.join(path)} stays open whatever is looked at before {action}")


def all_pi_backdoors(diagram: Diagram, action: str, outcome: str) -> Iterator[frozenset[str]]:
    """All minimal scopes of one action, the smallest first. None of them contains another."""
    _check_scope(diagram, action, outcome, ())
    cut = diagram.without(out_of=[action])
    allowed = diagram.before(action) & cut.ancestors([action, outcome])  # if any set separates, one of these does
    if not cut.separated([action], [outcome], allowed):
        return
    found: list[frozenset[str]] = []
    for size in range(len(allowed) + 1):
        for some in combinations(sorted(allowed), size):
            scope = frozenset(some)
            if not any(smaller <= scope for smaller in found) and cut.separated([action], [outcome], scope):
                found.append(scope)
                yield scope


# ---- several actions ----------------------------------------------------------------------------------------------------


def is_sequential_pi_backdoor(diagram: Diagram, outcome: str, scopes: Mapping[str, Collection[str]]) -> bool:
    """Whether policies that look at `scopes` together imitate (Kumor et al. 2021, definition 3).

    From the last action to the first: in the diagram where later actions already look at their scopes alone, an action must
    either not matter for the outcome any more, or its scope must block every path into it.
    """
    return _first_failure(diagram, outcome, scopes) is None


def _first_failure(diagram: Diagram, outcome: str, scopes: Mapping[str, Collection[str]]) -> tuple[str, Diagram] | None:
    """The last action whose scope does not do, and the diagram in which it does not."""
    changed = diagram
    for action in sorted(scopes, key=diagram.order.index, reverse=True):
        _check_scope(diagram, action, outcome, scopes[action])
        if action in changed.ancestors([outcome]):
            cut = changed.without(out_of=[action])
            if not cut.separated([action], [outcome], scopes[action]):
                return action, cut
        changed = changed.without(into=[action])
        changed = changed.change(directed=[*changed.directed, *((z, action) for z in scopes[action])])
    return None


def find_ox(diagram: Diagram, actions: Collection[str], outcome: str) -> dict[str, str]:
    """The variables whose every influence on the outcome can be made up for, each with the action that does it.

    Algorithm FindOx of Kumor et al. 2021. The expert can be imitated if, and only if, all actions that lead to the outcome are
    among them.
    """
    whole = diagram.projected().only(diagram.projected().ancestors([outcome]))
    found: dict[str, str] = {}
    before = {name: frozenset(whole.order[:n]) for n, name in enumerate(whole.order)}
    changed = True
    while changed:
        changed = False
        for name in reversed([n for n in whole.order if n != outcome]):
            if name in found:
                continue
            later = whole.children([name])
            candidates = [name] if name in actions else []
            if later and later <= set(found):
                candidates.append(min((found[child] for child in later), key=whole.order.index))
            for action in candidates:
                if _made_up(whole, name, before[action], set(found)):
                    found[name] = action
                    changed = True
                    break
    return found


def _made_up(whole: Diagram, name: str, before: frozenset[str], found: set[str]) -> bool:
    district = whole.districts(name)
    part = whole.only(district | whole.parents(district))
    part = part.without(into=part.parents(district) - district)
    rest = district - found - {name}
    return not rest - before or part.separated([name], rest - before, rest & before)


def sequential_pi_backdoor(diagram: Diagram, actions: Collection[str], outcome: str) -> Answer:
    """Whether a sequence of actions can be imitated, with minimal scopes, or with what stands in the way.

    The criterion is complete (Kumor et al. 2021, theorem 2): if the answer is no, some mechanisms on this diagram defeat
    every imitator. Decided by FindOx in polynomial time; scopes are checked against the definition before they are given,
    and no variable can be left out of them.

    Raises:
        ValueError: an action that is unknown, hidden, or the outcome itself.
    """
    _check_actions(diagram, actions, outcome)
    found = find_ox(diagram, actions, outcome)
    matter = [a for a in sorted(actions, key=diagram.order.index) if a in diagram.ancestors([outcome])]
    stuck = [a for a in matter if a not in found]
    if stuck:
        return Answer(None, _why_not(diagram, actions, stuck[-1], outcome))
    scopes = _boundary(diagram, actions, outcome, set(found))
    if not is_sequential_pi_backdoor(diagram, outcome, scopes):
        raise AssertionError(f"the scopes found for {diagram} do not hold; please report this")
    scopes = _smallest(diagram, outcome, scopes)
    looks = ", ".join(f"{a} at {{{', '.join(sorted(z))}}}" if z else f"{a} at nothing" for a, z in scopes.items())
    return Answer(scopes, f"it suffices that {looks.replace(' at ', ' looks at ', 1)}")


def all_sequential_pi_backdoors(diagram: Diagram, actions: Collection[str], outcome: str) -> Iterator[Scopes]:
    """Every choice of scopes that imitates and from which no variable can be left out, fewest variables first.

    It goes through all choices among the ancestors of the outcome, so it is for diagrams of about ten variables.
    """
    _check_actions(diagram, actions, outcome)
    acts = sorted(actions, key=diagram.order.index)
    places = [(action, name) for action in acts for name in sorted(diagram.before(action))]
    found: list[frozenset[Edge]] = []
    for size in range(len(places) + 1):
        for some in combinations(places, size):
            chosen = frozenset(some)
            if any(smaller <= chosen for smaller in found):
                continue
            scopes = {action: frozenset(name for a, name in chosen if a == action) for action in acts}
            if is_sequential_pi_backdoor(diagram, outcome, scopes):
                found.append(chosen)
                yield scopes


def _boundary(diagram: Diagram, actions: Collection[str], outcome: str, found: set[str]) -> Scopes:
    """What separates the variables that are made up for from the outcome, cut to what is seen in time."""
    whole = diagram.projected().only(diagram.projected().ancestors([outcome]))
    cut = whole.without(out_of=[a for a in actions if a in whole.order])
    near = found | cut.children(found)
    district = frozenset().union(*(cut.districts(name) for name in near)) if near else frozenset()
    boundary = (district | cut.parents(district)) - found
    boundary |= {a for a in actions if a in whole.order and not whole.children([a]) <= found}
    return {a: boundary & diagram.before(a) for a in sorted(actions, key=diagram.order.index)}


def _smallest(diagram: Diagram, outcome: str, scopes: Scopes) -> Scopes:
    """Leave out one variable after another as long as the rest still imitates."""
    for action in scopes:
        for name in sorted(scopes[action], key=diagram.order.index, reverse=True):
            fewer = {**scopes, action: scopes[action] - {name}}
            if is_sequential_pi_backdoor(diagram, outcome, fewer):
                scopes = fewer
    return scopes


def _why_not(diagram: Diagram, actions: Collection[str], stuck: str, outcome: str) -> str:
    """An open path into the action that cannot be made up for, when later actions look at nothing, and this one at all it may."""
    later = [a for a in actions if diagram.order.index(a) > diagram.order.index(stuck)]
    cut = diagram.without(into=later, out_of=[stuck])
    path = cut.open_path(stuck, outcome, diagram.before(stuck) & cut.ancestors([stuck, outcome]))
    where = f": {' '.join(path)} stays open whatever is looked at before it" if path else ""
    return f"nothing makes up for the hidden causes of {stuck}{where}"


def _check_scope(diagram: Diagram, action: str, outcome: str, scope: Collection[str]) -> None:
    diagram.check(action, outcome, *scope)
    if action in diagram.hidden:
        raise ValueError(f"the action {action} is hidden: nobody can imitate what is not seen")
    if action == outcome:
        raise ValueError(f"{action} cannot be both the action and the outcome")
    for name in scope:
        if name not in diagram.before(action):
            why = "hidden" if name in diagram.hidden else f"not there before {action}"
            raise ValueError(f"a policy for {action} cannot look at {name}: it is {why}")


def _check_actions(diagram: Diagram, actions: Collection[str], outcome: str) -> None:
    if not actions:
        raise ValueError("name at least one action")
    for action in actions:
        _check_scope(diagram, action, outcome, ())


def _as_text(step: tuple | None, back: dict) -> list[str]:
    """The path that ended in `step`, hidden causes written as two-headed arrows."""
    words: list[str] = []
    while step is not None:
        node, arrow = step
        words = [*([arrow] if arrow else []), node, *words]
        step = back[step]
    out: list[str] = []
    for word in words:
        if isinstance(word, tuple):
            out[-1] = "<->"
        elif not (out and out[-1] == "<->" and word == "->"):
            out.append(word)
    return out
