"""data/rows.json against the code that made it, and the table it was made with."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import workbench as wb
from workbench import models, recipes
from workbench import objective as o
from workbench.batch import Stop
from workbench.objective.layout import as_one_sequence

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def script():
    """data/rows.py as a module."""
    spec = importlib.util.spec_from_file_location("rows_record", DATA / "rows.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record():
    return json.loads((DATA / "rows.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pupil(script):
    return script.pupil((script.SHORT,), 0)


def test_the_claims_are_what_the_runs_say(script, record):
    assert set(record["runs"]) == set(script.ARMS) and all(len(runs) == script.SEEDS >= 8 for runs in record["runs"].values())
    assert record["claims"] == script.judged(record["runs"]) and record["setting"] == script.SETTING
    assert {claim["method"] for claim in record["claims"]} == {recipe.name for recipe in recipes.rows.RECIPES}


def test_the_pupil_of_the_record_comes_out_again(script, record, pupil):
    batch = script.played(pupil, script.SHORT, 0)
    assert script.success(batch) == pytest.approx(record["runs"]["supo"][0]["before"], abs=0.02)
    assert script.turns(batch) == pytest.approx(record["runs"]["supo"][0]["turns before"], abs=0.05)


def test_at_the_first_update_the_ratio_is_one_but_for_the_wrong_layout(record):
    for arm, runs in record["runs"].items():
        errors = [run["ratio error"] for run in runs]
        assert min(errors) > 0.5 if arm == "one sequence" else max(errors) < 1e-5


def test_the_table_says_what_it_sampled_in_every_layout(script):
    seen, task, _, _ = script.ARMS["dynamic_context"]
    policy = script.pupil(seen, 1)
    batch = script.played(policy, task, 1).select(range(100))
    assert len(batch) > batch.rollouts
    for laid in (batch, o.one_row_a_turn()(batch)):
        torch.testing.assert_close(policy.evaluate(laid).logp, laid.logp_old, rtol=0, atol=1e-5)
    wrong = as_one_sequence(batch)
    assert (policy.evaluate(wrong).logp - wrong.logp_old).abs().max() > 0.4


def test_the_ablation_takes_away_the_summaries_alone(script, pupil):
    batch = script.played(pupil, script.SHORT, 2)
    weight = script.drop_summaries()(batch, torch.ones(batch.tokens.shape, dtype=torch.float64), None)
    dropped = batch.mask & (weight == 0)
    followed = torch.zeros(len(batch), dtype=torch.bool)
    followed[:-1] = batch.rollout[1:] == batch.rollout[:-1]
    assert torch.equal(dropped.any(1), followed) and followed.any()
    start = len(models.prompt_ids(pupil.tokenizer, "#a"))  # the next row begins with the prompt, and then with what was dropped
    for row in followed.nonzero()[:, 0].tolist():
        summary = batch.tokens[row][dropped[row]].tolist()
        assert batch.tokens[row + 1, start : start + len(summary)].tolist() == summary


@pytest.mark.parametrize("name", ["grpo", "flow_grpo", "supo"])
def test_a_step_counts_rollouts_and_not_rows(script, name):
    policy = script.pupil((script.SHORT,), 3)
    twice = recipes.get(name).but("twice", schedule=o.updates(minibatches=2))
    (step,) = wb.train(policy, script.SHORT, twice, steps=1, seed=0, prompts=4, lr=0.1, engine=script.Player(policy))
    assert step.episodes == 32 and step.errors == 0 and step.gradient_norm > 0
    assert step.success * 32 == pytest.approx(round(step.success * 32)) and 2 < step.turns < 9
    assert step.tokens == pytest.approx(step.length * 32) and step.reward == pytest.approx(step.success)
    score = wb.evaluate(policy, script.SHORT, problems=20, engine=script.Player(policy))
    assert score.episodes == 20 and score.errors == 0 and score.turns > 2


def test_training_cuts_off_long_streams(script):
    policy = script.pupil((script.LONG,), 0)
    batch = script.played(policy, script.CAPPED, 0)
    assert (batch.stop == Stop.TURNS).any() and int(batch.turn.max()) < 7
    assert not (script.played(policy, script.LONG, 0).stop == Stop.TURNS).any() or script.LONG.max_turns > 7
