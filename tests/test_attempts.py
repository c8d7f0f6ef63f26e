"""Several attempts at one question: values by listing every episode, the bound, and what single attempts can teach."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from workbench.bandits import offline
from workbench.bandits.attempts import Attempts

PRIOR = (0.4, 0.3, 0.2, 0.1)
WORLDS = [Attempts(PRIOR, 4), Attempts(PRIOR, 4, traps=(0,)), Attempts((0.5, 0.5), 1), Attempts((0.6, 0.3, 0.1), 3, traps=(1, 2))]


def random_policy(world: Attempts, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(world.arms) / 2, len(world.histories))


def by_episodes(world: Attempts, policy: np.ndarray) -> float:
    """The chance to be right within T attempts, over every right answer and every sequence of answers."""
    total = 0.0
    for right, answers in itertools.product(range(world.arms), itertools.product(range(world.arms), repeat=world.turns)):
        chance, history = world.prior[right], ()
        for n, a in enumerate(answers):
            chance *= policy[world.histories.index(history), a]
            if a == right:
                total += chance / world.arms ** (world.turns - 1 - n)  # the answers that would have come after are free
                break
            if a in world.traps:
                break
            history = (*history, a)
    return total


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_the_value_is_that_of_all_episodes_one_by_one(world):
    for seed in range(3):
        policy = random_policy(world, seed)
        assert world.value(policy) == pytest.approx(by_episodes(world, policy), abs=1e-12)


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_on_its_own_log_stepwise_is_the_value_and_else_it_is_wrong_by_no_more_than_the_bound(world):
    largest = 0.0
    for seed in range(10):
        policy, logger = random_policy(world, seed), random_policy(world, 100 + seed)
        assert world.bound(policy, policy) == 0 and world.stepwise(policy, policy) == pytest.approx(world.value(policy))
        gap, bound = abs(world.value(policy) - world.stepwise(policy, logger)), world.bound(policy, logger)
        assert gap <= bound + 1e-12 and bound <= world.turns - 1
        largest = max(largest, gap / bound if bound else 0.0)
    assert largest > 0.05 or world.turns == 1


def test_the_gap_is_the_logger_s_chance_to_be_right_later_under_the_new_policy():
    """The performance difference lemma, term by term."""
    for world in WORLDS:
        policy, logger = random_policy(world, 1), random_policy(world, 2)
        terms = world.reach(logger)[:, None] * (policy - logger) * world.later(policy)
        assert world.value(policy) - world.stepwise(policy, logger) == pytest.approx(terms.sum(), abs=1e-12)


def test_the_bound_is_reached():
    """A logger that is always wrong leaves a history in which a policy that is right at once never is, and scores again."""
    world = Attempts((1.0, 0.0), 2)
    logger, policy = np.array([[0.0, 1.0]] * 3), np.array([[1.0, 0.0]] * 3)
    assert world.stepwise(policy, logger) == 2 and world.value(policy) == 1 == world.bound(policy, logger)


def test_without_traps_a_mistake_costs_an_attempt_and_the_best_single_attempts_are_the_best_policy():
    for prior in (PRIOR, (0.25,) * 4, (0.7, 0.1, 0.1, 0.1)):
        for turns in (2, 3, 4):
            world = Attempts(prior, turns)
            left = np.array([turns - len(h) for h in world.histories])
            assert (world.cost().max(1)[world.possible > 1e-9] <= 1 / left[world.possible > 1e-9] + 1e-12).all()
            assert world.value(world.greedy()) == pytest.approx(world.value(world.best())) == pytest.approx(sum(prior[:turns]))


def test_with_a_trap_single_attempts_teach_to_walk_into_it():
    world = Attempts(PRIOR, 4, traps=(0,))
    assert world.value(world.greedy()) == pytest.approx(0.4) and world.value(world.best()) == pytest.approx(1.0)
    assert world.cost()[0, 0] == pytest.approx(0.6)
    for seed in range(5):  # whoever logged, nothing beats greedy in the stepwise sum
        logger = random_policy(world, seed)
        assert world.stepwise(world.greedy(), logger) >= world.stepwise(world.best(), logger) - 1e-12


def test_a_log_estimates_stepwise_by_one_weight_an_attempt():
    world = WORLDS[0]
    logger, policy = np.full((len(world.histories), 4), 0.25), world.greedy()
    log, episode = world.record(logger, 4000, seed=0)
    per_episode = offline.ips(log, policy)
    found = [bound * log.rounds / 4000 for bound in (per_episode.low, per_episode.high)]
    assert found[0] < world.stepwise(policy, logger) < found[1]
    assert (np.diff(episode) >= 0).all() and episode[-1] == 3999 and log.rewards.sum() <= 4000
    assert np.bincount(log.contexts, minlength=len(world.histories))[0] == 4000


def test_what_makes_no_sense_is_refused():
    for arguments, why in (
        (((0.5, 0.4), 2), "adding up to 1"), ((PRIOR, 0), "turns must be"), ((PRIOR, 2, (4,)), "from 0 to 3"),
        (((0.1,) * 10, 8), "use fewer"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            Attempts(*arguments)
    with pytest.raises(ValueError, match="add up to 1"):
        WORLDS[0].value(np.ones((85, 4)))
    with pytest.raises(ValueError, match="episodes must be"):
        WORLDS[0].record(WORLDS[0].greedy(), 0, seed=0)
