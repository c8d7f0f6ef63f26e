"""Studies of what the package has: policies on bandits, recipes on text tasks, imitators in causal worlds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from workbench import models, recipes, seeding
from workbench.bandits import play, policies, problems
from workbench.causal import worlds
from workbench.causal.imitation import NotImitable
from workbench.loop import trainable
from workbench.objective import turn_returns
from workbench.study import WarmStart, bandit, compare, fingerprint, imitator, sweep, text, trained, world
from workbench.tasks import Addition, Calculator
from workbench.train import evaluate, sft, train

HERE = {"backend": "in_process", "progress": False, "store": None}
PROBLEM = problems.Bernoulli((0.3, 0.6))


# Bandits


def test_a_run_of_a_policy_is_what_play_gives_with_that_seed():
    found = compare(["ucb1", policies.EpsilonGreedy(0.2)], PROBLEM, 2, budget="300 updates", **HERE)
    assert (found.metric, found.better) == ("regret", "lower")
    for arm, policy in zip(found.arms, (policies.UCB1(), policies.EpsilonGreedy(0.2))):
        played = play.play(policy, PROBLEM, 300, 1, seed=1)
        rows = found.runs[arm, 1].rows
        assert [row["step"] for row in rows] == played.times.tolist()
        assert [row["regret"] for row in rows] == played.regret[0].tolist()
    assert found.summary().table.loc[found.arms[0], "iqm"] > 0


def test_repetitions_are_averaged_and_counted_as_samples():
    found = compare([policies.Thompson()], bandit(PROBLEM, repetitions=10), 1, budget="1000 samples", **HERE)
    (run,) = found.runs.values()
    assert run.rows[-1] == {
        "step": 100, "samples": 1000.0, "regret": play.play(policies.Thompson(), PROBLEM, 100, 10, seed=0).final.mean(),
    }  # fmt: skip


def test_what_a_policy_learned_elsewhere_is_neither_used_nor_counted():
    policy = policies.UCB1()
    setting = bandit(PROBLEM)
    fresh = fingerprint(setting.arm(policy)[1])
    first = compare([policy], PROBLEM, 1, budget="50 updates", **HERE)
    play.play(policy, PROBLEM, 100, 7)
    assert fingerprint(setting.arm(policy)[1]) == fresh
    pd.testing.assert_frame_equal(compare([policy], PROBLEM, 1, budget="50 updates", **HERE).frame, first.frame, check_exact=True)
    assert fingerprint(setting.arm(policies.EpsilonGreedy(0.1))[1]) != fingerprint(setting.arm(policies.EpsilonGreedy(0.2))[1])


def test_a_sweep_over_a_policy_s_setting():
    found = sweep({"epsilon": [0.0, 1.0]}, policies.EpsilonGreedy, PROBLEM, 3, budget="200 updates", **HERE)
    assert found.arms == ("epsilon=0", "epsilon=1")
    # the choice by chance alone loses half the gap in every round
    assert found.scores()["epsilon=1"].mean() == pytest.approx(200 * 0.3 / 2, abs=6)


@pytest.mark.parametrize(
    ("arms", "changed", "message"),
    [
        (["ucb2"], {}, "no policy 'ucb2'; there are"),
        ([policies.UCB1], {}, "a policy, by name or as an object"),
        ([3], {}, "a policy, by name or as an object"),
        (["ucb1"], {"budget": "100 tokens"}, "in samples, updates, not in tokens"),
        (["ucb1"], {"metric": "reward"}, "never logs 'reward'; on bernoulli there are regret"),
    ],
)
def test_what_makes_no_sense_on_a_bandit_is_refused(arms, changed, message):
    with pytest.raises((TypeError, ValueError), match=message):
        compare(arms, PROBLEM, 2, **{"budget": "100 updates", **HERE, **changed})


def test_feedback_that_a_problem_does_not_give_is_refused():
    class Contextual(policies.UCB1):
        feedback = "contextual"

    with pytest.raises(ValueError, match="learns from contextual feedback"):
        compare([Contextual()], PROBLEM, 2, budget="10 updates", **HERE)


# Causal worlds


def test_cloning_with_hidden_causes_comes_to_the_values_worked_out_exactly():
    problem = worlds.tail_light()
    assert problem.diagram is not None
    found = compare(["behaviour_cloning", "causal_cloning"], problem, 3, budget="20_000 samples", **HERE)
    exact = {}
    setting = world(problem)
    for name in found.arms:
        _, arm = setting.arm(name)
        exact[name] = problem.value(arm.learn(problem, problem.model.joint(*setting.names), setting.names))
    assert exact["causal_cloning"] == pytest.approx(problem.expert_value, abs=1e-12) != pytest.approx(exact["behaviour_cloning"])
    for name in found.arms:
        assert found.scores()[name].to_numpy() == pytest.approx(exact[name], abs=0.02)
    np.testing.assert_allclose(found.scores() + found.scores("gap"), problem.expert_value)
    assert [row["samples"] for row in found.runs["causal_cloning", 0].rows][-1] == 20_000


def test_an_imitator_of_ones_own_sees_everything_but_the_outcome():
    problem, seen = worlds.tail_light(), []

    def still(problem, table, names):
        seen.append((names, table.sum()))
        return dict.fromkeys(problem.actions, 0)

    found = compare([imitator(still)], problem, 1, budget="10 samples", **HERE)
    assert found.arms == ("still",)
    assert found.scores().iloc[0, 0] == problem.value(dict.fromkeys(problem.actions, 0))
    for names, total in seen:
        assert problem.outcome not in names and total == pytest.approx(1.0)
        assert set(names) <= set(problem.model.observed)


def test_what_cannot_be_imitated_is_refused_before_anything_runs():
    with pytest.raises(NotImitable, match="refused"):
        compare(["causal_cloning"], worlds.xor_bandit(), 2, budget="10 samples", **HERE)
    with pytest.raises(ValueError, match="no imitator 'gail'; there are behaviour_cloning, causal_cloning"):
        compare(["gail"], worlds.tail_light(), 2, budget="10 samples", **HERE)
    with pytest.raises(TypeError, match="an imitator, by name or as imitator"):
        compare([3], worlds.tail_light(), 2, budget="10 samples", **HERE)


def test_a_world_is_known_by_what_happens_in_it():
    def key(problem):
        return fingerprint(world(problem).identity())

    used = worlds.tail_light()
    used.value(dict.fromkeys(used.actions, 0))
    assert key(used) == key(worlds.tail_light()) != key(worlds.tail_light(strong=True))
    assert key(worlds.xor_bandit(0.5)) != key(worlds.xor_bandit(0.6))


# Text tasks

START = WarmStart(steps=3)
SMALL = {"prompts": 2}


def small(**changed):
    return text("addition", **{"start": START, "problems": 8, "settings": SMALL, **changed})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    store = tmp_path_factory.mktemp("runs")
    return compare(["grpo", trained("grpo", lr=1e-2)], small(), 2, budget="2 updates", **{**HERE, "store": store})


def test_a_run_of_a_recipe_is_what_train_gives_from_the_shared_start(study):
    policy = START.policy(Addition(), 1, None)
    before = evaluate(policy, "addition", problems=8, temperature=1.0, seed=1).success
    records = list(train(policy, "addition", "grpo", steps=2, seed=1, **SMALL))
    after = evaluate(policy, "addition", problems=8, temperature=1.0, seed=1).success
    rows = study.runs["grpo", 1].rows
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert [rows[0]["test_success"], rows[2]["test_success"]] == [before, after]
    for row, record in zip(rows[1:], records):
        assert (row["loss"], row["reward"], row["gradient_norm"]) == (record.loss, record.reward, record.gradient_norm)
    assert rows[2]["samples"] == 2 * SMALL["prompts"] * 8
    assert rows[2]["tokens"] == sum(record.tokens for record in records)
    assert not {"seconds", "tokens_per_second"} & set(study.frame["metric"]), "the frame has nothing of the machine in it"
    assert study.rollouts("grpo", 1, step=2) and "turns" in study.rollouts("grpo", 1, step=2)[0]


def test_arms_of_one_seed_start_from_one_warm_start_made_once(study):
    first = study.frame.query("step == 0").pivot(index=["seed", "metric"], columns="arm", values="value")
    assert (first["grpo"] == first["grpo(lr=0.01)"]).all()
    one = study.frame.query("step == 1 and metric == 'reward'").pivot(index="seed", columns="arm", values="value")
    assert (one["grpo"] == one["grpo(lr=0.01)"]).all(), "the first rollouts come from the same streams"
    assert len(list((study.path / "starts").glob("*.safetensors"))) == 2
    loaded, made = START.policy(Addition(), 0, study.path / "starts"), START.policy(Addition(), 0, None)
    assert all((value == trainable(made)[name]).all() for name, value in trainable(loaded).items())


def test_a_warm_start_that_lies_there_is_not_made_again(study, monkeypatch):
    monkeypatch.setattr(WarmStart, "_taught", lambda *given: pytest.fail("made again"))
    START.policy(Addition(), 0, study.path / "starts")
    with pytest.raises(pytest.fail.Exception, match="made again"):
        START.policy(Addition(), 2, study.path / "starts")


def test_a_task_may_say_what_is_taught_first_and_a_warm_start_of_ones_own_wins(monkeypatch):
    hard = Calculator(operations=(2, 2))
    assert [(lesson.operations, steps) for lesson, steps in hard.lessons] == [((1, 1), 300), ((2, 2), 600)]
    monkeypatch.setattr(Calculator, "lessons", ((Calculator(operations=(1, 1)), 3), (hard, 2)))
    taught, other = WarmStart().policy(hard, 5, None), models.tiny("0.1m", seed=5)
    for part, (lesson, steps) in enumerate(hard.lessons):
        for _ in sft(other, lesson, steps=steps, seed=seeding.integer(5, "lessons", part)):
            pass
    assert all((value == trainable(other)[name]).all() for name, value in trainable(taught).items())
    own, other = WarmStart(steps=2).policy(hard, 5, None), models.tiny("0.1m", seed=5)
    for _ in sft(other, hard, steps=2, seed=5):
        pass
    assert all((value == trainable(other)[name]).all() for name, value in trainable(own).items())


def test_what_changes_a_result_changes_the_arm_and_what_is_said_of_it_does_not():
    def key(arm, **changed):
        return fingerprint(small(**changed).arm(arm)[1])

    base = key("gtpo")
    assert key(recipes.gtpo.but("other", title="the same under another name")) == base
    assert key(trained("gtpo", lr=3e-4)) != base, "a setting given is a setting, though it is the default"
    assert key(recipes.gtpo.but("flat", advantage=turn_returns(gamma=0.5))) != base
    assert key("gtpo", settings={"prompts": 3}) != base
    others = ({}, {"problems": 9}, {"start": "0.1m"}, {"temperature": 0.0})
    assert len({fingerprint(small(**changed).identity()) for changed in others}) == 4


def test_a_run_goes_to_where_its_budget_is_spent():
    found = compare(["grpo"], small(evaluate_every=5), 1, budget="40 samples", **HERE)
    rows = found.runs["grpo", 0].rows
    assert [row["samples"] for row in rows] == [0, 16, 32, 48]
    assert ["test_success" in row for row in rows] == [True, False, False, True]


def test_a_saved_policy_or_a_function_may_be_the_start(tmp_path):
    models.tiny("0.1m", seed=5).save(tmp_path / "policy")
    folder = compare(["grpo"], small(start=tmp_path / "policy"), 1, budget="1 update", **HERE)
    function = compare(["grpo"], small(start=lambda seed: models.tiny("0.1m", seed=5)), 1, budget="1 update", **HERE)
    pd.testing.assert_frame_equal(folder.frame, function.frame, check_exact=True)
    was = fingerprint(small(start=tmp_path / "policy").identity())
    config = tmp_path / "policy" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "note": 1}))
    assert fingerprint(small(start=tmp_path / "policy").identity()) != was


def test_a_worker_trains_to_the_same_bits(study):
    found = compare(["grpo", trained("grpo", lr=1e-2)], small(), 2, budget="2 updates", progress=False, store=None, workers=1)
    pd.testing.assert_frame_equal(found.frame, study.frame, check_exact=True)


@pytest.mark.parametrize(
    ("arms", "task", "changed", "message"),
    [
        (["grop"], "addition", {}, "there is no recipe 'grop'; did you mean 'grpo'"),
        ([3], "addition", {}, "a recipe is a Recipe or one of the names"),
        (["grpo"], "additions", {}, "unknown task 'additions'"),
        (["grpo"], "addition", {"metric": "regret"}, "never logs 'regret'; on addition there are reward, success"),
        (["grpo", "grpo"], "addition", {}, "two arms are called 'grpo'"),
    ],
)
def test_what_makes_no_sense_on_a_text_task_is_refused(arms, task, changed, message):
    with pytest.raises((TypeError, ValueError), match=message):
        compare(arms, task, 2, **{"budget": "1 update", **HERE, **changed})


def test_settings_are_looked_at_before_anything_runs():
    with pytest.raises(TypeError, match="'learning_rate' is no setting of an arm; there are prompts, lr"):
        trained("grpo", learning_rate=1e-3)
    with pytest.raises(TypeError, match="'steps' is no setting"):
        small(settings={"steps": 3})
    with pytest.raises(ValueError, match="lr"):
        compare([trained("grpo", lr=-1.0)], small(), 1, budget="1 update", **HERE)
    with pytest.raises(ValueError, match="no tiny model of size '9m'"):
        WarmStart("9m")
    with pytest.raises(FileNotFoundError, match="neither a folder with a saved policy nor one of 0.1m"):
        text("addition", start="9m")
    with pytest.raises(ValueError, match="problems must be at least 1"):
        text("addition", problems=0)


def test_curves_of_recipes_have_all_four_axes(study):
    for axis in ("step", "samples", "tokens", "seconds"):
        curve = study.curves("test_success", x=axis)
        assert np.isfinite(curve["test_success"]).all() and set(curve["arm"]) == set(study.arms)
