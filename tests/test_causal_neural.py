"""Networks that imitate, over seeds, against the exact imitators; copying without the diagram fails, copying with it works."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench import stats
from workbench.causal import neural, worlds
from workbench.causal.graph import of_model, sequential_pi_backdoor
from workbench.causal.scm import World
from workbench.permission import NotPermitted

SEEDS = 8
DATA = Path(__file__).parents[1] / "data"


def _sizes(problem):
    return {name: problem.model.size(name) for name in problem.model.observed}


# What an imitator who ignores causes would look at: all that is seen on the highway, the gap as it is now in the drive.
CASES = [
    (worlds.highway(), {"X": ("Z", "W")}),
    (worlds.leader_follower(steps=2), {"X1": ("S1",), "X2": ("S2",)}),
]


def _allowed(problem):
    verdict = sequential_pi_backdoor(of_model(problem.model, problem.order), problem.actions, problem.outcome)
    return {action: tuple(n for n in problem.before(action) if n in scope) for action, scope in verdict.sets.items()}


def _values(problem, scopes, learn, **settings):
    found = []
    for seed in range(SEEDS):
        data = World(problem.model).see(4000, seed=seed)
        policies = {a: learn(data, _sizes(problem), a, scope, seed=seed, **settings) for a, scope in scopes.items()}
        found.append(problem.value(policies))
    return stats.t_interval(found)


def _exactly(problem, scopes):
    from workbench.causal.imitation import copied

    names = problem.model.observed
    seen = problem.model.joint(*names)
    return problem.value({action: copied(seen, names, action, scope) for action, scope in scopes.items()})


@pytest.mark.parametrize(("problem", "naive"), CASES, ids=["highway", "drive"])
def test_cloning_what_the_diagram_allows_reaches_the_expert_and_cloning_without_it_does_not(problem, naive):
    allowed = _allowed(problem)
    good, bad = (_values(problem, scopes, neural.cloning, steps=150) for scopes in (allowed, naive))
    assert _exactly(problem, allowed) == pytest.approx(problem.expert_value, abs=1e-9)
    lost = problem.expert_value - _exactly(problem, naive)
    for interval, exact in ((good, problem.expert_value), (bad, problem.expert_value - lost)):
        assert abs(interval.estimate - exact) < 0.1 * lost + (interval.high - interval.low) / 2
    assert bad.high < good.low


def test_gail_of_one_decision_finds_what_cloning_finds_and_is_misled_by_the_same():
    problem, naive = CASES[0]
    for scopes in (_allowed(problem), naive):
        interval = _values(problem, scopes, neural.gail, steps=200, batch_size=128)
        assert abs(interval.estimate - _exactly(problem, scopes)) < 0.02 + (interval.high - interval.low) / 2


def test_gail_in_turn_is_the_same_for_a_seed_and_must_be_allowed_to_act():
    problem, naive = CASES[1]
    world = World(problem.model, ("see", "do"))
    data = world.see(300, seed=0)
    learned = [neural.gail_in_turn(world, data, naive, seed=5, steps=5, batch_size=32) for _ in range(2)]
    assert all(np.array_equal(learned[0][action].table, learned[1][action].table) for action in naive)
    with pytest.raises(NotPermitted, match="do"):
        neural.gail_in_turn(World(problem.model), data, naive, seed=0, steps=1)


def test_the_recorded_networks_near_the_expert_with_what_the_diagram_admits_and_not_without():
    """data/networks.json, read by chapter 07; its first seed is trained anew."""
    script = runpy.run_path(str(DATA / "networks.py"))
    rows = json.loads((DATA / "networks.json").read_text())["rows"]
    for admitted, ignoring in zip(rows[:2] + rows[4:6], rows[2:4] + rows[6:8], strict=True):
        name, method, lost = admitted["world"], admitted["method"], admitted["expert"] - ignoring["exact copy"]
        problem, naive = script["WORLDS"][name]
        assert admitted["exact copy"] == pytest.approx(_exactly(problem, script["admitted"](problem)))
        assert ignoring["exact copy"] == pytest.approx(_exactly(problem, naive))
        good, bad = stats.t_interval(admitted["values"]), stats.t_interval(ignoring["values"])
        assert len(admitted["values"]) == SEEDS and good.low > admitted["expert"] - 0.2 * lost
        assert bad.high < ignoring["exact copy"] + 0.1 * lost
        if (name, method) in (("highway", "cloning"), ("drive", "GAIL")):
            again = problem.value(script["learn"](problem, method, script["admitted"](problem), 0))
            assert again == pytest.approx(admitted["values"][0], abs=0.02 * lost if method == "cloning" else 0.15 * lost)


def test_with_nothing_to_look_at_the_overall_share_is_copied():
    data = {"X": np.array([1] * 300 + [0] * 100)}
    table = neural.cloning(data, {"X": 2}, "X", (), seed=0).table
    assert table == pytest.approx([0.25, 0.75], abs=0.03)


def test_the_same_seed_gives_the_same_bits_whatever_torch_s_own_seed():
    problem = worlds.highway()
    data = World(problem.model).see(500, seed=0)
    found = []
    for own in (1, 2):
        torch.manual_seed(own)
        learners = (neural.cloning, neural.gail)
        found.append([learn(data, _sizes(problem), "X", ("Z",), seed=3, steps=20).table for learn in learners])
    assert np.array_equal(found[0][0], found[1][0]) and np.array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("learn", [neural.cloning, neural.gail])
def test_demonstrations_without_the_variable_are_refused(learn):
    with pytest.raises(ValueError, match="unknown name 'Q'"):
        learn({"X": np.array([0, 1])}, {"X": 2}, "X", ("Q",), seed=0)
    with pytest.raises(ValueError, match="no demonstrations"):
        learn({"X": np.array([], int)}, {"X": 2}, "X", (), seed=0)
