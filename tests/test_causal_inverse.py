"""Inverse reinforcement learning on tables, between the exact values of the games."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.causal import bounds, games, inverse, worlds


def _cases():
    return [worlds.two_state(name) for name in worlds.TWO_STATE]


@pytest.mark.parametrize("mdp", _cases(), ids=lambda mdp: mdp.name)
def test_with_known_transitions_mwal_s_promise_and_floor_meet_at_the_game_s_value(mdp):
    seen, transitions = mdp.observed, mdp.transitions
    known = bounds.point(transitions, np.zeros_like(seen.expert), seen.start, seen.discount)
    features = np.eye(4).reshape(4, 2, 2)
    for identified in (True, False):
        exact = games.occupancy_game(seen, transitions, rewards_identified=identified, rewards=features).value
        found = inverse.mwal(seen, known, features, rounds=60, rewards_identified=identified)
        assert found.floor <= exact + 1e-9 and found.lead >= exact - 1e-9
        assert found.lead - found.floor < np.sqrt(np.log(4) / 60)
        assert found.mixture.sum() == pytest.approx(1)


@pytest.mark.parametrize("mdp", _cases(), ids=lambda mdp: mdp.name)
def test_a_robust_promise_is_kept_by_every_mdp_that_fits(mdp):
    seen = mdp.observed
    known = bounds.natural(seen, rewards=False)
    features = np.eye(4).reshape(4, 2, 2)
    found = inverse.mwal(seen, known, features, rounds=40)
    exact = games.imitation_game(seen, known, rewards=features).value
    assert found.floor <= exact + 1e-9 and exact <= found.lead + 1e-9
    expert = np.einsum("sx,ksx->k", seen.occupancy, features)
    for world in games.corners(known):
        earned = sum(
            share * np.einsum("sx,ksx->k", _occupancy(world, policy, seen), features)
            for share, policy in zip(found.mixture, found.policies)
        )
        assert (expert - earned).max() <= found.lead + 1e-8


def _occupancy(transitions, policy, seen):
    """Discounted visits by adding up 600 steps."""
    table = np.eye(2)[policy] if np.ndim(policy) == 1 else policy
    state, visits = seen.start.copy(), np.zeros((2, 2))
    for step in range(600):
        now = state[:, None] * table
        visits += (1 - seen.discount) * seen.discount**step * now
        state = np.einsum("sx,sxt->t", now, transitions)
    return visits


@pytest.mark.parametrize("mdp", _cases(), ids=lambda mdp: mdp.name)
def test_gail_s_lead_is_the_game_s_value_where_the_expert_can_be_matched_and_never_below_it(mdp):
    seen, transitions = mdp.observed, mdp.transitions
    known = bounds.point(transitions, np.zeros_like(seen.expert), seen.start, seen.discount)
    exact = games.occupancy_game(seen, transitions).value
    found = inverse.gail(seen, known, rounds=150)
    assert found.lead >= exact - 1e-9
    missing = seen.occupancy - _occupancy(transitions, found.policy, seen)
    assert found.lead == pytest.approx(np.maximum(missing, 0).sum(), abs=1e-6)
    if exact < 1e-12:
        assert found.lead < 0.04 and found.divergence[-1] < 2e-3
    assert found.divergence[-1] <= found.divergence[0] + 1e-12


def test_gail_ends_at_the_least_divergence_over_all_policies():
    mdp = worlds.two_state(worlds.TWO_STATE[0])
    seen = mdp.observed
    known = bounds.point(mdp.transitions, np.zeros((2, 2)), seen.start, seen.discount)
    found = inverse.gail(seen, known, rounds=300)
    shares = np.linspace(0, 1, 101)
    least = min(
        inverse._jensen_shannon(seen.occupancy, mdp.occupancy(np.array([[1 - a, a], [1 - b, b]]))) for a in shares for b in shares
    )
    assert found.divergence[-1] == pytest.approx(least, abs=1e-3)


def test_where_only_the_reward_is_confounded_plain_gail_promises_what_it_does_not_keep():
    mdp = next(m for m in _cases() if m.confounded == (False, True))
    seen = mdp.observed
    known = bounds.point(mdp.transitions, np.zeros((2, 2)), seen.start, seen.discount)
    plain = inverse.gail(seen, known, rounds=150)
    honest = inverse.gail(seen, known, rounds=150, rewards_identified=False)
    true_lead = float(seen.expert_value) - float(mdp.value(plain.policy))
    assert plain.lead < 0.04 < true_lead
    assert honest.lead >= float(seen.expert_value) - float(mdp.value(honest.policy))


def test_on_the_xor_bandit_every_learner_says_that_there_is_no_certificate():
    """With p = 1/2 nobody does better than a coin; the game's value is 1/2 (exact)."""
    mdp = worlds.bandit_mdp(worlds.xor_bandit(0.5))
    seen = mdp.observed
    known = bounds.natural(seen, transitions=False)
    learned = [
        inverse.mwal(seen, known, np.ones((1, 1, 2)), rounds=50, rewards_identified=False),
        inverse.gail(seen, known, rounds=50, rewards_identified=False),
    ]
    for found in learned:
        assert found.lead == pytest.approx(0.5, abs=1e-6) == found.certificate.value
        assert str(found.certificate).startswith("no certificate (the expert leads by at most 0.5)")


def test_a_certificate_names_what_its_proof_needs():
    mdp = worlds.two_state("deterministic expert")
    seen = mdp.observed
    plain = bounds.point(mdp.transitions, np.zeros((2, 2)), seen.start, seen.discount)
    always_one = np.array([[[0.0, 1.0], [0.0, 1.0]]])  # what this expert does: nobody earns more of it
    found = inverse.mwal(seen, plain, always_one, rounds=20)
    assert found.certificate.proved and "nothing hidden enters" in found.certificate.assumptions[-1]
    robust = inverse.mwal(seen, bounds.natural(seen), np.eye(4).reshape(4, 2, 2), rounds=20, rewards_identified=False)
    assert "lie in the set" in robust.certificate.assumptions[1] and len(robust.certificate.assumptions) == 2


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((2, 3, 2)), "features must be"),
        (np.full((1, 2, 2), 2.0), "between 0 and 1"),
        (np.full((1, 2, 2), np.nan), "between 0 and 1"),
    ],
)
def test_features_that_do_not_fit_are_refused(features, message):
    mdp = _cases()[0]
    with pytest.raises(ValueError, match=message):
        inverse.mwal(mdp.observed, bounds.natural(mdp.observed), features)


def test_no_rounds_are_refused():
    seen = _cases()[0].observed
    known = bounds.natural(seen)
    for learn in (lambda: inverse.mwal(seen, known, np.ones((1, 2, 2)), rounds=0), lambda: inverse.gail(seen, known, rounds=0)):
        with pytest.raises(ValueError, match="rounds must be at least 1"):
            learn()
