"""Robust plans against vertex enumeration, brute force over policies, and each other."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from workbench import seeding
from workbench.causal import worlds
from workbench.causal.bounds import Uncertainty, natural, point, sensitivity
from workbench.causal.planning import (
    backup,
    iwocs,
    regularised,
    robust_value,
    robust_value_iteration,
    value_iteration,
)
from workbench.causal.scm import ConfoundedMDP, Observed

SHAPES = [(2, 2, 3), (3, 3, 4), (6, 3, 5)]


def every_policy(states: int, actions: int) -> np.ndarray:
    return np.array(list(itertools.product(range(actions), repeat=states)))


def one(observed: Observed, i: int) -> Observed:
    return Observed(*(part[i] for part in observed[:5]), *observed[5:])


def truth(mdp: ConfoundedMDP) -> Uncertainty:
    return point(mdp.transitions, mdp.rewards, mdp.start, mdp.discount)


def test_value_iteration_equals_trying_every_policy():
    mdp = worlds.random_mdp(3, 3, 3, seed=0, count=200)
    best = np.max([mdp.value(policy) for policy in every_policy(3, 3)], 0)
    plan = value_iteration(mdp.transitions, mdp.rewards, mdp.start, mdp.discount)
    assert plan.score == pytest.approx(best, abs=1e-10)
    assert mdp.value(np.eye(3)[plan.policy]) == pytest.approx(best, abs=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_promise_below_truth_below_hope(shape):
    """On 200 random worlds of each shape: with T and R in bounds, with T alone, with R alone."""
    mdp = worlds.random_mdp(*shape, seed=1, count=200)
    both = natural(mdp.observed)
    moves = replace(both, reward_low=mdp.rewards, reward_high=mdp.rewards)
    pays = replace(both, low=mdp.transitions, high=None)
    best = robust_value_iteration(truth(mdp))
    for known in (both, moves, pays):
        low, high = robust_value_iteration(known), robust_value_iteration(known, worst=False)
        assert (low.value <= best.value + 1e-10).all() and (best.value <= high.value + 1e-10).all()
        kept = mdp.value(np.eye(shape[1])[low.policy])
        assert (low.score <= kept + 1e-10).all() and (kept <= best.score + 1e-10).all()
        assert (low.score < best.score - 1e-3).any() and (best.score < high.score - 1e-3).any()


def test_every_policy_is_worth_what_its_bounds_say():
    mdp = worlds.random_mdp(3, 2, 3, seed=2, count=500)
    known = natural(mdp.observed)
    policy = seeding.generator(2, "policies").dirichlet(np.ones(2), size=(500, 3))
    value = mdp.value(policy)
    assert (robust_value(known, policy).score <= value + 1e-10).all()
    assert (value <= robust_value(known, policy, worst=False).score + 1e-10).all()
    assert (robust_value(known, policy).value <= robust_value_iteration(known).value + 1e-10).all()  # randomising is no help
    assert robust_value(truth(mdp), policy).score == pytest.approx(value, abs=1e-10)


def smallest_optimum(known: Uncertainty) -> np.ndarray:
    """The least optimal value [S] over all worlds whose free mass of each (s, x) goes to one state."""
    states, actions = known.low.shape[:2]
    ends = known.low[:, :, None] + known.free[:, :, None, None] * np.eye(states)  # [S, X, choice, S]
    to = np.array(list(itertools.product(range(states), repeat=states * actions))).reshape(-1, states, actions)
    kernels = ends[np.arange(states)[:, None], np.arange(actions), to]  # [M, S, X, S]
    policies = every_policy(states, actions)
    chains = kernels[:, np.arange(states), policies]  # [M, K, S, S]
    pays = known.reward_low[np.arange(states), policies][..., None]
    solved = np.linalg.solve(np.eye(states) - known.discount * chains, np.broadcast_to(pays, (len(to), *pays.shape)))
    return (1 - known.discount) * solved[..., 0].max(1).min(0)


@pytest.mark.parametrize(("states", "actions", "worlds_tried"), [(2, 2, 300), (2, 3, 150), (3, 2, 60)])
def test_robust_iteration_equals_iwocs_equals_the_smallest_optimum_over_all_corners(states, actions, worlds_tried):
    """No gap between choosing the world before the policy or after it, nor between fixing it and changing it each step."""
    mdp = worlds.random_mdp(states, actions, 3, seed=3, count=worlds_tried, discount=0.8)
    for i in range(worlds_tried):
        known = natural(one(mdp.observed, i))
        plan = robust_value_iteration(known)
        assert smallest_optimum(known) == pytest.approx(plan.value, abs=1e-9)
        searched = iwocs(known)
        assert searched.plan.value == pytest.approx(plan.value, abs=1e-9) and searched.gap <= 1e-9
        assert robust_value(known, plan.policy).value == pytest.approx(plan.value, abs=1e-9)


def test_iwocs_in_bounded_sets_and_known_worlds():
    for seed in range(30):
        watched = worlds.random_mdp(4, 3, 4, seed=seed, discount=0.8).observed
        known = sensitivity(watched, 3.0)
        assert iwocs(known).plan.value == pytest.approx(robust_value_iteration(known).value, abs=1e-9)
    mdp = worlds.confounded_chain(5, 0.9, 0.95)
    near = natural(mdp.observed, rewards=False, support=worlds.chain_support(5))
    assert iwocs(near).plan.score == pytest.approx(robust_value_iteration(near).score, abs=1e-9)
    assert iwocs(truth(mdp)).kept == 1  # nothing worse to find in a set of one


def test_the_promise_falls_and_the_hope_rises_with_gamma():
    mdp = worlds.random_mdp(3, 2, 4, seed=4, count=500)
    gammas = [1.0, 1.2, 2.0, 5.0, 50.0, math.inf]
    low = np.array([robust_value_iteration(sensitivity(mdp.observed, gamma)).score for gamma in gammas])
    high = np.array([robust_value_iteration(sensitivity(mdp.observed, g), worst=False).score for g in gammas])
    assert (np.diff(low, axis=0) <= 1e-10).all() and (np.diff(high, axis=0) >= -1e-10).all()
    assert low[0] == pytest.approx(high[0], abs=1e-9)  # gamma = 1: a point
    assert low[-1] == pytest.approx(robust_value_iteration(natural(mdp.observed)).score, abs=1e-9)


def test_the_robust_policy_of_the_clinic_changes_its_mind():
    ward = worlds.clinic()
    policies, kept = [], []
    for gamma in (1.0, 1.5, 2.0, 4.0):
        plan = robust_value_iteration(sensitivity(ward.observed, gamma, rewards=False))
        policies.append(plan.policy.tolist())
        kept.append(ward.value(plan.policy) - plan.score)
    assert policies == [[1, 2, 2, 2], [1, 1, 2, 2], [1, 1, 1, 2], [1, 1, 1, 1]]
    assert kept[0] < -0.25 and kept[3] > 0.2  # the first promise is broken, the last is kept


def test_sweeps_between_backups_change_the_speed_only(monkeypatch):
    from workbench.causal import planning

    known = natural(worlds.random_mdp(6, 3, 4, seed=5, count=20).observed)
    fast = robust_value_iteration(known).value
    monkeypatch.setattr(planning, "_SWEEPS", 0)
    assert robust_value_iteration(known).value == pytest.approx(fast, abs=1e-11)


def test_one_backup_by_hand():
    """e = 0.5, what was seen goes to state 1 and pays 1; the other half goes to the worse state and pays 0."""
    low = np.zeros((2, 1, 2))
    low[:, 0, 1] = 0.5
    known = Uncertainty(low, None, np.full((2, 1), 0.5), np.ones((2, 1)), np.array([1.0, 0.0]), 0.8)
    value = np.array([0.2, 0.6])
    assert backup(known, value)[:, 0] == pytest.approx(0.2 * 0.5 + 0.8 * (0.5 * 0.6 + 0.5 * 0.2))
    assert backup(known, value, worst=False)[:, 0] == pytest.approx(0.2 * 1 + 0.8 * 0.6)


def charged(known: Uncertainty, policy: np.ndarray, reference: np.ndarray, temperature: float) -> np.ndarray:
    """The worst value of a policy that pays temperature times log(policy / reference) at each step."""
    value, price = np.zeros(len(policy)), (1 - known.discount) * temperature
    cost = (policy * np.log(np.where(policy > 0, policy / reference, 1))).sum(-1)
    for _ in range(400):
        value = (policy * backup(known, value)).sum(-1) - price * cost
    return value


def test_the_regularised_policy_is_the_best_of_those_that_are_charged():
    for seed in range(5):
        known = natural(worlds.random_mdp(2, 2, 3, seed=seed, discount=0.8).observed)
        reference = seeding.generator(seed, "reference").dirichlet(np.ones(2), size=2)
        plan, policy = regularised(known, reference, 0.3)
        assert charged(known, policy, reference, 0.3) == pytest.approx(plan.value, abs=1e-10)
        for a, b in itertools.product(np.linspace(0, 1, 9), repeat=2):
            other = np.array([[a, 1 - a], [b, 1 - b]])
            assert (charged(known, other, reference, 0.3) <= plan.value + 1e-10).all()


def test_temperature_goes_from_the_robust_policy_to_the_reference():
    known = natural(worlds.random_mdp(4, 3, 3, seed=8).observed)
    reference = seeding.generator(8, "reference").dirichlet(np.ones(3), size=4)
    cold, policy = regularised(known, reference, 1e-4)
    assert policy.argmax(-1).tolist() == robust_value_iteration(known).policy.tolist()
    assert cold.value == pytest.approx(robust_value_iteration(known).value, abs=1e-3)
    hot, policy = regularised(known, reference, 1e4)
    assert policy == pytest.approx(reference, abs=1e-3)
    assert hot.value == pytest.approx(robust_value(known, reference).value, abs=1e-3)
    never = np.array([[0.0, 0.5, 0.5]] * 4)
    assert (regularised(known, never, 0.1)[1][:, 0] == 0).all()  # what the reference never does stays undone


def test_bad_input_is_refused_in_words():
    known = natural(worlds.two_state("both").observed)
    with pytest.raises(ValueError, match="temperature must be positive"):
        regularised(known, np.full((2, 2), 0.5), 0.0)
    with pytest.raises(ValueError, match="the policy: not a distribution"):
        robust_value(known, np.full((2, 2), 0.6))
    with pytest.raises(ValueError, match="actions must be 0 to 1"):
        robust_value(known, np.array([0, 3]))
    with pytest.raises(ValueError, match="the next state S': not a distribution"):
        value_iteration(np.ones((2, 2, 2)), np.ones((2, 2)), [0.5, 0.5], 0.9)
    with pytest.raises(ValueError, match="discount must be at least 0 and below 1"):
        value_iteration(np.full((2, 2, 2), 0.5), np.ones((2, 2)), [0.5, 0.5], 1.0)
