"""Every number that is claimed of a world, to 1e-6, by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from workbench.causal import worlds
from workbench.causal.bounds import natural
from workbench.causal.graph import admissible, minimal_sets, sequential_pi_backdoor
from workbench.causal.planning import robust_value_iteration, value_iteration
from workbench.causal.scm import Chance, ConfoundedMDP

EXACT = 1e-6


def clone(problem: worlds.Problem, scopes: dict[str, tuple[str, ...]]) -> float:
    """The value of copying P(action | scope)."""
    policies = {}
    for action, scope in scopes.items():
        table = problem.model.conditional(action, scope)
        policies[action] = Chance(scope, np.where(np.isnan(table), 1 / table.shape[-1], table))
    return problem.value(policies)


def optimum(mdp: ConfoundedMDP) -> float:
    return float(value_iteration(mdp.transitions, mdp.rewards, mdp.start, mdp.discount).score)


@pytest.mark.parametrize(("p", "cloned"), [(0.5, 0.5), (0.8, 0.68), (0.9, 0.82)])
def test_xor_bandit(p, cloned):
    bandit = worlds.xor_bandit(p)
    assert bandit.expert_value == pytest.approx(1, abs=EXACT)
    assert [bandit.value({"X": x}) for x in (0, 1)] == pytest.approx([p, 1 - p], abs=EXACT)
    assert clone(bandit, {"X": ()}) == pytest.approx(cloned, abs=EXACT)
    assert bandit.best({"X": ()})[0] == pytest.approx(max(p, 1 - p), abs=EXACT)
    mdp = worlds.bandit_mdp(bandit)
    known = natural(mdp.observed)
    assert known.reward_low[0] == pytest.approx([p, 1 - p], abs=EXACT)  # the truth is the lower end
    assert known.reward_high[0] == pytest.approx([1, 1], abs=EXACT)
    assert mdp.rewards[0] == pytest.approx([p, 1 - p], abs=EXACT)
    naive = mdp.observed.reward / mdp.observed.expert
    assert naive == pytest.approx(np.ones((1, 2)), abs=EXACT)  # every policy looks perfect


def test_greedy_casino_three_layers():
    casino = worlds.greedy_casino()
    assert [casino.model.mean("Y", {"X": x}) for x in (0, 1)] == pytest.approx([0.15, 0.15], abs=EXACT)
    assert [casino.value({"X": x}) for x in (0, 1)] == pytest.approx([0.3, 0.3], abs=EXACT)
    for x in (0, 1):
        assert casino.model.imagine("Y", evidence={"X": x}, actions={"X": 1 - x})[1] == pytest.approx(0.45, abs=EXACT)
    assert clone(casino, {"X": ()}) == pytest.approx(0.3, abs=EXACT)  # a copy is twice as good as the expert
    known = natural(worlds.bandit_mdp(casino).observed)
    assert known.reward_low == pytest.approx(np.full((1, 2), 0.075), abs=EXACT)
    assert known.reward_high == pytest.approx(np.full((1, 2), 0.575), abs=EXACT)


def test_tail_light_more_covariates_are_worse():
    light = worlds.tail_light()
    assert light.expert_value == pytest.approx(0.4712, abs=EXACT)
    assert clone(light, {"X": ("Z",)}) == pytest.approx(0.4712, abs=EXACT)
    assert clone(light, {"X": ("Z", "W")}) == pytest.approx(0.290864, abs=EXACT)
    strong = worlds.tail_light(strong=True)
    assert strong.expert_value == pytest.approx(0.665, abs=EXACT)
    assert clone(strong, {"X": ("Z",)}) == pytest.approx(0.665, abs=EXACT)
    assert clone(strong, {"X": ("Z", "W")}) == pytest.approx(0.535294, abs=EXACT)
    assert strong.best({"X": ("Z",)})[0] == pytest.approx(0.85, abs=EXACT)


def test_front_door_digits():
    digits = worlds.front_door_digits()
    assert digits.expert_value == pytest.approx(0.756, abs=EXACT)
    assert digits.value({"X": 1}) == pytest.approx(0.756, abs=EXACT)
    assert digits.value({"X": 0}) == pytest.approx(0.244, abs=EXACT)
    assert digits.model.joint("X")[1] == pytest.approx(0.82, abs=EXACT)
    assert clone(digits, {"X": ()}) == pytest.approx(0.66384, abs=EXACT)
    surrogate = digits.model.joint("S")[0]  # P(s) tells which policy imitates: only always 1 reproduces it
    assert digits.model.do({"X": 1}).joint("S")[0] == pytest.approx(surrogate, abs=EXACT)


def test_car_horn_and_two_parities_cannot_be_imitated():
    horn = worlds.car_horn()
    assert horn.expert_value == pytest.approx(1, abs=EXACT)
    assert horn.before("X") == ("F", "B")
    for table in itertools.product((0, 1), repeat=4):
        policy = Chance(("F", "B"), np.eye(2)[np.reshape(table, (2, 2))])
        assert horn.value({"X": policy}) == pytest.approx(0.5, abs=EXACT)
    parities = worlds.two_parities()
    assert parities.expert_value == pytest.approx(1, abs=EXACT)
    assert parities.best({"X1": (), "X2": ("X1", "Z")})[0] == pytest.approx(0.5, abs=EXACT)


def test_four_causes():
    causes = worlds.four_causes()
    assert causes.expert_value == pytest.approx(0.4352, abs=EXACT)
    assert clone(causes, {"X0": causes.before("X0"), "X1": causes.before("X1")}) == pytest.approx(0.4352, abs=EXACT)
    assert clone(causes, {"X0": (), "X1": ("X0", "Z1")}) == pytest.approx(0.428896, abs=EXACT)
    assert causes.best({"X0": (), "X1": ("Z1",)})[0] == pytest.approx(0.8, abs=EXACT)
    assert causes.best({"X0": ("Z0",), "X1": ("Z0", "X0", "Z1")})[0] == pytest.approx(0.8, abs=EXACT)


@pytest.mark.parametrize(
    ("n", "p", "g", "expert", "best", "cloned", "near", "far"),
    [
        (3, 0.9, 0.9, 0.81, 0.766113, 0.722367, 0.766113, 0.758935),
        (3, 0.7, 0.9, 0.81, 0.637624, 0.523394, 0.637624, 0.613668),
        (5, 0.9, 0.95, 0.814506, 0.772729, 0.728165, 0.772729, 0.746617),
    ],
)
def test_confounded_chain(n, p, g, expert, best, cloned, near, far):
    """Values E g^(steps - 1): the goal pays from the step that reaches it."""
    mdp = worlds.confounded_chain(n, p, g)
    watched = mdp.observed
    assert watched.expert_value / g == pytest.approx(expert, abs=EXACT)
    assert optimum(mdp) / g == pytest.approx(best, abs=EXACT)
    assert mdp.value(watched.expert) / g == pytest.approx(cloned, abs=EXACT)
    naive = robust_value_iteration(natural(watched, transitions=False, rewards=False))
    assert naive.score / g == pytest.approx(expert, abs=EXACT)  # the plan that trusts the record promises too much
    reachable = natural(watched, rewards=False, support=worlds.chain_support(n))
    assert robust_value_iteration(reachable).score / g == pytest.approx(near, abs=EXACT)
    assert robust_value_iteration(natural(watched, rewards=False)).score / g == pytest.approx(far, abs=EXACT)


def test_the_shortest_chain_in_closed_form():
    for p, g in ((0.9, 0.9), (0.7, 0.8)):
        mdp = worlds.confounded_chain(1, p, g)
        assert optimum(mdp) / g == pytest.approx(p / (1 - g * (1 - p)), abs=EXACT)
        q = p**2 + (1 - p) ** 2
        assert mdp.value(mdp.observed.expert) / g == pytest.approx(q / (1 - g * (1 - q)), abs=EXACT)
    mdp = worlds.confounded_chain(1, 0.9, 0.9)
    assert (optimum(mdp) / 0.9, mdp.value(mdp.observed.expert) / 0.9) == pytest.approx((0.989011, 0.978520), abs=EXACT)


@pytest.mark.parametrize(
    ("case", "expert", "cloned", "best", "low", "high"),
    [
        ("both", 0.1, 0.244, 0.82, 0.09, 0.91),
        ("both, flipped", 0.9, 0.756, 0.82, 0.81, 0.99),
        ("transition only", 0.86, 0.6296, 0.716, 0.5584, 0.9864),
        ("reward only", 0.9, 0.644, 0.74, 0.72, 0.98),
        ("none", 0.6296, 0.6296, 0.716, 0.46624, 0.96336),
        ("deterministic expert", 0.716, 0.716, 0.716, 0.716, 1),
    ],
)
def test_two_states(case, expert, cloned, best, low, high):
    mdp = worlds.two_state(case)
    assert mdp.observed.expert_value == pytest.approx(expert, abs=EXACT)
    assert mdp.value(mdp.observed.expert) == pytest.approx(cloned, abs=EXACT)
    assert optimum(mdp) == pytest.approx(best, abs=EXACT)
    known = natural(mdp.observed)
    assert robust_value_iteration(known).score == pytest.approx(low, abs=EXACT)
    assert robust_value_iteration(known, worst=False).score == pytest.approx(high, abs=EXACT)


def admits(problem: worlds.Problem, **sets: str) -> bool:
    """Whether the diagram of the problem's own model admits these sets, written as words."""
    return admissible(problem.diagram, {a: found.split() for a, found in sets.items()}, problem.outcome).imitable


def test_the_diagrams_of_the_models_allow_exactly_what_the_values_say():
    for problem in (worlds.tail_light(), worlds.tail_light(strong=True), worlds.highway()):
        assert admits(problem, X="Z") and not admits(problem, X="Z W")
    assert not admits(worlds.xor_bandit(), X="")
    assert not admits(worlds.greedy_casino(), X="")
    assert not admits(worlds.front_door_digits(), X="")
    assert not admits(worlds.car_horn(), X="F B")
    drive = worlds.leader_follower(2)
    assert admits(drive, X1="S1 S0", X2="S2 S1 X1") and not admits(drive, X1="S1", X2="S2")
    assert not admits(worlds.two_parities(), X1="", X2="X1 Z")


def test_the_table_of_graphs_agrees_with_the_criterion():
    for graph in worlds.KUMOR.values():
        verdict = sequential_pi_backdoor(graph.diagram, graph.actions, graph.order[-1])
        assert verdict.imitable == (graph.sets is not None)
        if graph.sets is not None:
            found = dict(zip(graph.actions, graph.sets))
            assert admissible(graph.diagram, found, graph.order[-1]).imitable
            smallest = minimal_sets(graph.diagram, graph.actions, graph.order[-1])
            assert found in smallest


def test_the_sets_of_the_graph_table_imitate_and_others_do_not():
    """In random models the smallest sets give the expert's value; where there are none, even everything seen does not."""
    for graph in worlds.KUMOR.values():
        off = []
        for seed in range(10):
            problem = worlds.random_problem(graph, seed=seed)
            if graph.sets is None:
                scopes = {action: problem.before(action) for action in graph.actions}
                off.append(abs(clone(problem, scopes) - problem.expert_value))
            else:
                scopes = {a: tuple(sorted(found)) for a, found in zip(graph.actions, graph.sets)}
                assert clone(problem, scopes) == pytest.approx(problem.expert_value, abs=1e-12)
        assert graph.sets is not None or max(off) > 1e-3
    entering = [worlds.random_problem(worlds.KUMOR["z must not enter"], seed=seed) for seed in range(10)]
    assert max(abs(clone(p, {"X1": (), "X2": ("Z",)}) - p.expert_value) for p in entering) > 1e-3


def test_highway_the_flash_from_behind_misleads():
    road = worlds.highway()
    assert road.expert_value == pytest.approx(0.6125, abs=EXACT)
    assert clone(road, {"X": ("Z",)}) == pytest.approx(0.6125, abs=EXACT)
    assert clone(road, {"X": ("Z", "W")}) == pytest.approx(0.540768, abs=EXACT)
    assert road.best({"X": ("Z",)})[0] == pytest.approx(0.685, abs=EXACT)


def test_leader_and_follower_history_repairs_copying():
    drive = worlds.leader_follower()
    assert drive.expert_value == pytest.approx(2.38624, abs=EXACT)
    gap = {f"X{t}": (f"S{t}",) for t in (1, 2, 3)}
    assert clone(drive, gap) == pytest.approx(1.909862, abs=EXACT)
    history = {f"X{t}": (f"S{t}", f"S{t - 1}", *((f"X{t - 1}",) if t > 1 else ())) for t in (1, 2, 3)}
    assert clone(drive, history) == pytest.approx(2.38624, abs=EXACT)
    for t in (1, 2, 3):
        assert drive.before(f"X{t}")[-1] == f"S{t}"


def test_clinic_the_record_praises_the_wrong_drug():
    ward = worlds.clinic()
    watched = ward.observed
    record = robust_value_iteration(natural(watched, transitions=False, rewards=False))
    assert record.policy.tolist() == [1, 2, 2, 2] and record.score == pytest.approx(0.773512, abs=EXACT)
    assert ward.value(record.policy) == pytest.approx(0.515333, abs=EXACT)
    assert ward.value(np.ones(4, int)) == pytest.approx(optimum(ward), abs=EXACT)
    assert watched.expert_value == pytest.approx(0.711832, abs=EXACT)


def test_random_worlds_are_fixed_by_their_seed():
    a, b = (worlds.random_mdp(3, 2, 4, seed=2, count=5) for _ in range(2))
    assert np.array_equal(a.kernel, b.kernel) and a.value(np.zeros(3, int)).shape == (5,)
    assert not np.array_equal(a.noise, worlds.random_mdp(3, 2, 4, seed=3, count=5).noise)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown case 'three'; there are both"):
        worlds.two_state("three")
    with pytest.raises(ValueError, match="unknown action 'Q'"):
        worlds.tail_light().before("Q")
    with pytest.raises(ValueError, match="unknown name 'B' in the arrow A to B"):
        worlds.random_model([("A", "B")], [], "A", seed=0)
    with pytest.raises(ValueError, match="n must be at least 1"):
        worlds.confounded_chain(0)
    with pytest.raises(ValueError, match="steps must be 1 to 4"):
        worlds.leader_follower(5)
    with pytest.raises(ValueError, match="too many to try"):
        worlds.leader_follower().best({f"X{t}": (f"S{t}", f"S{t - 1}") for t in (1, 2, 3)})
