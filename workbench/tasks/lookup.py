"""A chain of keys that nobody can know: each is looked up in a table, and the last one gives the answer."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from workbench.tasks.base import Drawn, Problem, Reply, check_rate, observe, play, slip

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TABLES = "ABCDE"
NOTHING = "?"  # the reply to a key that is not in the table
ASK = "?"  # the call that asks the user
_CALL = re.compile(r"<T>([^<>]*)</T>")
_VALUE = re.compile(r"[0-9]{3}")


@dataclass(frozen=True)
class Lookup(Drawn):
    """Find the number behind a key: `kq=`, look up `kq`, which gives `zm`, look up `zm`, which gives `417`, answer `417`.

    A turn is either one call, `<T>kq</T>`, answered by a key or by a number; or anything without a tool tag, which is the
    final answer (outcome 1 if exact, else 0). Every problem has tables of its own, so that a policy can learn to look up but has
    nothing to remember, and its prompt says nothing about its answer. As in `Calculator`, a turn with a tool tag that is not
    exactly one well-formed call is answered by `!` and has reward -1, and so has a first turn without any call; a well-formed
    call for something else is no fault by itself.

    With several tables a call names one, `<T>Bkq</T>`, and the model must learn which: the tables share the alphabet of first
    letters in equal stretches (of two, A has a to m). With a missing slot, the prompt hides the second letter of the first key,
    `k_=`, and the user, asked with `<T>?</T>`, says it.

    Problems with the same first key are in the same split, whether or not a letter of it is hidden.

    Attributes:
        hops: fewest and most lookups to the number, from 1 to 8.
        tables: from 1 to 5.
        missing: share of problems with a hidden letter. While it is 0 the user cannot be asked.
        traps: what is looked up in the wrong place gives a wrong key or number, which looks like any other, not `?`. The error
            shows only at the end.
        slack: turns beyond the ones that the longest chain needs.
        malformed: share of the calls in a demonstration that are first made in a malformed way and then repeated.
        useless: share of the calls in a demonstration before which another key, or another table, is looked up for nothing. Both
            together at most `slack` in one demonstration, so that none fails for it.
    """

    hops: tuple[int, int] = (1, 3)
    tables: int = 1
    missing: float = 0.0
    traps: bool = False
    slack: int = 2
    malformed: float = 0.3
    useless: float = 0.0

    name = "lookup"
    max_tokens = 8  # the longest well-formed turn has 6, its end included

    def __post_init__(self) -> None:
        low, high = self.hops
        if not 1 <= low <= high <= 8:
            raise ValueError(f"hops must be (fewest, most) with 1 <= fewest <= most <= 8, not {self.hops!r}")
        if not isinstance(self.tables, int) or not 1 <= self.tables <= len(TABLES):
            raise ValueError(f"tables must be a whole number from 1 to {len(TABLES)}, not {self.tables!r}")
        if self.slack < 0:
            raise ValueError(f"slack must be 0 or more, not {self.slack!r}")
        for rate in ("missing", "malformed", "useless"):
            check_rate(rate, getattr(self, rate))

    @property
    def tools(self) -> tuple[str, ...]:
        return ("look_up", "ask") if self.missing else ("look_up",)

    @property
    def max_turns(self) -> int:
        return bool(self.missing) + self.hops[1] + 1 + self.slack

    def table(self, key: str) -> str:
        """The name of the table that holds a key; empty where there is only one."""
        return TABLES[LETTERS.index(key[0]) * self.tables // len(LETTERS)] if self.tables > 1 else ""

    def entry(self, problem: Problem, place: str) -> str:
        """What a problem's tables hold at a place such as "kq" or "Bkq": a key, a number, or `?` if nothing is there.

        Raises:
            ValueError: the place is malformed.
        """
        key = place[1:] if self.tables > 1 else place
        named = self.tables == 1 or place[:1] in tuple(TABLES[: self.tables])
        if not (named and len(key) == 2 and set(key) <= set(LETTERS)):
            raise ValueError(f"expected {'a table and ' * (self.tables > 1)}a key of two letters, not {place[:20]!r}")
        found = dict(problem.steps).get(place)
        if found is not None:
            return found
        return _astray(problem, place) if self.traps else NOTHING

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        count = int(rng.integers(self.hops[0], self.hops[1] + 1))
        keys = [LETTERS[n // 26] + LETTERS[n % 26] for n in rng.choice(26 * 26, count, replace=False)]
        answer = str(rng.integers(100, 1000))
        steps = [(self.table(key) + key, found) for key, found in zip(keys, [*keys[1:], answer])]
        prompt = keys[0] + "="
        if self.missing and rng.random() < self.missing:
            prompt, steps = keys[0][0] + "_=", [(ASK, keys[0][1]), *steps]
        return Problem(prompt, answer, tuple(steps)), keys[0]

    def episode(self, problem: Problem) -> LookupEpisode:
        return LookupEpisode(self, problem)

    def gold(self, problem: Problem) -> list[str]:
        return [f"<T>{call}</T>" for call, _ in problem.steps] + [problem.answer]

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """Calls and replies, then the answer; see `Lookup` for the malformed and the useless calls in it.

        With probability `error_rate` the answer is wrong: the number is copied with a wrong digit, or one call asks the wrong
        place. What that place gives is followed if it is a key and answered if it is a number; after a `?` some number is.
        """
        check_rate("error_rate", error_rate)
        calls = [call for call, _ in problem.steps]
        wrong_at = int(rng.integers(len(calls) + 1)) if rng.random() < error_rate else -1
        turns, spare = [], self.slack
        for number, call in enumerate(calls):
            if spare and rng.random() < self.malformed:
                turns.append(_garble(call, rng))
                spare -= 1
            if spare and self.useless and rng.random() < self.useless:
                turns.append(f"<T>{self._elsewhere(problem, call, rng)}</T>")
                spare -= 1
            if number == wrong_at and call != ASK:
                return play(self, problem, [*turns, *self._follow(problem, call, rng)]).transcript
            turns.append(f"<T>{call}</T>")
        last = slip(problem.answer, rng) if wrong_at >= 0 else problem.answer
        return play(self, problem, [*turns, last]).transcript

    def _follow(self, problem: Problem, call: str, rng: np.random.Generator) -> list[str]:
        """The turns of somebody who asks another place than `call` and believes what it says; at most as many as are left."""
        left = len(problem.steps) - [step for step, _ in problem.steps].index(call)
        place, turns = self._elsewhere(problem, call, rng), []
        for _ in range(left):
            turns.append(f"<T>{place}</T>")
            found = self.entry(problem, place)
            if _VALUE.fullmatch(found):
                return [*turns, found]
            if found == NOTHING:
                break
            place = self.table(found) + found
        return [*turns, slip(problem.answer, rng)]

    def _elsewhere(self, problem: Problem, call: str, rng: np.random.Generator) -> str:
        """A well-formed place that is not on the chain: the right key in another table, or a key with another letter."""
        on_chain = {step for step, _ in problem.steps}
        key = problem.steps[1][0][-2:] if call == ASK else call[-2:]
        while True:
            other = [name for name in TABLES[: self.tables] if self.tables > 1 and name != self.table(key)]
            if other and rng.random() < 0.5:
                return str(rng.choice(other)) + key
            letter = str(rng.choice(list(LETTERS)))
            changed = letter + key[1] if rng.random() < 0.5 else key[0] + letter
            if self.table(changed) + changed not in on_chain:
                return self.table(changed) + changed


@dataclass
class LookupEpisode:
    """One attempt at one chain."""

    task: Lookup
    problem: Problem
    turn: int = 0

    def look_up(self, place: str) -> str:
        """Look up a key.

        Args:
            place: the key, two letters; where there are several tables, after the name of one, like Bkq.

        Returns:
            Another key, a number of three digits, or ? if nothing is there.

        Raises:
            ValueError: the place is malformed.
        """
        return self.task.entry(self.problem, place)

    def ask(self) -> str:
        """Ask the user for the second letter of the first key.

        Returns:
            The letter.

        Raises:
            ValueError: the user of this task cannot be asked.
        """
        if not self.task.missing:
            raise ValueError("nothing is ever missing here, and nobody can be asked")
        first, letter = self.problem.steps[0]
        return letter if first == ASK else self.problem.prompt[1]

    def step(self, text: str) -> Reply:
        self.turn += 1
        if "<T>" not in text and "</T>" not in text:
            reward = -1.0 if self.turn == 1 else 0.0
            return Reply(None, reward, done=True, outcome=float(text.strip() == self.problem.answer))
        call = _CALL.fullmatch(text.strip())
        asked = call[1] if call else ""
        return observe(self.ask) if asked == ASK else observe(self.look_up, asked)


def _astray(problem: Problem, place: str) -> str:
    """A key or a number that leads to no right answer; always the same for the same problem and place."""
    digest = hashlib.blake2s(f"{problem.answer}|{problem.steps}|{place}".encode()).digest()
    number = int.from_bytes(digest[:8], "big")
    on_chain = {step[-2:] for step, _ in problem.steps}
    if number % 2:
        value = 100 + number // 2 % 900
        return str(value if str(value) != problem.answer else 100 + (value - 99) % 900)
    keys = (LETTERS[n // 26 % 26] + LETTERS[n % 26] for n in range(number // 2 % 676, 2 * 676))
    return next(key for key in keys if key not in on_chain)


def _garble(call: str, rng: np.random.Generator) -> str:
    """A call that no longer parses: a tag missing, nothing in it, a letter lost or a letter doubled."""
    broken = (f"<T>{call}", f"{call}</T>", "<T></T>", f"<T>{call[:-1]}</T>", f"<T>{call}{call[-1]}</T>")
    return broken[int(rng.integers(len(broken)))]
