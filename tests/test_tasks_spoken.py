"""Tasks in English with calls in JSON: the problems, replies, rewards and outcomes of the small ones; katas with Python."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench import tasks
from workbench.tasks import Calculator, Lookup, Problem, ToolKatas, spoken
from workbench.tasks.base import play
from workbench.tasks.spoken import call
from workbench.tasks.tools import CLOSE, OPEN

SMALL = [
    Calculator(malformed=0.4, useless=0.2),
    Lookup(malformed=0.4, useless=0.2, hops=(1, 4)),
    Lookup(tables=3, missing=0.5, traps=True, malformed=0.3, useless=0.3, slack=4),
]


@pytest.mark.parametrize("small", SMALL, ids=repr)
@pytest.mark.parametrize("split", ["train", "test"])
def test_scripts_score_as_in_the_small_task(small, split):
    task = spoken(small)
    for number in range(40):
        problem, before = task.problem(number, split=split, seed=1), small.problem(number, split=split, seed=1)
        assert problem.small == before and problem.answer == before.answer and problem.prompt != before.prompt
        gold = play(task, problem, task.gold(problem))
        assert gold.outcome == 1 and set(gold.rewards) == {0.0} and len(gold.rewards) <= task.max_turns
        assert list(zip(gold.transcript[::2], gold.transcript[1::2])) == list(problem.steps)
        assert [found for _, found in problem.steps] == [found for _, found in before.steps]
        assert play(task, problem, task.do_nothing(problem)).outcome == 0


@pytest.mark.parametrize("small", SMALL, ids=repr)
def test_demonstrations_have_the_replies_rewards_and_outcomes_of_the_small_task(small):
    task = spoken(small)
    for number in range(100):
        problem = task.problem(number)
        said = small.demonstration(problem.small, np.random.default_rng(number), 0.3)
        shown = task.demonstration(problem, np.random.default_rng(number), 0.3)
        before, after = play(small, problem.small, said[::2]), play(task, problem, shown[::2])
        assert after.transcript == shown and (after.outcome, after.rewards) == (before.outcome, before.rewards)
        for old, new in zip(said[1::2], shown[1::2]):
            assert new.startswith("error: ") if old == "!" else new == old


def test_the_prompt_says_what_a_reader_must_know():
    asked = spoken(Lookup(tables=2, missing=1.0)).problem(0)
    for words in ("Which number is behind the key", "A has those from a to m, B has those from n to z", "the user knows it",
                  '"name": "look_up"', '"name": "ask"', "<answer>NUMBER</answer>", OPEN):  # fmt: skip
        assert words in asked.prompt
    asked = spoken(Calculator()).problem(0)
    chain = asked.small.prompt.removesuffix("=")
    for sign in "+-*":
        chain = chain.replace(sign, f" {sign} ")
    assert f"Work out {chain} strictly" in asked.prompt
    assert "Args" not in asked.prompt and "modulo 1000" in asked.prompt


def test_answers_calls_and_thoughts_are_told_apart():
    task = spoken(Calculator())
    problem = task.problem(0)
    [(first, found), *_] = problem.steps
    right = f"<answer>{problem.answer}</answer>"
    for text, outcome, reward, done in (
        (f"<think>{first}</think> so {right}", 1, -1, True),  # no call outside the thoughts
        (f"<think>I never stop {right}", 0, -1, True),
        (f"<answer>1</answer> no, {right}", 1, -1, True),
        (f"{right} or <answer>1</answer>", 0, -1, True),
        (problem.answer, 1, -1, True),
        (f"it is {problem.answer}", 0, -1, True),
        (f"{right}{first}", 0, 0, False),  # a call comes before an answer
        (OPEN, 0, -1, False),
        (call("calculate", expression="1+"), 0, 0, False),  # well-formed, and it fails
        (call("calculate"), 0, -1, False),
    ):  # fmt: skip
        reply = task.episode(problem).step(text)
        assert (reply.outcome, reply.reward, reply.done) == (outcome, reward, done), text
    assert task.episode(problem).step(first).text == found


def test_only_tasks_with_words_can_be_spoken():
    with pytest.raises(TypeError, match="only calculator and lookup have words, not 'addition'"):
        spoken(tasks.get("addition"))
    with pytest.raises(ValueError, match="turns must be a whole number from 2 to 30"):
        ToolKatas(turns=1)


def test_katas_with_python_at_hand():
    task = ToolKatas()
    for number in range(6):
        problem = task.problem(number)
        gold = play(task, problem, task.gold(problem))
        assert gold.outcome == 1 and gold.rewards == [0, 0] and gold.transcript[1] == problem.steps[0][1]
        wrong = task.demonstration(problem, np.random.default_rng(0), 1.0)
        assert play(task, problem, wrong[::2]).outcome == 0 and json.loads(wrong[0][len(OPEN) : -len(CLOSE)])["name"] == "python"
    assert '"name": "search"' in problem.prompt and "You have 4 turns" in problem.prompt


def test_an_episode_of_katas_counts_what_went_wrong_and_goes_on():
    task = ToolKatas()
    problem = task.problem(0)
    episode = task.episode(problem)
    for text, reward, said in (
        (call("python", code="print('x' * 10**7)"), 0, "output limit"),
        (call("python", code="1/0"), 0, "ZeroDivisionError"),
        (call("search", query="split a string"), 0, "str.split"),
        (call("read", title="no such"), 0, "error: KeyError"),
        (call("perl", code="1"), -1, "no tool 'perl'"),
        (OPEN + "{" + CLOSE, -1, "not JSON"),
    ):  # fmt: skip
        reply = episode.step(text)
        assert reply.reward == reward and said in reply.text and not reply.done and len(reply.text) < 2100
    assert episode.box.counts == {"calls": 6, "failed": 1, "unknown": 1, "malformed": 1}
    assert episode.step(f"```python\n{problem.answer}\n```") == tasks.Reply(None, 0.0, True, 1.0)
    assert task.episode(problem).step(Problem("", "").answer).outcome == 0
