"""Tests written as whole programs: what is read of them, what is refused, and that what they expect stays with the judge."""

# ruff: noqa: E501 (suites on a line of their own)

from __future__ import annotations

import marshal
import math
import os

import pytest

from workbench.sandbox import Case, Limits, Pool, Raised, Verdict, suite
from workbench.sandbox import pool as pool_module
from workbench.sandbox.answers import Answers, Ended, order_for
from workbench.sandbox.codec import MEMBERS, VALUE, decode, encode, framed

PROGRAM = """
def twice(x):
    if x is None: raise UnicodeEncodeError("ascii", "", 0, 1, "a kind of ValueError")
    return 2 * x
def compose(f, g): return lambda x: f(g(x))
def third(x, digits=9): return round(x / 3, digits)
def shuffled(xs): return tuple(reversed(xs))
class Stack:
    def __init__(self, items=()): self.items = list(items)
    def push(self, x): self.items.append(x)
    def pop(self): return self.items.pop()
"""
# name: the suite, and a change to the program that must fail it
SUITES = {
    "values": (
        "assert twice([]) == []\nassert Stack().push(1) is None\nassert Stack([1]).items == [1]\nassert twice('a')[-1] == 'a'",
        ("self.items = list(items)", "self.items = [0]"),
    ),
    "views": (
        "assert sorted(shuffled([3, 1, 2])) == [1, 2, 3]\nassert set(shuffled([1, 1])) == {1}\nassert list(shuffled([1, 2])) == [2, 1]",
        ("tuple(reversed(xs))", "(1,)"),
    ),
    "numbers": (
        "assert round(third(2), 3) == 0.667\nassert abs(third(1) - 0.3333) <= 1e-3\nassert third(1, digits=2) == 0.33",
        ("x / 3", "x / 4"),
    ),
    "functions": ("assert compose(lambda x: x + 1, twice)(3) == 7\nassert twice(twice(2)) == 8", ("2 * x", "3 * x")),
    "exceptions": (
        "with raises(ValueError):\n    twice(None)\nwith pytest.raises(TypeError):\n    twice()\nassert twice(1) == 2",
        ('raise UnicodeEncodeError("ascii", "", 0, 1, "a kind of ValueError")', "raise KeyError"),
    ),
    "steps": (
        "s = Stack([1])\ns.push(2)\nassert s.pop() == 2\ns.items = [7]\nt = s.pop()\nassert twice(t) == 14",
        ("self.items.append(x)", "pass"),
    ),
    "a check": (
        "'As HumanEval has it.'\ndef check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 6\ncheck(twice)",
        ("2 * x", "4"),
    ),
    "test functions": (
        "def test_twice():\n    'It doubles.'\n    assert twice(2) == 4\n\ndef test_again():\n    assert twice(0) == 0",
        ("2 * x", "4"),
    ),
}


@pytest.fixture(scope="module")
def pool():
    with Pool(1, limits=Limits(cpu=0.5)) as pool:
        yield pool


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_as_people_write_it_passes_what_is_right_and_fails_one_wrong_answer(name, pool):
    tests, change = SUITES[name]
    assert change[0] in PROGRAM
    right, wrong = pool.judge([(PROGRAM, tests), (PROGRAM.replace(*change), tests)])
    assert right.verdict is Verdict.PASS and right.passed == right.cases, right
    assert wrong.verdict is not Verdict.PASS and wrong.reward == 0, wrong


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("assert len(f([1])) == 1", "more than one value"),
        ("assert isinstance(f(1), int) == True", "more than one value"),
        ("assert any(f(1)) == True", "more than one value"),
        ("assert f(1) in [1, 2]", "more than one value"),
        ("assert f(1) is not None", "more than one value"),
        ("assert f(1) == 1 and f(2) == 2", "more than one value"),
        ("assert f(1) - 1 == 0", "not a call, a name or a value"),
        ("assert [f(1), 2 > 1] == [1, True]", "not a call, a name or a value"),
        ("assert 1 == 1", "nothing of the program is called"),
        ("import math\nassert f(1) == 1", "only calls and assignments"),
        ("for n in range(3):\n    assert f(n) == n", "a test is an assert"),
        ("with open('x'): f(1)", "raises"),
        ("with raises(ValueError):\n    f(1)\n    f(2)", "raises"),
        ("assert f(1) == 1\nf(2)", "after the last test"),
        ("f(2)", "there is none"),
        ("def check(candidate):\n    assert candidate(1) == 1", "never called"),
        ("assert f(1) == {'a': print}", "written out"),
        ("assert f(x, y) == 1", "x is not written out: no line before"),
        ("assert f(" + "[" * 40 + "]" * 40 + ") == 1", "plain data only"),
    ],
)
def test_what_says_too_little_or_too_much_is_refused_with_its_line(tests, message):
    with pytest.raises(ValueError, match=message):
        suite(tests)


def test_what_is_expected_never_leaves_the_judge(monkeypatch):
    sent, real = [], os.write
    monkeypatch.setattr(pool_module.os, "write", lambda to, data: sent.append(bytes(data)) or real(to, data))
    tests = "assert f(1) == 24681357\nassert sorted(f(2)) == [24681357]\nassert abs(f(3) - 24681357.5) < 1e-3\nassert round(f.__call__(4), 1) == 24681357.5"
    with Pool(1) as pool:
        pool.judge([("def f(x): return x", line) for line in [tests, *tests.splitlines(), "with raises(IsADirectoryError): f(4)"]])
    held = b"".join(sent)
    assert held.count(b"def f(x)") == 6
    for secret in (24681357, 24681357.5, "IsADirectoryError"):
        assert marshal.dumps(secret)[1:] not in held and str(secret).encode() not in held


def test_an_answer_that_has_no_such_view_or_too_many_members_is_wrong():
    assert not suite("assert sorted(f(1)) == [1]").cases[0].accepts(1)
    assert not suite("assert set(f(1)) == {1}").cases[0].accepts([[1]])
    many = suite("assert set(f(1)) == {1}").cases[0]
    assert many.accepts([1] * MEMBERS) and not many.accepts([1] * (MEMBERS + 1))
    with pytest.raises(ValueError, match="view must be one of"):
        Case("f", (1,), 1, view="len")


def test_an_exception_is_never_a_value_and_pythons_own_families_count():
    case = suite("with raises(LookupError): f(1)").cases[0]
    assert case.accepts(Raised("LookupError")) and case.accepts(Raised("KeyError"))
    assert not any(map(case.accepts, ["LookupError", None, Raised("Exception"), Raised("print"), Raised("Mine")]))
    assert not Case("f", (1,), "KeyError").accepts(Raised("KeyError"))


def test_only_a_suite_whose_tests_build_on_each_other_keeps_its_order():
    alone, built = suite("assert f(1) == 1\nassert f(2) == 2"), suite("s = g()\nassert s.a() == 1\nassert s.a() == 2")
    assert not alone.keeps_order and built.keeps_order
    orders = {tuple(map(alone.cases.index, order_for(f"program {n}", alone))) for n in range(40)}
    assert orders == {(0, 1), (1, 0)}
    assert all(tuple(order_for(f"program {n}", built)) == built.cases for n in range(9))


class Cut(Answers):
    """A program whose words arrive `size` bytes at a time."""

    def __init__(self, words, size):
        super().__init__(Limits())
        self.parts = [words[n : n + size] for n in range(0, len(words), size)]

    def _more(self):
        del self.heard[: self.place]
        self.place = 0
        if not self.parts:
            raise Ended(Verdict.PROTOCOL)
        self.heard += self.parts.pop(0)


def _verdict(talk, order):
    try:
        return sum(1 for _ in talk.cases(order)), talk.left_over or bool(talk.parts)
    except Ended as ended:
        return ended.verdict


def test_an_answer_is_right_however_its_bytes_arrive_and_wrong_if_one_of_them_differs():
    tests = suite("s = g()\nassert f(1) == [1, 'a', (True, None, 0.5)]\nassert set(f(3)) == {1}\nassert f(4) == 9")
    answers = (None, None, [1, "a", (True, None, 0.5)], [1, 1], 9)
    words = b"".join(framed(VALUE, encode(answer)) for answer in answers)
    assert {_verdict(Cut(words, size), tests.cases) for size in range(1, len(words) + 1)} == {(3, False)}
    assert _verdict(Cut(words + b"v", 7), tests.cases) == (3, True)
    for place in range(len(words)):
        changed = words[:place] + bytes([words[place] ^ 64]) + words[place + 1 :]
        found = {_verdict(Cut(changed, size), tests.cases) for size in (1, 5, len(words))}
        assert len(found) == 1 and (3, False) not in found, place


def test_what_is_right_byte_for_byte_is_what_the_comparison_accepts():
    for value in (True, -0.0, math.nan, [math.inf], {"a": {1}}, {1: 2, 0.5: None}, (b"", ""), 10**99, complex(math.nan, 0)):
        for tolerance in (0.0, 1e-9):
            case = Case("f", (), value, tolerance)
            assert case.right == framed(VALUE, encode(value)) and case.accepts(decode(encode(value)))
    assert Case("f", (), [1], view="sorted").right == Case("f", (), Raised("KeyError")).right == b""
