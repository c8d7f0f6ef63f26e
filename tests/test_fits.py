"""What fits: bytes counted against the bytes there are, and the peak of real steps."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from workbench import cli, fits, models
from workbench.batch import Batch, Dialogue, Segment
from workbench.models import language


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("0.6b", 596_049_920), ("1.7b", 1_720_574_976), ("4b", 4_022_468_096), ("8b", 8_190_735_360)],
)
def test_the_shapes_have_the_published_numbers_of_parameters(size, parameters):
    with torch.device("meta"):
        from transformers import Qwen3ForCausalLM

        assert sum(p.numel() for p in Qwen3ForCausalLM(fits.config_of(size)).parameters()) == parameters


def episodes(rows, length, prompt):
    """Rows of which one is shorter, so that there is padding."""
    said = [length - prompt - (7 if row == 1 else 0) for row in range(rows)]
    return Batch.from_dialogues([Dialogue([1] * prompt, r, [Segment([2] * n, [0.0] * n)], [0.0]) for r, n in enumerate(said)])


@pytest.mark.parametrize(("size", "lora"), [("0.1m", None), ("5m", None), ("5m", 4)])
def test_bytes_are_those_of_a_real_step(size, lora):
    """Weights, gradients and Adam's averages to the byte; the peak of the pass within 5 %: the loss is another sum."""
    policy = models.tiny(size)
    policy = models.with_lora(policy, lora) if lora else policy
    plan = fits.Plan(rows=3, context=120, prompt=20, dtype="float32", trainer="workbench", lora=lora)
    need = fits.need(fits.config_of(size), plan)
    optimiser = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad])
    batch, parameters = episodes(3, 120, 20), list(policy.parameters())

    def learn():
        said = language.evaluate_with_transformers(policy.model, batch)
        (said.logp.sum() + said.entropy.sum()).backward()

    learn()  # so that gradients are there, as in all passes but the first
    optimiser.step()
    gradients = [p.grad for p in parameters if p.grad is not None]
    with fits.Meter() as meter:
        meter.count(*parameters, *policy.model.buffers(), *gradients)
        before = meter.now
        learn()
    size_of = lambda tensors: sum(t.numel() * t.element_size() for t in tensors)  # noqa: E731
    assert need.weights + need.adapters == size_of(parameters) and need.gradients == size_of(gradients)
    assert need.optimiser == size_of(v for moments in optimiser.state.values() for v in moments.values())
    assert need.trained == sum(p.numel() for p in parameters if p.requires_grad)
    assert meter.now <= before + 4096  # what a pass took, it gave back
    assert need.activations == pytest.approx(meter.peak - before, rel=0.05)


_MEASURE = """
import resource, sys, torch, psutil
from transformers import AutoModelForCausalLM
from tests.test_fits import episodes, large
from workbench import fits
from workbench.models import language, tiny

def learn(model, times):
    optimiser, batch = torch.optim.AdamW(model.parameters()), episodes(2, 128, 32)
    for _ in range(times):
        said = language.evaluate_with_transformers(model, batch)
        (said.logp.sum() + said.entropy.sum()).backward()
        optimiser.step()

learn(tiny("0.1m").model, 1)
before = psutil.Process().memory_info().rss
learn(AutoModelForCausalLM.from_config(large()), 2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
"""


def large():
    """The shape of a Qwen3 of 51 million parameters."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=1024, hidden_size=512, num_hidden_layers=16, num_attention_heads=8, num_key_value_heads=4, head_dim=64,
        intermediate_size=1536, tie_word_embeddings=True,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_the_peak_is_that_of_a_process_within_a_fifth():
    """Two steps of a model of 50 million parameters, in a process of their own, measured by the system."""
    done = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True)
    plan = fits.Plan(rows=2, context=128, prompt=32, dtype="float32", trainer="workbench")
    need = fits.need(large(), plan)
    assert 45e6 < need.parameters < 55e6
    predicted = need.training - need.fixed - need.copies * (1 + fits.WASTE)
    assert predicted == pytest.approx(int(done.stdout.split()[-1]), rel=0.2)


def test_settings_move_the_bytes_the_way_they_should():
    config, plan = fits.config_of("5m"), fits.Plan(rows=4, context=128, prompt=32, rollouts=16, dtype="float32")

    def peak(**change):
        return fits.need(config, dataclasses.replace(plan, **change))

    usual = peak()
    assert peak(lora=4).optimiser < usual.optimiser / 10 and peak(lora=4).training < usual.training
    assert peak(checkpointing=True).activations < 0.6 * usual.activations
    assert peak(rows=2).activations == pytest.approx(usual.activations / 2, rel=0.2)
    assert peak(dtype="bfloat16").weights == usual.weights / 2
    four = peak(bits=4, lora=4)
    layers = 6 * (256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 768)  # all but embeddings and norms
    matrices = [256 * 256] * 12 + [256 * 128] * 12 + [256 * 768] * 18
    saved = 4 * layers - sum(int(n * (0.5 + 1 / 64 + 4 / 64 / 256)) for n in matrices)
    assert usual.weights - four.weights == saved
    assert peak(rollouts=32).cache == 2 * usual.cache == 2 * (16 * 128 * 2 * 4 * 32 * 4 * 6)
    assert peak(engine="vllm").sampler == usual.weights + fits.VLLM
    assert peak(gpus=2).training - usual.training == pytest.approx(usual.gradients * (1 + fits.WASTE), abs=2)


def test_what_does_not_fit_says_what_to_lower_and_then_it_fits():
    rate, plan = fits.Rates(1e11, 1e10), fits.Plan(rows=8, context=256, prompt=64, rollouts=8, dtype="float32")
    need = fits.need(fits.config_of("5m"), plan)
    small = fits.Machine("a small one", int(need.fixed + 0.4 * (need.peak - need.fixed)), 0)
    found = fits.report("5m", plan, here=small, rate=rate)
    assert not found["fits"] and found["lower"] == ["--batch 2"]
    assert "It would fit with --batch 2" in fits.told(found)
    again = fits.report("5m", dataclasses.replace(plan, rows=2), here=small, rate=rate)
    assert again["fits"] and again["lower"] == [] and fits.told(again).count("Fits: ") == 1
    tight = fits.report("5m", plan, here=fits.Machine("none", need.fixed, 0), rate=rate)
    assert "take a smaller model" in fits.told(tight)
    assert found["seconds"]["training"] == pytest.approx(
        3 * (2 * need.parameters + 2 * 256 * 8 * 32 * 6) * 8 * 256 / 0.4e11, rel=1e-9
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [({"rows": 0}, "rows must be"), ({"prompt": 1024}, "from 1 to 1023"), ({"dtype": "int8"}, "dtype must be one of"),
     ({"bits": 4}, "give adapters too"), ({"bits": 8, "lora": 1}, "bits must be"), ({"engine": "x"}, "engine must be")],
)  # fmt: skip
def test_plans_that_make_no_sense_are_refused(change, told):
    with pytest.raises(ValueError, match=told):
        fits.Plan(**change)


def test_the_command(tmp_path, capsys):
    models.tiny("0.1m").save(tmp_path)
    arguments = ["doctor", "--model", str(tmp_path), "--context", "64", "--batch", "2", "--rollouts", "4"]
    assert cli.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["need"]["parameters"] == sum(p.numel() for p in models.tiny("0.1m").parameters()) and found["fits"]
    assert found["plan"]["dtype"] == "float32" or torch.cuda.is_available()
    assert cli.main(arguments) == 0 and "Fits: " in capsys.readouterr().out
    assert cli.main(["doctor", "--model", "no-such/model"]) == 1
    assert "is no size (0.1m, 0.2m" in capsys.readouterr().err
