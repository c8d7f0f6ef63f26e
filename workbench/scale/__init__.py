"""The same recipe and the same task with real models: inside TRL's trainer, with PEFT and accelerate."""

from workbench.scale.trl import RecipeTrainer, answered, carries, environment, native, trainer

__all__ = ["RecipeTrainer", "answered", "carries", "environment", "native", "trainer"]
