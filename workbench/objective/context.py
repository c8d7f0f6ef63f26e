"""What stands in the prompt besides the problem: the numbers of the task's hints that are shown in a step.

A hint is a text that a task can put before a problem: a problem solved, a piece of advice (see `tasks.base.Hinted`). The
trainer shows the hints in the prompts of training alone: `evaluate`, and so every test score, is without any.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.objective.part import not_rising, part, whole


@part("context")
def bare(step: int, gains: Sequence[float | None]) -> tuple[int, ...]:
    """The problem alone."""
    return ()


@part("context", shots=not_rising, every=whole(1))
def few_shots(
    step: int, gains: Sequence[float | None], *, shots: tuple[int, ...] = (3, 2, 0), every: int = 100
) -> tuple[int, ...]:
    """The first hints of the task: `shots[0]` of them for `every` steps, then `shots[1]`, ...; the last for ever."""
    return tuple(range(shots[min((step - 1) // every, len(shots) - 1)]))


@part("context", needs=("gains",), budget=not_rising, every=whole(1), measure=whole(1), problems=whole(1))
def helpful_hints(
    step: int, gains: Sequence[float | None], *,
    budget: tuple[int, ...] = (6, 3, 0), every: int = 60, measure: int = 10, problems: int = 32,
) -> tuple[int, ...]:  # fmt: skip
    """The hints that help most, fewer and fewer: `budget[0]` at most for `every` steps, then `budget[1]`, ... (arXiv 2604.02268).

    A hint with a negative gain is not shown; a hint that is not shown is not measured again, so it stays away.

    Args:
        gains: for each hint success with it minus success without it, beside the others shown, on problems of the training
            split; None for one never measured.
        measure: the trainer measures before every so many steps, from step 1 on, with so many `problems` a hint.
    """
    left = budget[min((step - 1) // every, len(budget) - 1)]
    ranked = sorted((-gain, hint) for hint, gain in enumerate(gains) if gain is not None and gain >= 0)
    return tuple(sorted(hint for _, hint in ranked[:left]))
