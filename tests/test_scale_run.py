"""`workbench train`: it says how far it is, stops between two steps, goes on to the same weights, and uploads nothing unasked."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from workbench import cli, models

pytest.importorskip("trl", reason="the extra `scale` is not installed", exc_type=ImportError)

from workbench import scale

pytestmark = pytest.mark.filterwarnings("ignore")
PUPIL = str(Path(__file__).parents[1] / "data" / "calculator_pupil")
SMALL = {"steps": 3, "prompts": 2, "checkpoint_every": 10}


def weights(folder):
    return torch.cat([weight.detach().flatten() for weight in models.load(folder).parameters()])


def test_interrupted_it_stops_after_the_step_and_goes_on_to_the_same_weights(tmp_path):
    said: list[str] = []

    def interrupt(line):
        said.append(line)
        if line.startswith("step 1/3"):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped after step [12] of 3; the same command goes on"):
        scale.run(PUPIL, "calculator", "gtpo", folder=tmp_path / "a", say=interrupt, **SMALL)
    assert signal.getsignal(signal.SIGINT) is before and not (tmp_path / "a" / "policy").exists()
    done = int(next(f.name for f in (tmp_path / "a").glob("checkpoint-*")).split("-")[1])
    assert done < 3
    made = scale.run(PUPIL, "calculator", "gtpo", folder=tmp_path / "a", say=said.append, **SMALL)
    assert f"going on after step {done}" in said
    assert [line.split(":")[0] for line in said if line.startswith("step")] == [f"step {n}/3" for n in (1, 2, 3)]
    scale.run(PUPIL, "calculator", "gtpo", folder=tmp_path / "b", say=lambda _: None, **SMALL)
    whole = weights(tmp_path / "b" / "policy")
    assert torch.equal(weights(tmp_path / "a" / "policy"), whole) and not torch.equal(whole, weights(PUPIL))
    assert made.args.learning_rate == 3e-4  # a tiny model
    with pytest.raises(ValueError, match="holds a run with recipe='gtpo', now 'grpo' is asked for"):
        scale.run(PUPIL, "calculator", "grpo", folder=tmp_path / "a", **SMALL)


def test_the_command_and_its_exit_status(tmp_path, capsys, monkeypatch):
    sent: list[str] = []
    monkeypatch.setattr(models.LanguageModel, "push", lambda self, name: sent.append(name))
    asked = ["train", "--model", PUPIL, "--task", "calculator", "--steps", "1", "--prompts", "2", "--folder", str(tmp_path)]
    assert cli.main([*asked, "--lora", "4"]) == 0 and sent == []
    said = capsys.readouterr().out
    assert "step 1/1: success" in said and f"the policy is in {tmp_path / 'policy'}" in said
    assert any("lora_" in name for name, _ in models.load(tmp_path / "policy").named_parameters())
    assert cli.main([*asked, "--lora", "4", "--push", "nobody"]) == 1 and "in full" in capsys.readouterr().err
    assert cli.main([*asked, "--lora", "4", "--push", "you/model"]) == 0 and sent == ["you/model"]
    assert cli.main([*asked, "--lora", "8"]) == 1 and "lora=4" in capsys.readouterr().err

    def interrupted(*_, **__):
        raise KeyboardInterrupt("stopped after step 1")

    monkeypatch.setattr(scale, "run", interrupted)
    assert cli.main(asked) == 130 and "stopped after step 1" in capsys.readouterr().err
