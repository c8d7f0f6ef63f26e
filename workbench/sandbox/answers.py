"""The conversation with a program, whatever contains it: what it is asked, in which order, and what its answers mean."""

from __future__ import annotations

import hashlib
import marshal
import struct
from collections.abc import Iterator, Sequence

from workbench.sandbox import codec
from workbench.sandbox.judge import DONE, Case, Raised, Suite, shown
from workbench.sandbox.verdict import Limits, Verdict


class Ended(Exception):
    """The program has come to its verdict."""

    def __init__(self, verdict: Verdict, message: str = "") -> None:
        self.verdict, self.message = verdict, message


def questions(program: str, cases: Sequence[Case]) -> bytes:
    """A program and what it will be asked, as bytes.

    Raises:
        Ended: a program that is too long.
    """
    if len(program) > codec.FRAME:
        raise Ended(Verdict.UNSUPPORTED_VALUE, f"the program has more than {codec.FRAME} characters")
    calls: list[tuple] = [(None, program)]
    for case in cases:
        calls += case.asked
    data = marshal.dumps(calls)
    return struct.pack(">I", len(data)) + data


def order_for(program: str, tests: Suite) -> list[Case]:
    """The cases in an order that depends on the program's text, so that a program cannot count its calls and know the test."""
    if tests.keeps_order:
        return list(tests.cases)
    count = len(tests.cases)
    drawn = struct.unpack(f">{count}I", hashlib.shake_128(program.encode(errors="replace")).digest(4 * count))
    return [tests.cases[number] for number in sorted(range(count), key=drawn.__getitem__)]


class Answers:
    """What is heard of one program, with everything that may go wrong turned into a verdict."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.heard, self.place = limits, bytearray(), 0  # what it said, and where what it says next begins

    @property
    def left_over(self) -> bool:
        """Whether it said more than has been listened to."""
        return len(self.heard) > self.place

    def cases(self, order: Sequence[Case]) -> Iterator[int]:
        """Compare one answer after the other with what is expected; how many were right so far, after each.

        Raises:
            Ended: at the first that is not.
        """
        if not self.says(DONE):
            self.hear()  # the program itself has run
        for number, case in enumerate(order, 1):
            if not (case.right and self.says(case.right)):
                for _ in case.first:
                    self.hear()
                answer = self.hear(isinstance(case.expected, Raised))
                if not case.accepts(answer):
                    raise Ended(Verdict.WRONG_ANSWER, f"{case}, not {shown(answer)}")
            yield number

    def says(self, words: bytes) -> bool:
        """Whether what it says next is `words`, byte for byte. If so they count as heard; if not, nothing does.

        Raises:
            Ended: it says too little to tell.
        """
        while not self.heard.startswith(words, self.place):
            if not words.startswith(self.heard[self.place :]):
                return False
            self._more()
        self.place += len(words)
        return True

    def hear(self, exceptions: bool = False) -> object:
        """The next value that the program returns. exceptions: give one as a `Raised`, too.

        Raises:
            Ended: it did not return plain data.
        """
        while (message := self._message()) is None:
            self._more()
        kind = message[0]
        try:
            if kind == codec.VALUE:
                return codec.decode(message[1:])
            if kind == codec.EXCEPTION:
                match codec.decode(message[1:]):
                    case (str(name), str()) if exceptions:
                        return Raised(name)
                    case (str(name), str(text)):
                        raise Ended(Verdict.MEMORY if name == "MemoryError" else Verdict.EXCEPTION, f"{name}: {text}")
        except codec.Malformed as error:
            raise Ended(Verdict.PROTOCOL, f"it answered something that is no answer: {error}") from None
        if kind == codec.UNSUPPORTED:
            raise Ended(Verdict.UNSUPPORTED_VALUE, f"it returned {message[1:].decode(errors='replace')}")
        raise Ended(Verdict.PROTOCOL, "it answered something that is no answer")

    def _more(self) -> None:
        """Wait until more is heard.

        Raises:
            Ended: no more will be.
        """
        raise NotImplementedError

    def _message(self) -> bytes | None:
        """One message out of what was heard, never empty, or None if there is no whole one."""
        heard, begin = self.heard, self.place + 4
        if len(heard) < begin:
            return None
        size = int.from_bytes(heard[self.place : begin], "big")
        if not 0 < size <= 1 + codec.FRAME:
            raise Ended(Verdict.PROTOCOL, f"it announced an answer of {size} bytes")
        if len(heard) < begin + size:
            return None
        self.place = begin + size
        return bytes(heard[begin : self.place])
