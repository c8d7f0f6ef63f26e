"""Adversarial bandits and games against deterministic bounds, enumeration, identities and linear programs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import seeding
from workbench.bandits.adversarial import (
    EXP3,
    EXP3P,
    EXP4,
    FollowPerturbedLeader,
    Hedge,
    LossTable,
    Reactive,
    bear_a_grudge,
    draw,
    exp3_bound,
    exp3p_bound,
    exp4_bound,
    exploitability,
    hedge_against_hedge,
    hedge_bound,
    hit_the_favourite,
    hit_the_last,
    importance_weighted,
    leader_trap,
    minimax,
    perturbed_leader_bound,
    softmax,
    weighted_majority,
)
from workbench.bandits.play import play
from workbench.bandits.problems import Bernoulli, Gaussian

T, K = 1500, 4
RPS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])


def tables() -> dict[str, np.ndarray]:
    """Losses [T,K] that try to mislead: arms in turn, a best arm that changes, coin flips with a small gap, all or nothing."""
    rng = seeding.generator(0, "tables")
    changing = np.where(np.arange(T)[:, None] < T // 2, [0.2, 0.5, 0.5, 0.5], [0.9, 0.5, 0.1, 0.5])
    return {
        "the leader's trap": leader_trap(T, K).table,
        "a best arm that changes": changing,
        "coins with a gap": (rng.random((T, K)) < np.array([0.5, 0.5, 0.5, 0.45])).astype(float),
        "everything or nothing": np.repeat(rng.integers(0, 2, (T // 50, 1)), 50, 0) * np.ones((1, K)),
        "one arm is good": np.tile([1.0, 1, 1, 0], (T, 1)),
    }


def mean_and_error(x: np.ndarray) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))


# What a round does


def test_importance_weighted_estimates_are_unbiased_by_enumeration():
    rng = seeding.generator(1, "unbiased")
    losses, chances = rng.random((6, K)), rng.dirichlet(np.ones(K), 6)
    mean = np.zeros((6, K))
    for k in range(K):  # every arm that can be drawn, with its chance
        arm = np.full(6, k)
        mean += chances[:, [k]] * importance_weighted(chances, arm, losses[np.arange(6), arm])
    assert np.abs(mean - losses).max() < 1e-14


def test_exp3p_estimates_are_the_gains_plus_its_bonus_by_enumeration():
    policy = EXP3P(delta=0.1)
    reward = np.array([0.3, 0.9, 0.5])
    mean = np.zeros(3)
    for k in range(3):
        policy.start(1, 3, 400)
        policy.loss[0] = [4.0, 1.0, 7.0]
        policy.choose(seeding.generator(0, "any"))
        chances = policy.probabilities()[0]
        policy.update(np.array([k]), reward[[k]])
        mean += chances[k] * (np.array([4.0, 1.0, 7.0]) - policy.loss[0])
    beta = math.sqrt(math.log(3 / 0.1) / (3 * 400))
    assert mean == pytest.approx(reward + beta / chances, abs=1e-12)
    assert chances.min() >= 1.05 * math.sqrt(3 * math.log(3) / 400) / 3  # it never stops exploring


def test_draw_follows_the_chances_and_never_takes_an_arm_without_one():
    chances = np.tile([0.0, 0.3, 0.0, 0.7, 0.0], (20_000, 1))
    share = np.bincount(draw(chances, seeding.generator(0, "draw")), minlength=5) / 20_000
    assert share[[0, 2, 4]].sum() == 0 and share[1] == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 20_000))


def test_hedge_and_exp3_hold_the_textbook_weights():
    hedge, exp3 = Hedge(rate=0.5), EXP3(rate=0.5)
    hedge.start(2, 3, 10), exp3.start(2, 3, 10)
    losses = np.array([[1.0, 0.5, 0.0], [0.25, 0.0, 1.0]])
    hedge.update(np.array([0, 2]), 1 - losses)
    expected = np.exp(-0.5 * losses) / np.exp(-0.5 * losses).sum(1, keepdims=True)
    assert hedge.probabilities() == pytest.approx(expected, abs=1e-15)
    exp3.choose(seeding.generator(0, "any"))
    exp3.update(np.array([0, 2]), np.array([0.25, 0.5]))
    estimate = np.array([[0.75 * 3, 0, 0], [0, 0, 0.5 * 3]])
    assert exp3.probabilities() == pytest.approx(softmax(-0.5 * estimate), abs=1e-15)
    assert softmax(np.array([1e5, 1e5 - 1000])) == pytest.approx([1, 0])


def test_exp4_with_an_expert_for_each_arm_is_exp3():
    one, other = LossTable(tables()["coins with a gap"]), LossTable(tables()["a best arm that changes"])
    for problem in (one, other):
        a = play(EXP3(), problem, T, 8, seed=3)
        b = play(EXP4(np.eye(K)), problem, T, 8, seed=3)
        assert np.array_equal(a.pulls, b.pulls) and np.array_equal(a.regret, b.regret)


def test_exp4_competes_with_the_best_expert():
    """Two experts who mix: regret against the better of them, which no single arm achieves."""
    advice = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    table = np.tile([0.4, 0.2, 0.9, 0.7], (T, 1))
    table[::2, [0, 1]] = table[::2, [1, 0]]
    played = play(EXP4(advice), LossTable(table, rival=0), T, 60, seed=1)
    expert = (table @ advice.T).sum(0).min() - table[:, 0].sum()
    mean, error = mean_and_error(played.final - expert)
    assert -3 * error < mean < exp4_bound(T, K, 2) + 3 * error and exp4_bound(T, K, K) == exp3_bound(T, K)


def test_the_leader_perturbed_by_gumbel_noise_is_hedge():
    policy, hedge = FollowPerturbedLeader(noise="gumbel", rate=0.4), Hedge(rate=0.4)
    policy.start(40_000, 3, 10), hedge.start(40_000, 3, 10)
    for some in (policy, hedge):
        some.update(np.zeros(40_000, int), 1 - np.tile([0.9, 0.2, 0.5], (40_000, 1)))
        some.update(np.zeros(40_000, int), 1 - np.tile([0.7, 1.0, 0.0], (40_000, 1)))
    chance = hedge.probabilities()[0]
    share = np.bincount(policy.choose(seeding.generator(2, "gumbel")), minlength=3) / 40_000
    assert np.abs(share - chance).max() < 4 * 0.5 / math.sqrt(40_000)


# Bounds


@pytest.mark.parametrize("name", tables())
def test_hedge_keeps_its_bound_on_every_table_exactly(name):
    """No draw is involved: the sum of p_t . loss_t is a number."""
    table = tables()[name]
    hedge = Hedge()
    hedge.start(1, K, T)
    lost = 0.0
    for losses in table:
        lost += float(hedge.probabilities()[0] @ losses)
        hedge.update(np.zeros(1, int), 1 - losses[None])
    assert lost - table.sum(0).min() <= hedge_bound(T, K)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_hedge_keeps_its_bound_on_whatever_losses_anybody_thinks_of(data):
    """Losses that hypothesis chooses, round by round, to break it."""
    horizon, arms = data.draw(st.integers(1, 25)), data.draw(st.integers(2, 4))
    hedge, lost, alone = Hedge(), 0.0, np.zeros(arms)
    hedge.start(1, arms, horizon)
    for _ in range(horizon):
        losses = np.array(data.draw(st.lists(st.floats(0, 1), min_size=arms, max_size=arms)))
        lost, alone = lost + float(hedge.probabilities()[0] @ losses), alone + losses
        hedge.update(np.zeros(1, int), 1 - losses[None])
    assert lost - alone.min() <= hedge_bound(horizon, arms) + 1e-12


@pytest.mark.parametrize("rule", [hit_the_favourite, hit_the_last, bear_a_grudge])
def test_hedge_keeps_its_bound_against_an_adversary_who_reacts_in_every_repetition(rule):
    """The bound is for the mixture's loss, on whatever losses come: it holds in each repetition, not only on average."""
    hedge, rng = Hedge(), seeding.generator(5, "adaptive")
    hedge.start(50, K, T)
    rounds = Reactive(rule, K).start(50, T, rng, full=True)
    lost = np.zeros(50)
    for _ in range(T):
        chances = hedge.probabilities()
        arm = hedge.choose(rng)
        reward, _ = rounds.pull(arm)
        lost += (chances * (1 - reward)).sum(1)
        hedge.update(arm, reward)
    assert (lost - rounds.alone.min(1) <= hedge_bound(T, K)).all()


def test_no_bound_can_be_much_lower_than_that_of_hedge():
    """One fair coin decides which of two arms loses: everybody loses T / 2 on average, the luckier arm sqrt(T / (2 pi)) less."""
    rng = seeding.generator(2, "coins")

    def coins(t, pulls, last):
        first = rng.integers(0, 2, len(pulls))
        return np.stack([first, 1 - first], 1)

    mean, error = mean_and_error(play(Hedge(), Reactive(coins, 2), 400, 2000, seed=1).final)
    ahead = math.sqrt(400 / (2 * math.pi))
    assert mean == pytest.approx(ahead, abs=4 * error + 0.02) and ahead > 0.65 * hedge_bound(400, 2)


@pytest.mark.parametrize("name", tables())
def test_bandit_and_perturbed_policies_keep_their_bounds_on_tables(name):
    """The tables are fixed, so the expected regret is the pseudo-regret."""
    problem = LossTable(tables()[name])
    bounds = ((EXP3(), exp3_bound(T, K)), (FollowPerturbedLeader(), perturbed_leader_bound(T, K)))
    for policy, bound in bounds:
        mean, error = mean_and_error(play(policy, problem, T, 60, seed=1).final)
        assert mean <= bound + 3 * error
    final = play(EXP3P(delta=0.05), problem, T, 100, seed=2).final
    assert (final > exp3p_bound(T, K, 0.05)).mean() <= 0.05


@pytest.mark.parametrize("rule", [hit_the_favourite, hit_the_last, bear_a_grudge])
def test_exp3_keeps_its_pseudo_regret_bound_against_an_adversary_who_reacts(rule):
    """Pseudo-regret: the largest mean regret against an arm named in advance. EXP3.P has a bound for the best in hindsight."""
    against = [play(EXP3(), Reactive(rule, K, rival=k), T, 100, seed=1).final for k in range(K)]
    assert max(mean_and_error(final)[0] - 3 * mean_and_error(final)[1] for final in against) <= exp3_bound(T, K)
    hindsight = play(EXP3(), Reactive(rule, K), T, 100, seed=1).final
    assert hindsight == pytest.approx(np.max(against, 0), abs=1e-9)
    final = play(EXP3P(), Reactive(rule, K), T, 100, seed=1).final
    assert (final > exp3p_bound(T, K, 0.05)).mean() <= 0.05


def test_against_the_best_in_hindsight_exp3_can_lose_what_its_pseudo_regret_hides():
    pseudo = max(play(EXP3(), Reactive(hit_the_favourite, 3, rival=k), 2000, 200, seed=1).final.mean() for k in range(3))
    hindsight = play(EXP3(), Reactive(hit_the_favourite, 3), 2000, 200, seed=1).final.mean()
    assert hindsight > 3 * max(pseudo, 1)


def test_no_bound_covers_policy_regret():
    """A grudge: hardly any regret on the losses played, though always arm 1 would have lost T / 4 instead of nearly T."""

    class Second(EXP3):
        def choose(self, rng, *context):
            self._chances = np.tile([0.0, 1.0, 0.0], (len(self.loss), 1))
            return np.ones(len(self.loss), int)

    def lost(policy):
        policy.start(50, 3, T)
        rng = seeding.generator(0, "grudge")
        rounds, total = Reactive(bear_a_grudge, 3).start(50, T, rng), 0.0
        for _ in range(T):
            arm = policy.choose(rng)
            reward, _ = rounds.pull(arm)
            total += float((1 - reward).mean())
            policy.update(arm, reward)
        return total

    assert play(EXP3(), Reactive(bear_a_grudge, 3), T, 50, seed=0).final.max() < 10
    assert lost(Second()) == pytest.approx(T / 4) and lost(EXP3()) > 0.95 * T


def test_whoever_follows_the_leader_loses_everything_and_the_arms_share():
    for arms in (2, 3):
        final = play(FollowPerturbedLeader(rate=1e9), leader_trap(1201, arms), 1201, 3, seed=0).final
        assert final == pytest.approx(1200 * (1 - 1 / arms), abs=1.0)
        assert play(Hedge(), leader_trap(1201, arms), 1201, 30, seed=0).final.mean() < hedge_bound(1201, arms)


def test_bounds_have_the_values_of_the_reference():
    assert hedge_bound(10_000, 10) == pytest.approx(107.3, abs=0.05)
    assert exp3_bound(10_000, 10) == pytest.approx(678.6, abs=0.05)


def test_weighted_majority_errs_no_more_than_its_bounds():
    rng = seeding.generator(0, "majority")
    for penalty, case in itertools.product((0.1, 0.5), range(5)):
        outcome = rng.integers(0, 2, 300)
        skill = rng.uniform(0.5, 0.95, 8)
        advice = np.where(rng.random((300, 8)) < skill, outcome[:, None], 1 - outcome[:, None])
        best = (advice != outcome[:, None]).sum(0).min()
        mistakes = weighted_majority(advice, outcome, penalty=penalty).sum()
        assert mistakes <= 2 * (1 + penalty) * best + 2 / penalty * math.log(8), case
    # the adversary who makes Halving err as often as it can: all 16 experts, the outcome is what the minority says
    advice = (np.arange(16)[None] >> np.arange(4)[:, None]) & 1
    assert weighted_majority(advice, np.zeros(4), penalty=1.0).sum() == 4 == math.log2(16)
    assert weighted_majority([[1, 0], [1, 0]], [0, 0]).tolist() == [1, 0]  # 1/2 against 1 in the second round


# Games


def test_minimax_solves_games_known_in_closed_form():
    value, row, column = minimax(RPS)
    assert abs(value) < 1e-12 and row == pytest.approx(np.full(3, 1 / 3)) and column == pytest.approx(np.full(3, 1 / 3))
    assert minimax([[1, -1], [-1, 1]]).value == pytest.approx(0, abs=1e-12)
    a, b, c, d = 3.0, -1.0, -1.0, 1.0  # a 2 x 2 game without a saddle: value (ad - bc) / (a + d - b - c)
    value, row, column = minimax([[a, b], [c, d]])
    assert value == pytest.approx((a * d - b * c) / (a + d - b - c))
    assert row == pytest.approx([1 / 3, 2 / 3]) and column == pytest.approx([1 / 3, 2 / 3])
    assert minimax([[2, 5], [1, 0]]).value == pytest.approx(2)  # a saddle


def test_at_an_equilibrium_nobody_can_be_exploited_and_elsewhere_somebody_can():
    rng = seeding.generator(3, "games")
    for _ in range(10):
        payoff = rng.normal(size=(4, 6))
        value, row, column = minimax(payoff)
        assert exploitability(payoff, row, column) == pytest.approx(0, abs=1e-9)
        assert row @ payoff @ column == pytest.approx(value, abs=1e-9)
        x, y = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(6))
        assert exploitability(payoff, x, y) == pytest.approx(max(payoff @ y) - min(x @ payoff)) and min(x @ payoff) < value
    assert exploitability(RPS, [1, 0, 0], [1, 0, 0]) == 2  # each could win 1 by switching


@pytest.mark.parametrize("payoff", [RPS, [[1, -1], [-1, 1]], [[3, -1], [-1, 1]], [[0, 4, -2], [1, -1, 5]]])
def test_hedge_against_hedge_is_never_more_exploitable_than_its_two_regrets(payoff):
    payoff = np.array(payoff, float)
    rows, columns = payoff.shape
    for horizon in (1, 10, 300, 2000):
        played = hedge_against_hedge(payoff, horizon)
        bound = np.ptp(payoff) * (math.sqrt(math.log(rows)) + math.sqrt(math.log(columns))) / math.sqrt(2 * horizon)
        assert played.exploitability[-1] <= bound + 1e-12
        assert played.exploitability[-1] == pytest.approx(exploitability(payoff, played.row[-1], played.column[-1]))


def test_the_exploitability_of_averages_falls_as_one_over_root_t():
    """On a game that nobody designed, with the rate of each horizon."""
    payoff = seeding.generator(0, "odd game").normal(size=(4, 6))
    horizons = np.unique(np.geomspace(500, 8000, 7).round().astype(int))
    gaps = [hedge_against_hedge(payoff, int(horizon)).exploitability[-1] for horizon in horizons]
    slope = np.polyfit(np.log(horizons), np.log(gaps), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.03)


def test_averages_converge_to_the_equilibrium_from_anywhere():
    played = hedge_against_hedge(RPS, 40_000, row=[0.6, 0.3, 0.1], column=[0.2, 0.2, 0.6])
    assert played.row[-1] == pytest.approx(np.full(3, 1 / 3), abs=0.01)
    assert played.column[-1] == pytest.approx(np.full(3, 1 / 3), abs=0.01)
    pennies = hedge_against_hedge([[1, -1], [-1, 1]], 20_000, row=[0.9, 0.1])
    assert pennies.row[-1] @ np.array([[1, -1], [-1, 1]]) @ pennies.column[-1] == pytest.approx(0, abs=0.005)


# The loop


def test_regret_is_counted_against_the_best_arm_so_far_or_a_named_one():
    table = np.array([[1, 0], [0, 1], [0, 1.0]])

    class Zero(Hedge):
        def choose(self, rng, *context):
            return np.zeros(len(self.loss), int)

    played = play(Zero(), LossTable(table), 3, 2, seed=0)
    assert played.regret.tolist() == [[1, 0, 0]] * 2
    assert play(Zero(), LossTable(table, rival=1), 3, 2, seed=0).regret.tolist() == [[1, 0, -1]] * 2


def test_these_policies_play_stochastic_bandits_too():
    exp3 = play(EXP3(), Bernoulli([0.9, 0.1]), 2000, 30, seed=0)
    hedge = play(Hedge(), Bernoulli([0.9, 0.1]), 2000, 30, seed=0)
    assert hedge.final.mean() < exp3.final.mean() < exp3_bound(2000, 2)
    again = play(EXP3(), Bernoulli([0.9, 0.1]), 2000, 30, seed=0)
    assert np.array_equal(again.regret, exp3.regret)


def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match=r"losses must lie in \[0, 1\], not 1.5 \(1 do not\)"):
        LossTable([[0.5, 1.5], [0, 1]])
    with pytest.raises(ValueError, match="at least one round and two arms"):
        LossTable([[0.5], [0.2]])
    with pytest.raises(ValueError, match="losses for 2 rounds, not for a horizon of 3"):
        play(EXP3(), LossTable([[0.5, 0.5], [0, 1]]), 3, 2)
    with pytest.raises(ValueError, match="the rival must be an arm from 0 to 1"):
        LossTable([[0.5, 0.5]], rival=2)
    with pytest.raises(ValueError, match="at least two arms"):
        Reactive(hit_the_last, 1)
    with pytest.raises(ValueError, match="the rule must return losses"):
        play(EXP3(), Reactive(lambda t, pulls, last: 2.0 * np.ones(pulls.shape), 2), 3, 2)
    with pytest.raises(ValueError, match="needs rewards from 0 to 1"):
        play(EXP3(), Gaussian([5.0, 7.0]), 3, 2)
    with pytest.raises(ValueError, match="rate must be positive"):
        Hedge(rate=0.0)
    with pytest.raises(ValueError, match="delta must lie between 0 and 1"):
        EXP3P(delta=1.0)
    with pytest.raises(ValueError, match="noise must be"):
        FollowPerturbedLeader(noise="normal")
    with pytest.raises(ValueError, match="advice must be mixtures"):
        play(EXP4(np.eye(3)), Bernoulli([0.5, 0.4]), 3, 2)
    with pytest.raises(ValueError, match="chances that add up to 1"):
        play(EXP4(2 * np.eye(2)), Bernoulli([0.5, 0.4]), 3, 2)
    with pytest.raises(ValueError, match=r"shape \[N,K\]"):
        EXP4(np.ones(3))
    with pytest.raises(ValueError, match="advice .* and outcome .* do not fit"):
        weighted_majority([[0, 1]], [0, 1])
    with pytest.raises(ValueError, match="must be 0 or 1"):
        weighted_majority([[0.5, 1]], [0])
    with pytest.raises(ValueError, match="every expert errs"):
        weighted_majority([[0, 1], [1, 0]], [0, 0], penalty=1.0)
    with pytest.raises(ValueError, match="penalty must lie"):
        weighted_majority([[0, 1]], [0], penalty=0.0)
    with pytest.raises(ValueError, match="a table of finite payoffs"):
        minimax([1.0, 2.0])
    with pytest.raises(ValueError, match="row must be 3 chances that add up to 1"):
        exploitability(RPS, [0.5, 0.5], [1, 0, 0])
    with pytest.raises(ValueError, match="cannot start with a chance of 0"):
        hedge_against_hedge(RPS, 10, row=[1, 0, 0])
    with pytest.raises(ValueError, match="horizon must be a whole number of at least 1"):
        hedge_against_hedge(RPS, 0)
