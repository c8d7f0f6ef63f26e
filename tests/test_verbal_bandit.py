"""The bandit told as text: what the scripts score, what is told, and that the driver plays it like any other task."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workbench import models, sample, tasks
from workbench.batch import Stop
from workbench.tasks import Problem, VerbalBandit, base
from workbench.tasks.verbal_bandit import guide, upper_bound_choice

VARIANTS = [
    VerbalBandit(arms=arms, pulls=pulls, context=context, gap=gap, wording=wording)
    for arms, pulls, gap in ((2, 1, None), (3, 10, None), (5, 4, 0.2), (26, 3, 1.0))
    for context in ("raw", "summary", "guided")
    for wording in ("brief", "story")
]


def problems(task, count=200, split="train"):
    return [task.problem(index, split=split) for index in range(count)]


@pytest.mark.parametrize("task", VARIANTS, ids=repr)
def test_gold_scores_one_the_worst_arm_and_doing_nothing_zero(task):
    for problem in problems(task, 20, "test"):
        gold = base.play(task, problem, task.gold(problem))
        assert gold.done and gold.outcome == pytest.approx(1, abs=1e-12) and set(gold.rewards) == {0.0}
        lazy = base.play(task, problem, task.do_nothing(problem))
        assert lazy.done and lazy.outcome == 0 and lazy.rewards == [-1.0]
        worst = task.letters[int(task.means(problem).argmin())]
        assert base.play(task, problem, [worst] * task.pulls).outcome == 0


def test_the_outcome_is_the_regret_in_other_units():
    task = VerbalBandit(arms=3, pulls=4)
    problem = task.problem(3)
    means = task.means(problem)
    turns = list("ABCA")
    pulled = means[[0, 1, 2, 0]]
    regret = (means.max() - pulled).sum()
    expected = 1 - regret / (4 * (means.max() - means.min()))
    assert base.play(task, problem, turns).outcome == pytest.approx(expected, abs=1e-12)


def test_a_player_who_draws_arms_at_random_gets_half_with_three_uniform_arms():
    """(middle - worst) / (best - worst) of three uniform numbers is itself uniform, so arms score (0 + 1/2 + 1) / 3."""
    task, rng = VerbalBandit(), np.random.default_rng(0)
    outcomes = [base.play(task, p, task.demonstration(p, rng, 1.0)[::2]).outcome for p in problems(task, 1500)]
    assert abs(np.mean(outcomes) - 0.5) < 4 * np.std(outcomes) / math.sqrt(1500)


def test_arms_pay_as_often_as_their_means_say():
    task = VerbalBandit(arms=2, pulls=40)
    off, variance = 0.0, 0.0
    for problem in problems(task, 300):
        means = task.means(problem)
        episode = task.episode(problem)
        off += (episode.paid - means).sum()
        variance += 40 * (means * (1 - means)).sum()
    assert abs(off) < 4 * math.sqrt(variance)
    gapped = VerbalBandit(arms=4, gap=0.2)
    assert all(sorted(gapped.means(p)) == pytest.approx([0.4, 0.4, 0.4, 0.6]) for p in problems(gapped, 20))
    best = np.bincount([gapped.means(p).argmax() for p in problems(gapped, 1000)], minlength=4)
    assert np.abs(best - 250).max() < 4 * math.sqrt(1000 * 3 / 16)  # the label's place gives nothing away


def test_all_rollouts_of_a_problem_are_paid_alike():
    task = VerbalBandit(pulls=6)
    problem = task.problem(0)
    one, two = task.episode(problem), task.episode(problem)
    first = [one.step(letter).text for letter in "AABB"]
    second = [two.step(letter).text for letter in "BABA"]
    assert sorted(first[:2]) == sorted([second[1], second[3]]) and first[2] == second[0] and first[0] == second[1]


def test_what_is_told_by_hand():
    paid = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 1]])
    told = {
        ("raw", "brief"): ["1", "0", "0"],
        ("summary", "brief"): ["1|A 1 1.00|B new|C new", "0|A 2 0.50|B new|C new", "0|A 2 0.50|B 1 0.00|C new"],
        ("guided", "brief"): [
            "1|A 1.00+0.00|B new|C new",
            "0|A 0.50+0.42|B new|C new",  # sqrt(ln 2 / (2 * 2)) = 0.416
            "0|A 0.50+0.52|B 0.00+0.74|C new",  # sqrt(ln 3 / 4) = 0.524, sqrt(ln 3 / 2) = 0.741
        ],
        ("raw", "story"): ["It pays 1.", "It pays 0.", "It pays 0."],
    }
    for (context, wording), replies in told.items():
        task = VerbalBandit(pulls=5, context=context, wording=wording)
        episode = task.episode(task.problem(0))
        episode.paid = paid
        assert [episode.step(letter).text for letter in "AAB"] == replies
    last = VerbalBandit(context="guided", wording="story").tell(0, np.array([2, 1, 0]), np.array([1, 0, 0]))
    assert last == (
        "It pays 0. So far: A pulled 2 times, mean 0.50, exploration bonus 0.52; "
        "B pulled 1 times, mean 0.00, exploration bonus 0.74; C not pulled yet."
    )


def test_the_guide_and_the_expert_are_ucb():
    means, bonuses = guide(np.array([4, 1, 0]), np.array([3, 0, 0]))
    assert means.tolist() == [0.75, 0, 0] and bonuses[2] == math.inf
    assert bonuses[:2] == pytest.approx([math.sqrt(math.log(5) / 8), math.sqrt(math.log(5) / 2)], abs=0.005)
    assert upper_bound_choice(np.array([0, 0, 0]), np.array([0, 0, 0])) == 0
    assert upper_bound_choice(np.array([1, 1, 0]), np.array([1, 1, 0])) == 2
    assert upper_bound_choice(np.array([1, 1, 1]), np.array([0, 1, 1])) == 1


@pytest.mark.parametrize("task", VARIANTS, ids=repr)
def test_demonstrations_are_games_that_fit_the_turns(task):
    rng = np.random.default_rng(0)
    for error_rate in (0.0, 1.0):
        for problem in problems(task, 10):
            shown = task.demonstration(problem, rng, error_rate)
            played = base.play(task, problem, shown[::2])
            assert played.done and played.transcript == shown and len(shown) == 2 * task.pulls - 1
            assert all(len(turn) + 1 <= task.max_tokens for turn in shown[::2])


def test_the_expert_is_better_than_chance_and_the_same_whatever_the_wording():
    games = {}
    for context in ("raw", "summary", "guided"):
        task, rng = VerbalBandit(context=context), np.random.default_rng(0)
        games[context] = [task.demonstration(p, rng)[::2] for p in problems(task, 300)]
    assert games["raw"] == games["summary"] == games["guided"]
    outcomes = [base.play(task, p, turns).outcome for p, turns in zip(problems(task, 300), games["raw"])]
    assert np.mean(outcomes) - 0.5 > 4 * np.std(outcomes) / math.sqrt(300)


@pytest.mark.parametrize("text", ["", " ", "D", "a", "AB", "A B", "A.", "1", "é", "\x00", "<T>A</T>", "A" * 10_000])
def test_what_is_not_an_arm_ends_the_game(text):
    task = VerbalBandit(arms=3, pulls=4)
    episode = task.episode(task.problem(0))
    best = task.problem(0).answer
    assert episode.step(f" {best}\n").text in ("0", "1")  # blanks around a letter are no fault
    reply = episode.step(text)
    assert reply.done and reply.reward == -1 and reply.outcome == pytest.approx(1 / 4)


def test_the_split_goes_by_the_table_and_the_label_by_neither():
    task = VerbalBandit()
    train, test = problems(task, 400), problems(task, 400, "test")
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    assert task.problem(5) == train[5] and task.problem(5, seed=1) != train[5]
    counts = np.bincount(["ABC".index(p.answer) for p in train])
    assert np.abs(counts - 400 / 3).max() < 4 * math.sqrt(400 * 2 / 9)


def test_an_engine_plays_it_through_the_driver():
    """An untrained tiny model babbles: a first turn that is no letter ends the game; forced letters play it to the end."""
    policy, task = models.tiny("0.1m", seed=0), VerbalBandit(arms=2, pulls=3, context="summary")
    asked = problems(task, 4)
    batch = sample.rollout(sample.LocalEngine(policy), task, policy.tokenizer, asked, group_size=2, seed=0)
    assert len(batch) == 8 and set(batch.stop.tolist()) <= {Stop.DONE, Stop.LENGTH}
    assert (batch.rewards[batch.stop == Stop.DONE].sum(1) == -1).all()

    turns = ["A", "B", "A"]
    expected = base.play(task, asked[0], turns)
    demonstration = sample.encode_demonstration(asked[0].prompt, expected.transcript, policy.tokenizer)
    text = sample.transcript(type(batch).from_dialogues([demonstration]), 0, policy.tokenizer)
    assert text.startswith("<U>Table ") and text.count("<A>") == 3 and text.endswith("<A>A<E>")
    assert demonstration.turns == 3 and torch.tensor([len(s.ids) for s in demonstration.segments])[::2].tolist() == [2, 2, 2]


def test_bad_settings_are_refused():
    for wrong, message in (
        ({"arms": 1}, "arms must be a whole number from 2 to 26"),
        ({"pulls": 0}, "pulls must be a whole number of at least 1, not 0"),
        ({"context": "all"}, "context must be one of raw, summary, guided, not 'all'"),
        ({"wording": "long"}, "wording must be one of brief, story"),
        ({"gap": 0}, "gap must be above 0"),
        ({"max_tokens": 1}, "max_tokens must be at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            tasks.get("verbal_bandit", **wrong)
    with pytest.raises(ValueError, match="names no table of six digits"):
        VerbalBandit().episode(Problem("hello", "A"))
