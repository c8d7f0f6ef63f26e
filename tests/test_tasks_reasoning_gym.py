"""The adapter of reasoning-gym: no problem in both splits, no credit for part of an answer, and clear words without it."""

from __future__ import annotations

import builtins
import inspect
import re

import numpy as np
import pytest

from workbench import tasks
from workbench.tasks import reasoning_gym as adapter
from workbench.tasks.base import split_of
from workbench.tasks.reasoning_gym import INSTALL, ReasoningGym

SMALL = (("min_terms", 2), ("max_terms", 2), ("min_digits", 1), ("max_digits", 1))  # 200 sums of two digits


def test_without_the_package_the_error_says_what_to_do(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("reasoning_gym"):
            raise ImportError(name)
        return real(name, *rest)

    adapter._source.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModuleNotFoundError, match=re.escape(INSTALL)):
        ReasoningGym()


@pytest.fixture(scope="module")
def gym():
    return pytest.importorskip("reasoning_gym", reason=INSTALL)


def test_its_own_seeds_overlap_and_our_splits_do_not(gym):
    first, second = (gym.create_dataset("chain_sum", seed=seed, size=50) for seed in (0, 1))
    assert len({x["question"] for x in first} & {x["question"] for x in second}) == 49  # the trap

    task = ReasoningGym("chain_sum", SMALL)
    train, test = (
        {task.problem(i, split=split, seed=seed).prompt for i in range(300) for seed in (0, 1)} for split in ("train", "test")
    )
    assert len(train) > 100 and len(test) > 10 and not train & test
    assert {split_of(f"{task.name}|{' '.join(prompt.lower().split())}") for prompt in test} == {"test"}


def test_a_problem_is_a_function_of_index_split_and_seed(gym):
    task = ReasoningGym("chain_sum")
    assert task.problem(3, seed=5) == task.problem(3, seed=5) == ReasoningGym("chain_sum").problem(3, seed=5)
    assert len({task.problem(i, seed=s).prompt for i in range(5) for s in (0, 1)}) == 10


@pytest.mark.parametrize("official", [False, True])
def test_an_answer_that_only_contains_the_right_one_gets_nothing(gym, official):
    task = ReasoningGym("caesar_cipher", official=official)
    problem = task.problem(0)
    assert task.credit(problem, problem.answer) == 1

    theirs = gym.create_dataset("caesar_cipher", seed=0, size=adapter.INDICES)
    entry = theirs[problem.number]
    half = theirs.score_answer(f"{problem.answer} {'x' * len(problem.answer)}", entry)
    assert 0.4 < half < 0.5  # the trap
    for wrong in ("", "?", problem.answer[:-1], f"it is {problem.answer}", f"{problem.answer} {'x' * len(problem.answer)}"):
        assert tasks.play(task, problem, [wrong]).outcome == 0


def test_the_official_score_knows_other_ways_to_say_it(gym):
    exact, official = ReasoningGym("chain_sum"), ReasoningGym("chain_sum", official=True)
    problem = exact.problem(0)
    assert exact.credit(problem, problem.answer + ".0") == 0
    assert official.credit(problem, problem.answer + ".0") == 1
    assert official.credit(problem, str(int(problem.answer) + 1)) == 0


def test_the_last_marked_answer_counts(gym):
    task = ReasoningGym("chain_sum")
    problem = task.problem(1)
    right = problem.answer
    for text, outcome in (
        (f" {right}\n", 1), (f"I think <answer> {right} </answer> so.", 1),
        (f"<answer>0x</answer> no, <answer>{right}</answer>", 1),
        (f"<answer>{right}</answer> no, <answer>0x</answer>", 0), (f"{right} <answer></answer>", 0),
    ):  # fmt: skip
        assert tasks.play(task, problem, [text]).outcome == outcome, text


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"dataset": "no such"}, "has no data set 'no such'; it has"),
        ({"settings": (("max_terms", 0),)}, "does not take {'max_terms': 0}"),
        ({"settings": (("maximum", 3),)}, "does not take {'maximum': 3}"),
        ({"settings": (("seed", 3),)}, "seed and size are not settings"),
        ({"dataset": "rubiks_cube", "official": True}, "does not say what a right answer would be"),
        ({"dataset": "countdown", "official": True}, "evaluates the model's text"),
        ({"dataset": "game_of_life_halting", "official": True}, "gives all the credit to 'no idea'"),
        ({"dataset": "knights_knaves", "official": True}, "gives all the credit to 'it is "),
    ],
)
def test_what_cannot_be_judged_is_refused(gym, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ReasoningGym(**settings)


def test_the_scorers_that_evaluate_text_are_those_we_refuse(gym):
    from reasoning_gym.factory import DATASETS

    hands_over = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\((?:user_)?answer\b")
    found = {name for name in adapter.datasets() if hands_over.search(inspect.getsource(inspect.getmodule(DATASETS[name][0])))}
    assert found == adapter.EVALUATES


def test_gold_nothing_and_wrong_demonstrations(gym):
    task = ReasoningGym("chain_sum")
    rng = np.random.default_rng(0)
    for i in range(5):
        problem = task.problem(i)
        assert tasks.play(task, problem, task.gold(problem)).outcome == 1
        assert tasks.play(task, problem, task.do_nothing(problem)).outcome == 0
        assert tasks.play(task, problem, task.demonstration(problem, rng)).outcome == 1
        assert tasks.play(task, problem, task.demonstration(problem, rng, error_rate=1.0)).outcome == 0
