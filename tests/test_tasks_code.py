"""Code tasks: references score 1, plausible wrong ones 0, hostile answers nothing, and only the sandbox decides."""

from __future__ import annotations

import numpy as np
import pytest

from workbench import sandbox, tasks
from workbench.tasks import Katas, Programs, Repair, code
from workbench.tasks.base import play


def _judge(jobs):
    return sandbox.shared().judge(jobs)


# ---- katas ------------------------------------------------------------------------------------------------------------------


def test_every_reference_scores_1_and_every_plausible_wrong_solution_0():
    katas = code.katas()
    assert len(katas) >= 80
    right, wrong = (_judge([(getattr(k, which), k.hidden) for k in katas.values()]) for which in ("code", "wrong"))
    assert {name for name, result in zip(katas, right) if result.reward != 1} == set()
    assert {name for name, result in zip(katas, wrong) if result.reward != 0} == set()


def test_hidden_tests_ask_more_than_the_public_ones():
    for kata in code.katas().values():
        shown = {str(case) for case in kata.public.cases}
        assert shown and len({str(case) for case in kata.hidden.cases} - shown) >= 4, kata.name
        assert {case.function for case in kata.hidden.cases} == {kata.name}
        assert kata.text.startswith(f"Write {kata.name}("), kata.name


def test_most_plausible_solutions_pass_what_is_shown():
    """So a model cannot tell from the public tests that it is wrong."""
    katas = code.katas().values()
    assert sum(r.reward == 1 for r in _judge([(k.wrong, k.public) for k in katas])) > 0.9 * len(katas)


def test_a_program_is_found_in_its_fence():
    assert code.fenced("Here:\n```python\na = 1\n```\nand\n```\nb = 2\n```\n") == "b = 2\n"
    assert code.fenced("def f(): pass") == "def f(): pass"
    assert code.fenced("```py\nx = 1") == "x = 1"


# ---- formulas -----------------------------------------------------------------------------------------------------------------

TASKS = [
    Programs(), Programs(level=2), Programs(level=3, examples=1), Repair(), Repair(level=3, turns=1),
    Repair(turns=8, examples=4), Katas(),
]  # fmt: skip


@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.parametrize("split", ["train", "test"])
def test_gold_scores_1_doing_nothing_0_and_demonstrations_what_they_should(task, split):
    rng = np.random.default_rng(0)
    for number in range(8):
        problem = task.problem(number, split=split)
        gold = play(task, problem, task.gold(problem))
        assert gold.outcome == 1 and gold.done and len(gold.transcript) == 1
        assert play(task, problem, task.do_nothing(problem)).outcome == 0
        for error_rate in (0.0, 1.0):
            shown = task.demonstration(problem, rng, error_rate)
            played = play(task, problem, shown[::2])
            assert played.outcome == 1 - error_rate and played.transcript[: len(shown)] == shown


def test_problems_of_the_two_splits_never_mean_the_same():
    for task in (Programs(level=2), Repair()):
        meant = {
            split: {str(code.values(task.problem(n, split=split).answer)) for n in range(200)} for split in ("train", "test")
        }
        assert not meant["train"] & meant["test"]


def test_another_formula_with_the_same_values_is_right():
    task = Programs(level=2)
    problem = tasks.Problem("f(1)=5,f(4)=11:", "x*2+3")
    assert play(task, problem, ["3+x+x"]).outcome == 1 and play(task, problem, ["x*2+4"]).outcome == 0


def test_a_repair_is_told_the_first_example_that_it_fails_and_may_try_again():
    task, problem = Repair(turns=3), tasks.Problem("x*2+4;f(1)=5,f(4)=11:", "x*2+3")
    assert play(task, problem, ["x*2+4", "x+7", "x*2+3"]).transcript == ["x*2+4", "f(1)=5", "x+7", "f(1)=5", "x*2+3"]
    assert play(task, problem, ["x*2+4", "x*2+3"]).outcome == 1
    assert play(task, problem, ["x", "x", "x"]).outcome == 0


def test_the_first_example_of_a_repair_shows_the_fault():
    task = Repair()
    for number in range(40):
        problem = task.problem(number)
        broken = problem.prompt.partition(";")[0]
        assert any(code.values(broken)[c.arguments[0]] != c.expected for c in task.public(problem).cases)


HOSTILE = [
    "", "x" * 500, "(", "__import__('os')._exit(0)", "0\nimport os; os._exit(0)", "exit()", "x\n" * 50, "<T>x</T>", "\x00", "é",
    "9**9**9", "[f for f in ().__class__.__base__.__subclasses__()]", "print('PASS') or 1",
    "type('A',(),{'__eq__':lambda a,b:True})()",
]  # fmt: skip


@pytest.mark.parametrize("task", [Programs(), Repair(turns=2), Katas()], ids=str)
def test_hostile_answers_score_0_and_end_the_episode(task):
    problem = task.problem(0)
    for text in HOSTILE:
        played = play(task, problem, [text] * task.max_turns)
        assert played.outcome == 0 and played.done


def test_a_broken_sandbox_is_an_error_and_not_a_0(monkeypatch):
    class Broken:
        def submit(self, *_, **__):
            return self

        def result(self):
            return sandbox.Result(sandbox.Verdict.INFRASTRUCTURE, 0, 1, "no more processes")

    monkeypatch.setattr(sandbox, "shared", Broken)
    with pytest.raises(code.SandboxBroke, match="no more processes"):
        Programs().episode(Programs().problem(0)).step("x")


@pytest.mark.parametrize(("kind", "setting"), [(Programs, "level"), (Programs, "examples"), (Repair, "level"), (Repair, "turns")])
def test_impossible_settings_are_refused(kind, setting):
    for value in (0, 9):
        with pytest.raises(ValueError, match=f"{setting} must be from 1 to"):
            kind(**{setting: value})


def test_prompts_and_answers_fit_the_vocabulary_of_a_tiny_model():
    from workbench import models

    tokenizer = models.tiny("0.1m").tokenizer
    for task in (Programs(level=3), Repair(level=3)):
        for number in range(20):
            problem = task.problem(number)
            for text in (problem.prompt, problem.answer):
                assert tokenizer.decode(tokenizer.encode(text)) == text
            assert len(tokenizer.encode(problem.answer)) < task.max_tokens
