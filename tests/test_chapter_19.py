"""What chapter 19 says of engines, adapters and batches is what its record and its own functions give."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench import course, models, objective, recipes, sample, tasks
from workbench.batch import Batch

ROOT = Path(__file__).parents[1]
RECORD = json.loads((ROOT / "data" / "three_engines.json").read_text())


@pytest.fixture(scope="module")
def pupil():
    return models.load(ROOT / "data" / "calculator_pupil")


@pytest.fixture(scope="module")
def cells():
    """The names that the chapter's cells define, where they neither train nor draw."""
    chapter = course.solved(ROOT / "notebooks" / "masters" / "19_real_models.py")
    code = [cell.source for cell in chapter.cells if cell.cell_type == "code"]
    names: dict = {"np": np, "torch": torch, "wb": wb}
    for wanted in ("def continuous(", "def schedule(", "def rounded("):
        (source,) = [cell for cell in code if wanted in cell]
        exec(source.split("def thrown_away")[0], names)
    return names


def recorded(kind):
    kept = RECORD["batches"][kind]
    return Batch(**{name: torch.tensor(values, dtype=torch.bool if name == "mask" else None) for name, values in kept.items()})


def asked():
    return [tasks.get("calculator").problem(number, split="test") for number in range(RECORD["problems"])]


def drawn(engine, policy, size):
    return sample.rollout(engine, tasks.get("calculator"), policy.tokenizer, asked(), group_size=size, seed=0)


def thrown_away(pupil, batch, name):
    recipe = recipes.get(name)
    with torch.no_grad():
        return objective.loss(recipe, objective.prepare(recipe, batch), pupil.evaluate(batch).logp)[1]["clip_share"]


def test_vllm_in_float32_is_the_trainer_s_distribution_and_in_bfloat16_not_quite(pupil):
    exact, coarse = (sample.mismatch(pupil, recorded(kind)) for kind in ("float32", "bfloat16"))
    assert exact.mean < 1e-6 and exact.largest < 1e-4
    assert 1e-3 < coarse.mean < 1e-2 and coarse.largest > 0.05


def test_the_likeliest_dialogues_of_vllm_are_those_of_our_engines(pupil):
    theirs = recorded("greedy")
    for engine in (sample.LocalEngine(pupil), sample.HuggingFaceEngine(pupil)):
        ours = sample.rollout(engine, tasks.get("calculator"), pupil.tokenizer, asked(), group_size=1, seed=0, temperature=0.0)
        assert torch.equal(ours.tokens, theirs.tokens) and torch.equal(ours.mask, theirs.mask)


def test_rounding_costs_gspo_a_good_part_of_its_tokens_and_grpo_none(pupil, cells):
    seven, exact = (drawn(sample.LocalEngine(cells["rounded"](pupil, bits)), pupil, 8) for bits in (7, 23))
    assert all(thrown_away(pupil, exact, name) == 0 for name in ("gspo", "grpo", "gtpo"))
    assert thrown_away(pupil, seven, "gspo") > 0.15
    assert thrown_away(pupil, seven, "grpo") < 0.01 and thrown_away(pupil, seven, "gtpo") < 0.01
    with torch.no_grad():
        old = torch.where(seven.mask, pupil.evaluate(seven).logp.clamp(max=0), 0)
    assert thrown_away(pupil, seven.replace(logp_old=old), "gspo") == 0


def test_rounding_to_seven_digits_is_bfloat16(pupil, cells):
    rounded = cells["rounded"](pupil, 7)
    for weight, exact in zip(rounded.parameters(), pupil.parameters(), strict=True):
        assert torch.equal(weight, exact.to(torch.bfloat16).float())


def test_the_picture_of_batches_agrees_with_the_exercise(cells):
    for seed in range(5):
        lengths = cells["lengths_of"](0.8, seed=seed)
        placed = cells["schedule"](lengths, 8, refill=True)
        assert max(start + length for _, start, length in placed) == cells["continuous"](lengths, 8)
        assert sorted(length for *_, length in placed) == sorted(lengths)
        for slot in range(8):  # nobody shares a slot
            spans = sorted((start, start + length) for at, start, length in placed if at == slot)
            assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
