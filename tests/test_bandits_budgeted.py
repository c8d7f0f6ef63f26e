"""Budgeted bandits against linear programs, closed forms and enumeration."""

from __future__ import annotations

import numpy as np
import pytest

from workbench import seeding
from workbench.bandits import adversarial, budgeted
from workbench.bandits.budgeted import (
    BudgetedAskers,
    BudgetedBandit,
    FixedMixture,
    Hatch,
    LagrangeBwK,
    UcbBwK,
    best_mixtures,
    best_plan,
    play_budgeted,
    whom_to_serve,
)
from workbench.bandits.play import play

# pens and paper: each of two arms uses up one of them, a third pays little and uses little of both
STOCK = BudgetedBandit([0.9, 0.9, 0.3], [[1, 0], [0, 1], [0.1, 0.1]], [150, 150], 600)


def askers(budget: float = 240.0, horizon: int = 600) -> BudgetedAskers:
    """Three classes of five askers each, three ways to serve."""
    centres = np.array([[1, 0.1, 0.1], [0.1, 1, 0.1], [0.1, 0.1, 1.0]])
    shifts = seeding.generator(0, "askers").uniform(-0.1, 0.1, (3, 5, 3))
    theta = np.array([[0.2, 0.1, 0.6], [0.1, 0.45, 0.1], [0.05, 0.3, 0.75]]) * 0.9
    return BudgetedAskers((centres[:, None] + shifts).clip(0), [0.5, 0.3, 0.2], theta, budget, horizon)


def test_a_plan_with_one_resource_is_known_in_closed_form():
    """An arm that pays 1 and costs 1, another that pays 1/2 for nothing, budget for half of the rounds: half and half."""
    plan = best_plan([1.0, 0.5], [[1.0], [0.0]], [0.5])
    assert plan.value == pytest.approx(0.75, abs=1e-12) and plan.mixture == pytest.approx([0.5, 0.5], abs=1e-12)
    assert best_plan([1.0], [[0.5]], [0.2]).mixture == pytest.approx([0.4])  # the rest is idle
    assert best_plan([0.3, 0.7], [[0.0], [0.0]], [0.0]).value == pytest.approx(0.7)  # nothing costs: the best arm


def test_the_best_mixture_beats_every_arm_as_many_times_as_there_are_resources():
    """Arm j pays 1 and uses resource j only, of which there is enough for one round in D: alone each earns T / D."""
    for resources in (2, 3):
        problem = BudgetedBandit(np.ones(resources), np.eye(resources), np.full(resources, 60.0), 60 * resources)
        assert problem.bound() == pytest.approx(60 * resources)
        assert problem.horizon * problem.best_arm().value == pytest.approx(60)
        together = play_budgeted(FixedMixture(problem.plan().mixture), problem, 200, seed=1).reward.mean()
        alone = play_budgeted(FixedMixture(np.eye(resources)[0]), problem, 10, seed=1).reward
        assert (alone == 60).all() and together > 0.85 * problem.bound()


@pytest.mark.parametrize(("arms", "resources"), [(2, 1), (6, 1), (4, 2), (3, 3)])
def test_all_vertices_at_once_find_the_optimum_of_highs(arms, resources):
    rng = seeding.generator(arms, "vertices", resources)
    reward, cost = rng.random((30, arms)), rng.random((30, arms, resources))
    cost[0], reward[1], cost[2, :, 0] = 0.0, 0.5, 0.0  # degenerate ones
    rate = 0.5 * rng.random((30, resources))
    mixture = best_mixtures(reward, cost, rate)
    assert (mixture >= 0).all() and (mixture.sum(1) <= 1 + 1e-9).all()
    assert (np.einsum("rk,rkd->rd", mixture, cost) <= rate + 1e-9).all()
    truth = [best_plan(*instance).value for instance in zip(reward, cost, rate)]
    assert (mixture * reward).sum(1) == pytest.approx(truth, abs=1e-9)
    assert ((mixture > 1e-12).sum(1) <= resources + 1).all()


def test_hatchs_program_has_the_values_of_the_reference_exactly():
    value, chance = np.array([0.2, 0.5, 0.9]), np.array([0.5, 0.3, 0.2])
    served = whom_to_serve(value, chance, 0.4)
    assert served == pytest.approx([0, 2 / 3, 1], abs=1e-12)
    assert (served * chance) @ value == pytest.approx(0.28, abs=1e-12)
    served = whom_to_serve(value, chance, 0.1)
    assert served == pytest.approx([0, 0, 0.5], abs=1e-12)
    assert (served * chance) @ value == pytest.approx(0.09, abs=1e-12)
    assert whom_to_serve(value, chance, 1.0) == pytest.approx([1, 1, 1])


def test_hatchs_program_is_a_linear_program():
    rng = seeding.generator(3, "serve")
    value, chance = rng.uniform(-0.3, 1, (40, 5)), rng.dirichlet(np.ones(5), 40)
    chance[0] = [0.5, 0.5, 0, 0, 0]  # classes that never come
    rate = rng.random(40)
    served = whom_to_serve(value, chance, rate)
    assert ((served >= 0) & (served <= 1)).all() and ((served * chance).sum(1) <= rate + 1e-12).all()
    for u, phi, r, p in zip(value, chance, rate, served):
        # one arm a class that can be pulled at most phi of the time: a resource for each, and one for servings
        plan = best_plan(u, np.c_[np.eye(5), np.ones(5)], np.r_[phi, r])
        assert (p * phi) @ u == pytest.approx(plan.value, abs=1e-9)


@pytest.mark.parametrize("policy", [LagrangeBwK(), UcbBwK(), FixedMixture([0.5, 0.5, 0.0])])
@pytest.mark.parametrize("budget", [[150, 150], [40.5, 300], [1, 7.9]])
def test_nobody_overspends_and_nobody_beats_the_linear_program(policy, budget):
    problem = BudgetedBandit(STOCK.reward, STOCK.cost, budget, 300)
    earned = play_budgeted(policy, problem, 40, seed=2)
    assert (earned.used <= problem.budget).all() and (earned.rounds <= 300).all()
    over = (earned.used > problem.budget - 1).any(1)
    assert np.array_equal(over, over | (earned.rounds < 300)), "a game that ended early has used something up"
    assert (earned.pulls.sum(1) == earned.rounds).all()
    assert earned.reward.mean() <= problem.bound() + 3 * earned.reward.std(ddof=1) / np.sqrt(40)


def test_no_policy_of_a_tiny_problem_beats_the_bound_and_the_best_is_found_by_dynamic_programming():
    """Two arms, T = 4, B = 2: the exact optimum over all policies, by recursion, lies below the linear program."""
    problem = BudgetedBandit([0.9, 0.4], [[0.8], [0.1]], [2], 4)

    def best(left: int, rounds: int) -> float:
        if left < 1 or rounds == 0:
            return 0.0
        pulls = [
            r + c * best(left - 1, rounds - 1) + (1 - c) * best(left, rounds - 1)
            for r, c in zip(problem.reward, problem.cost[:, 0])
        ]
        return max(best(left, rounds - 1), *pulls)

    assert best(2, 4) < problem.bound()
    # and the loop plays by these rules: a fixed sequence of arms earns what enumeration says
    sequence = (0, 1, 0, 0)

    class Sequence(FixedMixture):
        def choose(self, context, left, rounds, rng):
            return np.full(len(left), sequence[4 - rounds])

    value = _sequence_value(problem, sequence, 2)
    earned = play_budgeted(Sequence([1.0, 0.0]), problem, 20_000, seed=3).reward
    assert earned.mean() == pytest.approx(value, abs=3.5 * earned.std() / np.sqrt(20_000))


def _sequence_value(problem: BudgetedBandit, sequence: tuple, left: int) -> float:
    if not sequence or left < 1:
        return 0.0
    reward, cost = problem.reward[sequence[0]], problem.cost[sequence[0], 0]
    spent, kept = (_sequence_value(problem, sequence[1:], left - unit) for unit in (1, 0))
    return reward + cost * spent + (1 - cost) * kept


def test_the_learners_come_close_to_the_linear_program_and_beat_the_best_arm():
    best_arm = STOCK.horizon * STOCK.best_arm().value
    assert (STOCK.bound(), best_arm) == pytest.approx((315, 180))
    ucb = play_budgeted(UcbBwK(), STOCK, 40, seed=0).reward
    lagrange = play_budgeted(LagrangeBwK(), STOCK, 40, seed=0).reward
    assert 0.95 * 315 < ucb.mean() <= 315 + 3 * ucb.std() / np.sqrt(40)
    assert 0.8 * 315 < lagrange.mean() < ucb.mean()
    assert lagrange.mean() > 1.3 * best_arm


def test_without_costs_lagrange_is_exp3p_on_shrunken_rewards():
    """Costs 0 and B = T: the payoff of a pull is then (reward + 1 - price of time) / 2."""
    problem = BudgetedBandit([0.8, 0.2], np.zeros((2, 1)), [100], 100)
    policy = LagrangeBwK()
    policy.start(3, 3, problem.budget, 100)
    alone = adversarial.EXP3P()
    alone.start(3, 3, 100)
    rng, other = seeding.generator(0, "a"), seeding.generator(0, "a")
    for _ in range(20):
        arm = policy.choose(None, np.full((3, 1), 100.0), 100, rng)
        assert np.array_equal(arm, alone.choose(other))
        time_price = policy._pricer.probabilities()[:, 1]
        reward = (arm == 0).astype(float)
        policy.update(arm, reward, np.zeros((3, 1)))
        alone.update(arm, (reward + 1 - time_price) / 2)
    assert (policy._pricer.probabilities()[:, 1] > 0.5).all()  # a resource nobody uses becomes cheap


def test_lagrange_prices_each_resource_by_its_share_of_the_budget():
    """Budgets 50 and 100 of T = 100: a unit of the second counts half, and every round uses half a unit of time."""
    policy = LagrangeBwK()
    policy.start(1, 3, np.array([50.0, 100.0]), 100)
    policy.choose(None, np.array([[50.0, 100.0]]), 100, seeding.generator(0, "any"))
    policy.update(np.array([0]), np.array([1.0]), np.array([[1.0, 1.0]]))
    assert 1 - policy._pricer.loss[0] == pytest.approx(np.array([1, 0.5, 0.5]) / 1.5)  # the more was used, the dearer


def test_the_bound_for_askers_is_a_linear_program_over_askers():
    problem = askers()
    pays = (problem.contexts @ problem.theta.T).reshape(15, 3)
    share = np.repeat(problem.chance / 5, 5)
    # variables: how often asker i is served in way k; at most its share each, and servings in all
    each = np.kron(np.eye(15), np.ones((3, 1)))
    plan = best_plan(pays.ravel(), np.c_[each, np.ones(45)], np.r_[share, problem.budget / problem.horizon])
    assert problem.bound() == pytest.approx(problem.horizon * plan.value, abs=1e-6)
    assert problem.class_bound() < problem.bound() < problem.horizon * (share @ pays.max(1))


def test_hatchs_class_values_are_ridge_regressions_on_the_centre():
    centres = np.array([[1.0, 2.0], [0.5, -1.0]])
    hatch = Hatch(centres, [0.5, 0.5], width=0.7, ridge=2.0)
    hatch.start(1, 3, np.array([10.0]), 20)
    hatch.served[0], hatch.earned[0] = [4, 0], [3, 0]
    for j, (n, total) in enumerate(((4, 3.0), (0, 0.0))):
        inverse = np.linalg.inv(2 * np.eye(2) + n * np.outer(centres[j], centres[j]))
        index = centres[j] @ inverse @ (total * centres[j]) + 0.7 * np.sqrt(centres[j] @ inverse @ centres[j])
        assert hatch.class_values()[0, j] == pytest.approx(index, abs=1e-12)


def test_hatch_serves_whom_it_should_and_beats_first_come_first_served():
    problem = askers()

    class Greedy(Hatch):
        """Serve everybody until nothing is left."""

        def choose(self, context, left, rounds, rng):
            super().choose(context, left, rounds, rng)
            at = np.arange(len(context)), self._class
            return budgeted.ridge_index(self.inverse[at], self.moment[at], context, self.width).argmax(1)

    hatch = Hatch(problem.centres, problem.chance)
    earned = play_budgeted(hatch, problem, 60, seed=1)
    greedy = play_budgeted(Greedy(problem.centres, problem.chance), problem, 60, seed=1)
    assert (earned.used[:, 0] <= problem.budget).all() and earned.rounds.mean() > 0.99 * problem.horizon
    assert (greedy.used[:, 0] == problem.budget).all() and greedy.rounds.max() == problem.budget
    assert greedy.reward.mean() < 0.8 * earned.reward.mean() and earned.reward.mean() < problem.bound()
    known = whom_to_serve((problem.contexts @ problem.theta.T).max(2).mean(1), problem.chance, 0.4)
    assert known == pytest.approx([0, 2 / 3, 1])  # the third class pays most
    rates = hatch.served.mean(0) / (problem.horizon * problem.chance)
    assert rates[2] > 0.9 and rates[2] > rates[1] > rates[0]


def test_the_same_seed_gives_the_same_bits():
    for policy, problem in ((UcbBwK(), STOCK), (LagrangeBwK(), STOCK)):
        runs = [play_budgeted(policy, problem, 5, seed=seed).reward for seed in (4, 4, 5)]
        assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match="every budget must be at least 1"):
        BudgetedBandit([0.5, 0.5], [[1.0], [0.5]], [0], 10)
    with pytest.raises(ValueError, match="reward must hold chances from 0 to 1"):
        BudgetedBandit([1.5, 0.5], [[1.0], [0.5]], [5], 10)
    with pytest.raises(ValueError, match="cost must hold chances"):
        BudgetedBandit([0.5, 0.5], [[-1.0], [0.5]], [5], 10)
    with pytest.raises(ValueError, match=r"reward \[K\], cost \[K,D\] and budget \[D\] do not fit"):
        BudgetedBandit([0.5, 0.5], [[1.0], [0.5]], [5, 5], 10)
    with pytest.raises(ValueError, match="horizon must be a whole number of at least 1"):
        BudgetedBandit([0.5, 0.5], [[1.0], [0.5]], [5], 0)
    with pytest.raises(ValueError, match="must not be negative"):
        best_plan([0.5], [[1.0]], [-0.1])
    with pytest.raises(ValueError, match="repetitions must be a whole number"):
        play_budgeted(UcbBwK(), STOCK, 0, seed=0)
    with pytest.raises(ValueError, match="a mixture of 2 arms on a problem that has 3"):
        play_budgeted(FixedMixture([0.5, 0.5]), STOCK, 2, seed=0)
    with pytest.raises(ValueError, match="at most 1 in all"):
        FixedMixture([0.7, 0.7])
    with pytest.raises(ValueError, match="HATCH has one budget"):
        play_budgeted(Hatch(np.eye(3), [0.2, 0.3, 0.5]), STOCK, 2, seed=0)
    single = BudgetedBandit([0.5, 0.5], [[1.0], [0.5]], [5], 10)
    with pytest.raises(ValueError, match="needs the asker's 3 features, contexts .* it got nothing"):
        play_budgeted(Hatch(np.eye(3), [0.2, 0.3, 0.5]), single, 2, seed=0)
    with pytest.raises(ValueError, match="shares of the classes must add up to 1"):
        Hatch(np.eye(3), [0.2, 0.3, 0.4])
    with pytest.raises(ValueError, match="budget must be at least 1"):
        askers(budget=0)
    with pytest.raises(ValueError, match="theta . x must be a chance"):
        BudgetedAskers(np.ones((1, 1, 2)), [1.0], [[1.0, 0.5]], 5, 10)
    with pytest.raises(ValueError, match=r"contexts \[J,M,d\] and theta \[K,d\] do not fit"):
        BudgetedAskers(np.ones((1, 1, 2)), [1.0], [[1.0, 0.5, 0.0]], 5, 10)

    with pytest.raises(ValueError, match="EXP3 knows no budgets; use `play`"):
        play_budgeted(adversarial.EXP3(), STOCK, 2, seed=0)
    with pytest.raises(ValueError, match="LossTable knows no budgets"):
        play_budgeted(UcbBwK(), adversarial.LossTable(np.ones((2, 2))), 2, seed=0)
    with pytest.raises(ValueError, match="UcbBwK learns from budgeted feedback; LossTable gives bandit or full"):
        play(UcbBwK(), adversarial.LossTable(np.ones((2, 2))), 2, 2)
    with pytest.raises(ValueError, match="EXP3 learns from bandit feedback; BudgetedBandit gives budgeted"):
        play(adversarial.EXP3(), STOCK, 2, 2)

    class Stray(FixedMixture):
        def choose(self, context, left, rounds, rng):
            return np.full(len(left), 9)

    with pytest.raises(ValueError, match="arms from 0 to 3"):
        play_budgeted(Stray([0.1, 0.1, 0.1]), STOCK, 2, seed=0)
