"""A stream that is longer than the context: what is not written down in time is gone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from workbench.tasks.base import ERROR, Drawn, Problem, Reply, check_rate, play

_READ = "<T>n</T>"
_FORGET = re.compile(r"([^<>]{0,8})<T>f([1-9])</T>")
_NAMES = "abcdefgh"


@dataclass(frozen=True)
class Stream(Drawn):
    """Read a stream a few items at a time, and answer a question about all of it at the end.

    `<T>n</T>` reads on; the reply is the next items, with a full stop after the last ones. `#a` asks how often `a` was there,
    modulo 10; `=a` asks for the digit behind the one `a` that there is. A turn without a tool tag is the answer (outcome 1 if
    exact, else 0). The context holds the question and at most `window` turns, each with its reply. What becomes of older ones:

        all      nothing: everything stays, the window does not count
        window   the oldest turn drops out when a new one comes, with what was read in it
        summary  when the window is full, the reply ends with `?`: the next turn, whatever it says, is kept as the summary,
                 and it alone (arXiv 2510.06727)
        forget   when the window is full, reading is refused. `3<T>f2</T>` deletes the two oldest turns and stays in their
                 place, with the note 3 (arXiv 2510.12635)

    A call that cannot be read, or is refused, is answered by `!`, with reward -1; under "forget" it takes no part in the window.

    Attributes:
        question: "count" or "find". readings: fewest and most to the end of the stream. items: in one reading.
        memory, window: see above. slack: turns beyond those that the longest stream needs.
    """

    question: str = "count"
    readings: tuple[int, int] = (6, 9)
    items: int = 3
    memory: str = "summary"
    window: int = 3
    slack: int = 4

    name = "stream"
    tools = ("read", "forget")
    max_tokens = 10

    def __post_init__(self) -> None:
        low, high = self.readings
        if self.question not in ("count", "find"):
            raise ValueError(f'question must be "count" or "find", not {self.question!r}')
        if not 1 <= low <= high:
            raise ValueError(f"readings must be (fewest, most) with 1 <= fewest <= most, not {self.readings!r}")
        if self.memory not in ("all", "window", "summary", "forget"):
            raise ValueError(f'memory must be "all", "window", "summary" or "forget", not {self.memory!r}')
        if not 2 <= self.window <= 9:  # one turn is the note, and forgetting is asked for with one digit
            raise ValueError(f"window must be from 2 to 9, not {self.window!r}")
        if self.items < 1 or self.slack < 0:
            raise ValueError(f"items must be 1 or more and slack 0 or more, not {self.items!r} and {self.slack!r}")

    @property
    def max_turns(self) -> int:
        return self.readings[1] + self._notes(self.readings[1]) + 1 + self.slack

    def _notes(self, readings: int) -> int:
        """How many summaries, or calls to forget, a stream of so many readings needs."""
        if self.memory not in ("summary", "forget"):
            return 0
        return max(0, -(-(readings - self.window) // (self.window - 1)))

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        count = self.items * int(rng.integers(self.readings[0], self.readings[1] + 1))
        wanted = str(rng.choice(list(_NAMES[:4])))
        if self.question == "count":
            stream = [str(name) for name in rng.choice(list(_NAMES[:4]), count)]
            answer = str(stream.count(wanted) % 10)
        else:
            others = [name for name in _NAMES if name != wanted]
            digits = rng.integers(10, size=count)
            stream = [f"{rng.choice(others)}{digit}" for digit in digits]
            place = int(rng.integers(count))
            answer = str(digits[place])
            stream[place] = wanted + answer
        steps = ["".join(stream[start : start + self.items]) for start in range(0, count, self.items)]
        steps[-1] += "."
        prompt = ("#" if self.question == "count" else "=") + wanted
        return Problem(prompt, answer, tuple((_READ, step) for step in steps)), prompt + "".join(stream)

    def episode(self, problem: Problem) -> StreamEpisode:
        return StreamEpisode(self, problem)

    def note(self, problem: Problem, read: int) -> str:
        """What is worth remembering after `read` readings: the count so far, or the digit found, `-` if none yet."""
        seen, wanted = "".join(text for _, text in problem.steps[:read]), problem.prompt[1:]
        if self.question == "count":
            return str(seen.count(wanted) % 10)
        found = seen.partition(wanted)[2]
        return found[0] if found else "-"

    def gold(self, problem: Problem) -> list[str]:
        return self._script(problem, [])

    def cheat(self, problem: Problem) -> list[str]:
        """Guess the likeliest answer without reading."""
        expected = round(self.items * sum(self.readings) / 2 / 4) if self.question == "count" else 0
        return [str(expected % 10)]

    def _script(self, problem: Problem, off: list[int]) -> list[str]:
        """The turns of an expert who notes the truth plus `off[i]` (modulo 10) in note i, and keeps the errors made so far."""
        turns, held, notes, error = [], 0, 0, 0
        for read in range(len(problem.steps)):
            if self.memory in ("summary", "forget") and held == self.window:
                error += off[notes] if notes < len(off) else 0
                note = self._shifted(self.note(problem, read), error)
                turns.append(note if self.memory == "summary" else f"{note}<T>f{held}</T>")
                held, notes = 1, notes + 1
            turns.append(_READ)
            held += 1
        error += off[notes] if notes < len(off) else 0
        return [*turns, self._shifted(problem.answer, error)]

    def _shifted(self, note: str, error: int) -> str:
        return note if note == "-" else str((int(note) + error) % 10)

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """Calls and replies, then the answer.

        With probability `error_rate` one note, or the answer, is off by something from 1 to 9 (modulo 10), and what follows
        builds on it. A note that nothing was found yet cannot be off; what comes after it is.
        """
        check_rate("error_rate", error_rate)
        off = [0] * (self._notes(len(problem.steps)) + 1)
        if rng.random() < error_rate:
            off[int(rng.integers(len(off)))] = int(rng.integers(1, 10))
        return play(self, problem, self._script(problem, off)).transcript

    def keeps(self, problem: Problem, turns: list[str]) -> list[tuple[int, ...] | None]:
        """What stays in the context after each of these assistant turns, see `Reply.keep`."""
        episode = self.episode(problem)
        return [episode.step(text).keep for text in turns]


@dataclass
class StreamEpisode:
    """One attempt at one stream. `held`: the turns that are in the context; `refused`: those that were answered by `!`."""

    task: Stream
    problem: Problem
    turn: int = -1
    read: int = 0
    asked: bool = False
    held: list[int] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)

    def step(self, text: str) -> Reply:
        self.turn += 1
        if self.asked:  # whatever this turn says is the summary
            self.asked, self.held = False, [self.turn]
            return Reply("ok", keep=(self.turn,))
        if "<T>" not in text and "</T>" not in text:
            return Reply(None, done=True, outcome=float(text.strip() == self.problem.answer))
        memory, window, call = self.task.memory, self.task.window, text.strip()
        forget = _FORGET.fullmatch(call) if memory == "forget" else None
        if forget is not None and int(forget[2]) <= len(self.held):
            self.held = [*self.held[int(forget[2]) :], self.turn]
            return Reply("ok", keep=tuple(self.held))
        full = memory == "forget" and len({*self.held} - self.refused) >= window
        self.held.append(self.turn)
        if call == _READ and not full:
            words, reward = self._next(), 0.0
        else:
            words, reward = ERROR, -1.0
            self.refused.add(self.turn)
        if memory == "window":
            self.held = self.held[-window:]
        self.asked = memory == "summary" and len(self.held) >= window and "." not in words
        return Reply(words + "?" * self.asked, reward, keep=None if memory == "all" else tuple(self.held))

    def _next(self) -> str:
        self.read += 1
        steps = self.problem.steps
        return steps[self.read - 1][1] if self.read <= len(steps) else "."
