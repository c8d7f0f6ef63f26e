"""What all trainers of TRL that are made here have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from workbench import models

if TYPE_CHECKING:
    from peft import PeftConfig

INSTALL = "pip install -c requirements.lock -e '.[scale]'"


def usual(config: Mapping[str, Any] | None, **ours: Any) -> dict[str, Any]:
    """Arguments of TRL's configurations where its defaults are not what `workbench.train` does; `config` overrides them."""
    return {
        "lr_scheduler_type": "constant", "report_to": [], "bf16": False, "gradient_checkpointing": False, "logging_steps": 1,
        "use_cpu": not torch.cuda.is_available(), **ours, **(config or {}),
    }  # fmt: skip


def adapters(given: int | PeftConfig | None) -> PeftConfig | None:
    """LoRA of this rank on all linear layers, or the PEFT configuration as given.

    Raises:
        ValueError: a rank below 1. ImportError: PEFT is not installed.
    """
    return None if given is None else models.lora_config(given)


def new_adapters(model: Any) -> bool:
    """Whether there are LoRA adapters that change nothing yet: the model without them is then the model as it is now."""
    outer = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    return bool(outer) and not any(weight.any() for weight in outer)


def check_processes(trainer: Any, asked: int) -> None:
    """Raises ValueError where not as many processes run as were asked for: accelerate falls back to one without a word."""
    there = trainer.accelerator.num_processes
    if there != asked:
        raise ValueError(
            f"{asked} processes were asked for and {there} run: start with `accelerate launch --num_processes {asked}` (on CPUs: "
            f"`torchrun --nproc_per_node {asked}` with ACCELERATE_USE_CPU=true)"
        )
