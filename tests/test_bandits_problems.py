"""Bandits with independent rewards: what is known of them exactly, their luck, and their Gymnasium face."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from workbench import seeding
from workbench.bandits import BanditEnv, play, policies, problems
from workbench.bandits.contextual import LinearContexts, LinUCB, TabularContexts
from workbench.bandits.problems import Bernoulli, Gaussian, bernoulli_kl, minimax_floor

# Lai-Robbins constants, worked out apart from this code (five digits)
KNOWN = [
    ([0.5] + [0.4] * 9, 44.697),
    ([0.9, 0.8], 2.2521),
    ([0.9, 0.6], 0.9639),
    ([0.5, 0.4], 4.9663),
    ([0.55, 0.45], 4.9833),
    ([0.1] + [0.05] * 3 + [0.02] * 3 + [0.01] * 3, 17.445),
    ([0.75] + [0.25] * 4, 3.6410),
    ([0.6] + [0.4] * 19, 46.860),
]


@pytest.mark.parametrize(("means", "constant"), KNOWN)
def test_the_lai_robbins_constant_is_the_sum_of_gaps_over_divergences(means, constant):
    assert Bernoulli(means).lai_robbins == pytest.approx(constant, rel=2e-5)
    best = max(means)
    by_hand = math.fsum(
        (best - p) / (p * math.log(p / best) + (1 - p) * math.log((1 - p) / (1 - best))) for p in means if p < best
    )
    assert Bernoulli(means).lai_robbins == pytest.approx(by_hand, abs=1e-12 * by_hand)


def test_the_divergence_of_coins_is_scipys_also_at_the_ends():
    p, q = np.meshgrid([0.0, 0.2, 0.8, 0.4, 0.6, 1.0], [0.0, 0.5, 0.9, 1.0])
    expected = [[scipy_stats.entropy([a, 1 - a], [b, 1 - b]) for a, b in zip(*row)] for row in zip(p, q)]
    assert np.allclose(bernoulli_kl(p, q), expected, rtol=0, atol=1e-12)
    assert bernoulli_kl(0.8, 0.9) == pytest.approx(0.0444030, abs=5e-8)
    assert bernoulli_kl(0.4, 0.5) == pytest.approx(0.0201355, abs=5e-8)
    assert bernoulli_kl(0.6, 0.9) == pytest.approx(0.3112387, abs=5e-8)


def test_the_lai_robbins_constant_of_normal_rewards_is_the_sum_of_two_variances_over_gap():
    problem = Gaussian([1.0, 0.7, 0.2], std=0.5)
    assert problem.lai_robbins == pytest.approx(2 * 0.25 / 0.3 + 2 * 0.25 / 0.8, abs=1e-12)
    assert problem.optimum == 1.0 and problem.gaps == pytest.approx([0, 0.3, 0.8], abs=1e-15)


def test_an_arm_that_can_be_ruled_out_by_one_reward_costs_nothing_in_the_long_run():
    assert Bernoulli([1.0, 0.5]).lai_robbins == 0
    assert Gaussian([1.0, 0.5], std=0).lai_robbins == 0


def test_the_minimax_floor_is_its_formula():
    assert minimax_floor(10, 10_000) == pytest.approx(math.sqrt(90_000) / 27, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bernoulli([0.5, 1.2]), "must lie between 0 and 1, not 1.2"),
        (lambda: Bernoulli([-0.1, 0.5]), "must lie between 0 and 1, not -0.1"),
        (lambda: Bernoulli([0.5]), r"at least two arms in a row, not an array of shape \(1,\)"),
        (lambda: Bernoulli([[0.5, 0.4]]), r"shape \(1, 2\)"),
        (lambda: Bernoulli([0.5, math.nan]), "must be finite numbers"),
        (lambda: Gaussian([0.5, math.inf]), "must be finite numbers"),
        (lambda: Gaussian([0.5, 0.1], std=-1), "standard deviation of the reward must be 0 or more, not -1"),
    ],
)
def test_what_is_no_bandit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _told(problem, arm, full=False, rounds=600, repetitions=40):
    begun = problem.start(repetitions, rounds, seeding.generator(0, "test"), full=full)
    return np.array([begun.pull(np.full(repetitions, arm))[0] for _ in range(rounds)])


@pytest.mark.parametrize("problem", [Bernoulli([0.3, 0.6]), Gaussian([0.3, 0.6], std=0.5)])
def test_rewards_follow_their_law_and_do_not_depend_on_each_other(problem):
    told = _told(problem, 1)
    if isinstance(problem, Bernoulli):
        assert set(np.unique(told)) == {0.0, 1.0}
        assert told.mean() == pytest.approx(0.6, abs=4 * math.sqrt(0.24 / told.size))
    else:
        assert scipy_stats.kstest(told.ravel(), "norm", (0.6, 0.5)).pvalue > 0.001
    for one, other in ((told[1:], told[:-1]), (told[:, 1:], told[:, :-1])):  # in time, and across repetitions
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / math.sqrt(one.size)


def test_every_arm_meets_the_same_luck_and_full_feedback_shows_it():
    coins, noise = Bernoulli([0.3, 0.6]), Gaussian([0.3, 0.6])
    assert np.all(_told(coins, 0) <= _told(coins, 1))  # what a bad coin wins, a better one wins too
    assert np.allclose(_told(noise, 1) - _told(noise, 0), 0.3, rtol=0, atol=1e-12)
    for problem in (coins, noise):
        full = _told(problem, 0, full=True)
        assert np.array_equal(full[..., 0], _told(problem, 0)) and np.array_equal(full[..., 1], _told(problem, 1))


@pytest.mark.filterwarnings("ignore:.*Box observation space")
@pytest.mark.parametrize(
    "problem", [Bernoulli([0.2, 0.7]), Gaussian([0.0, 1.0]), LinearContexts(np.eye(3)), TabularContexts(np.full((2, 2), 0.5))]
)
def test_the_environment_passes_gymnasiums_checks(problem):
    from gymnasium.utils.env_checker import check_env

    check_env(BanditEnv(problem, horizon=5), skip_render_check=True)


def test_a_policy_in_the_environment_does_what_it_does_in_the_loop():
    for problem, make in ((Bernoulli([0.5, 0.4, 0.2]), policies.UCB1), (LinearContexts(np.eye(3)), LinUCB)):
        played = play.play(make(), problem, 400, 1, seed=3)
        env, policy, dice = BanditEnv(problem, horizon=400), make(), seeding.generator(3, "bandit", "dice")
        policy.start(1, 3, 400)
        seen, info = env.reset(seed=3)
        assert info == {}
        lost, done, pulls = 0.0, False, np.zeros(3)
        while not done:
            arm = policy.choose(dice, seen[None]) if make is LinUCB else policy.choose(dice)
            seen, reward, ended, done, info = env.step(int(arm[0]))
            assert not ended
            policy.update(arm, np.array([reward]))
            lost += info["regret"]
            pulls[arm] += 1
        assert np.array_equal(pulls, played.pulls[0])
        assert lost == pytest.approx(played.final[0], abs=1e-9)


def test_the_environment_says_what_is_wrong():
    env = BanditEnv(Bernoulli([0.5, 0.4]), horizon=1)
    with pytest.raises(ValueError, match="call reset"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="an integer from 0 to 1, not 2"):
        env.step(2)
    assert env.step(0)[3]
    with pytest.raises(ValueError, match="call reset"):
        env.step(0)
    with pytest.raises(ValueError, match="horizon must be a whole number of at least 1, not 0"):
        BanditEnv(Bernoulli([0.5, 0.4]), horizon=0)

    class Full(Bernoulli):
        feedback = ("full",)

    with pytest.raises(ValueError, match="Full gives full feedback"):
        BanditEnv(Full([0.5, 0.4]))


def test_the_room_names_what_it_has_and_loads_torch_only_when_asked():
    import subprocess
    import sys

    code = (
        "import sys, workbench.bandits as bandits; assert callable(bandits.play.play); assert bandits.Bernoulli; "
        "assert not {'torch', 'gymnasium'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    from workbench import bandits

    with pytest.raises(AttributeError, match="no attribute 'UCB2'"):
        _ = bandits.UCB2
    assert all(getattr(bandits, name) is not None for name in bandits.__all__)
    assert problems.Bernoulli is bandits.Bernoulli
