"""What chapter 20 says of memory and of its record holds; and its cell for full size runs, with a stand-in."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from workbench import course, fits, models, objective, recipes, sample, sandbox, stats, tasks

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names():
    """What the chapter's cells define that need no run."""
    chapter = course.solved(ROOT / "notebooks" / "masters" / "20_multi_turn_tool_use.py")
    code = [cell.source for cell in chapter.cells if cell.cell_type == "code"]
    found: dict = {"calculator": tasks.get("calculator")}
    defined = ("class Plan", "def training_bytes", "training_of =", "def cache_bytes", "cache_of =", "def parts", "def full")
    for wanted in ("import importlib", *defined):
        (source,) = [cell for cell in code if wanted in cell]
        exec(source.split("\n\nif FULL")[0], found)
    return found


@pytest.mark.parametrize("name", ["0.6B", "4B", "8B"])
def test_the_shapes_are_those_of_the_models(names, name):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = names["SHAPES"][name]
    with torch.device("meta"):
        config = Qwen3Config(
            hidden_size=shape["width"], num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"],
            head_dim=shape["head_dim"], num_key_value_heads=shape["kv_heads"], intermediate_size=shape["inner"],
            vocab_size=151_936, tie_word_embeddings=name != "8B",
        )  # fmt: skip
        model = Qwen3ForCausalLM(config)
    assert sum(p.numel() for p in model.parameters()) == shape["weights"]
    linear = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    assert names["adapter_numbers"](shape, 16) == sum(16 * (m.in_features + m.out_features) for m in linear)


def test_the_text_about_the_sliders_is_what_they_show(names):
    def plan(**changed):
        return names["parts"](**{"name": "8B", "adapters": False, "recompute": False, "at_once": 64, "per_pass": 8} | changed)

    assert [round(plan()[part]) for part in ("training", "backward pass")] == [131, 283]
    both = plan(adapters=True, recompute=True)
    assert [round(both[part]) for part in ("training", "backward pass")] == [17, 7]
    plans = {
        "both": both, "adapters": plan(adapters=True), "recompute": plan(recompute=True),
        "24": plan(adapters=True, per_pass=1, at_once=24), "32": plan(adapters=True, per_pass=1, at_once=32),
    }  # fmt: skip
    assert {name for name, sizes in plans.items() if sum(sizes.values()) <= 80} == {"both", "24"}


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="the extra `scale` is not installed")
def test_the_envelope_has_weights_and_cache_right_and_a_pass_at_less_than_half(names):
    plan = fits.Plan(rows=8, context=3000, prompt=1000, rollouts=64, lora=16, checkpointing=True, engine="vllm")
    counted, envelope = fits.need(fits.config_of("8b"), plan), names["parts"]("8B", True, 64, 8, True)
    kept = counted.weights + counted.adapters + counted.gradients + counted.optimiser
    assert kept / 1e9 == pytest.approx(envelope["training"], rel=0.01)
    assert counted.cache / 1e9 == pytest.approx(envelope["KV cache"], rel=1e-6)
    assert 2 < counted.activations / 1e9 / envelope["backward pass"] < 3 and counted.peak < 80e9


def kept_a_layer(shape, tokens):
    """Bytes that one layer keeps for the backward pass, for each token and unit of width, counted on tensors without contents."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    found = []
    for layers in (1, 2):
        seen: dict = {}
        with torch.device("meta"):
            model = Qwen3ForCausalLM(Qwen3Config(
                hidden_size=shape["width"], num_hidden_layers=layers, num_attention_heads=shape["heads"], vocab_size=8,
                head_dim=shape["head_dim"], num_key_value_heads=shape["kv_heads"], intermediate_size=shape["inner"],
            )).to(torch.bfloat16)  # fmt: skip
            ids = torch.zeros(1, tokens, dtype=torch.long)
        own = {p.untyped_storage()._cdata for p in model.parameters()}

        def keep(value, seen=seen):
            seen[value.untyped_storage()._cdata] = value  # held, so that no number is given out twice
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            model.model(input_ids=ids)
        found.append(sum(value.untyped_storage().nbytes() for key, value in seen.items() if key not in own))
    return (found[1] - found[0]) / tokens / shape["width"]


def test_a_layer_keeps_about_eighty_bytes_a_token_and_unit_of_width(names):
    """Without the table of attention, which grows with the square of the tokens and is not kept on a GPU."""
    for shape in names["SHAPES"].values():
        short, long = (kept_a_layer(shape, tokens) for tokens in (128, 256))
        assert 60 <= 2 * short - long <= 100


def test_the_record_says_sooner_and_not_further():
    rows = pd.DataFrame(json.loads((ROOT / "data" / "gtpo.json").read_text())["rows"])
    rows = rows[(rows["condition"] == "noise .5, slack 3") & (rows["update"] > 0)]

    def gap(measure):
        wide = [rows[rows["arm"] == arm].pivot(index="update", columns="seed", values=measure) for arm in ("gtpo", "grpo")]
        return 100 * (wide[0] - wide[1])

    right, malformed = stats.t_interval(gap("success").to_numpy()), stats.t_interval(gap("malformed").to_numpy())
    assert (malformed.high < 0).all() and right.low[-1] < 0 < right.high[-1] and right.low[1] > 0
    over = stats.t_interval(gap("success").mean().to_numpy())
    assert [round(x, 1) for x in over] == [2.7, 0.9, 4.6]


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="the extra `scale` is not installed")
@pytest.mark.filterwarnings("ignore")
def test_the_cell_for_full_size_runs_with_a_stand_in(names, tmp_path):
    stand_in = models.tiny("0.1m", seed=0)
    stand_in.save(tmp_path / "model")
    plan = names["Plan"](tmp_path / "model", tasks.get("calculator"), prompts=2, steps=1, tokens=64, lr=1e-3, per_pass=8, rank=4)
    made = names["full"](plan, recipes.gtpo, tmp_path / "run")
    assert made.state.global_step == 1
    assert all("lora_" in name for name, p in made.policy.model.named_parameters() if p.requires_grad)


def test_a_stranger_is_all_failure_and_still_hears_of_its_manners():
    """Sixteen failures: every group is dead for GRPO, and not for GTPO, since some end a turn without a call."""
    try:
        sandbox.best()
    except sandbox.Unavailable:
        pytest.skip("no sandbox here")
    stranger = models.tiny("0.1m", seed=0)
    stranger.model.config.max_position_embeddings = 4096
    task = tasks.get("tool_katas", turns=3, max_tokens=48)
    asked = [task.problem(n) for n in range(4)]
    batch = sample.rollout(sample.LocalEngine(stranger), task, stranger.tokenizer, asked, group_size=4, seed=0)
    assert batch.outcome.sum() == 0
    dead = {name: objective.dead(objective.prepare(recipes.get(name), batch)) for name in ("grpo", "gtpo")}
    assert dead["grpo"] == 1 and dead["gtpo"] < 1
