"""Studies of function arms: what is asked for, what is kept, what is made again, and what is said about it."""

from __future__ import annotations

import functools
import importlib.util
import json
import linecache
import math
import os
import pickle
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench import cli, seeding, stats
from workbench.stats import Sequential
from workbench.study import Budget, compare, fingerprint, load, run_cell, runs, sweep
from workbench.study.figures import draw
from workbench.study.store import Store

STEPS = 6


def climb(seed, budget, slope=1.0, trace=None):
    """Rows of which everything is known: score = slope * step + noise of (seed, step)."""
    if trace:
        with open(trace, "a") as file:
            file.write(f"{seed}\n")
    noise = seeding.generator(seed, "climb").normal(size=STEPS)
    for step in range(1, STEPS + 1):
        yield {"step": step, "score": slope * step + noise[step - 1], "samples": 8 * step, "tokens": 100 * step**2}


steep = functools.partial(climb, slope=2.0)
ARMS = {"climb": climb, "steep": steep}
HERE = {"backend": "in_process", "progress": False, "store": None, "budget": f"{STEPS} updates"}


def ask(arms=ARMS, seeds=4, **changed):
    return compare(arms, seeds=seeds, **{**HERE, **changed})


@pytest.fixture(scope="module")
def study():
    return ask(seeds=8)


# What a run is


def test_a_budget_is_read_from_text():
    assert Budget.of("200 updates") == Budget(200, "updates")
    assert Budget.of("1e6 tokens") == Budget(1_000_000, "tokens")
    assert Budget.of("10_000 samples") == Budget(10_000, "samples")
    assert Budget.of(" 1 update") == Budget(1, "updates")
    assert Budget.of("0.5 seconds") == Budget(0.5, "seconds")
    assert [str(Budget.of(text)) for text in ("200 updates", "0.5 seconds")] == ["200 updates", "0.5 seconds"]


@pytest.mark.parametrize("budget", ["", "200", "updates", "200 epochs", "0 updates", "-1 updates", "1.5 updates", 200, None])
def test_a_budget_that_makes_no_sense_is_refused(budget):
    with pytest.raises(ValueError, match="budget"):
        ask(budget=budget)


@pytest.mark.parametrize(
    ("budget", "last"), [("3 updates", 3), ("17 samples", 3), ("901 tokens", 4), ("1000 updates", 6), ("60 seconds", 6)]
)
def test_a_run_ends_with_the_row_that_spends_the_budget(budget, last):
    assert run_cell(climb, 0, Budget.of(budget)).rows[-1]["step"] == last


def test_a_run_is_told_the_share_of_its_budget_and_its_arm_is_closed():
    told, closed = [], []

    def arm(seed, budget):
        try:
            yield from climb(seed, budget)
        finally:
            closed.append(True)

    run_cell(arm, 0, Budget.of("4 updates"), told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert closed == [True]


def test_wall_clock_stops_an_arm_that_runs_for_ever():
    def forever(seed, budget):
        step = 0
        while True:
            step += 1
            yield {"step": step, "score": 0.0}

    run = run_cell(forever, 0, Budget.of("0.05 seconds"))
    assert run.seconds[-1] >= 0.05 > run.seconds[-2]


def test_the_clock_starts_when_all_is_prepared():
    def prepares(seed, budget):
        time.sleep(0.05)
        yield {"step": 0, "score": 0.0}
        yield {"step": 1, "score": 0.0}

    run = run_cell(prepares, 0, Budget.of("0.04 seconds"))
    assert run.seconds[0] == 0 and len(run.rows) == 2 and run.seconds[1] < 0.04


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "without a single row"),
        ([{"score": 1.0}], "needs 'step'"),
        ([{"step": 0.5}], "needs 'step'"),
        ([{"step": 2}, {"step": 2}], "steps must grow"),
        ([{"step": 1, "tokens": 5}, {"step": 2, "tokens": 4}], "counts from the start"),
        ([{"step": 1, "seconds": 1.0}], "takes the time itself"),
        ([{"step": 1, "score": "high"}], "must be one number"),
        ([{"step": 1, "score": [1, 2]}], "must be one number"),
        ([3], "must be a dict"),
    ],
)
def test_rows_that_break_the_protocol_are_refused(rows, message):
    with pytest.raises((TypeError, ValueError), match=message):
        run_cell(lambda seed, budget: iter(rows), 0, Budget.of("9 updates"))


def test_an_arm_that_returns_a_list_is_refused():
    with pytest.raises(TypeError, match="iterator of rows"):
        run_cell(lambda seed, budget: [{"step": 1}], 0, Budget.of("9 updates"))


def test_numbers_of_any_kind_become_plain_ones_and_none_is_left_out():
    given = {"step": np.int64(3), "a": np.float32(0.5), "b": True, "c": np.array([2]), "d": None}
    (row,) = run_cell(lambda seed, budget: iter([given]), 0, Budget.of("9 updates")).rows
    assert row == {"step": 3, "a": 0.5, "b": 1.0, "c": 2.0}
    assert {type(value) for value in row.values()} == {int, float}


# What is found


def test_the_frame_has_one_line_for_each_arm_seed_step_and_metric(study):
    frame = study.frame
    assert list(frame.columns) == ["arm", "seed", "step", "metric", "value"]
    assert len(frame) == 2 * 8 * STEPS * 3
    assert not frame.duplicated(["arm", "seed", "step", "metric"]).any()
    for (arm, seed), rows in frame[frame["metric"] == "score"].groupby(["arm", "seed"]):
        expected = [row["score"] for row in climb(seed, None, {"climb": 1.0, "steep": 2.0}[arm])]
        assert rows["value"].tolist() == expected


def test_arms_of_one_seed_share_their_random_numbers(study):
    scores = study.scores()
    np.testing.assert_allclose(scores["steep"] - scores["climb"], STEPS, atol=1e-12)


def test_scores_are_the_last_value_or_the_mean(study):
    last = study.scores()
    assert last.loc[3, "climb"] == [row["score"] for row in climb(3, None)][-1]
    assert study.scores(at="mean").loc[3, "climb"] == pytest.approx(np.mean([row["score"] for row in climb(3, None)]))
    assert (study.scores("tokens") == 100 * STEPS**2).all().all()
    with pytest.raises(ValueError, match="no run logged 'reward'; there are samples, score, tokens"):
        study.scores("reward")
    with pytest.raises(ValueError, match="last"):
        study.scores(at="best")


def test_curves_are_step_functions_on_one_grid(study):
    by_step = study.curves()
    assert by_step.query("arm == 'climb' and seed == 2")["score"].tolist() == [row["score"] for row in climb(2, None)]
    by_tokens = study.curves(x="tokens", points=36)  # 100, 200, ... 3600: squares are where rows are
    own = by_tokens.query("arm == 'climb' and seed == 2")
    rows = list(climb(2, None))
    assert own["score"].tolist() == [rows[math.isqrt(round(place / 100)) - 1]["score"] for place in own["tokens"]]
    with pytest.raises(ValueError, match="one of step, samples, tokens, seconds"):
        study.curves(x="epochs")


def test_the_axis_of_seconds_is_the_clock_of_each_run():
    found = ask({"a": climb}, 2)
    for seed, speed in enumerate((1.0, 2.0)):
        found.runs["a", seed].seconds[:] = [speed * step for step in range(1, STEPS + 1)]
    curve = found.curves(x="seconds", points=5)  # from 2, where the slow one begins, to 6, where the fast one ends
    fast, slow = ([row["score"] for row in found.runs["a", seed].rows] for seed in (0, 1))
    assert curve["seconds"].tolist() == [2, 3, 4, 5, 6] * 2
    assert curve["score"].tolist() == [*fast[1:6], slow[0], slow[0], slow[1], slow[1], slow[2]]


def test_runs_without_a_common_stretch_have_no_common_curve():
    apart = {"a": lambda s, b: iter([{"step": 1, "score": 1.0}]), "b": lambda s, b: iter([{"step": 3, "score": 1.0}])}
    with pytest.raises(ValueError, match="no stretch of 'step' that all runs went through"):
        ask(apart).curves()


def test_an_axis_that_an_arm_does_not_log_is_named():
    plain = ask({"a": lambda seed, budget: iter([{"step": 1, "score": 1.0}])})
    with pytest.raises(ValueError, match="'a' does not log 'tokens'"):
        plain.curves(x="tokens")


def test_the_summary_says_what_the_statistics_say(study):
    scores = study.scores()
    arms = {arm: scores[arm].to_numpy() for arm in study.arms}
    expected = stats.compare_arms(arms, paired=True)
    summary = study.summary()
    assert summary.verdicts == [str(expected.verdicts["climb", "steep"])]
    assert summary.verdicts[0].startswith("steep > climb: +6")
    line = summary.table.loc["climb"]
    assert line["iqm"] == stats.iqm(arms["climb"])
    assert (line["low"], line["high"]) == tuple(expected.iqm["climb"][1:])
    assert (line["runs"], line["missing"]) == (8, 0)
    text = str(summary)
    assert "8 seeds" in text and "6 updates" in text and "python" in text and "numpy" in text
    assert "steep &gt; climb" in summary._repr_html_()


def test_where_lower_is_better_the_verdict_turns_round():
    summary = ask(seeds=8, better="lower").summary()
    assert summary.verdicts[0].startswith("climb > steep: +6")
    assert summary.table.loc["climb", "iqm"] > 0
    assert summary.table.loc["climb", "low"] <= summary.table.loc["climb", "iqm"] <= summary.table.loc["climb", "high"]


def test_one_arm_or_one_seed_has_a_summary_without_a_claim():
    alone = ask({"climb": climb}).summary()
    assert alone.verdicts == []
    assert alone.table.loc["climb", "iqm"] == stats.iqm(alone.scores["climb"].to_numpy())
    assert "undecided" in str(ask(seeds=1).summary())


def test_an_arm_that_ends_early_is_named():
    def lazy(seed, budget):
        yield {"step": 2, "score": 0.0}

    notes = ask({"lazy": lazy, "climb": climb}, metric="score").summary().notes()
    assert "ended before the budget of 6 updates: lazy (at 2)" in notes


def test_early_stopping_looks_where_it_said_and_no_further(tmp_path):
    looks = Sequential((8, 16), spending="pocock")
    early = ask(seeds=16, stop=looks)
    kept = ask(seeds=16, stop=looks, store=tmp_path)
    assert str(load(kept.path).summary()) == str(kept.summary()) == str(early.summary())
    assert early.seeds == tuple(range(8)) and len(early.runs) == 16
    assert early.summary().verdicts[0].startswith("steep > climb")
    same = {"a": climb, "b": functools.partial(climb, slope=1.0)}
    late = ask(same, seeds=16, stop=looks)
    assert len(late.runs) == 32 and "undecided" in late.summary().verdicts[0]
    assert not load(kept.path).summary().comparison.last, "what was read is judged as what was made"
    with pytest.raises(ValueError, match="last look is after 16 seeds, and there are 4"):
        ask(seeds=4, stop=looks)


def test_sweeps_name_their_arms_by_their_points():
    found = sweep({"slope": [1.0, 2.0], "trace": [None]}, lambda **point: functools.partial(climb, **point), seeds=2, **HERE)
    assert found.arms == ("slope=1, trace=None", "slope=2, trace=None")
    np.testing.assert_allclose(found.scores().diff(axis=1).iloc[:, 1], STEPS)
    for grid in ({}, {"slope": []}, {"slope": "12"}):
        with pytest.raises(ValueError, match="a grid is"):
            sweep(grid, lambda **point: climb, seeds=2, **HERE)
    with pytest.raises(ValueError, match="'slope=1' twice"):
        sweep({"slope": [1.0, 1]}, lambda slope: functools.partial(climb, slope=slope), seeds=2, **HERE)


@pytest.mark.parametrize(("kind", "words"), [("curves", "climb from"), ("final", "climb"), ("profile", "steep 100%")])
def test_figures_say_what_they_show(study, kind, words):
    from matplotlib import pyplot

    fig, alt = draw(study, kind, "score", "step", "last")
    pyplot.close(fig)
    assert words in alt
    if kind == "final":
        assert f"climb {study.summary().table.loc['climb', 'iqm']:.3g} (95 % interval" in alt
    with pytest.raises(ValueError, match="one of curves, final, profile"):
        study.plot("pie")


def test_rollouts_come_with_arm_seed_and_step():
    def shows(seed, budget):
        yield {"step": 1, "score": 0.0, "rollouts": [{"prompt": "1+1=", "turns": [{"text": "2", "reply": ""}], "outcome": 1.0}]}

    found = ask({"a": shows, "b": shows}, seeds=2).rollouts("b", 1)
    assert list(found) == [
        {"arm": "b", "seed": 1, "step": 1, "prompt": "1+1=", "turns": [{"text": "2", "reply": ""}], "outcome": 1.0}
    ]
    found.view()


# What is refused before anything runs


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": []}, "at least one seed"),
        ({"seeds": [1, 2, 1]}, "seed 1 is there 2 times"),
        ({"seeds": [-1]}, "whole number, 0 or more"),
        ({"seeds": [0.5]}, "whole number, 0 or more"),
        ({"seeds": "12"}, "a number of seeds or a list"),
        ({"seeds": True}, "a number of seeds or a list"),
        ({"arms": []}, "no arm to run"),
        ({"arms": "grpo"}, "a list or a mapping"),
        ({"arms": ["grpo"]}, "say on what: task="),
        ({"arms": [climb, climb]}, "two arms are called 'climb'"),
        ({"arms": [lambda seed: None]}, "must take \\(seed, budget\\)"),
        ({"metric": "tokens"}, "is an axis"),
        ({"better": "bigger"}, "'higher' or 'lower'"),
        ({"backend": "threads"}, "backend must be one of"),
        ({"workers": 0, "backend": "processes"}, "a number from 1 on"),
        ({"workers": 2}, "for 'processes' only"),
        ({"address": "auto"}, "needs backend='ray'"),
        ({"task": 3}, "nothing is known to be compared on 3"),
    ],
)
def test_what_makes_no_sense_is_refused(changed, message, tmp_path):
    trace = tmp_path / "trace"
    arms = {"climb": functools.partial(climb, trace=str(trace))}
    with pytest.raises((TypeError, ValueError), match=message):
        ask(**{"arms": arms, **changed})
    assert not trace.exists()


def test_an_arm_that_cannot_be_sent_or_told_apart_is_refused(tmp_path):
    with open(os.devnull) as file:
        with pytest.raises(TypeError, match="make it inside the arm"):
            ask({"a": lambda seed, budget: iter(file)})


def test_a_metric_that_an_arm_never_logs_is_named_with_those_it_logs(tmp_path):
    with pytest.raises(ValueError, match="'climb' never logs 'reward'; it logs score"):
        ask(metric="reward")
    two = {"two": lambda seed, budget: iter([{"step": 1, "a": 1.0, "b": 1.0}])}
    with pytest.raises(ValueError, match="logs a, b: say which one decides, with metric="):
        ask(two)
    assert ask(two, metric="b").metric == "b"


def test_a_budget_that_an_arm_cannot_count_is_a_failed_run_with_that_reason():
    with pytest.raises(RuntimeError, match="the budget is 5 tokens, but the arm's rows have no 'tokens'"):
        ask({"a": lambda seed, budget: iter([{"step": 1, "score": 1.0}])}, budget="5 tokens")


# What is kept


def traced(path, slope=1.0):
    return functools.partial(climb, slope=slope, trace=str(path))


def count(path):
    return len(path.read_text().split()) if path.exists() else 0


def test_a_finished_run_is_never_made_again(tmp_path):
    trace = tmp_path / "trace"
    arms = {"a": traced(trace), "b": traced(trace, 2.0)}
    first = ask(arms, seeds=3, store=tmp_path / "runs")
    assert count(trace) == 6
    again = ask(arms, seeds=3, store=tmp_path / "runs")
    assert count(trace) == 6
    pd.testing.assert_frame_equal(again.frame, first.frame, check_exact=True)
    more = ask({**arms, "c": traced(trace, 3.0)}, seeds=5, store=tmp_path / "runs")
    assert count(trace) == 6 + 3 * 5 - 6
    assert more.path == first.path and len(list(first.path.glob("arms/*"))) == 3
    ask(arms, seeds=[4, 1], store=tmp_path / "runs")
    assert count(trace) == 15
    ask(arms, seeds=3, store=tmp_path / "runs", budget="4 updates")
    assert count(trace) == 21, "another budget is another study"


def module(folder, text):
    """A module of the user's, as a notebook or a script would define it."""
    file = folder / "mine.py"
    file.write_text(textwrap.dedent(text))
    spec = importlib.util.spec_from_file_location("mine", file)
    found = sys.modules["mine"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    linecache.clearcache()
    return found


MINE = """
    RATE = 0.5
    unused = 1

    def helper(step):
        return RATE * step

    def one(seed, budget):
        for step in range(1, 4):
            yield {"step": step, "score": helper(step)}

    def two(seed, budget):
        yield {"step": 3, "score": 1.0}
"""


@pytest.fixture
def mine(tmp_path):
    yield functools.partial(module, tmp_path)
    sys.modules.pop("mine", None)


def test_a_changed_arm_reruns_itself_alone(mine, tmp_path):
    def made(text):
        got = mine(text)
        found = ask({"one": got.one, "two": got.two}, seeds=2, store=tmp_path / "runs")
        return {folder.name.split("-")[0]: folder for folder in found.path.glob("arms/*") if folder not in seen}, found

    seen: set = set()
    new, _ = made(MINE)
    assert set(new) == {"one", "two"}
    seen = set(new.values())
    for old, changed in (("yield {\"step\": 3, \"score\": 1.0}", "yield {\"step\": 3, \"score\": 2.0}"),):
        new, found = made(MINE.replace(old, changed))
        assert set(new) == {"two"}
        assert found.scores().loc[0].tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("old", "new", "arms"),
    [
        ("RATE = 0.5", "RATE = 0.6", ["one"]),
        ("return RATE * step", "return RATE + step", ["one"]),
        ("range(1, 4)", "range(1, 5)", ["one"]),
        ("unused = 1", "unused = 2", []),
        ('"score": 1.0', '"score": 1.5', ["two"]),
    ],
)
def test_the_code_that_counts_is_what_an_arm_refers_to(mine, old, new, arms):
    before, after = mine(MINE), None
    was = {name: fingerprint(getattr(before, name)) for name in ("one", "two")}
    assert old in MINE
    after = mine(MINE.replace(old, new))
    assert [name for name in was if fingerprint(getattr(after, name)) != was[name]] == arms


def test_settings_defaults_and_closures_count():
    def closing(rate):
        def arm(seed, budget):
            yield {"step": 1, "score": rate}

        return arm

    class Arm:
        def __init__(self, rate):
            self.rate = rate

        def __call__(self, seed, budget):
            yield {"step": 1, "score": self.rate}

    for make in (closing, Arm, lambda rate: functools.partial(climb, slope=rate), lambda rate: Arm(rate).__call__):
        assert fingerprint(make(1.0)) == fingerprint(make(1.0)) != fingerprint(make(2.0))
    array = np.arange(6.0)
    assert fingerprint(closing(array)) == fingerprint(closing(array.copy())) != fingerprint(closing(array[::-1]))
    assert fingerprint({"a": 1, "b": {2, 3}}) == fingerprint({"b": {3, 2}, "a": 1})
    assert fingerprint([1]) != fingerprint((1,)) != fingerprint("1") != fingerprint(1) != fingerprint(True)
    assert fingerprint(functools.cache(climb)) == fingerprint(functools.cache(climb)) != fingerprint(functools.cache(ask))


def test_a_fingerprint_is_the_same_in_every_process():
    code = f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_study as t
        print(t.fingerprint([t.climb, t.steep, t.ARMS, {{"b", "a", "c"}}, t.Sequential((8, 16))]))
    """
    expected = fingerprint([climb, steep, ARMS, {"b", "a", "c"}, Sequential((8, 16))])
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == expected, found.stderr


def test_load_gives_back_what_was_asked_last(tmp_path):
    made = ask(store=tmp_path, name="a first study!")
    again = load(made.path)
    pd.testing.assert_frame_equal(again.frame, made.frame, check_exact=True)
    assert str(again.summary()) == str(made.summary())
    assert made.path.name.startswith("a_first_study-")
    other = ask({"steep": steep}, seeds=2, store=tmp_path, name="a first study!")
    assert load(made.path).arms == other.arms == ("steep",)
    with pytest.raises(ValueError, match="holds no study"):
        load(tmp_path)


def test_runs_lists_every_study_and_loads_them_into_one_frame(tmp_path, capsys):
    first, second = ask(store=tmp_path, name="first"), ask(seeds=2, store=tmp_path, name="second", budget="3 updates")
    listed = runs(tmp_path)
    assert len(listed) == 8 + 4 and set(listed["status"]) == {"finished"}
    line = listed.query("study == @first.path.name and arm == 'steep' and seed == 3")
    assert line["value"].item() == first.scores().loc[3, "steep"]
    rows = runs(tmp_path, rows=True)
    pd.testing.assert_frame_equal(
        rows[rows["study"] == second.path.name].drop(columns="study").reset_index(drop=True), second.frame, check_exact=True
    )
    assert cli.main(["runs", "--store", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert first.path.name in said and "steep  4 of 4 runs" in said and "steep  2 of 2 runs" in said
    assert cli.main(["runs", "second", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(second.summary())
    assert cli.main(["runs", "--csv", "--store", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(rows)
    assert cli.main(["runs", "third", "--store", str(tmp_path)]) == 1
    assert "should be the beginning of one study's name" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="there is no store"):
        runs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert cli.main(["runs", "--store", str(tmp_path / "empty")]) == 0
    assert "no runs yet" in capsys.readouterr().out


def test_the_package_offers_the_verbs():
    assert (wb.compare, wb.sweep, wb.runs) == (compare, sweep, runs)
    assert wb.study.Study is type(ask(seeds=1))


def test_a_store_of_a_newer_version_is_refused_before_anything_runs(tmp_path):
    made = ask(store=tmp_path)
    file = made.path / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    for act in (lambda: ask(seeds=9, store=tmp_path), lambda: load(made.path), lambda: runs(tmp_path)):
        with pytest.raises(ValueError, match="newer version of the workbench \\(format 2"):
            act()


def test_a_damaged_file_is_named(tmp_path):
    made = ask(store=tmp_path)
    file = next(made.path.glob("arms/steep-*/seed_2.json"))
    file.write_text(file.read_text()[:-5])
    with pytest.raises(ValueError, match=r"seed_2.json is damaged .* delete it, and what it held is made again"):
        load(made.path)
    file.unlink()
    pd.testing.assert_frame_equal(ask(store=tmp_path).frame, made.frame, check_exact=True)


def test_runs_made_with_other_code_of_this_version_are_pointed_out(tmp_path):
    made = ask(store=tmp_path)
    file = next(made.path.glob("arms/steep-*/seed_2.json"))
    saved = json.loads(file.read_text())
    saved["made_with"]["source"] = "0"
    file.write_text(json.dumps(saved))
    with pytest.warns(UserWarning, match="other code of the same version"):
        ask(store=tmp_path)


def test_a_number_that_is_not_finite_is_a_missing_score():
    def diverges(seed, budget):
        yield {"step": 1, "score": math.nan if seed == 2 else 1.0}

    found = ask({"climb": climb, "diverges": diverges}, seeds=8, metric="score")
    assert found.scores()["diverges"].isna().tolist() == [seed == 2 for seed in range(8)]
    summary = found.summary()
    assert summary.table.loc["diverges", "missing"] == 1
    assert "missing: diverges, seed 2: ended in no finite number" in summary.notes()
    assert "1 missing" in summary.verdicts[0]


def test_a_run_that_raises_is_tried_twice_and_shown_as_missing_with_its_traceback(tmp_path):
    trace = tmp_path / "trace"

    def breaks(seed, budget):
        with open(trace, "a") as file:
            file.write("x ")
        if seed == 1:
            raise ZeroDivisionError("as planned")
        yield from climb(seed, budget)

    with pytest.warns(UserWarning, match="1 of 16 runs are missing .*'breaks', seed 1: ZeroDivisionError: as planned"):
        found = ask({"breaks": breaks, "climb": climb}, seeds=8, store=tmp_path / "runs")
    assert count(trace) == 9
    assert "in breaks" in found.missing["breaks", 1]
    summary = found.summary()
    assert "missing: breaks, seed 1: ZeroDivisionError: as planned" in summary.notes()
    assert summary.table.loc["breaks", "missing"] == 1 and "1 missing" in summary.verdicts[0]
    listed = runs(tmp_path / "runs")
    assert listed[listed["status"] != "finished"]["status"].tolist() == ["missing: ZeroDivisionError: as planned"]
    with pytest.raises(RuntimeError, match="every run failed(.|\n)*ZeroDivisionError"):
        ask({"breaks": breaks}, seeds=[1])


def test_loggers_are_given_each_run_once(tmp_path):
    told = []
    ask(store=tmp_path, log=lambda arm, seed, rows: told.append((arm, seed, len(rows))))
    assert sorted(told) == [(arm, seed, STEPS) for arm in ("climb", "steep") for seed in range(4)]
    ask(store=tmp_path, log=lambda *given: pytest.fail("nothing was run"))


def test_tensorboard_can_read_what_is_logged_there(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = ask(seeds=1, log=wb.study.tensorboard(tmp_path))
    read = EventAccumulator(str(tmp_path / "steep" / "seed_0"))
    read.Reload()
    assert sorted(read.Tags()["scalars"]) == ["samples", "score", "tokens"]
    logged = [(event.step, event.value) for event in read.Scalars("score")]
    expected = [(row["step"], np.float32(row["score"])) for row in found.runs["steep", 0].rows]
    assert logged == expected


def test_a_claim_is_exclusive_until_it_is_given_back(tmp_path):
    store = Store.make(tmp_path, "s", {})
    with store.claim("a", "0" * 64, 1) as mine:
        assert mine
        with store.claim("a", "0" * 64, 1) as again, store.claim("a", "0" * 64, 2) as other:
            assert not again and other
    with store.claim("a", "0" * 64, 1) as mine:
        assert mine


def test_arms_are_pickled_with_their_code():
    arm = lambda seed, budget: iter([{"step": 1, "score": 2.0}])  # noqa: E731
    from workbench.study.execute import pack

    call, seed, budget = pickle.loads(pack(arm, 3, Budget(1, "updates")))
    assert list(call(seed, budget)) == [{"step": 1, "score": 2.0}]
