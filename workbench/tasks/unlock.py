"""A lock with a short code, to be found by pressing: a sparse reward over many turns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from workbench import seeding
from workbench.tasks.base import ERROR, Drawn, Problem, Reply, check_rate, play

_CALL = re.compile(r"<T>([0-9])</T>")


@dataclass(frozen=True)
class Unlock(Drawn):
    """Open a lock by pressing the digits of its code, one a turn: `<T>3</T>`.

    The reply is how many digits of the code are in: a right one adds one, a wrong one throws out all. With the last of them the
    lock is open and the episode over, outcome 1; there is no other reward. The prompt names the lock: `C417` is number 417 of
    make C. All locks of a make have one code, which no prompt says: it has to be found, and can then be known by heart.

    A turn with a tag in it that is not exactly one press is malformed: answered by `!`, reward -1; nothing is thrown out. A turn
    without a tag gives up: outcome 0, whatever it says.

    Who presses at random opens a lock with probability `chance`: 3.1 % as it is here. Harder: more `places` or `digits`, or
    fewer `presses`.

    Attributes:
        places: digits of a code. digits: how many different ones there are, at most 10. presses: turns there are.
        makes: how many codes there are, at most 26. key: which codes these are.
        malformed: share of the presses in a demonstration that are first made in a malformed way; they use up presses.
        show: what a hint is. "digits": hint k says digit k of the code, `3?5 C417` shows hints 0 and 2. "examples": hint k is
            another lock of the same make, opened: `C183<T>3</T><T>0</T><T>5</T>` and a new line.
        shown: hints that stand in every prompt, also in those of `test`; for a warm start that should learn to read them.
    Raises:
        ValueError: a setting out of range.
    """

    places: int = 3
    digits: int = 6
    presses: int = 10
    makes: int = 8
    key: int = 0
    malformed: float = 0.0
    show: str = "digits"
    shown: tuple[int, ...] = ()

    name = "unlock"
    tools = ("press",)
    max_tokens = 6

    def __post_init__(self) -> None:
        for setting, low, high in (("places", 1, 8), ("digits", 2, 10), ("makes", 1, 26), ("presses", self.places, 100)):
            value = getattr(self, setting)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{setting} must be a whole number from {low} to {high}, not {value!r}")
        if self.show not in ("digits", "examples"):
            raise ValueError(f'show must be "digits" or "examples", not {self.show!r}')
        check_rate("malformed", self.malformed)
        object.__setattr__(self, "shown", tuple(self.shown))
        self._check(self.shown)

    @property
    def max_turns(self) -> int:
        return self.presses

    @property
    def hints(self) -> int:
        """How many hints there are: one a digit, or eight examples."""
        return self.places if self.show == "digits" else 8

    def code(self, make: str) -> str:
        """What opens the locks of a make, "A" to "Z"."""
        return _code(self.key, make, self.digits, self.places)

    def chance(self) -> float:
        """The probability that somebody who presses at random, and never gives up, opens a lock: by its Markov chain, exactly."""
        inside, right = np.eye(self.places + 1)[0], 1 / self.digits
        for _ in range(self.presses):
            opened, waiting = inside[-1], inside[:-1]
            inside = np.concatenate([[waiting.sum() * (1 - right)], waiting * right])
            inside[-1] += opened
        return float(inside[-1])

    def press(self, code: str, entered: int, digit: str) -> int:
        """Press one digit of a lock.

        Args:
            code: what opens the lock. entered: how many of its digits are in. digit: the one to press, 0 to 9.

        Returns:
            How many are in after that.
        """
        return entered + 1 if code[entered] == digit else 0

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        make, number = chr(ord("A") + int(rng.integers(self.makes))), int(rng.integers(1000))
        code = self.code(make)
        replies = [str(place + 1) for place in range(self.places - 1)] + [""]
        bare = Problem(f"{make}{number:03}", f"<T>{code[-1]}</T>", tuple(zip(code, replies)))
        return self.hinted(bare, self.shown), bare.prompt

    def hinted(self, problem: Problem, hints: Sequence[int]) -> Problem:
        """The same lock, with these hints before its name and no others.

        Raises:
            ValueError: there is no such hint.
        """
        self._check(hints)
        lock = problem.prompt[-4:]
        code = self.code(lock[0])
        if not hints:
            text = ""
        elif self.show == "digits":
            text = "".join(digit if place in hints else "?" for place, digit in enumerate(code)) + " "
        else:
            calls = "".join(f"<T>{digit}</T>" for digit in code)
            others = [seeding.generator(self.key, "unlock", lock[0], hint).integers(1000) for hint in hints]
            text = "".join(f"{lock[0]}{number:03}{calls}\n" for number in others)
        return dataclasses.replace(problem, prompt=text + lock)

    def _check(self, hints: Sequence[int]) -> None:
        for hint in hints:
            if not isinstance(hint, int) or not 0 <= hint < self.hints:
                raise ValueError(f"there is no hint {hint!r}: {self.name} with show={self.show!r} has {self.hints}, from 0 on")

    def episode(self, problem: Problem) -> UnlockEpisode:
        return UnlockEpisode(self, "".join(digit for digit, _ in problem.steps))

    def gold(self, problem: Problem) -> list[str]:
        return [f"<T>{digit}</T>" for digit, _ in problem.steps]

    def cheat(self, problem: Problem) -> list[str]:
        """Everything but pressing digit by digit: the whole code in one call, in one turn, and the claim that it is open."""
        calls = self.gold(problem)
        return [f"<T>{''.join(digit for digit, _ in problem.steps)}</T>", "".join(calls), "open"]

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """Idle presses, then the code; with probability `error_rate` idle presses alone, then giving up."""
        check_rate("error_rate", error_rate)
        code = [digit for digit, _ in problem.steps]
        fails = rng.random() < error_rate
        room = self.presses - (1 if fails else self.places)
        while True:  # presses at random may open the lock
            idle = [str(digit) for digit in rng.integers(self.digits, size=room if fails else rng.integers(room + 1))]
            calls = [f"<T>{digit}</T>" for digit in (idle if fails else [*idle, *code])]
            turns: list[str] = []
            for number, call in enumerate(calls):
                left = room + (0 if fails else self.places) - len(turns) - (len(calls) - number)
                if rng.random() < self.malformed and (fails or left > 0):
                    turns.append(_garble(call, rng))
                turns.append(call)
            turns = [*turns[:room], ""] if fails else turns
            played = play(self, problem, turns)
            if played.done and len(played.rewards) == len(turns) and played.outcome == (not fails):
                return played.transcript


@cache
def _code(key: int, make: str, digits: int, places: int) -> str:
    return "".join(map(str, seeding.generator(key, "unlock", make).integers(digits, size=places)))


@dataclass
class UnlockEpisode:
    """One attempt at one lock; `entered` digits of its code are in."""

    task: Unlock
    code: str
    entered: int = 0

    def step(self, text: str) -> Reply:
        if "<T>" not in text and "</T>" not in text:
            return Reply(None, done=True)
        call = _CALL.fullmatch(text.strip())
        if call is None:
            return Reply(ERROR, -1.0)
        self.entered = self.task.press(self.code, self.entered, call[1])
        if self.entered == len(self.code):
            return Reply(None, done=True, outcome=1.0)
        return Reply(str(self.entered))


def _garble(call: str, rng: np.random.Generator) -> str:
    """A press that no longer parses: a tag missing, or the digit, or the digit twice."""
    digit = call[3]
    broken = (f"<T>{digit}", f"{digit}</T>", "<T></T>", f"<T>{digit}{digit}</T>")
    return broken[int(rng.integers(len(broken)))]
