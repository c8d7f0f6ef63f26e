"""Diagrams against enumeration of paths and scopes, the published table, and another package."""

from __future__ import annotations

from itertools import combinations, product

import networkx as nx
import numpy as np
import pytest

from workbench.causal.graph import (
    Diagram,
    all_pi_backdoors,
    all_sequential_pi_backdoors,
    find_ox,
    is_pi_backdoor,
    is_sequential_pi_backdoor,
    pi_backdoor,
    sequential_pi_backdoor,
)
from workbench.causal.worlds import KUMOR

TAIL_LIGHT = Diagram.parse("Z -> X -> Y, Z -> Y, L -> X, L -> W, W <-> Y", order="Z L W X Y", hidden="L")


def _subsets(names):
    return [frozenset(some) for size in range(len(names) + 1) for some in combinations(sorted(names), size)]


def _random(rng, size, hidden=False):
    """A random diagram of `size` variables and the outcome Y, and one to three actions of it."""
    names = [f"V{n}" for n in range(size)] + ["Y"]
    arrow, arc = rng.choice([0.3, 0.5, 0.7]), rng.choice([0.1, 0.25, 0.4])
    directed = [pair for pair in combinations(names, 2) if rng.random() < arrow]
    bidirected = [pair for pair in combinations(names, 2) if rng.random() < arc]
    actions = [str(name) for name in rng.choice(names[:-1], rng.integers(1, min(size, 3) + 1), replace=False)]
    unseen = [name for name in names[:-1] if hidden and name not in actions and rng.random() < 0.3]
    return Diagram(names, directed, bidirected, unseen), actions


def _paths_say_separated(diagram, x, y, given):
    """d-separation by its definition: no path between x and y is open (Pearl 2009, definition 1.2.3)."""
    graph = diagram.explicit
    for path in nx.all_simple_paths(graph.to_undirected(), x, y):
        for left, node, right in zip(path, path[1:], path[2:]):
            collider = graph.has_edge(left, node) and graph.has_edge(right, node)
            if (collider and not ({node} | nx.descendants(graph, node)) & given) or (not collider and node in given):
                break
        else:
            return False
    return True


def test_separation_is_that_of_all_paths_and_the_witness_is_an_open_one():
    rng = np.random.default_rng(0)
    for _ in range(60):
        diagram, _ = _random(rng, 4)
        x, y = (str(name) for name in rng.choice(diagram.order, 2, replace=False))
        given = frozenset(str(n) for n in diagram.order if n not in (x, y) and rng.random() < 0.4)
        separated = _paths_say_separated(diagram, x, y, given)
        assert diagram.separated([x], [y], given) == separated
        path = diagram.open_path(x, y, given)
        assert (path is None) == separated
        if path is not None:
            assert path[0] == x and path[-1] == y
            for left, arrow, right in zip(path[::2], path[1::2], path[2::2]):
                known = {"->": (left, right) in diagram.directed, "<-": (right, left) in diagram.directed}
                assert known.get(arrow, (min(left, right), max(left, right)) in diagram.bidirected)


def test_a_hidden_variable_is_projected_to_the_arrows_it_stands_for():
    found = Diagram.parse("A -> L -> B, L -> C, D <-> L", order="A D L B C", hidden="L").projected()
    assert found == Diagram("A D B C".split(), [("A", "B"), ("A", "C")], [("B", "C"), ("B", "D"), ("C", "D")])


def test_projection_keeps_every_separation_of_what_is_seen():
    rng = np.random.default_rng(1)
    for _ in range(40):
        diagram, _ = _random(rng, 5, hidden=True)
        seen = diagram.projected()
        x, y = (str(name) for name in rng.choice(diagram.observed, 2, replace=False))
        given = [name for name in diagram.observed if name not in (x, y) and rng.random() < 0.4]
        assert seen.separated([x], [y], given) == diagram.separated([x], [y], given)


# ---- one action -----------------------------------------------------------------------------------------------------------


def test_the_tail_light_of_the_car_in_front_must_not_be_looked_at():
    assert list(all_pi_backdoors(TAIL_LIGHT, "X", "Y")) == [{"Z"}]
    assert is_pi_backdoor(TAIL_LIGHT, "X", "Y", ["Z"]) and not is_pi_backdoor(TAIL_LIGHT, "X", "Y", ["Z", "W"])
    assert pi_backdoor(TAIL_LIGHT, "X", "Y").scopes == {"X": {"Z"}}


def test_nothing_helps_if_the_expert_s_secret_moves_the_outcome():
    worse = TAIL_LIGHT.change(directed=[*TAIL_LIGHT.directed, ("L", "Y")])
    answer = pi_backdoor(worse, "X", "Y")
    assert not answer.imitable and "X <- L -> Y stays open" in answer.reason


def test_minimal_scopes_are_those_of_a_search_through_all_sets():
    rng = np.random.default_rng(2)
    for _ in range(80):
        diagram, (action, *_) = _random(rng, 4, hidden=True)
        good = [z for z in _subsets(diagram.before(action)) if is_pi_backdoor(diagram, action, "Y", z)]
        minimal = {z for z in good if not any(other < z for other in good)}
        assert set(all_pi_backdoors(diagram, action, "Y")) == minimal
        assert pi_backdoor(diagram, action, "Y").imitable == bool(minimal)


def test_another_package_gives_the_same_verdict_on_200_graphs():
    """causalrl looks for a back-door set without descendants of the action; what comes before it in time never is one."""
    from causalrl.imitation import is_imitable
    from causalrl.scm.graph import CausalGraph

    rng = np.random.default_rng(3)
    verdicts = []
    for _ in range(200):
        diagram, (action, *_) = _random(rng, 4)
        theirs = CausalGraph(sorted(diagram.directed), sorted(diagram.bidirected), list(diagram.order))
        expected = is_imitable(theirs, action=action, outcome="Y", observable=sorted(diagram.before(action)))
        assert pi_backdoor(diagram, action, "Y").imitable == expected
        verdicts.append(expected)
    assert 40 < sum(verdicts) < 160


# ---- several actions --------------------------------------------------------------------------------------------------------


def _by_search(diagram, actions, outcome="Y"):
    choices = [[(action, z) for z in _subsets(diagram.before(action))] for action in actions]
    return any(is_sequential_pi_backdoor(diagram, outcome, dict(chosen)) for chosen in product(*choices))


@pytest.mark.parametrize("name", KUMOR)
def test_the_published_table(name):
    world = KUMOR[name]
    diagram, outcome = Diagram(world.order, world.directed, world.bidirected), world.order[-1]
    answer = sequential_pi_backdoor(diagram, world.actions, outcome)
    everything = list(all_sequential_pi_backdoors(diagram, world.actions, outcome))
    if world.sets is None:
        assert not answer.imitable and not everything and "nothing makes up for" in answer.reason
    else:
        expected = dict(zip(world.actions, world.sets))
        assert answer.scopes == expected == everything[0]
        fewest = sum(map(len, expected.values()))
        assert [sum(map(len, scopes.values())) for scopes in everything].count(fewest) == 1


def test_the_number_of_solutions_of_a_published_graph():
    """Z first: four choices imitate, one of them without X2 ever looking at Z: X1 has, and X2 looks at X1."""
    world = KUMOR["z first"]
    diagram = Diagram(world.order, world.directed, world.bidirected)
    choices = product(_subsets({"Z"}), _subsets({"Z", "X1"}))
    good = [c for c in choices if is_sequential_pi_backdoor(diagram, "Y", dict(zip(world.actions, c)))]
    with_z = [(frozenset("Z"), second) for second in _subsets({"Z", "X1"}) if second]
    assert set(good) == {(frozenset(), frozenset("Z")), *with_z}


def test_find_ox_agrees_with_a_search_through_all_scopes():
    rng = np.random.default_rng(4)
    verdicts = []
    for size, number in ((2, 60), (3, 120), (4, 60)):
        for _ in range(number):
            diagram, actions = _random(rng, size)
            answer = sequential_pi_backdoor(diagram, actions, "Y")
            assert answer.imitable == _by_search(diagram, actions), (diagram, actions)
            verdicts.append(answer.imitable)
            if answer.imitable:  # the scopes hold, and none of their variables can be left out
                assert is_sequential_pi_backdoor(diagram, "Y", answer.scopes)
                for action, scope in answer.scopes.items():
                    for left_out in scope:
                        fewer = {**answer.scopes, action: scope - {left_out}}
                        assert not is_sequential_pi_backdoor(diagram, "Y", fewer)
    assert 60 < sum(verdicts) < 200


def test_with_one_action_both_criteria_say_the_same_where_the_action_matters():
    rng = np.random.default_rng(5)
    for _ in range(80):
        diagram, (action, *_) = _random(rng, 4)
        if action in diagram.ancestors(["Y"]):
            assert sequential_pi_backdoor(diagram, [action], "Y").imitable == pi_backdoor(diagram, action, "Y").imitable


def test_what_is_hidden_is_never_looked_at():
    rng = np.random.default_rng(6)
    for _ in range(60):
        diagram, actions = _random(rng, 4, hidden=True)
        answer = sequential_pi_backdoor(diagram, actions, "Y")
        assert answer.imitable == _by_search(diagram, actions)
        assert not answer.imitable or not frozenset().union(*answer.scopes.values()) & diagram.hidden


def test_find_ox_names_the_action_that_makes_up_for_a_variable():
    world = KUMOR["z between"]
    found = find_ox(Diagram(world.order, world.directed, world.bidirected), world.actions, "Y")
    assert found == {"X1": "X2", "X2": "X2"}  # Z, seen only after X1, tells X2 all that X1 would have needed


# ---- what cannot be asked -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Diagram.parse("A -> B -> C -> A"), "round in a circle: A -> B -> C -> A"),
        (lambda: Diagram.parse("A -> "), "no chain"),
        (lambda: Diagram.parse("A B"), "no chain"),
        (lambda: Diagram("AB", [("B", "A")]), "goes back in time"),
        (lambda: Diagram("AB", [("A", "C")]), "C is not in the order"),
        (lambda: Diagram("AA", []), "A is there twice"),
        (lambda: Diagram("AB", [], [("A", "A")]), "with itself"),
        (lambda: pi_backdoor(TAIL_LIGHT, "Q", "Y"), "there is no 'Q'"),
        (lambda: pi_backdoor(TAIL_LIGHT, "L", "Y"), "L is hidden"),
        (lambda: pi_backdoor(TAIL_LIGHT, "X", "X"), "both the action and the outcome"),
        (lambda: is_pi_backdoor(TAIL_LIGHT, "X", "Y", ["L"]), "cannot look at L: it is hidden"),
        (lambda: is_pi_backdoor(TAIL_LIGHT, "Z", "Y", ["X"]), "cannot look at X: it is not there before Z"),
        (lambda: sequential_pi_backdoor(TAIL_LIGHT, [], "Y"), "at least one action"),
        (lambda: TAIL_LIGHT.separated(["X"], ["nobody"]), "there is no 'nobody'"),
    ],
)
def test_wrong_questions_are_answered_with_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
