"""Addition in one turn: the smallest task with a verifiable reward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.tasks.base import Drawn, Problem, Reply, check_rate, slip


@dataclass(frozen=True)
class Addition(Drawn):
    """Add two numbers of `digits` digits: `37+45=` is answered `82`; outcome 1 if that is exact, else 0.

    37+45 and 45+37 are in the same split, so that a test problem cannot be answered by remembering its mirror image.
    """

    digits: int = 2

    name = "addition"
    tools = ()
    max_turns = 1

    def __post_init__(self) -> None:
        if not isinstance(self.digits, int) or not 1 <= self.digits <= 15:
            raise ValueError(f"digits must be a whole number from 1 to 15, not {self.digits!r}")

    @property
    def max_tokens(self) -> int:
        return self.digits + 2  # the carry and the end of the turn

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        smallest = 0 if self.digits == 1 else 10 ** (self.digits - 1)
        a, b = (int(n) for n in rng.integers(smallest, 10**self.digits, 2))
        return Problem(f"{a}+{b}=", str(a + b)), f"{min(a, b)}+{max(a, b)}"

    def episode(self, problem: Problem) -> AdditionEpisode:
        return AdditionEpisode(problem)

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """The answer; with probability `error_rate` one of its digits is wrong."""
        check_rate("error_rate", error_rate)
        return [slip(problem.answer, rng) if rng.random() < error_rate else problem.answer]


@dataclass
class AdditionEpisode:
    """One answer to one sum."""

    problem: Problem

    def step(self, text: str) -> Reply:
        return Reply(None, done=True, outcome=float(text.strip() == self.problem.answer))
