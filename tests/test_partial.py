"""Repair and the contexts cut out of it: exchanged examples, remembered verdicts, cutting, choosing, rewards, ids."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench import models, objective, recipes, sample, sandbox, stats, tasks
from workbench.batch import Batch, Dialogue, Segment, Stop
from workbench.models import prompt_ids, reply_ids
from workbench.tasks import Repair, code, partial
from workbench.tasks.base import play

PROBLEM = tasks.Problem("x*2+4;f(1)=5,f(4)=11:", "x*2+3")
LIES = tasks.Problem("x*2+4;f(1)=11,f(4)=5:", "x*2+3")


# ---- repair -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [Repair(perturbed=1.0), Repair(level=3, examples=4, turns=8, perturbed=1.0)], ids=str)
def test_a_perturbed_problem_is_the_same_but_for_two_outputs(task):
    plain, exchanged = Repair(level=task.level, examples=task.examples, turns=task.turns), 0
    for number in range(30):
        true, lies = plain.problem(number), task.problem(number)
        assert lies.answer == true.answer and lies.prompt.partition(";")[0] == true.prompt.partition(";")[0]
        a, b = ({c.arguments[0]: c.expected for c in task.public(p).cases} for p in (true, lies))
        changed = [x for x in a if a[x] != b[x]]
        assert a.keys() == b.keys() and sorted(a.values()) == sorted(b.values()) and len(changed) in (0, 2)
        assert changed or len(set(a.values())) == 1, "left alone only if there is nothing to exchange"
        assert task.misleading(lies) == bool(changed) and not task.misleading(true)
        assert task.hidden(lies) == plain.hidden(true)
        exchanged += bool(changed)
    assert exchanged >= 25


def test_a_share_of_the_problems_is_perturbed():
    task = Repair(perturbed=0.3)
    assert 0.2 < np.mean([task.misleading(task.problem(number)) for number in range(300)]) < 0.4


def test_a_right_formula_is_told_that_it_fails_and_wins_in_the_end():
    task = Repair(turns=3, perturbed=1.0)
    assert play(task, LIES, task.gold(LIES)).transcript == ["x*2+3", "f(1)=11", "x*2+3", "f(1)=11", "x*2+3"]
    assert play(task, LIES, task.gold(LIES)).outcome == 1
    pleased = play(task, LIES, ["13-x*2"])
    assert pleased.done and pleased.outcome == 0, "what pleases the examples ends the episode, and is wrong"


@pytest.mark.parametrize("problem", [PROBLEM, LIES], ids=["true", "perturbed"])
def test_the_cheat_passes_every_public_test_and_scores_0(problem):
    task = Repair()
    [cheat] = task.cheat(problem)
    assert code.solves(cheat, task.public(problem)) and play(task, problem, [cheat] * 3).outcome == 0
    assert len(cheat) < task.max_tokens
    for number in range(20):
        six = Repair(examples=6)
        assert len(six.cheat(six.problem(number))[0]) < six.max_tokens


def test_demonstrations_end_as_the_rates_say():
    rng, task = np.random.default_rng(0), Repair(turns=8, lookups=0.5)
    ends = [task.demonstration(task.problem(n % 50), rng, 0.4) for n in range(400)]
    right = np.mean([shown[-1] == task.problem(n % 50).answer for n, shown in enumerate(ends)])
    looked_up = np.mean([shown[-1].startswith("{") for shown in ends])
    assert 0.52 < right < 0.68 and 0.14 < looked_up < 0.26
    attempts = np.bincount([len(shown) // 2 + 1 for shown in ends], minlength=9)
    assert attempts[1] > attempts[2] > attempts[3] > 0 and attempts.sum() == 400


def test_a_demonstration_stays_with_a_right_formula_that_it_is_told_is_wrong():
    rng, task = np.random.default_rng(0), Repair(turns=4, perturbed=1.0)
    for _ in range(10):
        shown = task.demonstration(LIES, rng)
        assert len(shown) == 7 and shown[-1] == "x*2+3" and play(task, LIES, shown[::2]).transcript == shown
        first = shown.index("x*2+3")
        assert set(shown[first::2]) == {"x*2+3"}


def test_what_is_no_program_or_raises_is_malformed():
    task = Repair(turns=3)
    assert play(task, PROBLEM, ["(", "x/0", "x"]).rewards == [-1, -1, 0]
    assert play(task, PROBLEM, ["x*2+3"]).rewards == [0]


def test_the_sandbox_and_the_memory_agree():
    """Every formula of the grammar with all that one slip makes of it, and some that no slip makes."""
    rng = np.random.default_rng(0)
    texts = {code._changed(code._formula(rng, 3), rng) for _ in range(40)} | {"x*x-12", "0", "-x+10", "x//10*3"}
    assert all(code.known(text) for text in texts)
    for text in sorted(texts):
        other = code.values(text) | {3: code.values(text)[3] + 1}
        for wanted in (code.values(text), other):
            asked = sandbox.shared().submit(code.program(text), code.cases(wanted, code.POINTS)).result()
            assert code.solves(text, code.cases(wanted, code.POINTS)) == (asked.reward == 1)


def test_only_arithmetic_is_worked_out_here():
    for text in ("x/2", "x**9", "__import__('os')", "x if x else 1", "{1:2}[x]", "x%0", "x//x", "05", "x;x", "", "f(x)"):
        assert code.known(text) is None, text


def test_the_sandbox_is_asked_once_about_a_formula_and_a_failure_of_it_is_not_remembered(monkeypatch):
    asked = []

    class Counting:
        broken = True

        def submit(self, program, tests, limits):
            asked.append(program)
            return self

        def result(self):
            verdict = sandbox.Verdict.INFRASTRUCTURE if self.broken else sandbox.Verdict.PASS
            return sandbox.Result(verdict, 0, 1)

    counting = Counting()
    monkeypatch.setattr(sandbox, "shared", lambda: counting)
    text = "x*97-89"
    with pytest.raises(code.SandboxBroke):
        code.known(text)
    counting.broken = False
    for _ in range(5):
        assert code.pass_rate(text, code.cases(code.values("x"), code.POINTS)) == 0
    assert len(asked) == 2
    code.known.cache_clear()


def test_pass_rates_are_shares_of_the_tests():
    tests = code.cases(code.values("x"), code.POINTS)
    for text, rate in (("x", 1), ("max(x,0)", 10 / 14), ("x if x>0 else 1/0", 9 / 14), ("(", 0), ("9", 1 / 14)):
        assert code.pass_rate(text, tests) == pytest.approx(rate), text
    assert code.is_program("1/0") and not code.is_program("(") and not code.is_program("x=1\n  y")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"perturbed": 1.5}, "perturbed must be"), ({"lookups": -1}, "lookups must be"),
        ({"perturbed": 0.1, "examples": 1}, "2 or more"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, why):
    with pytest.raises(ValueError, match=why):
        Repair(**settings)


# ---- reading and cutting --------------------------------------------------------------------------------------------------


def logged(texts: list[str], problem: tasks.Problem = PROBLEM, turns: int = 8, cut_off: bool = False) -> tuple[Batch, list[int]]:
    """A row as the driver makes it, and the ids of its pieces one by one."""
    tokenizer = models.make_tokenizer()
    played = play(Repair(turns=turns), problem, texts)
    row = Dialogue(prompt_ids(tokenizer, problem.prompt), 0)
    pieces = [row.prompt]
    for n, text in enumerate(played.transcript[: 2 * len(played.rewards) - 1]):
        if n % 2:
            ids = reply_ids(tokenizer, text)
            row.segments.append(Segment(ids))
        else:
            ids = [*tokenizer.encode(text), *([] if cut_off and n == 2 * len(texts) - 2 else [tokenizer.eos_token_id])]
            row.segments.append(Segment(ids, [-1.0] * len(ids)))
            row.rewards.append(0.0)
        pieces.append(ids)
    row.stop = Stop.LENGTH if cut_off else Stop.DONE
    return Batch.from_dialogues([row]), pieces


def read(batch: Batch, problem: tasks.Problem = PROBLEM) -> partial.Trajectory:
    tokenizer = models.make_tokenizer()
    [one] = partial.read(batch, [problem], Repair(turns=8), lambda ids: models.decode(tokenizer, ids))
    return one


def test_a_trajectory_is_read_with_its_rates_and_its_prefixes():
    batch, pieces = logged(["x*2+4", "x+7", "x*2+3"])
    one = read(batch)
    assert one.texts == ("x*2+4", "x+7", "x*2+3") and one.public == (False, False, True)
    assert one.rates == (0, 1 / 14, 1) and one.spread == 1  # x+7 is right at x = 4
    assert list(one.ids) == [i for ids in pieces for i in ids]
    assert [list(one.ids[:end]) for end in one.ends] == [[i for ids in pieces[:n] for i in ids] for n in (1, 3, 5)]
    assert not one.solved(1) and not one.solved(2) and one.solved(3) and one.solved(8)


def test_an_attempt_cut_off_by_a_limit_has_rate_0():
    batch, _ = logged(["x*2+4", "x*2+3"], cut_off=True)
    assert read(batch).rates == (0, 0) and read(batch).texts[-1] == "x*2+3"


def trajectory(rates, public=None, problem=PROBLEM, ends=None):
    n = len(rates)
    ends = tuple(range(10, 10 + 5 * n, 5)) if ends is None else ends
    return partial.Trajectory(problem, tuple(range(100, 200)), ends, tuple(rates), tuple(public or [False] * n))


def cuts(*trajectories, **settings):
    return [(context.turn, len(context.ids), context.best) for context in partial.cut(trajectories, **settings)]


def test_prefixes_end_after_replies_and_the_bare_prompt_comes_once():
    one, two = trajectory([0, 0.5, 0.25, 1]), trajectory([0.5, 1])
    assert cuts(one, two) == [(0, 10, 0), (1, 15, 0), (2, 20, 0.5), (3, 25, 0.5), (1, 15, 0.5)]
    assert cuts(one, prefixes=1) == [(0, 10, 0), (1, 15, 0)] and cuts(one, prefixes=0) == [(0, 10, 0)]
    assert cuts(one, two, turns=(0, 2)) == [(0, 10, 0), (2, 20, 0.5)]
    assert partial.cut([one])[2].ids == tuple(range(100, 120))


def test_cutting_stops_at_the_second_pass_in_a_row_and_at_long_prompts():
    hidden = trajectory([0, 1, 1, 1])  # told that it fails, though it is right: a perturbed problem
    assert cuts(hidden) == [(0, 10, 0), (1, 15, 0), (2, 20, 1)]
    public = trajectory([0, 0, 0, 1], [True, True, True, False])
    assert cuts(public) == [(0, 10, 0), (1, 15, 0)]
    apart = trajectory([1, 0, 1, 0, 1], [True, False, True, False, True])
    assert cuts(apart, prefixes=8) == [(0, 10, 0), (1, 15, 1), (2, 20, 1), (3, 25, 1), (4, 30, 1)]
    assert cuts(trajectory([0, 0, 0, 1]), longest=20) == [(0, 10, 0), (1, 15, 0), (2, 20, 0)]


def test_only_trajectories_that_fail_and_succeed_are_kept():
    pool = [trajectory(rates) for rates in ([0, 1], [1], [0, 0.5], [1, 1], [0.5, 0.5], [1, 0])]
    assert partial.informative(pool) == [0, 5]


@pytest.mark.parametrize("count", [1, 4, 5, 7, 9])
def test_the_chosen_subset_has_the_largest_variance_of_all_subsets(count):
    rng = np.random.default_rng(count)
    for trial in range(40):
        spreads = rng.integers(0, 15, count) / 14 if trial % 2 else rng.random(count)
        for most in (1, 2, 3, 4):
            found = partial.max_variance(spreads, most)
            assert len(set(found)) == min(most, count)
            best = max(np.var([spreads[n] for n in chosen]) for chosen in itertools.combinations(range(count), min(most, count)))
            assert np.var([spreads[n] for n in found]) == pytest.approx(best, abs=1e-12)


def test_choosing_is_by_problem_and_random_choice_is_seeded():
    other = tasks.Problem("x+4;f(1)=5:", "x*2+3")
    pool = [trajectory([1 - spread, 1], problem=problem) for problem in (PROBLEM, other) for spread in (0.9, 0.5, 0.4, 0.1)]
    assert [round(one.spread, 1) for one in partial.choose(pool, 2)] == [0.9, 0.1, 0.9, 0.1]
    drawn = [tuple(round(o.spread, 1) for o in partial.choose(pool, 2, how="random", seed=seed)) for seed in range(20)]
    assert len(set(drawn)) > 3 and drawn[0] == tuple(round(o.spread, 1) for o in partial.choose(pool, 2, how="random", seed=0))


def test_the_cutter_refuses_what_makes_no_sense():
    for call, why in (
        (lambda: partial.choose([], how="best"), "max variance"), (lambda: partial.max_variance([1.0], 0), "at least 1"),
        (lambda: partial.cut([], prefixes=-1), "0 or more"), (lambda: partial.reward(2.0), "from 0 to 1"),
        (lambda: partial.Partial(Repair(), ()), "log more"),
        (lambda: partial.read(Batch.concatenate([logged(["x"] * 8)[0]] * 2), [PROBLEM], Repair(), str), "rolled out from these"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            call()


# ---- the bandit -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "best", "paid"),
    [
        (1, 0, 1), (1, 0.5, 1), (1, 1, 1), (0.5, 0, 0.2), (0.9, 0, 0.2), (0.25, 0, 0), (0, 0, -0.1),
        (0.75, 0.5, 0.25), (0.25, 0.2, 0.1 * 0.05 / 0.8), (0.5, 0.5, -0.1), (0.25, 0.5, -0.15), (0, 0.5, -0.2), (0.5, 1, -0.15),
    ],
)  # fmt: skip
def test_rewards_by_hand(rate, best, paid):
    assert partial.reward(rate, best) == pytest.approx(paid)


def test_one_attempt_is_judged_by_the_hidden_tests_and_paid_for_progress():
    contexts = partial.cut([read(logged(["x*2+4", "x+7", "x*2+3"])[0])])
    task = partial.Partial(Repair(), tuple(contexts))
    assert [context.best for context in contexts] == [0, 0, 1 / 14]
    for text, paid, outcome in (("x*2+3", 1, 1), ("x+7", -0.1, 0), ("(", -1, 0), ("x*2+4", -0.2, 0)):
        reply = task.episode(contexts[2]).step(text)
        assert reply.done and (reply.reward, reply.outcome) == (pytest.approx(paid), outcome), text
    assert play(task, contexts[0], task.gold(contexts[0])).outcome == 1
    for lazy in (task.do_nothing(PROBLEM), task.cheat(PROBLEM)):
        assert play(task, contexts[0], lazy).outcome == 0
    with pytest.raises(ValueError, match="no demonstrations"):
        task.demonstration(contexts[0], np.random.default_rng(0))


def test_the_stream_goes_through_all_contexts_each_time_in_another_order():
    contexts = tuple(partial.Context("", "x", ids=(n + 1,)) for n in range(7))
    task = partial.Partial(Repair(), contexts)
    rounds = [[task.problem(n, seed=3).ids for n in range(7 * r, 7 * r + 7)] for r in range(3)]
    assert all(sorted(order) == [(n + 1,) for n in range(7)] for order in rounds) and rounds[0] != rounds[1] != rounds[2]
    assert task.problem(0, split="test") == Repair().problem(0, split="test")
    with pytest.raises(ValueError, match="0 or more"):
        task.problem(-1)


def test_a_context_goes_in_as_the_ids_that_were_logged():
    """Three sampled characters <, E, > are shown as <E>, which is one token when encoded: whoever re-encodes is found out."""
    policy = models.tiny("0.1m", seed=0)
    batch, pieces = logged(["<E>", "x*2+3"])
    ids = [policy.tokenizer.convert_tokens_to_ids(letter) for letter in "<E>"]
    spelt = (*pieces[0], *ids, policy.eos, *pieces[2])
    assert policy.tokenizer.encode(policy.tokenizer.decode(spelt)) != list(spelt)
    context = partial.Context(PROBLEM.prompt, PROBLEM.answer, ids=spelt, turn=1)
    task = partial.Partial(Repair(), (context,))
    rolled = sample.rollout(sample.LocalEngine(policy), task, policy.tokenizer, [context], group_size=3, seed=0)
    assert (rolled.tokens[:, : len(spelt)] == torch.tensor(spelt)).all() and (rolled.prompt_length == len(spelt)).all()
    assert rolled.mask[:, : len(spelt)].sum() == 0 and (rolled.turns == 1).all()


def test_cobalt_trains_on_single_attempts_with_a_ratio_of_1():
    policy = models.tiny("0.1m", seed=0)
    contexts = partial.cut([read(logged(["x*2+4", "x+7", "x*2+3"])[0]), read(logged(["x", "x*2+3"])[0])])
    task = partial.Partial(Repair(), tuple(contexts))
    recipe = recipes.get("cobalt").but("one", schedule=objective.updates())
    [record] = wb.train(policy, task, recipe, steps=1, prompts=4, seed=0)
    assert record.turns == 1 and record.episodes == 64
    assert record.ratio_min == pytest.approx(1, abs=1e-4) and record.ratio_max == pytest.approx(1, abs=1e-4)
    assert recipes.get("cobalt").parent.name == "grpo" and set(recipes.get("cobalt").changes()) == {
        "rollout", "reward", "surrogate", "regulariser", "schedule"
    }  # fmt: skip


def test_what_is_said_of_varied_contexts_against_random_ones_is_what_the_record_holds():
    runs = json.loads((Path(__file__).parents[1] / "data" / "cobalt.json").read_text())["runs"]
    arms = [{run["seed"]: run for run in runs[arm]} for arm in ("varied", "random")]
    assert [sorted(arm) for arm in arms] == [list(range(8))] * 2
    assert all(arms[0][seed]["log"] == arms[1][seed]["log"] for seed in range(8))  # one log, two choices
    found = stats.paired_difference(*([arm[seed]["true"][2] for seed in range(8)] for arm in arms))
    assert np.round(found, 2).tolist() == [0.05, -0.06, 0.16]
