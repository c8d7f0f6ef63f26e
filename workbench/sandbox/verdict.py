"""What became of a program: an enum, never a number that the program had a hand in."""

from __future__ import annotations

import html
import unicodedata
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a judged program ended."""

    PASS = "pass"
    WRONG_ANSWER = "wrong answer"
    EXCEPTION = "exception"
    CPU_TIME = "CPU time"
    WALL_TIME = "wall time"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output limit"
    KILLED = "killed"  # by a signal, e.g. for a forbidden system call
    PROTOCOL = "protocol"  # it answered something that is no answer, or left without one
    UNSUPPORTED_VALUE = "unsupported value"  # it answered with something else than plain data
    INFRASTRUCTURE = "infrastructure"  # our fault, not the program's: retried once, then masked from learning

    @property
    def reward(self) -> float | None:
        """1 for a pass, 0 for any failure of the program, None where nothing was learned about it."""
        if self is Verdict.INFRASTRUCTURE:
            return None
        return 1.0 if self is Verdict.PASS else 0.0


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    CPU time decides; wall time is a backstop for programs that sleep, and generous, because a busy machine is not the
    program's fault.

    Attributes:
        cpu: seconds of processor time. wall: seconds by the clock; default: the larger of 2 s and 5 times `cpu`.
        memory: bytes of address space. output: bytes printed.
    """

    cpu: float = 1.0
    wall: float | None = None
    memory: int = 256 << 20
    output: int = 64 << 10

    def __post_init__(self) -> None:
        for name, kind, least, most, unit in (
            ("cpu", (int, float), 0.01, 86_400, "seconds"), ("memory", int, 32 << 20, 1 << 46, "bytes"),
            ("output", int, 1, 1 << 30, "bytes"),
        ):  # fmt: skip
            value = getattr(self, name)
            if not (isinstance(value, kind) and least <= value <= most):
                whole = "a whole number" if kind is int else "a number"
                raise ValueError(f"Limits.{name} must be {whole} of {unit} from {least} to {most}, not {value!r}")
        if self.wall is None:
            object.__setattr__(self, "wall", max(2.0, 5 * self.cpu))
        elif not (isinstance(self.wall, (int, float)) and self.cpu <= self.wall <= 7 * 86_400):
            raise ValueError(f"Limits.wall must be from Limits.cpu ({self.cpu!r}) to a week of seconds, not {self.wall!r}")


@dataclass(frozen=True)
class Result:
    """What became of one program.

    Attributes:
        verdict: how it ended. passed, cases: how many of the suite's cases were right before it ended, and how many there are.
        message: what went wrong, made harmless by `printable`. output: what it printed, likewise.
        cpu: seconds of processor time it used. tier: what contained it.
    """

    verdict: Verdict
    passed: int
    cases: int
    message: str = ""
    output: str = ""
    cpu: float = 0.0
    tier: str = ""

    @property
    def reward(self) -> float | None:
        return self.verdict.reward


def printable(text: str, limit: int = 2000) -> str:
    """`text` without anything a terminal or a notebook would act on: control characters, escape sequences and marks that turn
    the direction of writing become visible codes, and it is cut to `limit` characters. For HTML use `escaped`."""
    shown = text[:limit]
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else f"\\x{ord(c):02x}" for c in shown)
    return shown if len(text) <= limit else f"{shown}… ({len(text)} characters)"


def escaped(text: str, limit: int = 2000) -> str:
    """`printable` text that is safe inside HTML."""
    return html.escape(printable(text, limit))
