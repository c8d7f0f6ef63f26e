"""Criteria on diagrams against their definitions by brute force, against models by enumeration, and against other packages."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from causalrl.imitation import is_imitable as theirs
from causalrl.scm.graph import CausalGraph
from y0.algorithm.identify import identify_outcomes
from y0.dsl import Variable
from y0.graph import NxMixedGraph

from workbench import seeding
from workbench.causal import graph as g
from workbench.causal import worlds
from workbench.causal.tables import random_tables

TAIL_LIGHT = "L->X L->W W<->Y Z->X Z->Y X->Y"
NAMES = ("A", "B", "C", "D", "E")


def kumor(name: str) -> tuple[g.Diagram, worlds.Graph]:
    known = worlds.KUMOR[name]
    return g.Diagram(known.directed, known.bidirected, known.order), known


# The definition, written once more, without anything of the package: sets of numbers as bit masks, and the Bayes ball


def _reach(parents: list[int], x: int, y: int, given: int) -> bool:
    """Whether a path from x to y is open; parents[v] is a mask, nodes may be hidden causes."""
    above = given
    while True:
        more = above
        for v in range(len(parents)):
            if above >> v & 1:
                more |= parents[v]
        if more == above:
            break
        above = more
    children = [0] * len(parents)
    for v, mask in enumerate(parents):
        for u in range(len(parents)):
            if mask >> u & 1:
                children[u] |= 1 << v
    seen, todo = {(x, 0)}, [(x, 0)]
    while todo:
        v, head = todo.pop()
        if v == y:
            return True
        steps = []
        free = not given >> v & 1
        if free:
            steps += [(u, 1) for u in range(len(parents)) if children[v] >> u & 1]
        if (not head and free) or (head and above >> v & 1):
            steps += [(u, 0) for u in range(len(parents)) if parents[v] >> u & 1]
        for step in steps:
            if step not in seen:
                seen.add(step)
                todo.append(step)
    return False


def _causes(parents: list[int], x: int, y: int) -> bool:
    above, grown = 1 << y, True
    while grown:
        more = above
        for v in range(len(parents)):
            if above >> v & 1:
                more |= parents[v]
        grown, above = more != above, more
    return bool(above >> x & 1)


def by_definition(n: int, directed, bidirected, actions, outcome: int | None = None) -> set[tuple[int, ...]]:
    """All admissible choices of sets (masks, in the order of the actions) on nodes 0 to n - 1 in order of time."""
    outcome = n - 1 if outcome is None else outcome
    parents = [0] * (n + len(bidirected))
    for a, b in directed:
        parents[b] |= 1 << a
    for i, (a, b) in enumerate(bidirected):
        parents[a] |= 1 << (n + i)
        parents[b] |= 1 << (n + i)
    found: set[tuple[int, ...]] = set()

    def choose(left: int, now: list[int], chosen: tuple[int, ...]) -> None:
        if left == 0:
            found.add(chosen)
            return
        x = actions[left - 1]
        matters = _causes(now, x, outcome)
        cut = [mask & ~(1 << x) for mask in now]
        for z in range(1 << x):
            if not (z >> outcome & 1) and (not matters or not _reach(cut, x, outcome, z)):
                choose(left - 1, [*now[:x], z, *now[x + 1 :]], (z, *chosen))

    choose(len(actions), parents, ())
    return found


def smallest(found: set[tuple[int, ...]]) -> set[tuple[int, ...]]:
    def inside(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return a != b and all(x & ~y == 0 for x, y in zip(a, b))

    return {b for b in found if not any(inside(a, b) for a in found)}


def masks(sets: g.Sets, names=NAMES) -> tuple[int, ...]:
    return tuple(sum(1 << names.index(name) for name in looks_at) for looks_at in sets.values())


def _draw(rng: np.random.Generator, n: int, arrows: float, pairs: float):
    every = list(itertools.combinations(range(n), 2))
    return [e for e in every if rng.random() < arrows], [e for e in every if rng.random() < pairs]


def named(n: int, directed, bidirected) -> g.Diagram:
    word = lambda edges: tuple((NAMES[a], NAMES[b]) for a, b in edges)  # noqa: E731
    return g.Diagram(word(directed), word(bidirected), NAMES[:n])


# d-separation


def test_d_separation_by_hand_and_the_open_path():
    light = g.diagram(TAIL_LIGHT, "Z W X Y", hidden="L")
    assert g.d_separated(light, "Z", "W") and not g.d_separated(light, "Z", "W", ["X"])
    assert str(g.open_path(light, "Z", "W", ["X"])) == "Z -> X <- L -> W"
    assert str(g.open_path(light, "L", "Y")) == "L -> X -> Y" and g.open_path(light, "L", "Y", ["X", "Z"]) is None
    path = g.open_path(light, "L", "Y", ["X", "Z", "W"])
    assert str(path) == "L -> W <-> Y" and path.colliders == ("W",)
    below = g.diagram("A->C B->C C->D")
    assert str(g.open_path(below, "A", "B", ["D"])) == "A -> C <- B" and g.open_path(below, "A", "B") is None


def test_separation_and_open_paths_agree_with_the_bayes_ball():
    """On random graphs with pairs; and each path found is a path of the graph that its own colliders allow."""
    rng = seeding.generator(0, "separation")
    for _ in range(400):
        directed, bidirected = _draw(rng, 5, 0.4, 0.25)
        graph = named(5, directed, bidirected)
        parents = [0] * (5 + len(bidirected))
        for a, b in directed:
            parents[b] |= 1 << a
        for i, (a, b) in enumerate(bidirected):
            parents[a] |= 1 << (5 + i)
            parents[b] |= 1 << (5 + i)
        x, y, *rest = (int(v) for v in rng.permutation(5))
        given = [v for v in rest if rng.random() < 0.5]
        path = g.open_path(graph, NAMES[x], NAMES[y], [NAMES[v] for v in given])
        assert (path is not None) == _reach(parents, x, y, sum(1 << v for v in given))
        if path is None:
            continue
        for a, b, arrow in zip(path.nodes, path.nodes[1:], path.arrows):
            edge = {"->": (a, b), "<-": (b, a), "<->": tuple(sorted((a, b)))}[arrow]
            assert edge in (graph.bidirected if arrow == "<->" else graph.directed)
        seen = {NAMES[v] for v in given}
        for node in path.nodes[1:-1]:
            below = nx.descendants(graph.explicit, node) | {node}
            assert bool(below & seen) if node in path.colliders else node not in seen


def test_the_projection_keeps_every_separation():
    rng = seeding.generator(1, "projection")
    for _ in range(150):
        directed, bidirected = _draw(rng, 5, 0.5, 0.2)
        unseen = [name for name in NAMES[1:4] if rng.random() < 0.6][:2]
        word = named(5, directed, bidirected)
        whole = g.Diagram(word.directed, word.bidirected, word.order, frozenset(unseen))
        flat = whole.projected()
        seen = flat.order
        for x, y in itertools.combinations(seen, 2):
            others = [name for name in seen if name not in (x, y)]
            for size in range(len(others) + 1):
                for given in itertools.combinations(others, size):
                    assert g.d_separated(whole, x, y, given) == g.d_separated(flat, x, y, given)


# The criteria


@pytest.mark.parametrize("name", worlds.KUMOR)
def test_the_table_of_graphs_by_the_algorithm_and_by_brute_force(name):
    graph, known = kumor(name)
    verdict = g.sequential_pi_backdoor(graph, known.actions, "Y")
    number = {variable: i for i, variable in enumerate(known.order)}
    edges = [[(number[a], number[b]) for a, b in pairs] for pairs in (known.directed, known.bidirected)]
    every = by_definition(len(number), *edges, [number[x] for x in known.actions])
    assert verdict.imitable == bool(every) == (known.sets is not None)
    all_smallest = g.minimal_sets(graph, known.actions, "Y")
    assert {masks(sets, known.order) for sets in all_smallest} == smallest(every)
    if known.sets is None:
        assert verdict.action in known.actions and str(verdict.path) in verdict.reason
        return
    assert dict(zip(known.actions, known.sets)) == all_smallest[0]  # the one with the fewest variables comes first
    assert verdict.sets in all_smallest
    assert len(every) == {"z first": 4, "z between": 1, "actions confounded": 1}.get(name, len(every))


def test_an_action_may_affect_what_it_shares_a_cause_with():
    """Rare: only with the action's own arrows cut is C apart from A (random graphs seldom have it)."""
    graph = g.diagram("A->B A->C B->D C->E D->E A<->B B<->D C<->D", "A B C D E")
    verdict = g.sequential_pi_backdoor(graph, ["A", "B", "D"], "E")
    edges = [(0, 1), (0, 2), (1, 3), (2, 4), (3, 4)], [(0, 1), (1, 3), (2, 3)]
    assert masks(verdict.sets) in smallest(by_definition(5, *edges, [0, 1, 3]))


def test_the_earliest_action_answers_for_a_shared_cause():
    """A is covered through B and D, and only the earlier of the two may answer: C comes between them."""
    graph = g.diagram("A->B A->D B->E C->D C->E D->E A<->C", "A B C D E")
    edges = [(0, 1), (0, 3), (1, 4), (2, 3), (2, 4), (3, 4)], [(0, 2)]
    assert by_definition(5, *edges, [0, 1, 3]) == set()
    assert g.sequential_pi_backdoor(graph, ["A", "B", "D"], "E").action == "A"


def test_z_must_not_enter_and_the_collider_is_named():
    graph, _ = kumor("z must not enter")
    refused = g.admissible(graph, {"X1": [], "X2": ["Z"]}, "Y")
    assert not refused.imitable and refused.action == "X2"
    assert str(refused.path) == "X2 <-> Z <-> Y" and "Z is a collider, and looking at it opens the path" in refused.reason
    between, _ = kumor("z between")
    single = g.pi_backdoor(between, "X1", "Y")  # one action at a time says no, both together yes
    assert not single.imitable and str(single.path) == "X1 <-> Z -> Y"


def _with_ancestors(n: int):
    """All graphs on n nodes in order of which each is a cause of the last, with all pairs."""
    every = list(itertools.combinations(range(n), 2))
    for chosen in itertools.product((0, 1), repeat=len(every)):
        directed = [edge for edge, kept in zip(every, chosen) if kept]
        if all(any(a == v for a, _ in directed) for v in range(n - 1)):
            for pairs in itertools.product((0, 1), repeat=len(every)):
                yield directed, [edge for edge, kept in zip(every, pairs) if kept]


def test_the_algorithm_agrees_with_the_definition_on_all_graphs_of_four_variables():
    """Every graph in which all are causes of the outcome (others reduce to smaller ones, tried below), two or three
    actions in turn; one action on all."""
    cases = 0
    for directed, bidirected in _with_ancestors(4):
        graph = named(4, directed, bidirected)
        for actions in ([2], [0, 2], [1, 2], [0, 1, 2])[cases % 2 :: 2]:
            ox = g.find_ox(graph, [NAMES[x] for x in actions], "D")
            assert ({NAMES[x] for x in actions} <= set(ox)) == bool(by_definition(4, directed, bidirected, actions))
        cases += 1
    assert cases == 21 * 64


def test_verdicts_sets_and_reasons_on_random_graphs_of_five_variables():
    """Against the definition: verdict, given set, all smallest sets; and the stated path is open whatever is looked at."""
    rng = seeding.generator(2, "sequential")
    yes = 0
    for _ in range(700):
        directed, bidirected = _draw(rng, 5, rng.choice([0.3, 0.5, 0.7]), rng.choice([0.1, 0.2, 0.4]))
        graph = named(5, directed, bidirected)
        outcome = 4 if rng.random() < 0.8 else int(rng.integers(2, 5))  # something may happen after the outcome
        numbers = [x for x in range(4) if x != outcome and rng.random() < 0.6][:3] or [0]
        actions = [NAMES[x] for x in numbers]
        every = by_definition(5, directed, bidirected, numbers, outcome)
        verdict = g.sequential_pi_backdoor(graph, actions, NAMES[outcome])
        assert verdict.imitable == bool(every), (directed, bidirected, actions)
        assert {masks(sets) for sets in g.minimal_sets(graph, actions, NAMES[outcome])} == smallest(every)
        if not verdict.imitable:
            assert str(verdict.path) in verdict.reason and verdict.action in actions
            if verdict.reason.startswith("nothing that"):  # then no set whatever closes it
                assert not set(verdict.path.nodes[1:-1]) & set(graph.before(verdict.action)) and not verdict.path.colliders
            continue
        yes += 1
        assert masks(verdict.sets) in smallest(every)
        wide = g.sequential_pi_backdoor(graph, actions, NAMES[outcome], minimal=False).sets
        assert masks(wide) in every and g.admissible(graph, wide, NAMES[outcome]).imitable
        picked = sorted(every)[int(rng.integers(len(every)))]
        sets = {a: [NAMES[v] for v in range(5) if mask >> v & 1] for a, mask in zip(actions, picked)}
        assert g.admissible(graph, sets, NAMES[outcome]).imitable
        others = tuple(int(rng.integers(2**x)) & ~(1 << outcome) for x in numbers)
        sets = {a: [NAMES[v] for v in range(5) if mask >> v & 1] for a, mask in zip(actions, others)}
        assert g.admissible(graph, sets, NAMES[outcome]).imitable == (others in every)
    assert 250 < yes < 600


def test_hidden_variables_drawn_in_full_say_the_same_as_two_headed_arrows():
    rng = seeding.generator(3, "drawn")
    for _ in range(200):
        directed, bidirected = _draw(rng, 5, 0.5, 0.25)
        graph = named(5, directed, bidirected)
        causes = [f"U{i}" for i in range(len(bidirected))]
        drawn = [(u, NAMES[v]) for u, pair in zip(causes, bidirected) for v in pair]
        full = g.Diagram((*graph.directed, *drawn), (), graph.order, frozenset(causes))
        flat, other = (g.sequential_pi_backdoor(d, ["B", "D"], "E") for d in (graph, full))
        assert flat.imitable == other.imitable and flat.sets == other.sets
        scope = [name for name in "ABC" if rng.random() < 0.6]
        flat, other = (g.pi_backdoor(d, "D", "E", scope) for d in (graph, full))
        assert flat.imitable == other.imitable


def test_agreement_with_causalrl_on_one_action():
    """Imitability of 200 random graphs. Where the action is no cause of the outcome they ask for separation all the same; but
    then every policy imitates, as a model of the graph shows, so those are ours."""
    rng = seeding.generator(4, "causalrl")
    agreed = differed = 0
    while agreed + differed < 200:
        directed, bidirected = _draw(rng, 5, 0.5, 0.25)
        graph = named(5, directed, bidirected)
        ours = g.pi_backdoor(graph, "D", "E")
        other = CausalGraph(directed_edges=list(graph.directed), bidirected_edges=list(graph.bidirected))
        if not {"D", "E"} <= set(other.nodes):
            continue
        seen = set(graph.before("D")) & set(other.nodes)
        verdict = theirs(other, action="D", outcome="E", observable=seen)
        if ours.imitable == verdict:
            agreed += 1
            continue
        differed += 1
        assert ours.imitable and not verdict and ("D", "E") not in graph.directed
        model = random_tables(graph, seed=differed)
        acted = [model.do({"D": ((), np.eye(2)[x])}).mean("E") for x in (0, 1)]
        assert acted == pytest.approx([model.mean("E")] * 2, abs=1e-12)
    assert agreed >= 150 and differed >= 1


def test_copying_from_a_set_that_the_criterion_gives_reproduces_the_outcome():
    """P(y) to the last digit, on random models of random graphs; where the criterion refuses, some model misses."""
    rng = seeding.generator(5, "copies")
    refused = []
    for case in range(60):
        directed, bidirected = _draw(rng, 5, 0.6, 0.2)
        graph = named(5, directed, bidirected)
        verdict = g.sequential_pi_backdoor(graph, ["B", "D"], "E")
        gaps = []
        for seed in range(3):
            model = random_tables(graph, seed=100 * case + seed)
            scopes = verdict.sets or {a: graph.before(a) for a in ("B", "D")}
            gaps.append(abs(model.clone(scopes).joint("E") - model.joint("E")).max())
        if verdict.imitable:
            assert max(gaps) < 1e-12
        else:
            refused.append(max(gaps) > 1e-4)
    assert len(refused) > 15 and all(refused)


def test_tables_are_the_structural_model_with_the_same_distributions():
    """Watching and acting in a world, as tables and as a structural model."""
    light = worlds.tail_light().model
    names = ("L", "U", "Z", "W", "X", "Y")
    graph = g.diagram("L->W U->W L->X Z->X U->Y X->Y Z->Y", "Z W X Y", hidden="L U")
    xor, conj = np.eye(2)[[[0, 1], [1, 0]]], np.eye(2)[[[0, 0], [0, 1]]]
    half, most = np.array([0.5, 0.5]), np.array([0.38, 0.62])
    xor3 = np.eye(2)[np.indices((2, 2, 2)).sum(0) % 2]
    made = {"L": ((), most), "U": ((), most), "Z": ((), half), "W": (("L", "U"), conj), "X": (("L", "Z"), xor)}
    made["Y"] = (("U", "X", "Z"), xor3)
    tables = random_tables(graph, seed=0).do({name: made[name] for name in names})
    assert tables.joint("Z", "W", "X", "Y") == pytest.approx(light.joint("Z", "W", "X", "Y"), abs=1e-12)
    assert tables.mean("Y") == pytest.approx(0.4712, abs=1e-12)
    assert tables.clone({"X": "Z"}).mean("Y") == pytest.approx(0.4712, abs=1e-12)
    assert tables.clone({"X": ("Z", "W")}).mean("Y") == pytest.approx(0.290864, abs=1e-6)
    with pytest.raises(ValueError, match="unknown name 'Q'"):
        tables.joint("Q")
    with pytest.raises(ValueError, match="a policy for X that looks at"):
        tables.do({"X": (("Z",), [0.5, 0.5])})


# Identification, surrogates and instruments


def test_identified_effects_equal_experiments_in_random_models():
    """Back door, front door, napkin and two actions: the formula's value for what is seen is what the experiment gives."""
    cases = [
        ("Z->X Z->Y X->Y", ["Y"], ["X"]),
        ("X->M M->Y X<->Y", ["M", "Y"], ["X"]),
        ("W->Z Z->X X->Y W<->X W<->Y", ["Y"], ["X"]),
    ]
    for arrows, outcomes, actions in cases:
        graph = g.diagram(arrows)
        estimand = g.identify(graph, outcomes, actions)
        for seed in range(5):
            model = random_tables(graph, seed=seed)
            value = estimand.evaluate(model.joint(*reversed(graph.order)), graph.order[::-1])
            for x in (0, 1):
                assert value[x] == pytest.approx(model.do({"X": ((), np.eye(2)[x])}).joint(*outcomes), abs=1e-10)


def test_whether_an_effect_is_identified_agrees_with_y0_and_identified_ones_are_right():
    """150 random graphs, one or two actions. (y0's formulas are not compared: see the docstring of `identify`.)"""
    rng, yes = seeding.generator(7, "identify"), 0
    for case in range(150):
        directed, bidirected = _draw(rng, 5, 0.6, 0.25)
        graph = named(5, directed, bidirected)
        actions = [["B"], ["D"], ["A", "C"]][case % 3]
        variables = {name: Variable(name) for name in graph.order}
        edges = [[(variables[a], variables[b]) for a, b in pairs] for pairs in (graph.directed, graph.bidirected)]
        mixed = NxMixedGraph.from_edges(nodes=list(variables.values()), directed=edges[0], undirected=edges[1])
        other = identify_outcomes(mixed, treatments={variables[a] for a in actions}, outcomes={variables["E"]})
        try:
            estimand = g.identify(graph, ["E"], actions)
        except g.NotIdentified as refused:
            assert other is None
            large, small = refused.hedge
            assert small < large and nx.is_connected(nx.Graph(graph.bidirected).subgraph(large))
            continue
        assert other is not None
        yes += 1
        model = random_tables(graph, seed=case)
        value = estimand.evaluate(model.joint(*graph.order), graph.order)
        for picks in itertools.product((0, 1), repeat=len(actions)):
            acted = model.do({a: ((), np.eye(2)[x]) for a, x in zip(actions, picks)})
            assert value[picks] == pytest.approx(acted.joint("E"), abs=1e-9)
    assert 50 < yes < 140


def test_what_is_not_identified_is_refused_with_its_hedge():
    with pytest.raises(g.NotIdentified, match="{X, Y} together, and {Y} among") as found:
        g.identify(g.diagram("X->Y X<->Y"), ["Y"], ["X"])
    assert found.value.hedge == ({"X", "Y"}, {"Y"})
    # and rightly: two models that agree on what is seen
    bandit = worlds.xor_bandit(0.5)
    same = g.Diagram(*map(tuple, bandit.model.edges()))
    assert same.bidirected == (("X", "Y"),)


def test_positivity_is_asked_for_in_words():
    graph = g.diagram("Z->X Z->Y X->Y")
    joint = np.zeros((2, 2, 2))
    joint[0, 0], joint[1, 1] = 0.25, 0.25  # X always equals Z
    with pytest.raises(ValueError, match="choices that are never seen: some values of Z, X, Y"):
        g.identify(graph, ["Y"], ["X"]).evaluate(joint, ("Z", "X", "Y"))
    with pytest.raises(ValueError, match="one axis for each of Z, X, Y"):
        g.identify(graph, ["Y"], ["X"]).evaluate(joint[..., 0], ("Z", "X"))


def test_front_door_digits_have_a_surrogate_that_identifies():
    digits = worlds.front_door_digits()
    graph = g.of_model(digits.model)
    assert not g.pi_backdoor(graph, "X", "Y").imitable
    assert g.surrogates(graph, "X", "Y") == [frozenset({"S"})]
    (instrument,) = g.instruments(graph, "X", "Y")
    assert instrument.surrogate == {"S"} and instrument.looks_at == ()
    value = instrument.estimand.evaluate(digits.model.joint("X", "W", "S", "Y"), ("X", "W", "S", "Y"))
    for x in (0, 1):
        assert value[x] == pytest.approx(digits.model.do({"X": x}).joint("S"), abs=1e-12)
    assert g.instruments(g.diagram("X->Y X<->Y"), "X", "Y") == []


def test_a_surrogate_screens_the_outcome_off_from_who_acts():
    """P(y | s) is the same for the expert and for a random policy that looks at the scope, in random models."""
    rng, checked = seeding.generator(6, "surrogates"), 0
    for case in range(30):
        directed, bidirected = _draw(rng, 5, 0.5, 0.25)
        graph = named(5, directed, bidirected)
        model = random_tables(graph, seed=case)
        policy = (("A",), rng.dirichlet([1, 1], size=2))
        for surrogate in g.surrogates(graph, "B", "E", ["A"]):
            names = tuple(sorted(surrogate))
            acted = model.do({"B": policy}).conditional("E", names)
            assert acted == pytest.approx(model.conditional("E", names), abs=1e-12)
            checked += 1
    assert checked > 10


# Bad input


def test_bad_diagrams_are_refused_by_name():
    with pytest.raises(ValueError, match="circle: A -> B -> C -> A"):
        g.diagram("A->B B->C C->A")
    with pytest.raises(ValueError, match="an arrow from A to itself"):
        g.diagram("A<->A")
    with pytest.raises(ValueError, match="unknown name 'B'"):
        g.diagram("A->B", "A C")
    with pytest.raises(ValueError, match="the arrow B -> A goes back in time"):
        g.diagram("B->A", "A B")
    with pytest.raises(ValueError, match="names a variable twice"):
        g.diagram("A->B", "A B A")
    with pytest.raises(ValueError, match="written a->b or a<->b"):
        g.diagram("A-B")
    with pytest.raises(ValueError, match="circle: U -> V -> U"):
        g.diagram("U->V V->U U->X X->Y", "X Y", hidden="U V")


def test_bad_questions_are_refused_by_name():
    light = g.diagram(TAIL_LIGHT, "Z W X Y V", hidden="L")
    with pytest.raises(ValueError, match="unknown name 'Q' in the actions"):
        g.pi_backdoor(light, "Q", "Y")
    with pytest.raises(ValueError, match="L in the actions is not observed"):
        g.sequential_pi_backdoor(light, ["L", "X"], "Y")
    with pytest.raises(ValueError, match="unknown name 'Q' in the outcome"):
        g.find_ox(light, ["X"], "Q")
    with pytest.raises(ValueError, match="V does not happen before X"):
        g.pi_backdoor(light, "X", "Y", ["Z", "V"])
    with pytest.raises(ValueError, match="V does not happen before X"):
        g.admissible(light, {"X": ["V"]}, "Y")
    with pytest.raises(ValueError, match="L in what X looks at is not observed"):
        g.admissible(light, {"X": ["L"]}, "Y")
    with pytest.raises(ValueError, match="both an action and the outcome"):
        g.minimal_sets(light, ["X", "Y"], "Y")
    with pytest.raises(ValueError, match="at least one action"):
        g.sequential_pi_backdoor(light, [], "Y")
    with pytest.raises(ValueError, match="in a list or tuple, not the text 'XZ'"):
        g.d_separated(light, "L", "Y", "XZ")
    with pytest.raises(ValueError, match="must be different"):
        g.d_separated(light, "L", "Y", ["L"])
    with pytest.raises(ValueError, match="outcomes and actions, all different"):
        g.identify(light, ["X"], ["X"])
    many = g.diagram(" ".join(f"Z{i}->X Z{i}->Y" for i in range(17)) + " X->Y")
    with pytest.raises(ValueError, match="17 candidates for X have too many subsets"):
        g.minimal_sets(many, ["X"], "Y")
    assert len(g.pi_backdoor(many, "X", "Y").sets["X"]) == 17
