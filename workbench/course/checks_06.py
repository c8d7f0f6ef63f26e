"""Checks of chapter 06, when copying the expert fails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.course.checks import expect

# Paths of the pictures in the chapter: nodes, arrows, what is looked at, and the effects of each node
_BELOW = {"L": {"X", "W", "V", "Y"}, "W": {"V"}, "Z": {"X", "Y"}, "X": {"Y"}, "V": set(), "Y": set(), "U": {"W", "Y", "V"}}
_PATHS = [
    (("X", "L", "W", "Y"), ("<-", "->", "<->")),
    (("X", "Z", "Y"), ("<-", "->")),
    (("L", "X", "Y"), ("->", "->")),
    (("Z", "X", "L", "W"), ("->", "<-", "->")),
    (("L", "W", "U", "Y"), ("->", "<-", "->")),
]


def _path_case(rng: np.random.Generator) -> tuple:
    """Each path in turn, with sets that tell the mistakes apart; a case holds all paths under one set."""
    inside = ["Z", "W", "V", "L", "X", "U"]
    given = {name for name in inside if rng.random() < 0.4}
    nodes, arrows = _PATHS[int(rng.integers(len(_PATHS)))]
    return nodes, arrows, given - {nodes[0], nodes[-1]}, _BELOW


def _judged(collider: Callable[[str, set, dict], bool], other: Callable[[str, set], bool]) -> Callable[..., bool]:
    """A path is open if every node between lets it through, colliders by one rule and the rest by another."""

    def is_open(nodes: tuple, arrows: tuple, given: set, below: dict) -> bool:
        for node, left, right in zip(nodes[1:-1], arrows, arrows[1:]):
            meets = left.endswith(">") and right.startswith("<")
            if not (collider(node, given, below) if meets else other(node, given)):
                return False
        return True

    return is_open


def _seen(node: str, given: set, below: dict) -> bool:
    return node in given or bool(below[node] & given)


def _only_single_heads(nodes: tuple, arrows: tuple, given: set, below: dict) -> bool:
    for node, left, right in zip(nodes[1:-1], arrows, arrows[1:]):
        if not (_seen(node, given, below) if left == "->" and right == "<-" else node not in given):
            return False
    return True


expect(
    "06.path_is_open",
    _judged(_seen, lambda node, given: node not in given),
    inputs=_path_case,
    cases=60,
    mistakes={
        "a collider is the other way round: it is closed by itself, and looking at it opens it":
            _judged(lambda node, given, below: node not in given, lambda node, given: node not in given),
        "looking at an effect of a collider opens it too, a little: use below[node]":
            _judged(lambda node, given, below: node in given, lambda node, given: node not in given),
        "colliders are right; the others are the wrong way round: looking at a chain or a fork closes it":
            _judged(_seen, lambda node, given: node in given),
        "a collider blocks only until it is looked at; yours never lets anything through":
            _judged(lambda node, given, below: False, lambda node, given: node not in given),
        "an arrow with two heads has a head at each end: in -> W <-> Y, two heads meet at W": _only_single_heads,
    },
    praise="correct: chains and forks close when looked at, colliders open",
)  # fmt: skip


Edges = list[tuple[str, str]]


def _separated(arrows: Edges, pairs: Edges, x: str, y: str, given: set) -> bool:
    import networkx

    graph = networkx.DiGraph(arrows)
    graph.add_nodes_from([x, y, *given])
    for i, (a, b) in enumerate(pairs):
        graph.add_edges_from([(f"hidden {i}", a), (f"hidden {i}", b)])
    return bool(networkx.is_d_separator(graph, x, y, set(given)))


def _world_of_arrows(rng: np.random.Generator) -> tuple:
    order = ("A", "B", "C", "X", "D", "Y")
    every = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    arrows = [edge for edge in every if rng.random() < 0.45]
    pairs = [edge for edge in every if rng.random() < 0.12]
    if ("X", "Y") not in arrows:
        arrows.append(("X", "Y"))
    return arrows, pairs, "X", "Y", {name for name in "ABC" if rng.random() < 0.6}


def _may_copy(arrows: Edges, pairs: Edges, action: str, outcome: str, looks_at: set) -> bool:
    return _separated([(a, b) for a, b in arrows if a != action], pairs, action, outcome, looks_at)


def _no_pairs_either(arrows: Edges, pairs: Edges, action: str, outcome: str, looks_at: set) -> bool:
    kept = [pair for pair in pairs if action not in pair]
    return _separated([(a, b) for a, b in arrows if a != action], kept, action, outcome, looks_at)


expect(
    "06.may_copy_from",
    _may_copy,
    inputs=_world_of_arrows,
    cases=40,
    mistakes={
        "the action's own arrows are still there: what X does to Y is no reason to worry, so cut the arrows out of X first":
            _separated,
        "you cut the arrows into the action; that is what doing does. Here the question is which of them leak, so cut those out":
            lambda arrows, pairs, x, y, z: _separated([e for e in arrows if e[1] != x], pairs, x, y, z),
        "a hidden cause of the action is an arrow into it, not out of it: leave the pairs as they are": _no_pairs_either,
        "you forgot the hidden causes: pass the pairs on":
            lambda arrows, pairs, x, y, z: _separated([e for e in arrows if e[0] != x], [], x, y, z),
        "the answer is turned round: separated means that copying is safe": lambda *case: not _may_copy(*case),
    },
    praise="correct: cut what leaves the action, then look for open paths",
)  # fmt: skip


def _copy_case(rng: np.random.Generator) -> tuple:
    """P(z, w, u, x) [Z,W,U,X] and E[Y | z, u, x] [Z,U,X] of a random world."""
    return rng.dirichlet(np.ones(2 * 3 * 2 * 2)).reshape(2, 3, 2, 2), rng.random((2, 2, 2))


def _value_of_copy(world: np.ndarray, pays: np.ndarray) -> float:
    seen = world.sum(2)  # z, w, x
    policy = seen / seen.sum(-1, keepdims=True)
    return float(np.einsum("zwu,zwx,zux->", world.sum(3), policy, pays))


def _copy_of_gap(world: np.ndarray, pays: np.ndarray) -> float:
    seen = world.sum((1, 2))
    return float(np.einsum("zu,zx,zux->", world.sum((1, 3)), seen / seen.sum(-1, keepdims=True), pays))


def _marginal_cause(world: np.ndarray, pays: np.ndarray) -> float:
    seen = world.sum(2)
    return float(np.einsum("zwx,u,zux->", seen, world.sum((0, 1, 3)), pays))


def _same_for_all(world: np.ndarray, pays: np.ndarray) -> float:
    return float(np.einsum("zwu,x,zux->", world.sum(3), world.sum((0, 1, 2)), pays))


expect(
    "06.value_of_copy",
    _value_of_copy,
    inputs=_copy_case,
    mistakes={
        "that is what the expert earns: your X still knows U. Draw x from P(x|z,w) alone, whatever u is":
            lambda world, pays: float(np.einsum("zwux,zux->", world, pays)),
        "that copies P(x|z); this copy looks at W too": _copy_of_gap,
        "U has lost its tie with W: use P(z,w,u), not P(z,w) P(u)": _marginal_cause,
        "that copies P(x), looking at nothing; this copy looks at Z and W": _same_for_all,
        "divide by P(z,w): a policy's probabilities add up to 1 for each z and w":
            lambda world, pays: float(np.einsum("zwu,zwx,zux->", world.sum(3), world.sum(2), pays)),
    },
    praise="correct: the copy draws its action from what it sees, and the world goes on as it is",
)  # fmt: skip


def _best_and_naive(p: float) -> tuple[float, float, float]:
    return 1.0, p**2 + (1 - p) ** 2, max(p, 1 - p)


expect(
    "06.three_values",
    _best_and_naive,
    inputs=lambda rng: (float(rng.uniform(0.05, 0.95)),),
    mistakes={
        "the copy chooses X = 1 as often as the expert does, with chance 1 - p, but not at the right moments: wins add up to "
        "P(x=0) p + P(x=1) (1 - p)": lambda p: (1.0, 1.0, max(p, 1 - p)),
        "the copy is not a fair coin: the expert plays 1 with chance 1 - p": lambda p: (1.0, 0.5, max(p, 1 - p)),
        "Y is won when X and U differ: playing 0 wins with chance p, when U is 1; the copy plays 0 with chance p":
            lambda p: (1.0, 2 * p * (1 - p), max(p, 1 - p)),
        "the best policy may use p: one fixed arm wins more often than the copy": lambda p: (1.0, p**2 + (1 - p) ** 2, 0.5),
        "the expert sees U and always wins": lambda p: (max(p, 1 - p), p**2 + (1 - p) ** 2, max(p, 1 - p)),
    },
    praise="correct: the copy loses twice, once to the expert and once to the better arm",
)  # fmt: skip
