"""Lookup: what every setting scores, what its tables hold, and that nothing of it can be guessed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from workbench import tasks
from workbench.tasks import Lookup, Problem, Reply
from workbench.tasks.base import play
from workbench.tasks.lookup import LETTERS

VARIANTS = [
    Lookup(),
    Lookup(hops=(1, 1), slack=0),
    Lookup(hops=(2, 3), tables=3, useless=0.3),
    Lookup(missing=0.5, tables=2, slack=3),
    Lookup(hops=(3, 6), traps=True, missing=1.0, tables=5, useless=0.5, slack=4),
]


def problems(task, count=200, split="train", seed=0):
    return [task.problem(index, split=split, seed=seed) for index in range(count)]


def ending(*steps):
    return Problem("kq=", steps[-1][1], steps)


@pytest.mark.parametrize("task", VARIANTS, ids=repr)
def test_the_script_scores_one_and_silence_and_guesses_score_zero(task):
    for split in ("train", "test"):
        for problem in problems(task, 100, split):
            gold = play(task, problem, task.gold(problem))
            assert gold.done and gold.outcome == 1 and set(gold.rewards) == {0.0}
            assert gold.transcript[-1] == problem.answer and tuple(gold.transcript[1::2]) == tuple(r for _, r in problem.steps)
            assert play(task, problem, task.do_nothing(problem)).outcome == 0


@pytest.mark.parametrize("task", VARIANTS, ids=repr)
@pytest.mark.parametrize("error_rate", [0.0, 0.4, 1.0])
def test_demonstrations_fail_as_often_as_asked_and_show_what_the_environment_says(task, error_rate):
    rng, count, failed = np.random.default_rng(0), 300, 0
    for problem in problems(task, count):
        shown = task.demonstration(problem, rng, error_rate)
        played = play(task, problem, shown[::2])
        assert played.done and played.transcript == shown and len(shown) // 2 < task.max_turns
        assert all(len(turn.replace("</T>", "t").replace("<T>", "t")) < task.max_tokens for turn in shown[::2])
        failed += played.outcome == 0
    assert abs(failed / count - error_rate) <= 4 * np.sqrt(error_rate * (1 - error_rate) / count)


def test_the_chain_is_as_long_as_asked_through_different_keys_and_the_right_tables():
    task = Lookup(hops=(2, 4), tables=3)
    lengths = Counter(len(problem.steps) for problem in problems(task, 600))
    assert set(lengths) == {2, 3, 4} and min(lengths.values()) > 150
    for problem in problems(task, 100):
        places = [place for place, _ in problem.steps]
        assert len({place[1:] for place in places}) == len(places)
        assert places[0][1:] == problem.prompt[:2]
        assert [place[1:] for place in places[1:]] == [found for _, found in problem.steps[:-1]]
        assert all(place[0] == task.table(place[1:]) for place in places)


def test_tables_share_the_alphabet_in_equal_stretches():
    assert "".join(Lookup(tables=2).table(letter + "a") for letter in LETTERS) == "A" * 13 + "B" * 13
    assert Counter(Lookup(tables=3).table(letter + "a") for letter in LETTERS) == {"A": 9, "B": 9, "C": 8}
    assert Lookup().table("za") == ""


def test_keys_of_the_test_split_are_never_asked_about_in_training():
    task = Lookup(missing=0.5)
    first = {split: {(p.steps[0][0] == "?") * p.prompt[0] + p.steps[p.steps[0][0] == "?"][0][-2:]
                     for p in problems(task, 1500, split)} for split in ("train", "test")}  # fmt: skip
    keys = {split: {key[-2:] for key in first[split]} for split in first}
    assert not keys["train"] & keys["test"] and len(keys["test"]) > 60


def test_the_prompt_says_nothing_about_the_answer():
    """The same prompt comes with other answers, and the best guess after 4,000 problems is right about once in 900."""
    task = Lookup(hops=(1, 1))
    seen = problems(task, 4000)
    by_prompt: dict[str, set[str]] = {}
    for problem in seen:
        by_prompt.setdefault(problem.prompt, set()).add(problem.answer)
    assert sum(len(answers) > 1 for answers in by_prompt.values()) > 500
    common = Counter(problem.answer for problem in seen).most_common(1)[0][0]
    assert np.mean([problem.answer == common for problem in problems(task, 2000, "train", seed=1)]) < 0.005


def test_lookup_step_by_step():
    task = Lookup()
    problem = ending(("kq", "zm"), ("zm", "417"))
    episode = task.episode(problem)
    assert episode.step("<T>kq</T>") == Reply("zm")
    assert episode.step("<T>zn</T>") == Reply("?")  # not there, and no fault
    assert episode.step("<T>zm") == Reply("!", -1.0)
    assert episode.step(" <T>zm</T>") == Reply("417")
    assert episode.step("417") == Reply(None, 0.0, True, 1.0)
    assert task.episode(problem).step("416") == Reply(None, -1.0, True, 0.0)  # no call in the first turn
    with pytest.raises(ValueError, match="a key of two letters, not 'kqq'"):
        task.episode(problem).look_up("kqq")
    with pytest.raises(ValueError, match="nobody can be asked"):
        task.episode(problem).ask()


def test_the_user_says_the_hidden_letter_when_asked():
    task = Lookup(missing=0.5)
    problem = Problem("k_=", "417", (("?", "q"), ("kq", "417")))
    assert task.episode(problem).step("<T>?</T>") == Reply("q")
    assert task.episode(ending(("kq", "417"))).step("<T>?</T>") == Reply("q")  # also where it can be read
    assert Lookup().episode(ending(("kq", "417"))).step("<T>?</T>") == Reply("!", -1.0)
    hidden = [problem for problem in problems(task, 1000) if problem.steps[0][0] == "?"]
    assert abs(len(hidden) / 1000 - 0.5) < 0.07
    assert all(p.prompt == p.steps[1][0][0] + "_=" and p.steps[0][1] == p.steps[1][0][1] for p in hidden)


def test_the_wrong_table_holds_nothing_or_leads_astray():
    plain, traps = Lookup(tables=2), Lookup(tables=2, traps=True)
    problem = ending(("Akq", "zm"), ("Bzm", "417"))
    assert plain.entry(problem, "Bkq") == "?" and plain.entry(problem, "Akq") == traps.entry(problem, "Akq") == "zm"
    found = [traps.entry(problem, table + a + b) for table in "AB" for a in LETTERS for b in LETTERS]
    assert found == [traps.entry(problem, table + a + b) for table in "AB" for a in LETTERS for b in LETTERS]
    assert found.count("417") == 1 and found.count("zm") == 1 and "kq" not in found
    for answer in range(400, 420):  # one wrong place in 1800 would give it by chance
        elsewhere = ending(("kq", str(answer)))
        given = [Lookup(traps=True).entry(elsewhere, a + b) for a in LETTERS for b in LETTERS]
        assert given.count(str(answer)) == 1
    numbers = [n for n in found if n.isdigit()]
    assert 0.4 < len(numbers) / len(found) < 0.6 and all(100 <= int(n) <= 999 for n in numbers)
    assert all(n.isdigit() or (len(n) == 2 and set(n) <= set(LETTERS)) for n in found)


@pytest.mark.parametrize(
    "text",
    ["<T>", "</T>", "<T></T>", "<T>kq", "kq</T>", "<T>kq</T>1", "<T>k</T>", "<T>KQ</T>", "<T>kqz</T>", "<T>Akq</T>", "<T>k q</T>",
     "<T><T>kq</T></T>", "<T>kq</T><T>kq</T>", "<T>??</T>", "<T>\uff4b\uff51</T>", "<T>é</T>", "<T>" * 5000,
     "<T>" + "a" * 10_000 + "</T>"],
)  # fmt: skip
def test_malformed_calls_are_answered(text):
    for task in (Lookup(), Lookup(missing=0.5, traps=True)):
        assert task.episode(task.problem(0)).step(text) == Reply("!", -1.0)


def test_a_table_must_be_one_that_there_is():
    task = Lookup(tables=2)
    for text in ("<T>kq</T>", "<T>Ckq</T>", "<T>akq</T>", "<T>ABq</T>", "<T>Ak</T>"):
        assert task.episode(task.problem(0)).step(text) == Reply("!", -1.0)


def test_garbled_and_useless_calls_of_demonstrations():
    def shares(task):
        rng, bad, needless, needed = np.random.default_rng(0), 0, 0, 0
        for problem in problems(task, 300):
            played = play(task, problem, task.demonstration(problem, rng)[::2])
            wanted = [f"<T>{call}</T>" for call, _ in problem.steps]
            assert played.outcome == 1
            bad += played.rewards.count(-1.0)
            needless += sum(r == 0 and turn not in wanted for turn, r in zip(played.transcript[:-1:2], played.rewards))
            needed += len(wanted)
        return bad / needed, needless / needed

    assert shares(Lookup(malformed=0.0)) == (0, 0) == shares(Lookup(malformed=1.0, useless=1.0, slack=0))
    assert shares(Lookup(malformed=1.0, slack=3)) == (1, 0)
    assert shares(Lookup(malformed=0.0, useless=1.0, slack=3, tables=2)) == (0, 1)
    bad, needless = shares(Lookup(malformed=0.4, useless=0.2, slack=8, missing=0.3, traps=True))
    assert abs(bad - 0.4) < 0.07 and abs(needless - 0.2) < 0.06


def test_bad_settings_are_refused():
    for settings, message in (
        ({"hops": (2, 1)}, "hops must be"), ({"hops": (0, 1)}, "hops must be"), ({"hops": (1, 9)}, "most <= 8"),
        ({"tables": 0}, "tables must be"), ({"tables": 6}, "from 1 to 5"), ({"slack": -1}, "slack"),
        ({"missing": 1.5}, "missing must be a probability"), ({"malformed": -1}, "malformed"), ({"useless": 2}, "useless"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            tasks.get("lookup", **settings)
