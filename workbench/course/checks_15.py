"""Checks of chapter 15, code tasks and the sandbox.

A check runs no program of the learner's: the notebook has the sandbox judge it and hands over what was said. So it believes what
the notebook tells it, as every check does; who grades runs the notebook again.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from workbench.course.checks import expect

TESTS = "assert square(3) == 9\nassert square(-2) == 4"

# One forgery for each judge, and one for them all; recorded in data/attacks.json for machines without a sandbox.
FORGERIES = {
    "exit code": "raise SystemExit",
    "marker": 'print("ALL TESTS PASSED")\nraise SystemExit',
    "same process": "import builtins\nbuiltins.exec = lambda *args: None",
    "nonce": (
        "import sys\n"
        "def square(x):\n"
        "    constants = sys._getframe(1).f_code.co_consts\n"
        "    print([c for c in constants if isinstance(c, str) and len(c) == 32][-1])\n"
        "    raise SystemExit"
    ),
    "everything": (
        "class Yes:\n"
        "    def __eq__(self, other):\n"
        "        return True\n"
        "def square(x):\n"
        "    return Yes()"
    ),
}  # fmt: skip

_HINTS: dict[str, tuple[tuple[Callable[[str], bool], str], ...]] = {
    "exit code": (
        (lambda text: any(f"{leave}({code})" in text for leave in ("exit", "SystemExit") for code in "123456789"),
         "you do leave early, but with a code that means failure: 0, or none at all, means success"),
        (lambda text: "exit" not in text and "Exit" not in text,
         "the script has to end before an assert fails, and with code 0: which exception does exit() raise?"),
        (lambda text: "def " in text and "square" not in text,
         "your function is never called: the tests call square, or leave while the program loads"),
    ),
    "marker": (
        (lambda text: "ALL TESTS PASSED" not in text, "the judge wants the very line ALL TESTS PASSED"),
        (lambda text: "exit" not in text and "Exit" not in text,
         "you print the line, but then an assert fails, and its traceback comes after it: leave once you have printed"),
    ),
    "same process": (
        (lambda text: "exit" in text or "Exit" in text,
         "this judge waits for an answer, and who leaves gives none: SystemExit is no Exception, so nothing catches it"),
        (lambda text: "AssertionError" in text,
         "an assert raises Python's own AssertionError, whatever the name means now; what does the judge do after your program?"),
    ),
    "nonce": (
        (lambda text: "ALL TESTS PASSED" in text, "that line was the other judge's; this one draws a new one for every run"),
        (lambda text: "co_consts" not in text and "__eq__" not in text,
         "the line is text in the very script that runs you: a frame has f_code, and that has co_consts"),
        (lambda text: "raise" in text and "def " not in text,
         "the compiler drops what can never be reached: after a bare `raise` the last print is gone, and its line with it. "
         "Raise inside of the function that the tests call"),
    ),
    "everything": (
        (lambda text: "__eq__" not in text, "all four do meet the asserts if nobody leaves: what does == ask the left side for?"),
        (lambda text: "__eq__" in text and "True" not in text, "your __eq__ does not say True"),
        (lambda text: "square" not in text, "the tests call square: have it return your object"),
    ),
}  # fmt: skip


def _forged(judge: str) -> Callable[[Any], str | None]:
    def look(told: Any) -> str | None:
        if not isinstance(told, dict) or not {"program", "believed", "reward"} <= told.keys():
            return "hand over what `attempt` returned"
        if told["believed"] is None:
            return "nothing can contain your program on this machine, so it was not run; ours was, elsewhere, and forges it"
        if told["reward"] == 1:
            return "this program works: it is paid because it deserves it. A forgery is wrong, and paid all the same"
        if told["believed"]:
            return None
        text = told["program"]
        return next((hint for holds, hint in _HINTS[judge] if holds(text)), "the judge was not fooled: not paid")

    return look


_PRAISE = {
    "exit code": "forged: paid in full, and the real judge gives it nothing",
    "marker": "forged: to print a line is no proof of anything",
    "same process": "forged: who runs in the judge's process can replace the judge",
    "nonce": "forged: a secret is no secret from the process that holds it",
    "everything": "forged four times: the comparison itself was the program's",
}

for _judge, _word in (
    ("exit code", "exit_code"), ("marker", "marker"), ("same process", "same_process"), ("nonce", "nonce"),
    ("everything", "everything"),
):  # fmt: skip
    expect(
        f"15.{_word}",
        {"program": FORGERIES[_judge], "believed": True, "reward": 0.0},
        judge=_forged(_judge),
        praise=_PRAISE[_judge],
    )


def _same(answer: Any, expected: Any) -> bool:
    if type(answer) is not type(expected):
        return False
    if isinstance(expected, (list, tuple)):
        return len(answer) == len(expected) and all(map(_same, answer, expected))
    return bool(answer == expected) or (answer != answer and expected != expected)


_NAN = float("nan")
_PAIRS: tuple[tuple[Any, Any], ...] = (
    (9, 9), (9, 8), (9.0, 9), (True, 1), (0, False), ("9", 9), ([1, 2], [1, 2]), ((1, 2), [1, 2]), ([1, True], [1, 1]),
    ([1, 2, 3], [1, 2]), ([1], [1, 2]), ([], []), ([[1.0]], [[1]]), (_NAN, 0.5), (_NAN, _NAN), (0.5, _NAN), (None, 0),
    ([[], [0]], [[], [0]]), ("", []), (None, None), ([_NAN], [_NAN]),
)  # fmt: skip


def _pairs(rng: np.random.Generator) -> tuple:
    answer, expected = _PAIRS[int(rng.integers(len(_PAIRS)))]
    copy = float("nan") if isinstance(answer, float) and math.isnan(answer) else answer
    return copy, expected


def _outer(answer: Any, expected: Any) -> bool:
    return type(answer) is type(expected) and bool(answer == expected or (answer != answer and expected != expected))


def _zipped(answer: Any, expected: Any) -> bool:
    if type(answer) is not type(expected):
        return False
    if isinstance(expected, (list, tuple)):
        return all(map(_zipped, answer, expected))
    return bool(answer == expected) or (answer != answer and expected != expected)


def _without_nan(answer: Any, expected: Any) -> bool:
    if type(answer) is not type(expected):
        return False
    if isinstance(expected, (list, tuple)):
        return len(answer) == len(expected) and all(map(_without_nan, answer, expected))
    return bool(answer == expected)


def _isinstance(answer: Any, expected: Any) -> bool:
    if not isinstance(answer, type(expected)):
        return False
    if isinstance(expected, (list, tuple)):
        return len(answer) == len(expected) and all(map(_isinstance, answer, expected))
    return bool(answer == expected) or (answer != answer and expected != expected)


expect(
    "15.same",
    _same,
    inputs=_pairs,
    cases=120,
    mistakes={
        "for Python, True == 1 and 9.0 == 9: compare the types as well": lambda a, e: bool(a == e),
        "`isinstance(True, int)` holds: ask for the very type": _isinstance,
        "the types are compared on the outside only: [1, True] passes for [1, 1]": _outer,
        "`zip` stops at the shorter list, so a longer answer passes, and an empty one for anything": _zipped,
        "nan is the one value that does not equal itself: where nan is expected, nothing can pass": _without_nan,
        "you compare what they look like in print, in which \"9\" may be 9": lambda a, e: str(a) == str(e),
        "two things of one type need not be equal": lambda a, e: type(a) is type(e),
    },
    praise="correct: one value passes, and nothing else",
)  # fmt: skip


def _swallowed(f: Callable) -> None:
    with contextlib.suppress(Exception):
        assert f(4) == 2


def _tolerant(f: Callable) -> None:
    assert not abs(f(2) - 0.5) > 1e-9


def _truthy(f: Callable) -> None:
    assert f([3, 1, 2])


def _long(f: Callable) -> None:
    assert len(f([3, 1, 2])) == 3


def _sound(f: Callable) -> None:
    assert f([3, 1, 2]) == [1, 2, 3]


# test, what a right program returns, and why it can be bought
_WEAK: dict[str, tuple[Callable, Any, str]] = {
    "tolerance": (_tolerant, 0.5, "which number is neither above nor below anything?"),
    "truth": (_truthy, [1, 2, 3], "it takes anything that counts as true"),
    "length": (_long, [1, 2, 3], "it takes any three things"),
    "swallowed": (_swallowed, 2, "a failed assert is an exception, too"),
    "equal": (_sound, [1, 2, 3], "it takes one value only"),
}


def _bought(values: Any) -> str | None:
    if not isinstance(values, dict) or not values.keys() <= _WEAK.keys():
        return f"a dictionary, with some of the names {', '.join(_WEAK)}"
    for name, value in values.items():
        test, right, why = _WEAK[name]
        try:
            test(lambda x, value=value: value)
        except Exception:
            return f"{name!r} does not accept {value!r}: {why}"
        if _same(value, right):
            return f"{name!r}: that is the right answer; find a wrong one that passes"
        if name == "equal":
            return "'equal': you found a way to fool == itself, as in exercise 3; plain data cannot, so leave this one out"
    missing = [name for name in _WEAK if name != "equal" and name not in values]
    return f"{missing[0]!r} can be bought as well: {_WEAK[missing[0]][2]}" if missing else None


expect(
    "15.bought",
    {"tolerance": _NAN, "truth": True, "length": [0, 0, 0], "swallowed": None},
    judge=_bought,
    praise="correct: four of the five tests pay for rubbish",
)
