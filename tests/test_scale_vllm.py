"""TRL trains and vLLM samples: at each batch of rollouts vLLM has the weights of that moment, with and without adapters."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from workbench import models, recipes, sample

pytest.importorskip("trl", reason="the extra `scale` is not installed", exc_type=ImportError)

from workbench import scale

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vLLM is not installed: make vllm"),
    pytest.mark.filterwarnings("ignore"),
]
QUIET = {"save_strategy": "no", "disable_tqdm": True, "logging_steps": 1}


@pytest.fixture(scope="module", autouse=True)
def kept():
    """One vLLM for all tests: it goes when the last engine for this shape of model has been closed."""
    engine = sample.VLLMEngine(models.load("data/calculator_pupil"))
    yield
    engine.close()


def trained(tmp_path, **settings):
    policy = models.load("data/calculator_pupil")
    made = scale.trainer(
        policy, "calculator", recipes.gtpo, steps=3, prompts=4, lr=3e-3, folder=tmp_path, engine="vllm", config=QUIET, **settings
    )
    made.train()
    return made, [row for row in made.state.log_history if "ratio_max" in row]


@pytest.mark.parametrize("lora", [None, 4])
def test_vllm_samples_from_the_weights_of_each_moment(lora, tmp_path):
    made, logs = trained(tmp_path, lora=lora)
    assert made.engine.updates == len(logs) == 3
    assert all(abs(row[name] - 1) < 1e-4 for row in logs for name in ("ratio_min", "ratio_max"))
    assert sample.mismatch(made.policy, made.batch).largest > 1e-2, "the last step moved the weights since"
    made.engine.update()
    again = sample.rollout(made.engine, made.task, made.policy.tokenizer, [made.task.problem(0)], group_size=4, seed=0)
    assert sample.mismatch(made.policy, again).largest < 1e-4
    made.engine.close()


def test_old_weights_in_vllm_would_be_seen(tmp_path, monkeypatch):
    real = sample.VLLMEngine.update
    monkeypatch.setattr(sample.VLLMEngine, "update", lambda self: None if self.updates else real(self))
    made, logs = trained(tmp_path)
    assert abs(logs[0]["ratio_max"] - 1) < 1e-4 and logs[2]["ratio_max"] > 1.01
    made.engine.close()


def test_adapters_that_were_saved_run_in_vllm(tmp_path):
    made, _ = trained(tmp_path, lora=4)
    made.engine.close()
    made.model.save_pretrained(tmp_path / "adapters")
    from peft import PeftModel

    base = models.load("data/calculator_pupil")
    again = models.LanguageModel(PeftModel.from_pretrained(base.model, tmp_path / "adapters"), base.tokenizer)
    engine = sample.VLLMEngine(again)
    batch = sample.rollout(engine, made.task, again.tokenizer, [made.task.problem(1)], group_size=4, seed=0)
    engine.close()
    assert sample.mismatch(again, batch).largest < 1e-4
    with torch.no_grad(), again.model.disable_adapter():
        assert sample.mismatch(again, batch).largest > 1e-2
