"""What is trained on besides the rollouts."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.batch import Batch
from workbench.objective.part import part


@part("mix")
def on_policy(batch: Batch, others: Sequence[Batch]) -> Batch:
    """The rollouts alone: demonstrations and replay are ignored."""
    return batch
