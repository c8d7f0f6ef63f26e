"""A chain of operations too large to do in one's head, and a calculator that does one operation a turn."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from workbench.tasks.base import Drawn, Problem, Reply, check_rate, observe, play, slip

OPERATORS = "+-*"
_EXPRESSION = re.compile(r"([0-9]{1,3})([-+*])([0-9]{1,3})")
_CALL = re.compile(r"<T>([^<>]*)</T>")


@dataclass(frozen=True)
class Calculator(Drawn):
    """Work out `37*45+58-9=` from left to right, every result modulo 1000, with a calculator for one operation.

    A turn is either one call, `<T>37*45</T>`, answered by its result, `665`; or anything without a tool tag, which is the
    final answer (outcome 1 if exact, else 0). A turn with a tool tag that is not exactly one well-formed call is malformed:
    it is answered by `!`, its reward is -1, and the policy may try again until its turns run out. A first turn that
    contains no call at all has reward -1 too (the rule of GTPO, arXiv 2511.14846, for turn rewards). A well-formed call
    that asks the wrong thing is no fault by itself: reward 0.

    Attributes:
        operations: fewest and most operations in a chain; the operands have two digits.
        slack: turns beyond the ones needed (operations + 1): how many retries the longest chain can afford.
        malformed: share of the calls in a demonstration that are first made in a malformed way and then repeated; at
            most `slack` in one demonstration, so that none fails for it. To see malformed calls that are fatal, warm
            up on this task and train on the same with slack=0.
        useless: share of the calls in a demonstration before which another is made that is well-formed and not needed;
            these count towards the same `slack`.
    """

    operations: tuple[int, int] = (2, 4)
    slack: int = 3
    malformed: float = 0.5
    useless: float = 0.0

    name = "calculator"
    tools = ("calculate",)
    max_tokens = 12  # the longest call has 9 tokens and its end

    def __post_init__(self) -> None:
        low, high = self.operations
        if not 1 <= low <= high:
            raise ValueError(
                f"operations must be (fewest, most) with 1 <= fewest <= most, not {self.operations!r}"
            )
        if self.slack < 0:
            raise ValueError(f"slack must be 0 or more, not {self.slack!r}")
        check_rate("malformed", self.malformed)
        check_rate("useless", self.useless)

    @property
    def max_turns(self) -> int:
        return self.operations[1] + 1 + self.slack

    @property
    def lessons(self) -> tuple[tuple[Calculator, int], ...]:
        """See `Taught`. Single operations first: how a number is copied is learned sooner where less is around it."""
        return (replace(self, operations=(1, 1)), 300), (self, 600)

    def calculate(self, expression: str) -> str:
        """Work out one operation modulo 1000.

        Args:
            expression: two whole numbers of up to three digits with +, - or * between them, like 37*45.

        Returns:
            The result, from 0 to 999.

        Raises:
            ValueError: the expression is malformed.
        """
        match = _EXPRESSION.fullmatch(expression)
        if match is None:
            raise ValueError(f"expected two numbers with +, - or * between them, not {expression[:20]!r}")
        a, b = int(match[1]), int(match[3])
        return str({"+": a + b, "-": a - b, "*": a * b}[match[2]] % 1000)

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        count = int(rng.integers(self.operations[0], self.operations[1] + 1))
        numbers = [str(n) for n in rng.integers(10, 100, count + 1)]
        signs = [OPERATORS[n] for n in rng.integers(len(OPERATORS), size=count)]
        value, steps = numbers[0], []
        for sign, number in zip(signs, numbers[1:]):
            call = value + sign + number
            value = self.calculate(call)
            steps.append((call, value))
        prompt = numbers[0] + "".join(s + n for s, n in zip(signs, numbers[1:])) + "="
        return Problem(prompt, value, tuple(steps)), prompt

    def episode(self, problem: Problem) -> CalculatorEpisode:
        return CalculatorEpisode(self, problem)

    def gold(self, problem: Problem) -> list[str]:
        return [f"<T>{call}</T>" for call, _ in problem.steps] + [problem.answer]

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """Calls and replies, then the answer; see `Calculator` for the malformed and the useless calls in it.

        With probability `error_rate` one call, or the copying of the last result, has a wrong digit, all that follows
        builds on it, and the answer is wrong.
        """
        check_rate("error_rate", error_rate)
        calls = self._wrong(problem, rng) if rng.random() < error_rate else [*self.gold(problem)]
        turns, spare = [], self.slack
        for call in calls[:-1]:
            if spare and rng.random() < self.malformed:
                turns.append(_garble(call, rng))
                spare -= 1
            if spare and self.useless and rng.random() < self.useless:
                turns.append(_aside(problem, rng))
                spare -= 1
            turns.append(call)
        return play(self, problem, [*turns, calls[-1]]).transcript

    def _wrong(self, problem: Problem, rng: np.random.Generator) -> list[str]:
        """The turns of an expert who slips once."""
        while True:  # a slip can cancel out, as in 500*50 and 500*52
            slip_at = int(rng.integers(len(problem.steps) + 1))
            value, turns = "", []
            for number, (call, _) in enumerate(problem.steps):
                a, sign, b = _EXPRESSION.fullmatch(call).groups()  # type: ignore[union-attr]
                a = value or a
                if number == slip_at:
                    a, b = (slip(a, rng), b) if rng.random() < 0.5 else (a, slip(b, rng))
                value = self.calculate(a + sign + b)
                turns.append(f"<T>{a}{sign}{b}</T>")
            if slip_at == len(problem.steps):
                value = slip(value, rng)
            if value != problem.answer:
                return [*turns, value]


@dataclass
class CalculatorEpisode:
    """One attempt at one chain."""

    task: Calculator
    problem: Problem
    turn: int = 0

    def step(self, text: str) -> Reply:
        self.turn += 1
        if "<T>" not in text and "</T>" not in text:
            reward = -1.0 if self.turn == 1 else 0.0
            return Reply(None, reward, done=True, outcome=float(text.strip() == self.problem.answer))
        call = _CALL.fullmatch(text.strip())
        return observe(self.task.calculate, call[1] if call else "")


def _garble(call: str, rng: np.random.Generator) -> str:
    """A call that no longer parses: a tag missing, an operand missing, or the operator doubled."""
    inside = call.removeprefix("<T>").removesuffix("</T>")
    a, sign, b = _EXPRESSION.fullmatch(inside).groups()  # type: ignore[union-attr]
    broken = (
        f"<T>{inside}",
        f"{inside}</T>",
        f"<T>{a}{sign}</T>",
        f"<T>{sign}{b}</T>",
        f"<T>{a}{sign}{sign}{b}</T>",
    )
    return broken[int(rng.integers(len(broken)))]


def _aside(problem: Problem, rng: np.random.Generator) -> str:
    """A well-formed call about two neighbours of the problem, whether or not it is their turn."""
    numbers = re.findall("[0-9]+", problem.prompt)
    signs = re.findall("[-+*]", problem.prompt)
    at = int(rng.integers(len(signs)))
    sign = str(rng.choice([other for other in OPERATORS if other != signs[at]]))  # so it is never the call that is needed
    return f"<T>{numbers[at]}{sign}{numbers[at + 1]}</T>"
