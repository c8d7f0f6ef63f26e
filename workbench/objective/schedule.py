"""How often a batch of rollouts is used."""

from __future__ import annotations

from workbench.objective.part import part, whole


@part("schedule", epochs=whole(1), minibatches=whole(1))
def updates(*, epochs: int = 1, minibatches: int = 1) -> None:
    """`epochs` passes over the rollouts, each cut at random into `minibatches` optimiser steps. The trainer reads these."""
