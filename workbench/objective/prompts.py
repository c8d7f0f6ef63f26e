"""Which problems to ask next.

`history` holds one pair (problem number, mean outcome of its rollouts) for every prompt asked so far, in order, those whose
rollouts were thrown away included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.objective.part import part, whole

History = Sequence[tuple[int, float]]


@part("prompts")
def stream(history: History, n: int, rng: np.random.Generator) -> list[int]:
    """Fresh problems, in order: nothing is asked twice."""
    start = 1 + max((problem for problem, _ in history), default=-1)
    return list(range(start, start + n))


@part("prompts", pool=whole(1))
def uniform(history: History, n: int, rng: np.random.Generator, *, pool: int = 1000) -> list[int]:
    """Problems 0..pool-1 at random; none twice in one batch while there are enough."""
    return rng.choice(pool, size=n, replace=n > pool).tolist()
