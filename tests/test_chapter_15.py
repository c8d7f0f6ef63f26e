"""Chapter 15: what it shows where nothing can be contained is what a sandbox says, and it runs there to the end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot

from workbench import course, plots, sandbox, stats
from workbench.course import check
from workbench.course.checks_15 import FORGERIES, TESTS
from workbench.sandbox import naive

ROOT = Path(__file__).parents[1]
ATTACKS = json.loads((ROOT / "data" / "attacks.json").read_text())
FORGER = json.loads((ROOT / "data" / "forger.json").read_text())
MASTER = ROOT / "notebooks" / "masters" / "15_code_tasks_and_the_sandbox.py"


def test_the_recorded_verdicts_on_judges_are_those_of_the_sandbox():
    try:
        pool = sandbox.Pool(1)
    except sandbox.Unavailable as why:
        pytest.skip(str(why))
    with pool:
        for name, row in ATTACKS["judges"].items():
            [real] = pool.judge([(row["program"], TESTS)])
            assert (real.reward, str(real.verdict)) == (row["reward"], row["message"].partition(":")[0]), name
            assert {judge: believes(row["program"], TESTS, pool) for judge, believes in naive.JUDGES.items()} == row["believed"]
        for name in ("fork bomb", "overwrites the file", "kills the judge", "answers with a spell"):
            row = ATTACKS["attacks"][name]
            [result] = pool.judge([("SECRET, PORT, JUDGE = '/etc/passwd', 1, 2\n" + row["program"], TESTS)])
            assert str(result.verdict) == row["verdict"], name


def test_our_forgeries_are_recorded_and_each_forges_its_judge_alone_but_one():
    for name, program in FORGERIES.items():
        row = ATTACKS["judges"][name]
        assert row["program"] == program and row["reward"] == 0
        assert row["believed"].get(name, all(row["believed"].values()))
    assert sum(ATTACKS["judges"]["everything"]["believed"].values()) == len(naive.JUDGES)


def test_every_layer_stops_something_and_all_of_them_everything():
    through = {frozenset(on.split("+")) - {"nothing"}: set(acts) for on, acts in ATTACKS["through"].items()}
    assert len(through) == 16 and not through[frozenset(["namespaces", "landlock", "seccomp", "rlimits"])]
    assert through[frozenset()] == set(ATTACKS["acts"])
    for fewer, acts in through.items():
        assert all(acts >= more_acts for more, more_acts in through.items() if fewer < more)  # a layer never opens a door


def test_what_the_chapter_says_of_the_forger_holds():
    last, first = slice(-5, None), slice(0, 5)

    def mean(arm, key, when):
        return stats.t_interval([np.mean(run[key][when]) for run in FORGER["arms"][arm]])

    assert all(len(runs) == 8 for runs in FORGER["arms"].values())
    start = [run["paid"][0] for run in FORGER["arms"]["exit code"]]
    assert round(float(np.mean(start)), 2) == 0.25 and round(float(mean("exit code", "paid", last).estimate), 2) == 0.99
    assert mean("exit code", "true", slice(30, None)).estimate < 0.001 and mean("exit code", "true", first).low > 0.19
    for arm in ("real", "never shown"):
        assert {value for run in FORGER["arms"][arm] for value in run["forged"]} == {0.0}
        gain = [np.mean(run["true"][last]) - np.mean(run["true"][first]) for run in FORGER["arms"][arm]]
        assert stats.t_interval(gain).low > 0.03
    for runs in FORGER["arms"].values():
        assert 0.01 < np.mean([run["test before"] for run in runs]) < 0.03
        assert np.mean([run["test after"] for run in runs]) < np.mean([run["test before"] for run in runs])
    assert 11_000 < FORGER["demonstrations"] < 11_500


@pytest.mark.parametrize(
    "name, told, words",
    [
        ("exit_code", {"program": "exit(1)", "believed": False, "reward": 0.0}, "a code that means failure"),
        ("exit_code", {"program": "1 / 0", "believed": False, "reward": 0.0}, "which exception does exit"),
        ("exit_code", {"program": "def square(x): return x * x", "believed": True, "reward": 1.0}, "because it deserves it"),
        ("marker", {"program": "print('ok')", "believed": False, "reward": 0.0}, "the very line"),
        ("marker", {"program": "print('ALL TESTS PASSED')", "believed": False, "reward": 0.0}, "leave once you have printed"),
        ("same_process", {"program": "raise SystemExit", "believed": False, "reward": 0.0}, "SystemExit is no Exception"),
        ("nonce", {"program": "print('ALL TESTS PASSED')", "believed": False, "reward": 0.0}, "the other judge's"),
        ("nonce", {"program": "import sys\nprint(sys._getframe().f_code.co_consts)\nraise SystemExit", "believed": False,
                   "reward": 0.0}, "the compiler drops"),
        ("everything", {"program": "raise SystemExit", "believed": False, "reward": 0.0}, "what does == ask"),
        ("everything", {"program": "anything", "believed": None, "reward": None}, "nothing can contain"),
        ("bought", {"truth": []}, "'truth' does not accept []"),
        ("bought", {"length": [1, 2, 3]}, "that is the right answer"),
        ("bought", {"truth": True}, "'tolerance' can be bought as well"),
    ],
)  # fmt: skip
def test_the_check_names_the_mistake(name, told, words):
    result = check(f"15.{name}", told)
    assert result.status == "wrong" and words in result.message


@pytest.mark.parametrize("made", [course.learner, course.solved])
def test_the_notebook_runs_where_nothing_can_be_contained(made, monkeypatch, capsys, tmp_path):
    def unavailable(*_, **__):
        raise sandbox.Unavailable("programs cannot be contained on this machine")

    monkeypatch.setattr(sandbox, "Pool", unavailable)
    monkeypatch.setattr(plots.figure, "html_of", lambda fig, *_, **__: pyplot.close(fig))  # drawn elsewhere
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__notebook__"}
    for cell in made(MASTER).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "<cell>", "exec"), names)
    printed = capsys.readouterr().out
    assert "So this notebook runs no program here" in printed and "recorded" in printed
    marks = re.findall(r"^([✔…✘]) 15\.\w+", printed, re.MULTILINE)
    assert marks == ["✔" if made is course.solved else "…"] * len(course.names("15"))
    names["server"].close()
    names["folder"].cleanup()


def test_no_forgery_that_the_learner_is_to_find_stands_in_the_notebook():
    text = "\n".join(cell.source for cell in course.learner(MASTER).cells)
    assert not any(program in text for name, program in FORGERIES.items() if name != "exit code")
