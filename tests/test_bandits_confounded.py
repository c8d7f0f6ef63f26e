"""Confounded bandits against the numbers of the paper's family, identities between the layers, and recorded regrets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workbench.bandits import offline
from workbench.bandits.confounded import (
    FAMILY,
    GREEDY_CASINO,
    ConfoundedBandit,
    ConfoundedProblem,
    IntentThompson,
    World,
    unseen_from_see_and_do,
)
from workbench.bandits.play import play
from workbench.bandits.policies import Thompson
from workbench.causal import worlds as worlds_of_part_two
from workbench.permission import Layer, NotPermitted

CLOSED_FORMS = {  # see, do, do given intent (rows: intent), natural play, best do, best given intent, oracle
    "greedy casino": ((0.15, 0.15), (0.30, 0.30), ((0.15, 0.45), (0.45, 0.15)), 0.15, 0.30, 0.45, 0.45),
    "generous casino": ((0.45, 0.45), (0.30, 0.30), ((0.45, 0.15), (0.15, 0.45)), 0.45, 0.30, 0.45, 0.45),
    "paradoxical switching": ((0.40, 0.15), (0.35, 0.375), ((0.40, 0.60), (0.30, 0.15)), 0.275, 0.375, 0.45, 0.45),
    "sometimes switch": ((0.35, 0.15), (0.40, 0.1375), ((0.35, 0.125), (0.45, 0.15)), 0.25, 0.40, 0.40, 0.40),
    "no confounding": ((0.55, 0.45), (0.55, 0.45), ((0.55, 0.45), (0.55, 0.45)), 0.50, 0.55, 0.55, 0.55),
    "inevitable regret": ((0.0, 0.0), (0.5, 0.5), ((0.0, 1.0), (1.0, 0.0)), 0.0, 0.5, 1.0, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CLOSED_FORMS))
def test_the_three_layers_of_the_whole_family(name):
    see, do, given_intent, natural, best_do, best_given, oracle = CLOSED_FORMS[name]
    world = FAMILY[name]
    assert np.allclose(world.see(), see, rtol=0, atol=1e-12)
    assert np.allclose(world.do(), do, rtol=0, atol=1e-12)
    assert np.allclose(world.do_given_intent(), given_intent, rtol=0, atol=1e-12)
    found = world.natural(), world.best_do(), world.best_given_intent(), world.oracle()
    assert np.allclose(found, (natural, best_do, best_given, oracle), rtol=0, atol=1e-12)


def test_the_family_is_complete():
    assert list(FAMILY) == list(CLOSED_FORMS) and GREEDY_CASINO is FAMILY["greedy casino"]


def test_the_casino_is_the_one_of_the_causal_room():
    """The same world written as a structural model, with another code for do and imagine."""
    model = worlds_of_part_two.greedy_casino().model
    table = GREEDY_CASINO.do_given_intent()
    for x in (0, 1):
        assert model.mean("Y", {"X": x}) == pytest.approx(GREEDY_CASINO.see()[x], abs=1e-12)
        assert model.do({"X": x}).mean("Y") == pytest.approx(GREEDY_CASINO.do()[x], abs=1e-12)
        for z in (0, 1):
            assert model.imagine("Y", evidence={"X": z}, actions={"X": x})[1] == pytest.approx(table[z, x], abs=1e-12)


@st.composite
def worlds(draw, arms=3, states=5):
    weights = draw(arrays(float, states, elements=st.floats(0.05, 1)))
    intent = draw(arrays(np.int64, states, elements=st.integers(0, arms - 1)))
    pays = draw(arrays(float, (arms, states), elements=st.floats(0, 1)))
    return ConfoundedBandit(weights / weights.sum(), intent, pays)


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_what_ties_the_layers_together_in_any_world(world):
    """Consistency (layer three holds layer one on its diagonal), total probability (its mean is layer two), who can earn what."""
    share, table = world.chosen(), np.nan_to_num(world.do_given_intent())
    assert share.sum() == pytest.approx(1)
    assert np.allclose(np.nan_to_num(world.see()), np.diagonal(table))
    assert np.array_equal(np.isnan(world.see()), share == 0)
    assert np.allclose(share @ table, world.do())
    assert world.natural() == pytest.approx(float(share @ np.nan_to_num(world.see())))
    assert world.natural() <= world.best_given_intent() + 1e-12
    assert world.best_do() <= world.best_given_intent() + 1e-12 <= world.oracle() + 2e-12


@given(worlds(arms=2, states=4))
@settings(max_examples=60, deadline=None)
def test_with_two_arms_seeing_and_doing_settle_the_third_layer(world):
    share = world.chosen()
    if share.min() == 0:
        with pytest.raises(ValueError, match="two positive chances"):
            unseen_from_see_and_do(np.nan_to_num(world.see()), world.do(), share)
        return
    found = unseen_from_see_and_do(world.see(), world.do(), share)
    table = world.do_given_intent()
    assert np.allclose(found, [table[1, 0], table[0, 1]])


def test_what_a_world_draws_agrees_with_its_layers():
    rounds = 40_000
    world = World(GREEDY_CASINO, allow=list(Layer), seed=1)
    log = world.see(rounds)
    error = 4 * math.sqrt(0.25 / (rounds / 4))
    assert log.propensities is None and log.contexts is None
    assert np.allclose(offline.reward_model(log)[0], 0.15, atol=error)
    assert abs(log.actions.mean() - 0.5) < error
    assert world.do(0, rounds).mean() == pytest.approx(0.30, abs=error)
    noticed = world.do_given_intent([[0.5, 0.5], [0.25, 0.75]], rounds)
    assert np.allclose(offline.reward_model(noticed), [[0.15, 0.45], [0.45, 0.15]], atol=error)
    assert np.allclose(offline.imitation(noticed), [[0.5, 0.5], [0.25, 0.75]], atol=error)
    assert set(np.unique(noticed.propensities[noticed.contexts == 1])) == {0.25, 0.75}
    turned = offline.ips(noticed, [[0.0, 1.0], [1.0, 0.0]])
    assert turned.low < 0.45 < turned.high  # with the intent as context the log is unconfounded again


def test_hidden_states_come_as_often_as_they_are_likely():
    uneven = ConfoundedBandit([0.8, 0.1, 0.1], [0, 1, 1], [[0.9, 0.2, 0.1], [0.3, 0.8, 0.6]])
    world = World(uneven, allow=list(Layer), seed=5)
    log = world.see(20_000)
    assert np.allclose(offline.imitation(log), uneven.chosen(), atol=0.012)
    assert np.allclose(offline.reward_model(log), uneven.see(), atol=0.03)
    assert world.do(0, 20_000).mean() == pytest.approx(uneven.do()[0], abs=0.012)
    blind = play(Thompson(), ConfoundedProblem(uneven), 2000, 50, seed=1)
    intents = uneven.do_given_intent()
    lost = uneven.best_given_intent() - uneven.best_do()
    assert lost == pytest.approx(0.8 * 0.9 + 0.2 * intents[1, 1] - uneven.do()[0])
    assert np.mean(np.diff(blind.regret[:, -2:]) / np.diff(blind.times[-2:])) == pytest.approx(lost, abs=0.02)


# Playing, against the regrets recorded earlier for T = 1000 and 1000 repetitions


def regret(policy, allow, seed):
    found = play(policy, ConfoundedProblem(GREEDY_CASINO, allow=allow), 1000, 1000, seed=seed).final
    return found.mean(), found.std(ddof=1) / math.sqrt(1000)


def test_thompson_without_its_intent_loses_in_every_round_what_the_intent_is_worth():
    mean, error = regret(Thompson(), "do", 1)
    assert mean == pytest.approx(150.1, abs=3 * math.hypot(error, 0.15))
    assert mean == pytest.approx(1000 * (GREEDY_CASINO.best_given_intent() - GREEDY_CASINO.best_do()), abs=3 * error)


def test_thompson_with_its_intent_as_a_clue_stops_losing():
    mean, error = regret(IntentThompson(), "imagine", 1)
    assert mean == pytest.approx(11.0, abs=3 * math.hypot(error, 0.14))


def test_what_natural_players_did_saves_most_of_the_rest():
    """Recorded: 1.37 +- .05, which is what 200 players of each machine give; 100 of each give 1.60."""
    for each, recorded, spread in ((200, 1.37, 0.05), (100, 1.60, 0.04)):
        rng = np.random.default_rng(each)
        arms = np.tile(np.repeat([0, 1], each), (1000, 1))
        seen = offline.Log(arms, (rng.random(arms.shape) < 0.15).astype(float), 2)
        mean, error = regret(IntentThompson(seen), "imagine", 2)
        assert mean == pytest.approx(recorded, abs=3 * math.hypot(error, spread)), each


def test_a_log_of_one_arm_fills_its_place_on_the_diagonal_and_no_other():
    policy = IntentThompson(offline.Log([1, 1, 1, 0], [1, 0, 0, 1], 2))
    policy.start(3, 2, 10)
    assert np.array_equal(policy.wins, np.tile([[2.0, 1], [1, 2]], (3, 1, 1)))
    assert np.array_equal(policy.losses, np.tile([[1.0, 1], [1, 3]], (3, 1, 1)))
    policy.choose(np.random.default_rng(0), np.array([0, 1, 1]))
    policy.update(np.array([1, 0, 1]), np.array([1.0, 0.0, 1.0]))
    assert policy.wins[0].tolist() == [[2, 2], [1, 2]] and policy.losses[1].tolist() == [[1, 1], [2, 3]]
    assert policy.wins[2].tolist() == [[2, 1], [1, 3]]
    policy.start(1, 2, 10)  # a second run begins from what was seen and nothing else
    assert policy.wins.tolist() == [[[2, 1], [1, 2]]]


def test_players_need_permission_and_the_right_kind_of_policy():
    with pytest.raises(NotPermitted, match=r"play\(\) needs permission to do; this learner was given see"):
        ConfoundedProblem(GREEDY_CASINO, allow="see")
    with pytest.raises(ValueError, match="IntentThompson learns from contextual feedback"):
        play(IntentThompson(), ConfoundedProblem(GREEDY_CASINO), 10, 5)
    with pytest.raises(ValueError, match="Thompson learns from bandit feedback"):
        play(Thompson(), ConfoundedProblem(GREEDY_CASINO, allow="imagine"), 10, 5)
    with pytest.raises(ValueError, match="no other"):
        ConfoundedProblem(GREEDY_CASINO).start(1, 1, np.random.default_rng(0), full=True)
    with pytest.raises(ValueError, match="between 0 and 1, as shares"):
        IntentThompson(offline.Log([0, 1], [0, 2.0], 2))
    with pytest.raises(ValueError, match="2 arms are played 5 times"):
        play(IntentThompson(offline.Log([0, 2], [0, 1], 3)), ConfoundedProblem(GREEDY_CASINO, allow="imagine"), 10, 5)
    policy = IntentThompson()
    policy.start(4, 2, 10)
    for context in (np.zeros(3, dtype=int), np.zeros(4)):
        with pytest.raises(ValueError, match="an intent is one arm's number for each repetition"):
            policy.choose(np.random.default_rng(0), context)


def test_no_estimator_of_a_confounded_log_notices_anything():
    """Judged from what natural players did, every rule earns .15 for sure; done, every one earns .30."""
    log = World(GREEDY_CASINO, seed=2).see(100_000)
    for policy in ([1.0, 0.0], [0.5, 0.5]):
        interval = offline.direct(log, policy)
        assert interval.low < 0.15 < interval.high < 0.16 < GREEDY_CASINO.best_do()


def test_pessimism_chooses_what_looks_best_and_is_worst():
    """Paradoxical switching: machine 0 is seen to pay .40 against .15, and pays .35 against .375 when done. With more data the
    lower bound is only surer of the wrong machine."""
    world = FAMILY["paradoxical switching"]
    for rounds in (100, 1000, 10_000):
        logs = [World(world, seed=seed).see(rounds) for seed in range(5)]
        assert all(offline.lower_confidence(log) == [0] for log in logs)
    assert world.do()[0] < world.do()[1] and world.see()[0] > world.see()[1]


def test_a_world_refuses_what_was_not_granted():
    watcher, actor = World(GREEDY_CASINO, seed=0), World(GREEDY_CASINO, allow="do", seed=0)
    assert watcher.see(3).rounds == 3 and actor.do(1, 3).shape == (3,)
    with pytest.raises(NotPermitted, match=r"do\(X=1\) needs permission to do; this learner was given see"):
        watcher.do(1, 10)
    with pytest.raises(NotPermitted, match=r"see\(\) needs permission to see; this learner was given do"):
        actor.see(10)
    for world in (watcher, actor):
        with pytest.raises(NotPermitted, match="permission to imagine"):
            world.do_given_intent(np.eye(2), 10)
    with pytest.raises(NotPermitted, match="given nothing"):
        World(GREEDY_CASINO, allow=(), seed=0).see(10)
    with pytest.raises(ValueError, match="'peek' is not a valid Layer"):
        World(GREEDY_CASINO, allow=["peek"], seed=0)


def test_the_same_seed_draws_the_same_bits():
    one, same, other = (World(GREEDY_CASINO, allow=list(Layer), seed=seed) for seed in (3, 3, 4))
    first = one.see(200)
    again, different = same.see(200), other.see(200)
    assert np.array_equal(first.rewards, again.rewards) and np.array_equal(first.actions, again.actions)
    assert not np.array_equal(first.actions, different.actions)
    assert not np.array_equal(first.actions, one.see(200).actions)


def test_malformed_worlds_and_questions_are_refused_in_words():
    half, intent, pays = np.full(2, 0.5), np.array([0, 1]), np.full((2, 2), 0.5)
    for arguments, words in (
        (([0.5, 0.4], intent, pays), "add up to 1"),
        ((half, intent, np.full((2, 3), 0.5)), r"2 hidden states, not \(2, 3\)"),
        ((half, [0, 0], np.full((1, 2), 0.5)), "at least 2 arms"),
        ((half, intent, pays * 3), "from 0 to 1"),
        ((half, [0.0, 1.0], pays), "name an arm for each of the 2"),
        ((half, [0], pays), "name an arm for each of the 2"),
        ((half, [0, 2], pays), "not reach from 0 to 2"),
    ):
        with pytest.raises(ValueError, match=words):
            ConfoundedBandit(*arguments)
    world = World(GREEDY_CASINO, allow=list(Layer), seed=0)
    for arm in (2, -1, 0.5, True):
        with pytest.raises(ValueError, match="arm must be a number from 0 to 1"):
            world.do(arm, 5)
    for ask in (lambda: world.see(0), lambda: world.do(0, 0), lambda: world.do_given_intent(np.eye(2), 0)):
        with pytest.raises(ValueError, match="rounds must be 1 or more"):
            ask()
    for policy in ([0.5, 0.5], [[0.5, 0.6], [1, 0]], [[-1, 2], [1, 0]]):
        with pytest.raises(ValueError, match=r"\[2,2\] with rows adding up to 1"):
            world.do_given_intent(policy, 5)
    with pytest.raises(ValueError, match="more arms seeing and doing do not settle"):
        unseen_from_see_and_do([0.1] * 3, [0.2] * 3, [1 / 3] * 3)
    with pytest.raises(ValueError, match="two positive chances"):
        unseen_from_see_and_do([0.1, 0.2], [0.2, 0.2], [1.0, 0.0])
