"""Exact imitation games: the table of the two-state worlds, solved games, and certificates that hold in the true world."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.causal import worlds
from workbench.causal.bounds import natural, sensitivity
from workbench.causal.games import (
    all_policies,
    all_rewards,
    corners,
    imitation_game,
    occupancy_game,
    state_rewards,
    zero_sum,
)
from workbench.causal.planning import robust_value
from workbench.causal.scm import ConfoundedMDP

EXACT = 1e-6


def four_games(mdp: ConfoundedMDP) -> list[float]:
    """Game values with T and R known, T in bounds, R in bounds, both."""
    watched, known = mdp.observed, natural(mdp.observed)
    return [
        imitation_game(watched, moves, rewards_identified=paid).value
        for moves, paid in ((mdp.transitions, True), (known, True), (mdp.transitions, False), (known, False))
    ]


@pytest.mark.parametrize(
    ("case", "values"),
    [
        ("both", (0.069828, 0.084039, 0.148910, 0.163124)),
        ("both, flipped", (0.039320, 0.067952, 0.119660, 0.144235)),
        ("transition only", (0.160894, 0.177660, 0.315200, 0.329600)),
        ("reward only", (0, 0.100559, 0.2, 0.250279)),
        ("none", (0, 0.140169, 0.236201, 0.289566)),
        ("deterministic expert", (0, 0, 0, 0)),
    ],
)
def test_the_table_of_the_two_state_worlds(case, values):
    assert four_games(worlds.two_state(case)) == pytest.approx(values, abs=EXACT)


def test_plain_gail_certifies_falsely_where_the_reward_is_confounded():
    """It reports a lead of 0; its own policy trails by .256, and no policy at all by less than .16. The honest game says .2."""
    mdp = worlds.two_state("reward only")
    gail = imitation_game(mdp.observed, mdp.transitions)
    assert gail.value == pytest.approx(0, abs=EXACT) and gail.certificate.proved
    values = np.array([mdp.value(policy) for policy in gail.policies])
    expert = float(mdp.observed.expert_value)
    assert expert - gail.mixture @ values == pytest.approx(0.256, abs=EXACT)
    assert expert - values.max() == pytest.approx(0.16, abs=EXACT)
    honest = imitation_game(mdp.observed, mdp.transitions, rewards_identified=False)
    assert honest.value == pytest.approx(0.2, abs=EXACT) and not honest.certificate.proved
    assert expert - honest.mixture @ values <= honest.value + 1e-9


def test_xor_with_a_fair_coin_has_no_certificate():
    mdp = worlds.bandit_mdp(worlds.xor_bandit(0.5))
    honest = imitation_game(mdp.observed, mdp.transitions, rewards_identified=False)
    assert honest.value == pytest.approx(0.5, abs=EXACT) and not honest.certificate.proved
    assert occupancy_game(mdp.observed, mdp.transitions, rewards_identified=False).value == pytest.approx(0.5, abs=EXACT)
    assert max(mdp.value(policy) for policy in all_policies(1, 2)) == pytest.approx(0.5, abs=EXACT)


def test_a_reward_that_is_not_identified_costs_at_least_the_share_of_other_choices():
    """With r = 1 the unrestricted adversary leads by 1 - E e(x|s) at least, whatever the policy."""
    for seed in range(30):
        mdp = worlds.random_mdp(2, 2, 3, seed=seed)
        game = imitation_game(mdp.observed, mdp.transitions, rewards_identified=False)
        share = max((mdp.occupancy(p) * mdp.observed.expert).sum() for p in all_policies(2, 2))
        assert game.value >= 1 - share - 1e-9 > 0


def test_knowing_less_never_helps_and_values_are_sound_in_the_true_world():
    """125 random worlds, four games each: the lead of the expert in the true world is at most the value that was stated."""
    for seed in range(125):
        mdp = worlds.random_mdp(2, 2, 3, seed=seed)
        watched, known = mdp.observed, natural(mdp.observed)
        plain, moves, paid, both = four_games(mdp)
        assert plain <= moves + 1e-9 and plain <= paid + 1e-9
        assert both >= max(moves, paid) - 1e-9 and plain >= -1e-9
        game = imitation_game(watched, known, rewards_identified=False)
        value = game.mixture @ [mdp.value(policy) for policy in game.policies]
        assert watched.expert_value - value <= game.value + 1e-9
        paid_game = imitation_game(watched, mdp.transitions, rewards_identified=False)
        value = paid_game.mixture @ [mdp.value(policy) for policy in paid_game.policies]
        assert watched.expert_value - value <= paid_game.value + 1e-9


def test_with_known_transitions_a_stationary_policy_does_as_well_as_a_mixture():
    for seed in range(40):
        mdp = worlds.random_mdp(3, 2, 3, seed=seed)
        for paid in (True, False):
            game = imitation_game(mdp.observed, mdp.transitions, rewards_identified=paid)
            flow = occupancy_game(mdp.observed, mdp.transitions, rewards_identified=paid)
            assert flow.value == pytest.approx(game.value, abs=1e-8)
            assert mdp.occupancy(flow.policy) == pytest.approx(flow.occupancy, abs=1e-7)
        few = state_rewards(3, 2)
        game = imitation_game(mdp.observed, mdp.transitions, rewards=few)
        assert occupancy_game(mdp.observed, mdp.transitions, rewards=few).value == pytest.approx(game.value, abs=1e-8)


def test_the_lead_is_the_total_variation_of_occupancies():
    """With all rewards from 0 to 1 a policy's game value is the distance between its occupancy and the expert's."""
    mdp = worlds.random_mdp(4, 3, 3, seed=1)
    flow = occupancy_game(mdp.observed, mdp.transitions)
    distance = np.maximum(mdp.observed.occupancy - mdp.occupancy(flow.policy), 0).sum()
    assert flow.value == pytest.approx(distance, abs=1e-8)


def test_a_known_sign_gives_a_certificate_where_the_free_class_gives_none():
    """The chain's goal is known: the reward is 1 at the end and 0 before. The game then asks for that alone."""
    mdp = worlds.confounded_chain(3, 0.9, 0.9)
    goal = np.zeros((1, 4, 2))
    goal[0, 3] = 1
    game = imitation_game(mdp.observed, mdp.transitions, rewards=goal)
    best = max(mdp.value(policy) for policy in all_policies(4, 2))
    assert game.value == pytest.approx(mdp.observed.expert_value - best, abs=1e-9)
    late = mdp.observed._replace(occupancy=mdp.occupancy(np.array([1, 0, 1, 1])))  # an expert who dithers
    assert imitation_game(late, mdp.transitions, rewards=goal).certificate.proved


def test_the_stated_answer_of_the_adversary_attains_the_value():
    mdp = worlds.two_state("both")
    known = natural(mdp.observed)
    for moves in (mdp.transitions, known):
        game = imitation_game(mdp.observed, moves)
        assert game.mixture.sum() == pytest.approx(1)
        if moves is known:
            assert known.contains(game.transitions, known.reward_low)
        world = ConfoundedMDP(
            np.ones(1), np.full((2, 1, 2), 0.5), game.transitions[:, :, None], game.reward[:, :, None], mdp.start, 0.9
        )
        earned = game.mixture @ [world.value(policy) for policy in game.policies]
        assert (mdp.observed.occupancy * game.reward).sum() - earned == pytest.approx(game.value, abs=1e-9)


def test_corners_hold_the_extremes_of_every_policy():
    """The least value of each policy over the corners is its robust value, in free and in bounded sets."""
    for seed in range(15):
        mdp = worlds.random_mdp(2, 2, 3, seed=seed)
        for known in (natural(mdp.observed), sensitivity(mdp.observed, 2.0)):
            found = corners(known)
            assert known.contains(found[0], known.reward_low) and len(found) <= 16
            for policy in all_policies(2, 2):
                chain = found[:, np.arange(2), policy]
                pays = known.reward_low[np.arange(2), policy][:, None]
                value = 0.1 * np.linalg.solve(np.eye(2) - 0.9 * chain, np.broadcast_to(pays, (len(found), 2, 1)))[..., 0]
                assert value.min(0) == pytest.approx(robust_value(known, policy).value, abs=1e-9)


def test_small_matrix_games_with_known_answers():
    value, mixture = zero_sum([[1, -1], [-1, 1]])
    assert (value, *mixture) == pytest.approx((0, 0.5, 0.5), abs=1e-9)
    value, mixture = zero_sum([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    assert (value, *mixture) == pytest.approx((0, 1 / 3, 1 / 3, 1 / 3), abs=1e-9)
    value, mixture = zero_sum([[3.0, 1.0], [4.0, 2.0]])  # the second column is better against every row
    assert (value, *mixture) == pytest.approx((2, 0, 1), abs=1e-9)
    rng = np.random.default_rng(0)
    for _ in range(50):
        payoff = rng.normal(size=(4, 5))
        assert zero_sum(payoff)[0] == pytest.approx(-zero_sum(-payoff.T)[0], abs=1e-9)  # the minimax theorem


def test_bad_input_is_refused_in_words():
    mdp = worlds.two_state("both")
    watched = mdp.observed
    with pytest.raises(ValueError, match="payoff must be a table"):
        zero_sum([1.0, 2.0])
    with pytest.raises(ValueError, match="too many to list"):
        all_rewards(5, 4)
    with pytest.raises(ValueError, match="policies are too many"):
        all_policies(20, 3)
    with pytest.raises(ValueError, match="worlds are too many"):
        corners(natural(worlds.random_mdp(4, 3, 3, seed=0).observed))
    with pytest.raises(ValueError, match="one set at a time"):
        corners(natural(worlds.random_mdp(2, 2, 2, seed=0, count=3).observed))
    with pytest.raises(ValueError, match="the next state S': not a distribution"):
        imitation_game(watched, np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match=r"transitions must be \[2,2,2\]"):
        imitation_game(watched, np.full((2, 3, 2), 0.5))
    with pytest.raises(ValueError, match=r"transitions must be \[2,2,2\]"):
        occupancy_game(watched, np.full((2, 3, 2), 0.5))
    for solve in (imitation_game, occupancy_game):
        with pytest.raises(ValueError, match="on a scale from 0 to 1"):
            solve(watched, mdp.transitions, rewards=np.full((1, 2, 2), -1.0))
        with pytest.raises(ValueError, match=r"corners of a class \[M,2,2\]"):
            solve(watched, mdp.transitions, rewards=np.ones((2, 2)))
