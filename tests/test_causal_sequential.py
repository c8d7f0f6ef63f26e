"""Decisions in turn: what can be computed from demonstrations, and games that are won by knowing the reward's shape."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from workbench.causal import worlds
from workbench.causal.graph import Diagram, of_model
from workbench.causal.scm import Chance
from workbench.causal.sequential import causal_gail, causal_mwal, occupancy, plannable, scoped_game

FOUR = worlds.four_causes()
SCOPES = {"X0": ("Z0",), "X1": ("Z0", "X0", "Z1")}


def _even(X0, X1, Z0, Z1):
    return 1 - (X0 ^ X1 ^ Z0 ^ Z1)


def test_occupancies_from_demonstrations_are_those_of_the_intervened_model():
    rng = np.random.default_rng(0)
    for _ in range(5):
        plan = {
            "X0": Chance(("Z0",), rng.dirichlet([1, 1], 2)),
            "X1": Chance(("Z1", "Z0", "X0"), rng.dirichlet([1, 1], (2, 2, 2))),  # in no order of time
        }
        names, found = occupancy(FOUR, plan)
        assert names == ("Z0", "X0", "Z1", "X1")
        assert found == pytest.approx(FOUR.model.do(plan).joint(*names), abs=1e-12)


def test_values_are_seen_rewards_times_occupancies_on_every_random_model_that_is_plannable():
    """Whatever the diagram says can be computed, can: on random diagrams and random models with random plans."""
    rng = np.random.default_rng(1)
    yes = 0
    for trial in range(80):
        order = ["A", "X1", "B", "X2", "Y"]
        directed = [pair for pair in combinations(order, 2) if rng.random() < 0.6]
        bidirected = [pair for pair in combinations(order, 2) if rng.random() < 0.2]
        scopes = {"X1": ("A",), "X2": ("A", "X1", "B")}
        if len(directed) + 2 * len(bidirected) > 9:  # the model would be large
            continue
        if not plannable(Diagram(tuple(directed), tuple(bidirected), tuple(order)), scopes, "Y").imitable:
            continue
        yes += 1
        model = worlds.random_model(directed, bidirected, order, seed=trial)
        problem = worlds.Problem("random", model, ("X1", "X2"), "Y", tuple(order))
        plan = {"X1": Chance(("A",), rng.dirichlet([1, 1], 2)), "X2": Chance(scopes["X2"], rng.dirichlet([1, 1], (2, 2, 2)))}
        names, visits = occupancy(problem, plan)
        reward = model.conditional("Y", names)[..., 1]
        assert (visits * reward).sum() == pytest.approx(problem.value(plan), abs=1e-10)
    assert 10 < yes < 60


def test_knowing_that_even_parity_pays_more_beats_the_expert():
    """Expert .4352, best plan .8 (both exact); the class: even parity pays at least as much as odd, whatever Z0 is."""
    rewards = [lambda **at: np.ones(()), *(lambda z=z, **at: _even(**at) * (at["Z0"] == z) for z in (0, 1))]
    found = scoped_game(FOUR, SCOPES, rewards)
    value = sum(chance * FOUR.value(plan) for chance, plan in zip(found.mixture, found.plans) if chance > 0)
    assert found.certificate.proved and FOUR.expert_value == pytest.approx(0.4352, abs=1e-9)
    assert value > FOUR.expert_value
    only_even = scoped_game(FOUR, SCOPES, [_even])
    best = sum(chance * FOUR.value(plan) for chance, plan in zip(only_even.mixture, only_even.plans) if chance > 0)
    assert best == pytest.approx(0.8, abs=1e-9)
    even = sum(only_even.expert[cell] for cell in np.ndindex(2, 2, 2, 2) if sum(cell) % 2 == 0)
    assert only_even.value == pytest.approx(even - 1, abs=1e-9)  # it is even always, the expert sometimes


def test_knowing_nothing_of_the_reward_the_imitator_matches_the_expert_and_no_more():
    corners = [lambda c=cell, **at: np.all([at[name] == value for name, value in c], axis=0) for cell in _cells()]
    found = scoped_game(FOUR, {"X0": ("Z0",), "X1": ("Z0", "X0", "Z1")}, corners)
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.imitator == pytest.approx(found.expert, abs=1e-7)


@pytest.mark.parametrize("rounds", [1, 50, 2000])
def test_by_multiplicative_weights_the_lead_is_as_near_to_the_exact_game_as_the_theorem_says(rounds):
    rewards = [lambda z=z, **at: _even(**at) * (at["Z0"] == z) for z in (0, 1)]
    exact = scoped_game(FOUR, SCOPES, rewards).value
    found = causal_mwal(FOUR, SCOPES, rewards, rounds=rounds)
    assert exact - 1e-9 <= found.value <= exact + np.sqrt(np.log(2) / (2 * rounds))
    if rounds == 2000:  # and what is promised is kept: the true reward is in the class
        value = sum(chance * FOUR.value(plan) for chance, plan in zip(found.mixture, found.plans) if chance > 0)
        assert found.certificate.proved and value > FOUR.expert_value


def test_causal_gail_ends_where_no_discriminator_tells_it_from_the_expert():
    found = causal_gail(FOUR, SCOPES, rounds=600)
    assert found.imitator == pytest.approx(found.expert, abs=2e-3) and found.mixture.sum() == pytest.approx(1)
    assert 0 < found.value < 0.01 and not found.certificate.proved, "nearly alike is no proof"
    value = sum(chance * FOUR.value(plan) for chance, plan in zip(found.mixture, found.plans) if chance > 0)
    assert abs(value - FOUR.expert_value) <= found.value


def _cells():
    names = ("Z0", "X0", "Z1", "X1")
    return [tuple(zip(names, cell)) for cell in np.ndindex(2, 2, 2, 2)]


def test_scopes_that_leave_a_path_open_are_refused_with_the_path():
    with pytest.raises(ValueError, match=r"four causes: these scopes do not do; given X0 and Z1, X1 <-> Z1"):
        scoped_game(FOUR, {"X0": (), "X1": ("X0", "Z1")}, [_even])
    graph = of_model(worlds.two_parities().model)
    assert not plannable(graph, {"X1": (), "X2": ("X1", "Z")}, "Y").imitable


@pytest.mark.parametrize(
    ("scopes", "rewards", "message"),
    [
        ({"X0": ("Z1",), "X1": ()}, [_even], "Z1 does not happen before X0"),
        ({"X0": ("Q",)}, [_even], "unknown name 'Q'"),
        (SCOPES, [], "class of rewards is empty"),
        (SCOPES, [lambda **at: 2 * at["X0"]], "scale from 0 to 1"),
    ],
)
def test_wrong_questions_are_refused(scopes, rewards, message):
    for play in (scoped_game, causal_mwal):
        with pytest.raises(ValueError, match=message):
            play(FOUR, scopes, rewards)
    with pytest.raises(ValueError, match="rounds must be at least 1, not 0"):
        causal_gail(FOUR, SCOPES, rounds=0)
