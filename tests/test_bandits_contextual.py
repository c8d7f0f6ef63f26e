"""Contextual bandits against hand computations, matrix identities, enumeration and another library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench import seeding
from workbench.bandits.adversarial import EXP4, exp4_bound
from workbench.bandits.contextual import (
    ContextUCB,
    ExploreFirstOracle,
    LinearContexts,
    LinearThompson,
    LinUCB,
    LipschitzContexts,
    TabularContexts,
    ridge_index,
    sherman_morrison,
)
from workbench.bandits.play import play
from workbench.bandits.problems import Bernoulli

LINEAR = LinearContexts(seeding.generator(0, "theta").normal(size=(4, 5)) / 2, 0.2)


def log(rounds: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contexts [N,3], arms [N] of 0 to 3, rewards [N]."""
    rng = seeding.generator(1, "log")
    return rng.normal(size=(rounds, 3)), rng.integers(0, 4, rounds), rng.normal(size=rounds)


def taught(policy: LinUCB, contexts: np.ndarray, arms: np.ndarray, rewards: np.ndarray) -> LinUCB:
    """A policy that has been told a log, whatever it would have chosen itself."""
    policy.start(1, 4, len(arms))
    for x, arm, reward in zip(contexts, arms, rewards):
        policy.choose(seeding.generator(0, "any"), x[None])
        policy.update(np.array([arm]), np.array([reward]))
    return policy


def test_linucb_by_hand_on_a_textbook_example():
    """Two arms, two features. Arm 0 saw (1, 0) twice and earned 1 and 0, arm 1 saw (0, 1) once and earned 1, ridge 1:
    A_0 = diag(3, 1), b_0 = (1, 0); A_1 = diag(1, 2), b_1 = (0, 1). For x = (1, 1): 1/3 + sqrt(4/3), and 1/2 + sqrt(3/2)."""
    policy = LinUCB(width=1.0)
    policy.start(1, 2, 10)
    for x, arm, reward in (((1, 0), 0, 1.0), ((1, 0), 0, 0.0), ((0, 1), 1, 1.0)):
        policy.choose(seeding.generator(0, "any"), np.array([x], float))
        policy.update(np.array([arm]), np.array([reward]))
    assert policy.inverse[0] == pytest.approx(np.array([np.diag([1 / 3, 1]), np.diag([1, 1 / 2])]), abs=1e-15)
    index = ridge_index(policy.inverse, policy.moment, np.ones((1, 2)), 1.0)[0]
    assert index == pytest.approx([1 / 3 + math.sqrt(4 / 3), 1 / 2 + math.sqrt(3 / 2)], abs=1e-15)
    assert policy.choose(seeding.generator(0, "any"), np.ones((1, 2))) == 1
    policy.width = 0.0
    assert policy.choose(seeding.generator(0, "any"), np.array([[1.0, 0.0]])) == 0


def test_sherman_morrison_is_the_inverse_of_the_updated_matrix():
    rng = seeding.generator(2, "inverse")
    root, x = rng.normal(size=(7, 3, 4, 4)), rng.normal(size=(7, 3, 4))
    design = root @ np.swapaxes(root, -1, -2) + np.eye(4)
    updated = sherman_morrison(np.linalg.inv(design), x)
    assert updated == pytest.approx(np.linalg.inv(design + x[..., :, None] * x[..., None, :]), abs=1e-12)


def test_kept_inverses_and_estimates_are_those_of_ridge_regression_after_many_rounds():
    contexts, arms, rewards = log(400)
    policy = taught(LinUCB(ridge=2.0), contexts, arms, rewards)
    for k in range(4):
        x, y = contexts[arms == k], rewards[arms == k]
        inverse = np.linalg.inv(2 * np.eye(3) + x.T @ x)
        assert policy.inverse[0, k] == pytest.approx(inverse, abs=1e-12)
        assert policy.estimates()[0, k] == pytest.approx(inverse @ x.T @ y, abs=1e-12)


def test_linucb_agrees_with_mabwiser_on_the_same_log():
    from mabwiser.mab import MAB, LearningPolicy

    contexts, arms, rewards = log()
    theirs = MAB(arms=[0, 1, 2, 3], learning_policy=LearningPolicy.LinUCB(alpha=0.8, l2_lambda=1.0))
    theirs.fit(arms, rewards, contexts)
    ours = taught(LinUCB(width=0.8), contexts, arms, rewards)
    for x in seeding.generator(3, "new").normal(size=(10, 3)):
        expected = theirs.predict_expectations([x])
        index = ridge_index(ours.inverse, ours.moment, x[None], 0.8)[0]
        assert index == pytest.approx([expected[k] for k in range(4)], abs=1e-10)
        assert ours.choose(seeding.generator(0, "any"), x[None])[0] == theirs.predict([x])


def test_linear_thompson_draws_from_mabwisers_distribution():
    """Each arm's draws have our normal's mean and spread. (Between arms theirs are correlated, about 0.9: all arms of a row
    start from one random state. Ours are independent, so our own choices are compared with draws of whole vectors.)"""
    from mabwiser.mab import MAB, LearningPolicy

    contexts, arms, rewards = log()
    theirs = MAB(arms=[0, 1, 2, 3], learning_policy=LearningPolicy.LinTS(alpha=2.0, l2_lambda=1.0))
    theirs.fit(arms, rewards, contexts)
    ours = taught(LinearThompson(width=2.0), contexts, arms, rewards)
    x = np.array([0.0, 0.1, -1.0])
    mean = ridge_index(ours.inverse, ours.moment, x[None], 0.0)[0]
    spread = ridge_index(ours.inverse, 0 * ours.moment, x[None], 2.0)[0]
    draws = theirs.predict_expectations(np.tile(x, (4000, 1)))
    drawn = np.array([[row[k] for k in range(4)] for row in draws])
    assert np.abs((drawn.mean(0) - mean) / spread).max() < 4 / math.sqrt(4000)
    assert np.abs(drawn.std(0) / spread - 1).max() < 4 / math.sqrt(2 * 4000)

    ours.inverse, ours.moment = np.tile(ours.inverse, (4000, 1, 1, 1)), np.tile(ours.moment, (4000, 1, 1))
    ours._shape = (4000, 4)
    mine = np.bincount(ours.choose(seeding.generator(4, "ts"), np.tile(x, (4000, 1))), minlength=4) / 4000
    thetas = [seeding.generator(k, "theta").multivariate_normal(e, 4 * i, 20_000)
              for k, (e, i) in enumerate(zip(ours.estimates()[0], ours.inverse[0]))]  # fmt: skip
    full = np.bincount(np.stack([theta @ x for theta in thetas], 1).argmax(1), minlength=4) / 20_000
    assert np.abs(mine - full).max() < 4 * math.sqrt(0.25 / 4000 + 0.25 / 20_000)


def test_linear_thompson_without_spread_is_the_greedy_ridge_regression():
    contexts, arms, rewards = log()
    greedy = taught(LinearThompson(width=0.0), contexts, arms, rewards)
    ucb = taught(LinUCB(width=0.0), contexts, arms, rewards)
    for x in seeding.generator(5, "new").normal(size=(10, 1, 3)):
        assert greedy.choose(seeding.generator(0, "any"), x) == ucb.choose(seeding.generator(1, "any"), x)


def test_linear_policies_learn_what_one_who_ignores_contexts_cannot():
    """Ten times the rounds cost the linear policies less than twice the regret, and the others ten times."""
    for policy in (LinUCB(), LinearThompson(width=0.3)):
        short, long = (play(policy, LINEAR, horizon, 30, seed=1).final.mean() for horizon in (400, 4000))
        assert long < 2 * short
    blind = [play(ContextUCB(1, bins=True), LINEAR, horizon, 30, seed=1).final.mean() for horizon in (400, 4000)]
    assert blind[1] > 9 * blind[0] and blind[1] > 20 * long


def test_a_ucb_for_each_kind_is_ucb1_when_there_is_one_kind():
    """UCB1 by hand, with the luck of the same seed: mean + sqrt(2 ln t / n) over t rounds."""
    table = TabularContexts([[0.3, 0.5, 0.45]])
    played = play(ContextUCB(1), table, 300, 1, seed=6)
    luck = seeding.generator(6, "bandit", "luck")
    pulls, paid = np.zeros(3), np.zeros(3)
    for t in range(300):
        table.context(1, luck)
        with np.errstate(divide="ignore", invalid="ignore"):
            index = np.where(pulls > 0, paid / pulls + np.sqrt(2 * np.log(t) / pulls), np.inf)
        arm = int(index.argmax())
        pulls[arm] += 1
        paid[arm] += luck.random(1)[0] < table.table[0, arm]
    assert played.pulls[0].tolist() == pulls.tolist()


def test_a_ucb_for_each_kind_learns_each_kind_and_the_best_single_arm_does_not():
    table = TabularContexts([[0.8, 0.2], [0.2, 0.8]], [0.5, 0.5])
    assert (table.best_arm, table.optimum) == pytest.approx((0.5, 0.8))
    each = play(ContextUCB(2), table, 3000, 30, seed=1).final
    assert each.mean() < 2 * (8 * math.log(3000) / 0.6 + (1 + math.pi**2 / 3) * 0.6)  # Auer et al. 2002, for each kind
    blind = play(ContextUCB(1, bins=True), table, 3000, 30, seed=1).final
    assert blind.mean() == pytest.approx(3000 * 0.3, rel=0.02)


def test_bins_trade_off_and_too_few_or_too_many_both_cost():
    problem = LipschitzContexts([0.2, 0.5, 0.8], slope=2.0)
    regrets = [play(ContextUCB(n, bins=True), problem, 4000, 20, seed=1).final.mean() for n in (1, 10, 200)]
    assert regrets[1] < 0.5 * regrets[0] and regrets[1] < 0.5 * regrets[2]
    assert problem.means(np.array([0.5, 0.2, 0.0])) == pytest.approx(np.array([[0.3, 0.9, 0.3], [0.9, 0.3, 0], [0.5, 0, 0]]))


@pytest.mark.parametrize("slope", [0.0, 0.7, 2.0, 9.0])
def test_the_optimum_of_lipschitz_askers_is_the_area_under_the_best_arms(slope):
    problem = LipschitzContexts([0.1, 0.45, 0.9], slope=slope)
    x = (np.arange(200_000) + 0.5) / 200_000
    assert problem.optimum == pytest.approx(problem.means(x).max(1).mean(), abs=1e-9)


def thresholds(x: np.ndarray) -> np.ndarray:
    """A class of policies: arm 0 below a threshold and arm 1 above, and the other way round, for five thresholds [R,10]."""
    above = (x[:, None] > np.linspace(0.1, 0.9, 5)).astype(int)
    return np.concatenate([above, 1 - above], 1)


def test_the_oracles_estimates_are_unbiased_by_enumeration():
    table = TabularContexts([[0.8, 0.1, 0.3], [0.2, 0.5, 0.9]], [0.3, 0.7])
    advice = np.array([[0, 2], [1, 1], [2, 0]])  # three policies [N,S]
    truth = [table.chance @ table.table[[0, 1], row] for row in advice]
    mean = np.zeros(3)
    for kind in range(2):
        for arm in range(3):
            policy = ExploreFirstOracle(lambda context: advice[:, context].T, rounds=1)
            policy.start(1, 3, 10)
            policy.choose(seeding.generator(0, "any"), np.array([kind]))
            policy.update(np.array([arm]), table.table[kind, [arm]])
            mean += table.chance[kind] / 3 * policy.value[0]
    assert mean == pytest.approx(truth, abs=1e-14)


def test_the_oracle_finds_the_best_policy_of_the_class_and_then_follows_it():
    problem = LipschitzContexts([0.0, 1.0], slope=0.8)
    policy = ExploreFirstOracle(thresholds, rounds=600)
    played = play(policy, problem, 3000, 30, seed=2)
    assert (policy.value.argmax(1) == 2).mean() > 0.7  # the threshold 0.5
    exploring = 600 * 0.5 * 0.8 * 0.5  # half of the pulls are wrong, by 0.8 |1 - 2x|: 0.4 on average
    assert played.final.mean() == pytest.approx(exploring, rel=0.25)
    exp4 = play(EXP4(lambda x: np.eye(2)[thresholds(x)]), problem, 3000, 30, seed=2)
    assert exp4.final.mean() < exp4_bound(3000, 2, 10)


def test_every_policy_meets_the_same_askers_and_luck():
    seen: list[np.ndarray] = []

    class Watch(LinUCB):
        def choose(self, rng, *context):
            seen.append(context[0])
            return super().choose(rng, *context)

    play(Watch(), LINEAR, 20, 3, seed=4), play(Watch(width=0.0), LINEAR, 20, 3, seed=4)
    assert np.array_equal(np.array(seen[:20]), np.array(seen[20:]))
    assert np.linalg.norm(np.array(seen), axis=-1) == pytest.approx(np.ones((40, 3)))
    one, other = play(LinearThompson(), LINEAR, 50, 3, seed=1), play(LinearThompson(), LINEAR, 50, 3, seed=1)
    assert np.array_equal(one.regret, other.regret)


def test_bad_input_is_refused_in_words():
    policy = LinUCB()
    policy.start(2, 3, 10)
    rng = seeding.generator(0, "any")
    with pytest.raises(ValueError, match=r"features of shape \[2, d\], one row a repetition, not \(5,\)"):
        policy.choose(rng, np.ones(5))
    policy.choose(rng, np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"shape \[2, 5\]"):
        policy.choose(rng, np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"shape \[2, 5\]"):
        policy.choose(rng, np.ones((3, 5)))
    with pytest.raises(ValueError, match="learns from contextual feedback; Bernoulli gives"):
        play(LinUCB(), Bernoulli([0.5, 0.4]), 10, 2)
    with pytest.raises(ValueError, match="features of shape"):
        play(LinUCB(), TabularContexts([[0.5, 0.4]]), 10, 2)
    with pytest.raises(ValueError, match="one number a repetition"):
        play(ContextUCB(3), LINEAR, 10, 2)
    with pytest.raises(ValueError, match="whole numbers from 0 to 1; for numbers in"):
        play(ContextUCB(2), LipschitzContexts([0.2, 0.8]), 10, 2)
    with pytest.raises(ValueError, match="whole numbers from 0 to 1"):
        play(ContextUCB(2), TabularContexts(0.5 * np.ones((4, 2))), 20, 5)
    policy = ContextUCB(4, bins=True)
    policy.start(2, 2, 10)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\] to be put into bins"):
        policy.choose(rng, np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="advice must be arms from 0 to 1"):
        play(ExploreFirstOracle(lambda x: np.full((len(x), 2), 7)), LipschitzContexts([0.2, 0.8]), 10, 2)
    with pytest.raises(ValueError, match="rounds must be a whole number"):
        ExploreFirstOracle(thresholds, rounds=0)
    with pytest.raises(ValueError, match="ridge must be positive"):
        LinUCB(ridge=0.0)
    with pytest.raises(ValueError, match="kinds must be a whole number"):
        ContextUCB(0)
    with pytest.raises(ValueError, match="at least two arms"):
        LinearContexts([[1.0, 2.0]])
    with pytest.raises(ValueError, match="noise must be 0 or more"):
        LinearContexts(np.ones((2, 2)), -1.0)
    with pytest.raises(ValueError, match=r"chances to pay must lie in \[0, 1\]"):
        TabularContexts([[0.5, 1.2]])
    with pytest.raises(ValueError, match="2 chances that add up to 1"):
        TabularContexts([[0.5, 0.2], [0.1, 0.1]], [0.5, 0.6])
    with pytest.raises(ValueError, match="at least two finite numbers"):
        LipschitzContexts([0.5])
    with pytest.raises(ValueError, match="slope must be 0 or more"):
        LipschitzContexts([0.5, 0.6], slope=-1)
