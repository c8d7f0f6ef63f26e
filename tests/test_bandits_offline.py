"""Logged choices against enumeration of every log there is, binomial sums, identities between estimators, and coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from workbench import seeding
from workbench.bandits import offline

MEANS = np.array([[0.2, 0.5, 0.8], [0.6, 0.4, 0.3], [0.1, 0.7, 0.5], [0.5, 0.3, 0.9]])
TARGET = np.array([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
AVOIDS = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])  # what TARGET likes best
ROUGH = np.full((4, 3), 0.5)  # a wrong model of the rewards


def logger(share):
    """A logger that explores with chance `share` and otherwise plays what the target likes least."""
    return share / 3 + (1 - share) * AVOIDS


# Every log of three rounds there is, two contexts and two arms: expectations without simulation

SMALL_MEANS = np.array([[0.9, 0.3], [0.2, 0.6]])
SMALL_LOGGER = np.array([[0.8, 0.2], [0.3, 0.7]])
SMALL_TARGET = np.array([[0.25, 0.75], [0.6, 0.4]])
SMALL_WEIGHTS = np.array([0.35, 0.65])


def every_small_log():
    rounds = list(itertools.product((0, 1), repeat=3))  # context, arm, reward
    logs = np.array(list(itertools.product(rounds, repeat=3)))  # [512, 3 rounds, 3]
    s, a, r = np.moveaxis(logs, -1, 0)
    pays = np.where(r == 1, SMALL_MEANS[s, a], 1 - SMALL_MEANS[s, a])
    chance = (SMALL_WEIGHTS[s] * SMALL_LOGGER[s, a] * pays).prod(-1)
    return offline.Log(a, r, 2, SMALL_LOGGER[s, a], s, 2), chance


def test_ips_and_doubly_robust_are_unbiased_over_every_log_there_is():
    log, chance = every_small_log()
    exact = offline.value(SMALL_TARGET, SMALL_MEANS, SMALL_WEIGHTS)
    assert exact == pytest.approx(0.35 * (0.25 * 0.9 + 0.75 * 0.3) + 0.65 * (0.6 * 0.2 + 0.4 * 0.6), abs=1e-15)
    assert chance.sum() == pytest.approx(1, abs=1e-12)
    assert chance @ offline.ips(log, SMALL_TARGET).estimate == pytest.approx(exact, abs=1e-12)
    wrong = np.array([[0.0, 5.0], [-3.0, 0.2]])
    assert chance @ offline.doubly_robust(log, SMALL_TARGET, wrong).estimate == pytest.approx(exact, abs=1e-12)


def test_doubly_robust_forgives_wrong_propensities_when_the_model_is_right():
    log, chance = every_small_log()
    exact = offline.value(SMALL_TARGET, SMALL_MEANS, SMALL_WEIGHTS)
    lies = offline.Log(log.actions, log.rewards, 2, np.where(log.actions == 0, 0.9, 0.1), log.contexts, 2)
    assert chance @ offline.doubly_robust(lies, SMALL_TARGET, SMALL_MEANS).estimate == pytest.approx(exact, abs=1e-12)
    assert abs(chance @ offline.ips(lies, SMALL_TARGET).estimate - exact) > 0.1


def test_the_bias_of_self_normalised_is_what_its_expansion_says():
    """Dividing by a random number costs -(E[w^2 r] - v E[w^2]) / N to first order; over all logs of three rounds it is exact."""
    exact = offline.value(SMALL_TARGET, SMALL_MEANS, SMALL_WEIGHTS)
    log, chance = every_small_log()
    assert abs(chance @ offline.self_normalised(log, SMALL_TARGET).estimate - exact) > 0.05
    pairs, square = SMALL_WEIGHTS[:, None] * SMALL_LOGGER, (SMALL_TARGET / SMALL_LOGGER) ** 2
    first_order = -((pairs * square * SMALL_MEANS).sum() - exact * (pairs * square).sum())
    many = offline.record(SMALL_MEANS, SMALL_LOGGER, 50, logs=80_000, seed=1, weights=SMALL_WEIGHTS)
    found = offline.self_normalised(many, SMALL_TARGET).estimate
    error = found.std() / math.sqrt(80_000)
    assert first_order / 50 > 10 * error
    assert found.mean() - exact == pytest.approx(first_order / 50, abs=4 * error + 0.1 * first_order / 50)


# Identities


@pytest.fixture(scope="module")
def some_logs():
    return offline.record(MEANS, logger(0.6), 300, logs=20, seed=3)


def test_doubly_robust_with_a_model_of_zeros_is_ips(some_logs):
    ours, plain = offline.doubly_robust(some_logs, TARGET, np.zeros((4, 3))), offline.ips(some_logs, TARGET)
    assert np.allclose(ours, plain, rtol=0, atol=1e-14)


def test_doubly_robust_with_nothing_left_over_is_the_direct_method(some_logs):
    """A world whose rewards are certain, and the right model of it: every residual is zero."""
    sure = (MEANS > 0.45).astype(float)
    log = offline.Log(
        some_logs.actions, sure[some_logs.seen, some_logs.actions], 3, some_logs.propensities, some_logs.contexts, 4
    )
    assert np.array_equal(offline.doubly_robust(log, TARGET, sure), offline.direct(log, TARGET, sure))


def test_with_counted_propensities_all_four_estimators_are_one(some_logs):
    """On a table, IPS with counted propensities is the direct method with counted rewards; weights then add up to N."""
    counted = offline.with_counted_propensities(some_logs)
    direct = offline.direct(some_logs, TARGET).estimate
    assert np.allclose(offline.ips(counted, TARGET).estimate, direct, atol=1e-12)
    assert np.allclose(offline.self_normalised(counted, TARGET).estimate, direct, atol=1e-12)
    assert np.allclose(offline.doubly_robust(counted, TARGET, ROUGH).estimate, direct, atol=1e-12)
    fitted = offline.reward_model(some_logs)
    assert np.allclose(offline.doubly_robust(some_logs, TARGET, fitted).estimate, direct, atol=1e-12)


def test_judging_the_logger_itself_is_the_mean_reward(some_logs):
    found = offline.ips(some_logs, logger(0.6))
    runs = some_logs.rewards
    ends = scipy_stats.ttest_1samp(runs[0], 0).confidence_interval(0.95)
    assert np.allclose(found.estimate, runs.mean(-1), atol=1e-14)
    assert (found.low[0], found.high[0]) == pytest.approx((ends.low, ends.high))
    assert np.allclose(offline.self_normalised(some_logs, logger(0.6)), found, atol=1e-14)


def test_the_self_normalised_interval_is_the_delta_methods(some_logs):
    w = offline.weights(some_logs, TARGET)[0]
    r = some_logs.rewards[0]
    centre = w @ r / w.sum()
    spread = np.sqrt((w**2 * (r - centre) ** 2).sum()) / w.sum()
    half = scipy_stats.t.ppf(0.975, 299) * spread * math.sqrt(300 / 299)
    found = offline.self_normalised(some_logs, TARGET)
    assert (found.estimate[0], found.high[0] - centre) == pytest.approx((centre, half))


def test_one_log_and_many_logs_agree_and_a_seed_gives_the_same_bits(some_logs):
    alone = offline.Log(*(x[4] for x in (some_logs.actions, some_logs.rewards)), 3,
                        some_logs.propensities[4], some_logs.contexts[4], 4)  # fmt: skip
    for judge in (offline.ips, offline.self_normalised, offline.direct):
        assert np.allclose(judge(alone, TARGET), [end[4] for end in judge(some_logs, TARGET)], atol=1e-14)
    for choose in (offline.most_played, offline.empirical_best, offline.lower_confidence, offline.imitation):
        assert np.array_equal(choose(alone), choose(some_logs)[4])
    each = np.broadcast_to(TARGET, (20, 4, 3))
    assert np.array_equal(offline.ips(some_logs, each), offline.ips(some_logs, TARGET))
    again = offline.record(MEANS, logger(0.6), 300, logs=20, seed=3)
    assert np.array_equal(again.rewards, some_logs.rewards) and np.array_equal(again.actions, some_logs.actions)
    assert not np.array_equal(offline.record(MEANS, logger(0.6), 300, logs=20, seed=4).actions, again.actions)


# Bias and coverage on a thousand logs; the low numbers are what these intervals really do, and are documented


@pytest.mark.parametrize(
    ("share", "rounds", "expected"),
    [  # coverage of the 95 % interval: ips, self-normalised, doubly robust with a wrong model and with the right one
        (1.0, 200, (0.95, 0.95, 0.95, 0.95)),
        (0.3, 1000, (0.94, 0.94, 0.945, 0.94)),
        (0.1, 200, (0.87, 0.845, 0.935, 0.90)),
        (0.03, 200, (0.78, 0.53, 0.78, 0.98)),
        (0.01, 200, (0.385, 0.065, 0.48, 0.98)),
    ],
)  # fmt: skip
def test_bias_and_coverage_on_a_thousand_logs(share, rounds, expected):
    """IPS and doubly robust stay unbiased at any overlap; the intervals do not hold what they promise at low overlap."""
    log = offline.record(MEANS, logger(share), rounds, logs=1000, seed=11)
    exact = offline.value(TARGET, MEANS)
    found = [
        offline.ips(log, TARGET), offline.self_normalised(log, TARGET),
        offline.doubly_robust(log, TARGET, ROUGH), offline.doubly_robust(log, TARGET, MEANS),
    ]  # fmt: skip
    for which, (interval, promised) in enumerate(zip(found, expected)):
        covered = np.mean((interval.low < exact) & (exact < interval.high))
        assert covered == pytest.approx(promised, abs=0.045), which
        if which != 1:
            assert abs(interval.estimate.mean() - exact) < 4 * interval.estimate.std() / math.sqrt(1000), which
    normalised = found[1].estimate
    assert normalised.std() < 0.7 * found[0].estimate.std()  # what the bias buys
    if share == 0.01:
        assert normalised.mean() - exact < -0.1  # and what it costs


def test_the_direct_method_covers_with_counted_rewards_and_fails_with_a_wrong_model_for_any_size():
    exact = offline.value(TARGET, MEANS)
    log = offline.record(MEANS, logger(1.0), 1000, logs=1000, seed=12)
    _, low, high = offline.direct(log, TARGET)
    assert np.mean((low < exact) & (exact < high)) == pytest.approx(0.95, abs=0.025)
    estimate, low, high = offline.direct(log, TARGET, np.full((4, 3), MEANS.mean()))
    assert np.allclose(estimate, MEANS.mean()) and not ((low < exact) & (exact < high)).any()


def test_the_effective_number_of_rounds_can_look_best_where_the_log_says_least():
    """With two hundred rounds and one chosen arm in three hundred useful, most logs hold no large weight at all: Kish's number
    rises, and only the mean weight (which should be 1) and the share never seen tell."""
    some = offline.overlap(offline.record(MEANS, logger(0.1), 200, logs=500, seed=13), TARGET)
    none = offline.overlap(offline.record(MEANS, logger(0.01), 200, logs=500, seed=13), TARGET)
    assert np.mean(none.effective) > 5 * np.mean(some.effective)
    assert np.median(none.mean) < 0.4 and np.median(some.mean) > 0.8
    assert np.mean(none.unseen) > 0.6 > 0.2 > np.mean(some.unseen)
    by_hand = offline.overlap(offline.Log([0, 1, 1], [1, 1, 1], 2, [0.5] * 3, [0, 1, 1], 2), [[0.2, 0.8], [0.7, 0.3]])
    assert by_hand.unseen == pytest.approx(0.8 / 3 + 0.7 * 2 / 3)
    same = offline.overlap(offline.record(MEANS, logger(1.0), 200, logs=5, seed=1), logger(1.0))
    assert same.effective == pytest.approx([200] * 5) and same.largest == pytest.approx([1] * 5)


# Choosing: exact sums for two arms, recorded values for the rest


def two_arm_regret(rule, rounds, coverage, best=0.6, other=0.5):
    """The exact expected loss of a rule that maps (n0, s0, n1, s1) to the chance that it picks the worse arm."""
    loss = 0.0
    for n in range(rounds + 1):  # pulls of the better arm
        m = rounds - n
        here = scipy_stats.binom.pmf(n, rounds, 1 / coverage)
        if here < 1e-16:
            continue
        s, t = np.arange(n + 1)[:, None], np.arange(m + 1)[None]
        chance = scipy_stats.binom.pmf(s, n, best) * scipy_stats.binom.pmf(t, m, other)
        loss += here * (chance * rule(n, s, m, t)).sum()
    return (best - other) * loss


def by_score(score):
    """The worse arm has the higher score; a tie is broken against it half of the time."""

    def rule(n, s, m, t):
        ours, theirs = score(n, s), score(m, t)
        return (theirs > ours) + 0.5 * (theirs == ours)

    return rule


def test_two_arms_near_expert_equal_exact_sums():
    """Arms .6 and .5, C* = 1.2, 100 rounds: the sums over every log, and 20,000 simulated ones with the arms in both orders."""
    rounds, coverage, runs = 100, 1.2, 20_000
    log_term = math.log(2 * 2 * rounds)
    mean = by_score(lambda n, s: s / n if n else np.full(np.shape(s), -np.inf))
    bound = by_score(lambda n, s: s / n - np.sqrt(log_term / (2 * n)) if n else np.full(np.shape(s), -np.inf))
    exact = {
        offline.empirical_best: two_arm_regret(mean, rounds, coverage),
        offline.lower_confidence: two_arm_regret(bound, rounds, coverage),
        offline.most_played: two_arm_regret(by_score(lambda n, s: n + 0 * s), rounds, coverage),
    }
    means = np.where(np.arange(2) == np.arange(runs)[:, None] % 2, 0.6, 0.5)[:, None, :]  # the better arm is 0 or 1 in turn
    log = offline.record(means, offline.expert(means, coverage), rounds, seed=4)
    for choose, loss in exact.items():
        paid = 0.6 - np.take_along_axis(means, choose(log)[..., None], -1)[:, 0, 0]
        assert paid.mean() == pytest.approx(loss, abs=4 * paid.std() / math.sqrt(runs) + 1e-12), choose
    assert exact[offline.empirical_best] == pytest.approx(0.0235, abs=3e-4)  # recorded earlier: .0230, .0005, 0
    assert exact[offline.lower_confidence] == pytest.approx(0.0006, abs=1e-4)
    assert exact[offline.most_played] < 1e-12


def losses(best, others, arms, coverage, rounds, runs, seed):
    """Mean loss and its standard error of empirical best, lower confidence and most played; the best arm is anywhere."""
    place = seeding.generator(seed, "place").integers(0, arms, runs)
    means = np.where(np.arange(arms) == place[:, None], best, others)[:, None, :]
    log = offline.record(means, offline.expert(means, coverage), rounds, seed=seed)
    found = {}
    for choose in (offline.empirical_best, offline.lower_confidence, offline.most_played):
        paid = best - np.take_along_axis(means, choose(log)[..., None], -1)[:, 0, 0]
        found[choose.__name__] = (paid.mean(), paid.std() / math.sqrt(runs))
    return found


@pytest.mark.parametrize(
    ("coverage", "rounds", "recorded"),
    [  # fifty arms, best .6, others .4; empirical best, lower confidence, most played
        (2, 50, (0.200, 0.000, 0.000)),
        (5, 50, (0.198, 0.016, 0.0028)),
        (5, 200, (0.200, 0.0003, 0.000)),
        (50, 1000, (0.137, 0.1365, 0.1955)),
    ],
)
def test_fifty_arms_reproduce_the_recorded_table(coverage, rounds, recorded):
    found = losses(0.6, 0.4, 50, coverage, rounds, 1000, seed=5)
    for (name, (mean, error)), before in zip(found.items(), recorded):
        assert mean == pytest.approx(before, abs=4 * error + 2e-3), name


@pytest.mark.parametrize(
    ("coverage", "recorded"),
    [(1.2, (0.1355, 0.0050, 0.000)), (2, (0.1200, 0.0228, 0.0168)), (5, (0.087, 0.0732, 0.335))],
)
def test_contexts_reproduce_the_crossover_from_imitation_to_learning(coverage, recorded):
    """Twenty contexts, five arms, uniform means, 400 rounds, penalty times 0.3: who imitates loses as coverage widens."""
    runs = 1000
    means = seeding.generator(6, "means").random((runs, 20, 5))
    log = offline.record(means, offline.expert(means, coverage), 400, seed=6)
    chosen = [
        offline.empirical_best(log),
        offline.lower_confidence(log, scale=0.3),
        offline.most_played(log),
    ]
    for arms, before in zip(chosen, recorded):
        paid = (means.max(-1) - np.take_along_axis(means, arms[..., None], -1)[..., 0]).mean(-1)
        assert paid.mean() == pytest.approx(before, abs=4 * paid.std() / math.sqrt(runs) + 2e-3)


def test_the_choices_by_hand():
    log = offline.Log([0, 0, 0, 0, 1, 2, 2], [1, 0, 1, 1, 1, 0, 1], 4)
    assert offline.most_played(log) == [0] and offline.empirical_best(log) == [1]
    # bounds with ln(2 K / delta) = ln 16: .75 - .589, 1 - 1.177, .5 - .833
    assert offline.lower_confidence(log, delta=0.5) == [0]
    assert offline.lower_confidence(log, delta=0.5, scale=0.0) == [1]
    assert offline.lower_confidence(log, delta=0.5, scale=0.4) == [1]  # .514 against .529
    assert offline.lower_confidence(log, delta=0.5, scale=0.45) == [0]  # .485 against .470
    assert np.allclose(offline.imitation(log), [[4 / 7, 1 / 7, 2 / 7, 0]])
    assert np.allclose(offline.imitation(offline.Log([1], [0.0], 2, contexts=[0], n_contexts=2)), [[0, 1], [0.5, 0.5]])
    assert np.array_equal(offline.table([2, 0], 3), [[0, 0, 1], [1, 0, 0]])
    assert np.allclose(offline.expert([0.1, 0.9, 0.2], 2.0), [0.25, 0.5, 0.25])


# Bad input


def test_malformed_logs_are_refused_in_words():
    with pytest.raises(ValueError, match="3 propensities are not in"):
        offline.Log([0, 1, 1, 0], [1, 0, 1, 1], 2, [0.0, 0.5, 1.5, np.nan])
    with pytest.raises(ValueError, match="which cannot be zero"):
        offline.Log([0, 1], [1, 0], 2, [0.0, 0.5])
    with pytest.raises(ValueError, match=r"actions must lie from 0 to arms-1 = 1"):
        offline.Log([0, 2], [1, 0], 2)
    with pytest.raises(ValueError, match="whole numbers"):
        offline.Log([0.0, 1.0], [1, 0], 2)
    with pytest.raises(ValueError, match=r"rewards must have the shape of the actions, \(2,\), not \(3,\)"):
        offline.Log([0, 1], [1, 0, 1], 2)
    with pytest.raises(ValueError, match="1 rewards are not finite"):
        offline.Log([0, 1], [1, np.nan], 2)
    with pytest.raises(ValueError, match="at least 2 arms"):
        offline.Log([0, 0], [1, 0], 1)
    with pytest.raises(ValueError, match="at least one round"):
        offline.Log(np.array([], dtype=int), [], 2)
    with pytest.raises(ValueError, match="contexts are missing"):
        offline.Log([0, 1], [1, 0], 2, n_contexts=3)
    with pytest.raises(ValueError, match="contexts must lie from 0 to n_contexts-1 = 1"):
        offline.Log([0, 1], [1, 0], 2, contexts=[0, 2], n_contexts=2)
    with pytest.raises(ValueError, match="contexts must have the shape"):
        offline.Log([0, 1], [1, 0], 2, contexts=[0], n_contexts=2)
    with pytest.raises(ValueError, match="n_contexts must be 1"):
        offline.Log([0, 1], [1, 0], 2, n_contexts=0)


def test_unknown_propensities_and_arms_never_logged_are_refused_in_words():
    log = offline.Log([0, 1, 0, 1], [1, 0, 1, 1], 3)
    for judge in (offline.ips, offline.self_normalised, offline.overlap):
        with pytest.raises(ValueError, match="does not say how likely each choice was"):
            judge(log, [0.5, 0.5, 0.0])
    with pytest.raises(ValueError, match="arm 2 was never logged in context 0"):
        offline.direct(log, [0.5, 0.2, 0.3])
    assert offline.direct(log, [0.5, 0.5, 0.0]).estimate == pytest.approx(0.75)  # the policy avoids it, so all is well
    with pytest.raises(ValueError, match="arm 2 was never logged"):
        offline.reward_model(log)
    assert np.allclose(offline.reward_model(log, unseen=0.1), [[1, 0.5, 0.1]])
    known = offline.Log([0, 1, 0, 1], [1, 0, 1, 1], 3, [0.5] * 4)
    assert offline.ips(known, [0.0, 0.0, 1.0]).estimate == 0
    with pytest.raises(ValueError, match=r"in 1 of 1 logs no logged choice could have been this policy's"):
        offline.self_normalised(known, [0.0, 0.0, 1.0])


def test_policies_models_and_worlds_of_the_wrong_shape_are_refused_in_words():
    log = offline.record(MEANS, logger(0.5), 50, logs=3, seed=0)
    with pytest.raises(ValueError, match=r"\[S,K\] = \(4, 3\), not \(4, 2\)"):
        offline.ips(log, np.full((4, 2), 0.5))
    with pytest.raises(ValueError, match="add up to 1"):
        offline.ips(log, np.full((4, 3), 0.5))
    with pytest.raises(ValueError, match=r"one for each, \(3,\), not \(2,\)"):
        offline.ips(log, np.full((2, 4, 3), 1 / 3))
    with pytest.raises(ValueError, match="model must be predicted rewards"):
        offline.doubly_robust(log, TARGET, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="not finite"):
        offline.direct(log, TARGET, np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="at least 2 runs"):
        offline.ips(offline.Log([0], [1.0], 2, [0.5]), [0.5, 0.5])
    with pytest.raises(ValueError, match=r"for rewards in \[0, 1\]; these reach from 0 to 7"):
        offline.lower_confidence(offline.Log([0, 1], [0, 7.0], 2))
    with pytest.raises(ValueError, match="delta must lie between 0 and 1"):
        offline.lower_confidence(log, delta=1.0)
    with pytest.raises(ValueError, match="at least 1, not 0.5"):
        offline.expert([0.1, 0.2], 0.5)
    with pytest.raises(ValueError, match="means must be chances"):
        offline.record([0.5, 1.2], [0.5, 0.5], 10, seed=0)
    with pytest.raises(ValueError, match="behaviour must be a table"):
        offline.record([0.5, 0.2], [1.0], 10, seed=0)
    with pytest.raises(ValueError, match="rounds must be 1 or more"):
        offline.record([0.5, 0.2], [0.5, 0.5], 0, seed=0)
    with pytest.raises(ValueError, match="describe 4 bandits"):
        offline.record(np.full((4, 1, 2), 0.5), [0.5, 0.5], 5, seed=0, logs=3)
    with pytest.raises(ValueError, match="4 chances of the contexts"):
        offline.value(TARGET, MEANS, [0.5, 0.5])
    with pytest.raises(ValueError, match="arms must lie from 0"):
        offline.table([3], 3)
