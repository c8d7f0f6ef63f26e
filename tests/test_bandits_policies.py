"""Policies for independent rewards: what they choose, what it costs, and other libraries on the same luck."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats

from workbench import seeding
from workbench.bandits import play, policies
from workbench.bandits.problems import Bernoulli, Gaussian, bernoulli_kl, minimax_floor

TEN = Bernoulli([0.5] + [0.4] * 9)
NAMES = sorted(policies.POLICIES)


class Tape:
    """Plays a fixed table of luck [T,R] and writes down every arm."""

    def __init__(self, policy, means, luck, seed=0):
        means = np.array(means)
        dice = np.random.default_rng(seed)
        policy.start(luck.shape[1], len(means), len(luck))
        self.arms = np.empty(luck.shape, dtype=int)
        for t, u in enumerate(luck):
            self.arms[t] = policy.choose(dice)
            policy.update(self.arms[t], (u < means[self.arms[t]]).astype(float))


# Regret at T = 10,000 measured apart from this code: mean and standard error
RARE = Bernoulli([0.1] + [0.05] * 3 + [0.02] * 3 + [0.01] * 3)
RECORDED = [("ucb1", TEN, 594.9, 1.5), ("thompson", TEN, 170.3, 2.0), ("ucb1", RARE, 500.0, 0.9)]


@pytest.mark.parametrize(("name", "problem", "mean", "error"), RECORDED)
def test_regret_is_what_was_recorded(name, problem, mean, error):
    final = play.play(policies.get(name), problem, 10_000, 200, seed=1).final
    assert abs(final.mean() - mean) < 3 * math.hypot(error, final.std(ddof=1) / math.sqrt(len(final)))


def test_regret_of_the_easy_pair_is_what_was_recorded():
    """.9 and .8: UCB1 24.9 at 1,000 and 86.0 at 10,000; Thompson 6.5 +- .5 and 12.3 +- 2.2."""
    ucb, thompson = (play.play(policies.get(name), Bernoulli([0.9, 0.8]), 10_000, 200, seed=2) for name in ("ucb1", "thompson"))
    at = int(np.argmin(np.abs(ucb.times - 1000)))
    error = ucb.regret.std(0, ddof=1) / math.sqrt(200)
    assert ucb.regret[:, at].mean() == pytest.approx(24.9, abs=3 * error[at] + 0.5)
    assert ucb.final.mean() == pytest.approx(86.0, abs=3 * error[-1] + 1)
    error = thompson.regret.std(0, ddof=1) / math.sqrt(200)
    assert thompson.regret[:, at].mean() == pytest.approx(6.5, abs=3 * math.hypot(0.5, error[at]))
    assert thompson.final.mean() == pytest.approx(12.3, abs=3 * math.hypot(2.2, error[-1]))


def test_ucb1_pulls_what_mabwiser_pulls():
    """Same luck, same arms: after one pull of each arm both follow mean + sqrt(2 ln t / n), and ties go to the first arm."""
    from mabwiser.mab import MAB, LearningPolicy

    luck = np.random.default_rng(0).random((700, 1))
    means = [0.5, 0.4, 0.3, 0.6]
    ours = Tape(policies.UCB1(), means, luck).arms[:, 0].tolist()
    theirs = MAB(list(range(4)), LearningPolicy.UCB1(alpha=1))
    theirs.fit(list(range(4)), [float(luck[k, 0] < means[k]) for k in range(4)])
    arms = list(range(4))
    for u in luck[4:, 0]:
        arms.append(theirs.predict())
        theirs.partial_fit([arms[-1]], [float(u < means[arms[-1]])])
    assert ours == arms


def test_ucb1_pulls_what_river_pulls():
    """River tosses a coin at ties and keeps running means: on rewards that never tie the arms are the same."""
    from river import bandit
    from river import stats as river_stats

    rewards = np.random.default_rng(1).random((1500, 4)) * [0.9, 0.8, 1.0, 0.7]
    theirs = bandit.UCB(delta=1, reward_obj=river_stats.Mean(), burn_in=1, seed=0)
    ours = policies.UCB1()
    ours.start(1, 4, len(rewards))
    for row in rewards:
        arm = theirs.pull([0, 1, 2, 3])
        assert ours.choose(np.random.default_rng(0)).tolist() == [arm]
        theirs.update(arm, row[arm])
        ours.update(np.array([arm]), np.array([row[arm]]))


def test_thompson_costs_what_it_costs_in_mabwiser():
    """Their dice are their own, so means are compared: 60 repetitions of theirs, 2,000 of ours, two arms."""
    from mabwiser.mab import MAB, LearningPolicy

    means, horizon = [0.8, 0.3], 80
    luck = np.random.default_rng(3).random((60, horizon))
    theirs = []
    for seed, row in enumerate(luck):
        mab = MAB([0, 1], LearningPolicy.ThompsonSampling(), seed=seed)
        arm, lost = seed % 2, 0.0  # their first arm must be given
        mab.fit([arm], [float(row[0] < means[arm])])
        for u in row[1:]:
            lost += 0.8 - means[arm]
            arm = mab.predict()
            mab.partial_fit([arm], [float(u < means[arm])])
        theirs.append(lost + 0.8 - means[arm])
    ours = play.play(policies.Thompson(), Bernoulli(means), horizon, 2000).final
    error = math.hypot(np.std(theirs, ddof=1) / math.sqrt(60), ours.std(ddof=1) / math.sqrt(2000))
    assert abs(np.mean(theirs) - ours.mean()) < 3 * error


def test_thompson_costs_what_it_costs_in_river():
    """Their dice are their own here too: 60 repetitions of theirs, 2,000 of ours, three arms."""
    from river import bandit, proba

    problem, horizon = Bernoulli([0.7, 0.4, 0.4]), 300
    theirs = []
    for seed, row in enumerate(np.random.default_rng(4).random((60, horizon))):
        policy = bandit.ThompsonSampling(reward_obj=proba.Beta(), seed=seed)
        lost = 0.0
        for u in row:
            arm = policy.pull(range(3))
            lost += problem.gaps[arm]
            policy.update(arm, int(u < problem.means[arm]))
        theirs.append(lost)
    ours = play.play(policies.Thompson(), problem, horizon, 2000).final
    error = math.hypot(np.std(theirs, ddof=1) / math.sqrt(60), ours.std(ddof=1) / math.sqrt(2000))
    assert abs(np.mean(theirs) - ours.mean()) < 3 * error


def test_thompson_draws_an_arm_as_often_as_it_is_best_under_the_posterior():
    policy = policies.Thompson()
    policy.start(40_000, 2, 10)
    policy.s[:], policy.n[:] = [2.0, 1.0], [3.0, 1.0]
    chosen = policy.choose(np.random.default_rng(0)).mean()
    x = np.linspace(0, 1, 20_001)
    exact = np.trapezoid(scipy_stats.beta(3, 2).cdf(x) * scipy_stats.beta(2, 1).pdf(x), x)
    assert chosen == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000))


def test_gaussian_thompson_draws_from_the_normal_posterior():
    policy = policies.GaussianThompson(std=0.5, prior_mean=0.5, prior_std=0.3)
    policy.start(40_000, 2, 10)
    policy.s[:], policy.n[:] = [1.4, 0.9], [2.0, 3.0]
    variance = 1 / (np.array([2, 3]) / 0.25 + 1 / 0.09)
    mean = variance * (np.array([1.4, 0.9]) / 0.25 + 0.5 / 0.09)
    exact = scipy_stats.norm.cdf((mean[1] - mean[0]) / math.sqrt(variance.sum()))
    chosen = policy.choose(np.random.default_rng(0)).mean()
    assert chosen == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000))


def test_the_index_of_kl_ucb_is_the_root():
    rng = np.random.default_rng(0)
    means = np.concatenate([rng.random(60), [0.0, 0.0, 1.0, 0.5, 1e-6, 1 - 1e-6]])
    levels = np.concatenate([rng.exponential(0.3, 60), [0.1, 3.0, 0.2, 1e-8, 0.5, 0.01]])
    for mean, level, found in zip(means, levels, policies.kl_upper(means, levels)):
        if mean == 1:
            expected = 1.0
        elif mean == 0:
            expected = 1 - math.exp(-level)
        elif bernoulli_kl(mean, 1 - 1e-15) <= level:
            expected = 1.0
        else:
            expected = optimize.brentq(lambda q, m=mean, b=level: float(bernoulli_kl(m, q)) - b, mean, 1 - 1e-15, xtol=1e-14)
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["ucb1", "moss", "kl_ucb", "greedy", "successive_elimination"])
def test_an_index_policy_is_its_formula(name):
    """Against plain loops over one repetition."""
    luck, means, horizon = np.random.default_rng(7).random((300, 2)), [0.6, 0.5, 0.45], 300
    arms = Tape(policies.get(name), means, luck).arms
    radius = lambda n, t: {"ucb1": 2 * math.log(t), "moss": max(0, math.log(horizon / (3 * n))), "greedy": 0.0}[name] / n  # noqa: E731
    for r in range(2):
        n, s, alive = [0, 0, 0], [0.0, 0.0, 0.0], [0, 1, 2]
        for t in range(horizon):
            if t < 3:
                wanted = t
            elif name == "kl_ucb":
                index = [float(policies.kl_upper(np.array(s[k] / n[k]), np.array(math.log(t + 1) / n[k]))) for k in range(3)]
                wanted = index.index(max(index))
            elif name == "successive_elimination":
                if len({n[k] for k in alive}) == 1:
                    wide = math.sqrt(2 * math.log(horizon) / n[alive[0]])
                    top = max(s[k] / n[k] for k in alive)
                    alive = [k for k in alive if s[k] / n[k] + wide >= top - wide]
                wanted = min(alive, key=lambda k: n[k])
            else:
                index = [s[k] / n[k] + math.sqrt(radius(n[k], t)) for k in range(3)]
                wanted = index.index(max(index))
            assert arms[t, r] == wanted
            n[wanted] += 1
            s[wanted] += float(luck[t, r] < means[wanted])


def test_successive_elimination_gives_up_the_worse_arm():
    played = play.play(policies.SuccessiveElimination(), Bernoulli([0.9, 0.1]), 2000, 50)
    assert played.pulls[:, 1].max() < 200 and played.pulls[:, 1].min() > 10
    # without noise an arm goes when two radii fit between it and the best: 2 sqrt(2 ln T / n) < gap
    sure = play.play(policies.SuccessiveElimination(), Gaussian([1.0, 0.5, 0.4], std=0), 5000, 2)
    expected = [math.floor(8 * math.log(5000) / gap**2) + 1 for gap in (0.5, 0.6)]
    assert sure.pulls[:, 1:].tolist() == [expected, expected]
    equal = play.play(policies.SuccessiveElimination(), Gaussian([0.5, 0.5], std=0), 100, 3)
    assert np.array_equal(equal.pulls, np.full((3, 2), 50))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, None])
def test_epsilon_greedy_explores_as_often_as_it_says(epsilon):
    """Where rewards are certain, the worse arm is pulled only by the first round and the dice: half of the explorations."""
    horizon, repetitions = 400, 400
    pulls = play.play(policies.EpsilonGreedy(epsilon), Bernoulli([1.0, 0.0]), horizon, repetitions).pulls[:, 1]
    rounds = range(3, horizon + 1)
    chance = [epsilon if epsilon is not None else min(1.0, (2 * math.log(t) / t) ** (1 / 3)) for t in rounds]
    expected, variance = 1 + sum(chance) / 2, sum(c / 2 * (1 - c / 2) for c in chance)
    assert abs(pulls.mean() - expected) <= 4 * math.sqrt(variance / repetitions)


def _explore_first(gap: float, horizon: int, pulls: int) -> float:
    """Its exact expected regret on coins .5 +- gap/2, the better one second (a tie goes to the first)."""
    tallies = np.arange(pulls + 1)
    good = scipy_stats.binom.pmf(tallies, pulls, 0.5 + gap / 2)
    errs = float(good @ scipy_stats.binom.sf(tallies - 1, pulls, 0.5 - gap / 2))
    return gap * (pulls + (horizon - 2 * pulls) * errs)


def _default_pulls(horizon: int) -> int:
    policy = policies.ExploreFirst()
    policy.start(1, 2, horizon)
    return policy.rounds // 2


def test_explore_first_costs_exactly_what_enumeration_says():
    for gap, horizon, pulls in ((0.1, 400, 20), (0.3, 300, 8)):
        final = play.play(policies.ExploreFirst(pulls), Bernoulli([0.5 - gap / 2, 0.5 + gap / 2]), horizon, 4000).final
        exact = _explore_first(gap, horizon, pulls)
        assert len(np.unique(final)) == 2  # right or wrong for good
        assert final.mean() == pytest.approx(exact, abs=4 * final.std() / math.sqrt(4000))
    final = play.play(policies.ExploreFirst(7), Bernoulli([0.0, 1.0]), 100, 3).final
    assert final.tolist() == [7.0] * 3


HORIZONS = (1000, 10_000, 100_000)


def _exponent(regrets: list[float]) -> float:
    return float(np.polyfit(np.log(HORIZONS), np.log(regrets), 1)[0])


def test_the_worst_case_of_explore_first_grows_as_the_two_thirds_power():
    """Its exact regret at the gap that hurts it most; also with pulls = T^(2/3), where the logarithm is gone."""
    gaps = np.geomspace(0.003, 0.99, 60)
    tuned = [max(_explore_first(g, t, _default_pulls(t)) for g in gaps) for t in HORIZONS]
    assert _exponent(tuned) == pytest.approx(2 / 3, abs=0.05)
    plain = [max(_explore_first(g, t, round(t ** (2 / 3))) for g in gaps) for t in HORIZONS]
    assert _exponent(plain) == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.parametrize("name", ["ucb1", "thompson"])
def test_the_worst_case_of_ucb1_and_thompson_grows_as_the_square_root(name):
    """Two arms a gap of sqrt(K / T) apart."""
    regrets = []
    for horizon in HORIZONS:
        gap = math.sqrt(2 / horizon)
        problem = Bernoulli([0.5 + gap / 2, 0.5 - gap / 2])
        regrets.append(float(play.play(policies.get(name), problem, horizon, 60, seed=3, points=2).final.mean()))
    assert _exponent(regrets) == pytest.approx(0.5, abs=0.05)


def test_on_a_fixed_problem_regret_is_linear_in_the_logarithm_of_time_and_lai_robbins_is_a_slope_not_a_floor():
    """Between 1,000 and 20,000 rounds on .9, .6; the constant .9639 is what regret gains a unit of ln T."""
    problem = Bernoulli([0.9, 0.6])
    thompson = play.play(policies.Thompson(), problem, 20_000, 300, seed=4)
    late = thompson.times >= 1000
    x, mean = np.log(thompson.times[late]), thompson.regret[:, late].mean(0)
    fit = np.polyfit(x, mean, 1)
    assert np.corrcoef(x, mean)[0, 1] > 0.98
    assert fit[0] == pytest.approx(problem.lai_robbins, rel=0.35)
    kl_ucb = play.play(policies.KLUCB(), problem, 4000, 60, seed=4)
    ucb = play.play(policies.UCB1(), problem, 4000, 60, seed=4)
    assert ucb.final.mean() > 2 * kl_ucb.final.mean()
    below = play.play(policies.Thompson(), TEN, 10_000, 60, seed=4).interval().high[-1]
    assert below < TEN.lai_robbins * math.log(10_000)  # 412: no floor at a finite time


def _without_noise(gap: float, t: float) -> float:
    """Pulls of the worse of two arms by UCB1 whose estimates are exact: it keeps both indices equal."""
    level = 2 * math.log(t)
    return optimize.brentq(lambda n: math.sqrt(level / n) - gap - math.sqrt(level / (t - n)), 1e-3, t / 2)


def test_ucb1_costs_about_what_it_would_without_noise():
    """On .9, .6 from 300 to 5,000 rounds: ten times the slope of Lai and Robbins, as the exact balance of indices says."""
    played = play.play(policies.UCB1(), Bernoulli([0.9, 0.6]), 5000, 200, seed=0)
    late = played.times >= 300
    x, mean = np.log(played.times[late]), played.regret[:, late].mean(0)
    smooth = [0.3 * _without_noise(0.3, t) for t in np.exp(x)]
    assert np.polyfit(x, mean, 1)[0] == pytest.approx(np.polyfit(x, smooth, 1)[0], rel=0.1)
    assert np.corrcoef(x, mean)[0, 1] > 0.99


def test_ucb1_stays_below_its_bound():
    """8 ln T / gap for each worse arm, and (1 + pi^2 / 3) gap (Auer, Cesa-Bianchi and Fischer 2002)."""
    bound = 8 * math.log(10_000) * (1 / TEN.gaps[1:]).sum() + (1 + math.pi**2 / 3) * TEN.gaps.sum()
    assert bound == pytest.approx(6635, abs=1)
    assert play.play(policies.UCB1(), TEN, 10_000, 20).final.max() < bound


@pytest.mark.parametrize("name", NAMES)
def test_no_policy_is_below_the_minimax_floor_of_coins(name):
    """On average over which of ten coins is better by sqrt(K / T) / 4: at least min(sqrt(K T), T) / 20 (Auer, Cesa-Bianchi,
    Freund and Schapire 2002). On one of them alone a policy may be lower: Greedy is where arm 0 is best."""
    arms, horizon = 10, 500
    better = 0.25 * math.sqrt(arms / horizon) * np.eye(arms)
    lost = [play.play(policies.get(name), Bernoulli(0.5 + row), horizon, 20, seed=k).final.mean() for k, row in enumerate(better)]
    assert np.mean(lost) > math.sqrt(arms * horizon) / 20


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"thompson", "kl_ucb"}))
def test_no_policy_is_below_the_minimax_floor_on_the_problem_made_for_it(name):
    """The construction of the lower bound: see which arm is neglected where arm 0 is best, then make that one better still."""
    arms, horizon = 5, 500
    gap = math.sqrt(arms / horizon)
    means = np.zeros(arms)
    means[0] = gap
    first = play.play(policies.get(name), Gaussian(means), horizon, 60)
    neglected = 1 + first.pulls[:, 1:].mean(0).argmin()
    means[neglected] = 2 * gap
    second = play.play(policies.get(name), Gaussian(means), horizon, 60)
    worst = max(first.final.mean(), second.final.mean())
    assert worst > minimax_floor(arms, horizon)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(name):
    one, same, other = (play.play(policies.get(name), TEN, 200, 5, seed=s) for s in (3, 3, 4))
    assert np.array_equal(one.regret, same.regret) and np.array_equal(one.pulls, same.pulls)
    # in 200 rounds these two have not finished exploring, which needs no dice and heeds no luck
    assert not np.array_equal(one.pulls, other.pulls) or name in ("explore_first", "successive_elimination")


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_that_is_started_again_has_forgotten(name):
    policy = policies.get(name)
    first = play.play(policy, TEN, 150, 4)
    play.play(policy, Bernoulli([0.1, 0.9]), 50, 7)
    assert np.array_equal(play.play(policy, TEN, 150, 4).pulls, first.pulls)
    assert first.pulls.sum(1).tolist() == [150] * 4
    assert np.allclose(first.pulls @ TEN.gaps, first.final, rtol=0, atol=1e-9)


def test_policies_with_one_seed_meet_the_same_luck():
    """What a policy is told depends on the round, the repetition and the arm, and on nothing another policy did."""

    class Listening(policies.UCB1):
        def update(self, arm, reward):
            self.heard.append((arm.copy(), np.array(reward)))
            super().update(arm, reward)

    heard = {}
    for scale in (0.1, 2.0):
        policy = Listening(scale)
        policy.heard = heard[scale] = []
        play.play(policy, TEN, 600, 6, seed=9)
    same_arm = [a == b for (a, _), (b, _) in zip(heard[0.1], heard[2.0])]
    for (_, x), (_, y), same in zip(heard[0.1], heard[2.0], same_arm):
        assert np.array_equal(x[same], y[same])
    assert 100 < np.sum(same_arm) < 3600
    rounds = TEN.start(6, 600, seeding.generator(9, "bandit", "luck"))
    arm, told = heard[2.0][0]
    assert np.array_equal(rounds.pull(arm)[0], told)


def test_common_luck_makes_a_difference_less_noisy():
    def final(name, seed):
        return play.play(policies.get(name), Gaussian([0.0, 0.3]), 300, 400, seed=seed).final

    one, together, apart = final("greedy", 0), final("ucb1", 0), final("ucb1", 1)
    assert np.var(one - together) < np.var(one - apart)


def test_memory_does_not_grow_with_the_horizon():
    def peak(horizon):
        tracemalloc.start()
        play.play(policies.UCB1(), TEN, horizon, 20, points=50)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(500)
    assert peak(6000) < 1.1 * peak(1000)


def test_what_is_recorded_are_log_spaced_rounds_that_end_at_the_horizon():
    played = play.play(policies.Uniform(), TEN, 1000, 3)
    assert played.times[0] == 1 and played.times[-1] == 1000 and (np.diff(played.times) > 0).all()
    assert played.regret.shape == (3, len(played.times)) and (np.diff(played.regret, axis=1) >= 0).all()
    assert len(play.log_spaced(10**6, 40)) <= 40 and np.array_equal(play.log_spaced(1), [1])
    found = played.interval()
    expected = scipy_stats.t.interval(0.95, 2, played.final.mean(), scipy_stats.sem(played.final))
    assert (found.low[-1], found.high[-1]) == pytest.approx(expected, rel=1e-12)


def test_a_policy_says_who_it_is():
    assert play.name_of(policies.UCB1()) == "UCB1" and play.name_of(policies.EpsilonGreedy(0.2)) == "EpsilonGreedy(0.2)"
    policy = policies.GaussianThompson(std=0.3)
    before = repr(policy)
    assert before == "GaussianThompson(std=0.3, prior_std=1.0, prior_mean=0.0)"
    policy.start(3, 2, 10)
    assert repr(policy) == before


class _Full(policies.Uniform):
    feedback = "full"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: play.play(policies.UCB1(), TEN, 0), "horizon must be a whole number of at least 1, not 0"),
        (lambda: play.play(policies.UCB1(), TEN, 10.0), "horizon must be a whole number of at least 1, not 10.0"),
        (lambda: play.play(policies.UCB1(), TEN, 10, 0), "repetitions must be a whole number of at least 1, not 0"),
        (lambda: play.play(policies.UCB1(), TEN, 10, True), "repetitions must be a whole number of at least 1, not True"),
        (
            lambda: play.play(policies.Thompson(), Gaussian([0.5, 2.0], std=0), 50, 5),
            "Thompson expects rewards between 0 and 1, not 2: scale them, or use GaussianThompson",
        ),
        (
            lambda: play.play(policies.KLUCB(), Gaussian([0.0, -1.0], std=0), 50, 5),
            "KLUCB expects rewards between 0 and 1, not -1: scale them, or use UCB1",
        ),
        (lambda: policies.EpsilonGreedy(1.5), "epsilon is a chance, between 0 and 1, not 1.5"),
        (lambda: policies.UCB1(0), "scale must be positive, not 0"),
        (lambda: policies.ExploreFirst(0), "pulls must be a whole number of at least 1, not 0"),
        (lambda: policies.GaussianThompson(std=-1), "std must be positive, not -1"),
    ],
)
def test_what_makes_no_sense_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_a_policy_for_another_kind_of_feedback_is_refused():
    from workbench.bandits.contextual import LinearContexts, LinUCB

    with pytest.raises(ValueError, match="UCB1 learns from bandit feedback; LinearContexts gives contextual: choose a policy"):
        play.play(policies.UCB1(), LinearContexts(np.eye(2)), 10)
    with pytest.raises(ValueError, match="LinUCB learns from contextual feedback; Bernoulli gives bandit or full"):
        play.play(LinUCB(), TEN, 10)
    with pytest.raises(LookupError, match="no policy 'ucb2'; there are uniform, greedy"):
        policies.get("ucb2")
