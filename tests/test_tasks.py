"""Tasks: what the scripts score, which problems are drawn, and what hostile text does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import tasks
from workbench.tasks import Calculator, Problem, base

NAMES = tasks.names()
VARIANTS = [
    ("addition", {}),
    ("addition", {"digits": 1}),
    ("addition", {"digits": 7}),
    ("calculator", {}),
    ("calculator", {"operations": (1, 1), "slack": 0}),
    ("calculator", {"operations": (5, 6), "slack": 1, "malformed": 1.0}),
    ("lookup", {}),
]


def problems(task, count=200, split="train", seed=0):
    return [task.problem(index, split=split, seed=seed) for index in range(count)]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("name", "chosen"), VARIANTS)
def test_gold_scores_one_and_doing_nothing_scores_zero(name, chosen, split):
    task = tasks.get(name, **chosen)
    for problem in problems(task, split=split):
        gold, lazy = (
            base.play(task, problem, task.gold(problem)),
            base.play(task, problem, task.do_nothing(problem)),
        )
        assert gold.done and gold.outcome == 1
        assert gold.rewards == [0.0] * len(gold.rewards)
        assert gold.transcript[-1] == problem.answer
        assert lazy.outcome == 0


def test_the_answers_are_right():
    for problem in problems(tasks.get("addition")):
        a, b = problem.prompt.removesuffix("=").split("+")
        assert int(problem.answer) == int(a) + int(b)
    for problem in problems(tasks.get("calculator")):
        value, text = None, problem.prompt.removesuffix("=")
        for sign in ("+", "-", "*"):
            text = text.replace(sign, f" {sign} ")
        words = text.split()
        value = int(words[0])
        for sign, number in zip(words[1::2], words[2::2]):
            value = {"+": value + int(number), "-": value - int(number), "*": value * int(number)}[
                sign
            ] % 1000
        assert int(problem.answer) == value
        assert 2 <= len(problem.steps) == len(words) // 2 <= 4


@pytest.mark.parametrize("name", NAMES)
def test_streams_are_pure_differ_by_seed_and_are_disjoint_by_split(name):
    task = tasks.get(name)
    train, test = problems(task, 500), problems(task, 500, "test")
    assert train == problems(task, 500) and task.problem(7) == train[7]
    assert not {*train} & {*problems(task, 500, "test", seed=3)}
    for other in (problems(task, 500, seed=1), test):
        assert sum(a == b for a, b in zip(train, other)) < 10


def test_mirror_images_are_in_the_same_split():
    task = tasks.get("addition")
    train = {p.prompt for p in problems(task, 3000)}
    for problem in problems(task, 300, "test"):
        a, b = problem.prompt.removesuffix("=").split("+")
        assert f"{b}+{a}=" not in train


def test_the_test_split_is_an_eighth():
    share = np.mean([base.split_of(f"x|{n}") == "test" for n in range(4000)])
    assert abs(share - base.TEST_SHARE) < 4 * np.sqrt(base.TEST_SHARE * (1 - base.TEST_SHARE) / 4000)


def test_an_empty_split_is_an_error_and_not_an_endless_loop():
    constant = next(str(n) for n in range(100) if base.split_of(f"one|{n}") == "train")
    with pytest.raises(ValueError, match="'one': none of 1000 draws is a test problem"):
        base.stream("one", lambda rng: (Problem(constant, constant), constant), 0, "test", 0)


def test_bad_arguments_are_refused():
    task = tasks.get("addition")
    with pytest.raises(ValueError, match='"train" or "test", not \'valid\''):
        task.problem(0, split="valid")
    with pytest.raises(ValueError, match="index must be 0 or more, not -1"):
        task.problem(-1)
    with pytest.raises(ValueError, match="seed must be"):
        task.problem(0, seed=-1)
    with pytest.raises(ValueError, match="unknown task 'chess'; there are addition, calculator"):
        tasks.get("chess")
    with pytest.raises(TypeError, match="digit"):
        tasks.get("addition", digit=2)
    with pytest.raises(ValueError, match="digits"):
        tasks.get("addition", digits=0)
    with pytest.raises(ValueError, match="operations"):
        tasks.get("calculator", operations=(3, 2))
    with pytest.raises(ValueError, match="slack"):
        tasks.get("calculator", slack=-1)
    with pytest.raises(ValueError, match="malformed must be a probability"):
        tasks.get("calculator", malformed=1.5)
    with pytest.raises(ValueError, match="error_rate must be a probability"):
        task.demonstration(task.problem(0), np.random.default_rng(0), 2.0)
    with pytest.raises(TypeError, match="already a 'addition'"):
        tasks.get(task, digits=3)


def test_a_task_is_handed_back_and_fulfils_the_protocol():
    for name in NAMES:
        task = tasks.get(name)
        assert tasks.get(task) is task and isinstance(task, tasks.Task) and task.name == name
        episode = task.episode(task.problem(0))
        for tool in task.tools if name != "stream" else ():  # there, reading on and forgetting are one with the context
            called = getattr(task, tool, None) or getattr(episode, tool, None) or episode.box.tools[tool]
            assert callable(called) and called.__doc__


@pytest.mark.parametrize("error_rate", [0.0, 0.3, 0.65, 1.0])
@pytest.mark.parametrize(("name", "chosen"), VARIANTS)
def test_demonstrations_fail_as_often_as_asked(name, chosen, error_rate):
    task, rng, count, failed = tasks.get(name, **chosen), np.random.default_rng(0), 600, 0
    for problem in problems(task, count):
        shown = task.demonstration(problem, rng, error_rate)
        assert len(shown) % 2 == 1 and len(shown) // 2 < task.max_turns
        played = base.play(task, problem, shown[::2])
        assert played.done and played.transcript == shown  # the replies shown are those the environment gives
        assert all(len(turn) < 3 * task.max_tokens for turn in shown[::2])
        failed += played.outcome == 0
    assert abs(failed / count - error_rate) <= 4 * np.sqrt(error_rate * (1 - error_rate) / count)


def test_turns_fit_into_max_tokens():
    """Tags count as one token; a turn needs one more for its end."""
    for name, chosen in VARIANTS:
        task, rng = tasks.get(name, **chosen), np.random.default_rng(1)
        for problem in problems(task, 100):
            for turn in task.demonstration(problem, rng, 0.3)[::2]:
                assert len(turn.replace("</T>", "t").replace("<T>", "t")) + 1 <= task.max_tokens


def test_malformed_calls_in_demonstrations():
    def share(task):
        rng, bad, good = np.random.default_rng(0), 0, 0
        for problem in problems(task, 500):
            rewards = base.play(task, problem, task.demonstration(problem, rng)[::2]).rewards
            bad, good = bad + rewards.count(-1.0), good + len(problem.steps)
        return bad / good

    assert share(Calculator(malformed=0.0)) == 0 and share(Calculator(slack=0, malformed=1.0)) == 0
    assert share(Calculator(slack=4, malformed=1.0)) == 1
    assert abs(share(Calculator(slack=4, malformed=0.4)) - 0.4) < 0.05


def test_useless_calls_in_demonstrations_are_well_formed_and_change_nothing():
    task, spared = Calculator(useless=1.0, malformed=0.0, slack=2), Calculator(useless=0.0, malformed=0.0)
    for number in range(100):
        problem = task.problem(number)
        turns = task.demonstration(problem, np.random.default_rng(number))[::2]
        needed = spared.demonstration(problem, np.random.default_rng(number))[::2]
        played = base.play(task, problem, turns)
        assert played.outcome == 1 and min(played.rewards) == 0
        assert len(turns) == len(needed) + min(2, len(needed) - 1)
        rest = iter(turns)
        assert all(call in rest for call in needed), "the needed calls are there, in order"
        assert sum(turn in needed for turn in turns) == len(needed)


def test_calculator_step_by_step():
    task = Calculator()
    problem = Problem("37*45+58=", "723", (("37*45", "665"), ("665+58", "723")))
    episode = task.episode(problem)
    assert episode.step("<T>37*45</T>") == tasks.Reply("665")
    assert episode.step("<T>665+58") == tasks.Reply("!", -1.0)
    assert episode.step("<T>10-20</T>") == tasks.Reply("990")  # well-formed but wrong is no fault
    assert episode.step("723") == tasks.Reply(None, 0.0, True, 1.0)
    assert task.episode(problem).step("723") == tasks.Reply(
        None, -1.0, True, 1.0
    )  # no call in the first turn
    assert task.episode(problem).step("722") == tasks.Reply(None, -1.0, True, 0.0)
    late = task.episode(problem)
    late.step("<T>")
    assert late.step("722") == tasks.Reply(None, 0.0, True, 0.0)


@pytest.mark.parametrize(
    "text",
    ["<T>", "</T>", "<T></T>", "<T>1+</T>", "<T>1+2", "1+2</T>", "<T>1+2</T>3", "3<T>1+2</T>", "<T><T>1+2</T></T>",
     "<T>1+2</T><T>1+2</T>", "<T>1++2</T>", "<T>1 + 2</T>", "<T>1234+2</T>", "<T>٣+٤</T>", "<T>1/2</T>",
     "<T>__import__('os')</T>", "<T>" * 5000, "<T>" + "9" * 10_000 + "+1</T>", "<T>1+2\n</T>"],
)  # fmt: skip
def test_malformed_calls_are_answered(text):
    task = Calculator()
    assert task.episode(task.problem(0)).step(text) == tasks.Reply("!", -1.0)


def test_the_tool_itself():
    task = Calculator()
    assert [task.calculate(e) for e in ("37*45", "0-1", "999+999", "007*1")] == ["665", "999", "998", "7"]
    with pytest.raises(ValueError, match=r"two numbers .* not '1\+2\+3'"):
        task.calculate("1+2+3")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)  # thousands more in test_tasks_fuzz.py
@given(text=st.text() | st.text("<T>/R0123456789+-*=! \n", max_size=40))
def test_no_text_makes_a_task_raise(name, text):
    task = tasks.get(name)
    for hostile in (text, f"<T>{text}", f"<T>{text}</T>"):
        reply = task.episode(task.problem(0)).step(hostile)
        assert reply.reward in (0.0, -1.0) and reply.outcome in (0.0, 1.0)
        assert (reply.text is None) == reply.done
        if reply.text is not None:
            assert reply.text.isascii()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", " ", "\x00", "é", "1" * 10_000, "<E><A>", "inf", "nan"])
def test_nonsense_ends_an_episode_without_credit(name, text):
    task = tasks.get(name)
    played = base.play(task, task.problem(0), [text] * task.max_turns)
    assert played.done and played.outcome == 0
