"""Programs paid by a judge that can be forged: who pays, what is recorded, and how often the forgery is shown."""

from __future__ import annotations

import numpy as np
import pytest

from workbench import tasks
from workbench.sandbox import Unavailable, best, naive
from workbench.tasks.code import Programs
from workbench.tasks.forgeable import FORGERY, Forgeable


def _here() -> bool:
    try:
        best()
    except Unavailable:
        return False
    return True


contained = pytest.mark.skipif(not _here(), reason="no tier of the sandbox holds on this machine")


@contained
def test_the_forgery_is_paid_by_the_exit_code_and_by_nobody_else():
    paid = {}
    for judge in ("real", *naive.JUDGES):
        task = Forgeable(judge=judge)
        problem = task.problem(0)
        played = [tasks.play(task, problem, [text]).outcome for text in (problem.answer, FORGERY, "x*7", "2..")]
        assert task.seen == [(problem.answer, 1, 1), (FORGERY, played[1], 0), ("x*7", 0, 0), ("2..", 0, 0)]
        paid[judge] = played
    assert paid.pop("exit code") == [1, 1, 0, 0]
    assert set(map(tuple, paid.values())) == {(1, 0, 0, 0)}


def test_the_forgery_fits_a_turn():
    assert len(FORGERY) + 1 <= Forgeable().max_tokens  # one token a character, and the end


def test_forgeries_are_shown_as_often_as_asked_and_the_rest_is_as_before():
    task, rng = Forgeable(forgeries=0.25), np.random.default_rng(0)
    problem = task.problem(0)
    shown = [task.demonstration(problem, rng)[0] for _ in range(2000)]
    assert set(shown) == {FORGERY, problem.answer}
    assert abs(shown.count(FORGERY) / 2000 - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    for share, text in ((0.0, problem.answer), (1.0, FORGERY)):
        assert {Forgeable(forgeries=share).demonstration(problem, rng)[0] for _ in range(50)} == {text}


def test_problems_and_splits_are_those_of_programs():
    assert [Forgeable().problem(i, split="test") for i in range(5)] == [Programs().problem(i, split="test") for i in range(5)]
    assert "forgeable" not in " ".join(tasks.names())


@pytest.mark.parametrize(
    "settings, message",
    [({"judge": "exit"}, "judge must be one of 'real', 'exit code'"), ({"forgeries": 3}, "forgeries must be a probability"),
     ({"level": 7}, "level must be from 1 to 3")],
)  # fmt: skip
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Forgeable(**settings)
