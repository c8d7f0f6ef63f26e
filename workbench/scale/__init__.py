"""The same recipe and the same task with real models: inside TRL's trainers, with PEFT and accelerate."""

from __future__ import annotations

try:
    import trl as _  # noqa: F401  # brings accelerate and datasets
except ImportError as error:
    from workbench.scale.settings import INSTALL

    raise ImportError(f"workbench.scale needs TRL, which is not installed or does not load ({error}): {INSTALL}") from error

from workbench.scale.run import run
from workbench.scale.trl import RecipeTrainer, answered, carries, environment, native, trainer
from workbench.scale.tuning import dpo, preferences, reward_model, score, sft

__all__ = [
    "RecipeTrainer", "answered", "carries", "dpo", "environment", "native", "preferences", "reward_model", "run", "score",
    "sft", "trainer",
]  # fmt: skip
