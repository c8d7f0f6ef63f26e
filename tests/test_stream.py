"""The stream: what fits in the context, what is lost, and what that is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench import models, sample, tasks
from workbench.batch import Batch
from workbench.tasks import Problem, Stream, play

MEMORIES = ["all", "window", "summary", "forget"]
COUNT = Problem("#a", "4", tuple(("<T>n</T>", text) for text in ("ab", "ca", "bb", "aa", "cd.")))
FIND = Problem("=a", "7", tuple(("<T>n</T>", text) for text in ("b1c2", "a7d3", "c0b4.")))


def test_reading_to_the_end():
    read = "<T>n</T>"
    said = play(Stream(memory="all"), COUNT, [read] * 6 + ["4"])
    assert said.transcript == [read, "ab", read, "ca", read, "bb", read, "aa", read, "cd.", read, ".", "4"]
    assert said.outcome == 1 and said.rewards == [0.0] * 7
    assert play(Stream(memory="all"), COUNT, ["3"]).outcome == 0
    assert play(Stream(memory="all"), FIND, [read] * 3 + ["7"]).outcome == 1


def test_a_full_window_asks_for_a_summary_and_keeps_that_alone():
    task, read = Stream(memory="summary", window=2), "<T>n</T>"
    episode = task.episode(COUNT)
    replies = [episode.step(text) for text in (read, read, "2 so far", read, read, "<T>n</T>", "4")]
    assert [reply.text for reply in replies] == ["ab", "ca?", "ok", "bb?", "ok", "aa?", "ok"]
    assert [reply.keep for reply in replies] == [(0,), (0, 1), (2,), (2, 3), (4,), (4, 5), (6,)]  # any turn is a summary
    assert not any(reply.done for reply in replies)
    last = [task.episode(Problem("#a", "0", COUNT.steps[-1:])).step(read)]
    assert last[0].text == "cd."  # nothing more to come: no summary


def test_the_oldest_turn_drops_out_of_a_window():
    episode = Stream(memory="window", window=2).episode(COUNT)
    assert [episode.step(text).keep for text in ("<T>n</T>", "<T>", "<T>n</T>", "<T>n</T>")] == [(0,), (0, 1), (1, 2), (2, 3)]


def test_forgetting_makes_room_and_leaves_a_note():
    episode, read = Stream(memory="forget", window=2).episode(COUNT), "<T>n</T>"
    said = [read, read, read, "2<T>f2</T>", read, "<T>f1</T>", "<T>f9</T>", "2<T>f1</T>", "4"]
    replies = [episode.step(text) for text in said]
    assert [reply.text for reply in replies] == ["ab", "ca", "!", "ok", "bb", "ok", "!", "ok", None]
    assert [reply.reward for reply in replies] == [0, 0, -1, 0, 0, 0, -1, 0, 0]
    kept = [(0,), (0, 1), (0, 1, 2), (2, 3), (2, 3, 4), (3, 4, 5), (3, 4, 5, 6), (4, 5, 6, 7)]
    assert [reply.keep for reply in replies[:-1]] == kept
    assert replies[-1].done and replies[-1].outcome == 1
    for other in ("all", "window", "summary"):  # where there is nothing to forget with
        assert Stream(memory=other).episode(COUNT).step("<T>f1</T>").text == "!"


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("question", ["count", "find"])
def test_the_expert_never_has_more_in_the_context_than_the_window(memory, question):
    task = Stream(question=question, memory=memory, readings=(2, 20), items=2)
    seen = set()
    for number in range(60):
        problem = task.problem(number)
        gold = task.gold(problem)
        seen.add(len(gold))
        assert len(gold) <= task.max_turns - task.slack
        assert play(task, problem, gold).outcome == 1 and play(task, problem, task.do_nothing(problem)).outcome == 0
        if memory != "all":
            assert all(len(keep) <= task.window + (memory in ("summary", "forget")) for keep in task.keeps(problem, gold[:-1]))
    assert 8 <= max(seen) <= 30


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("question", ["count", "find"])
def test_every_demonstration_with_a_mistake_fails_and_every_other_one_is_right(memory, question):
    task, rng = Stream(question=question, memory=memory, items=2), np.random.default_rng(0)
    for number in range(60):
        problem = task.problem(number)
        for rate, outcome in ((0.0, 1.0), (1.0, 0.0)):
            turns = task.demonstration(problem, rng, rate)
            again = play(task, problem, turns[::2])
            assert again.transcript == turns and again.outcome == outcome


def test_a_note_says_what_is_worth_remembering():
    assert [Stream().note(COUNT, read) for read in range(6)] == ["0", "1", "2", "2", "4", "4"]
    assert [Stream(question="find").note(FIND, read) for read in range(4)] == ["-", "-", "7", "7"]
    assert Stream(memory="summary", window=2, question="find").gold(FIND) == ["<T>n</T>", "<T>n</T>", "7", "<T>n</T>", "7"]


def test_guessing_is_worth_what_chance_says():
    for question, most in (("count", 0.3), ("find", 0.15)):
        task = Stream(question=question)
        right = [play(task, problem, task.cheat(problem)).outcome for problem in map(task.problem, range(400))]
        assert 0.05 < np.mean(right) < most


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"question": "sum"}, 'question must be "count" or "find"'), ({"readings": (3, 2)}, "readings must be"),
        ({"memory": "none"}, "memory must be"), ({"window": 1}, "window must be from 2 to 9"), ({"items": 0}, "items must be 1"),
        ({"slack": -1}, "slack 0 or more"),
    ],
)  # fmt: skip
def test_bad_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        Stream(**wrong)


def test_the_driver_holds_no_more_than_the_task_says():
    """Real ids: the longest context of a stream of 20 readings is that of a stream of 6."""
    tokenizer, longest = models.make_tokenizer(), []
    for readings in ((6, 6), (20, 20)):
        task = tasks.get("stream", readings=readings)
        problem = task.problem(0)
        gold = task.gold(problem)
        rows = Batch.from_dialogues(sample.encode_rows(
            problem.prompt, play(task, problem, gold).transcript, tokenizer, rollout=0, keeps=task.keeps(problem, gold),
        ))  # fmt: skip
        assert rows.rollouts == 1 and int(rows.turns.sum()) == len(gold)
        longest.append(int(rows.length.max()))
    assert longest[0] == longest[1] < 50


def test_a_warm_start_on_several_rows_reaches_the_loss_of_the_same_rows_by_hand():
    policy, task = models.tiny("0.1m", seed=0), tasks.get("stream", readings=(4, 4))
    with torch.no_grad():
        expected = []
        pool = wb.seeding.integer(0, "sft", "problems")
        for number in range(4):
            problem = task.problem(number, seed=pool)
            turns = play(task, problem, task.gold(problem)).transcript
            rows = sample.encode_rows(problem.prompt, turns, policy.tokenizer, rollout=0, keeps=task.keeps(problem, turns[::2]))
            expected.append(Batch.from_dialogues(rows))
        whole = Batch.concatenate(expected)
        assert len(whole) == 8 and whole.rollouts == 4
        nats = -policy.evaluate(whole).logp.sum() / whole.mask.sum()
    (record,) = wb.sft(policy, task, steps=1, batch_size=4, error_rate=0.0, seed=0)
    assert record.loss == pytest.approx(nats.item(), rel=1e-5) and record.tokens == int(whole.mask.sum())
