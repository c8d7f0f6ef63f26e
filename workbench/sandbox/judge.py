"""Tests that stay outside: calls and the values they must return, and how an answer is compared.

Tests are written as Python asserts, but never run as Python: each is read as one call of the program's function, its arguments
and the value expected. So there is nothing in a test that an answer could fool: no truth value, no `__eq__`, no exception that is
swallowed. An assert that cannot be read this way is refused when the suite is made, with what to write instead.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.sandbox import codec


@dataclass(frozen=True)
class Case:
    """One call and what it must return. tolerance: for floats, the largest absolute difference; 0 means equal."""

    function: str
    arguments: tuple
    expected: object
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("arguments", self.arguments), ("expected", self.expected)):
            try:
                codec.encode(value)
            except codec.Unsupported as error:
                raise ValueError(f"{name} of the test of {self.function}: {error}; tests use plain data only") from None
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"the tolerance of {self.function} must be 0 or more, not {self.tolerance!r}")

    def accepts(self, answer: object) -> bool:
        """Whether `answer`, plain data rebuilt outside the sandbox, is what was expected."""
        try:
            return same(answer, self.expected, self.tolerance)
        except OverflowError:  # an integer too large to be near any float
            return False

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(shown, self.arguments))}) == {shown(self.expected)}"


@dataclass(frozen=True)
class Suite:
    """The cases that a program must all get right."""

    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        if not self.cases:
            raise ValueError("a suite needs at least one test: with none, every program would pass")


def suite(tests: str | Suite | Sequence[Case]) -> Suite:
    """A suite from lines such as `assert f(2, [1]) == 3` and `assert abs(f(2) - 0.5) < 1e-9`.

    Raises:
        ValueError: not Python, no test, or an assert that is not one call compared with plain data; names the line.
    """
    if isinstance(tests, Suite):
        return tests
    if not isinstance(tests, str):
        return Suite(tuple(tests))
    try:
        lines = ast.parse(tests).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the tests are not Python: {error}") from None
    return Suite(tuple(_case(line) for line in lines))


def _case(line: ast.stmt) -> Case:
    def refuse(why: str) -> ValueError:
        return ValueError(f"line {line.lineno}, {ast.unparse(line)!r}: {why}. Write: assert f(arguments) == value")

    if not isinstance(line, ast.Assert):
        raise refuse("a test is an assert and nothing else")
    match line.test:
        case ast.Compare(left=ast.Call(func=ast.Name(id=name)) as call, ops=[ast.Eq()], comparators=[value]):
            tolerance = 0.0
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="abs"), args=[ast.BinOp(ast.Call(func=ast.Name(id=name)) as call, ast.Sub(), value)]),
            ops=[ast.Lt() | ast.LtE()], comparators=[ast.Constant(value=float() | int() as tolerance)],
        ):  # fmt: skip
            pass
        case _:
            raise refuse("it accepts more than one value")
    if call.keywords:
        raise refuse("arguments must be given by position")
    try:
        return Case(name, tuple(map(ast.literal_eval, call.args)), ast.literal_eval(value), float(tolerance))
    except (ValueError, TypeError) as error:
        raise refuse(str(error) if "plain data" in str(error) else "arguments and value must be written out") from None


def same(answer: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Equality of plain data, type by type: True is not 1, 1 is not 1.0, nan equals nan only where it is expected.

    With a tolerance, floats may differ by it, and an integer may stand for a float.
    """
    if tolerance and type(expected) in (int, float) and type(answer) in (int, float):
        if not (math.isfinite(answer) and math.isfinite(expected)):
            return repr(float(answer)) == repr(float(expected))
        return abs(answer - expected) <= tolerance
    if type(answer) is not type(expected):
        return False
    if isinstance(expected, (float, complex)):
        return answer == expected or (expected != expected and repr(answer) == repr(expected))
    if isinstance(expected, (list, tuple)):
        return len(answer) == len(expected) and all(map(same, answer, expected, [tolerance] * len(expected)))
    if isinstance(expected, dict):
        keys = {_exact(key): value for key, value in answer.items()}
        return len(answer) == len(expected) and all(
            _exact(key) in keys and same(keys[_exact(key)], value, tolerance) for key, value in expected.items()
        )
    if isinstance(expected, (set, frozenset)):
        return {_exact(item) for item in answer} == {_exact(item) for item in expected}
    return answer == expected


def shown(value: object) -> str:
    """`repr`, also of integers that Python refuses to print."""
    try:
        return repr(value)
    except ValueError:
        return f"{type(value).__name__} with a very long integer"


def _exact(item: object) -> object:
    """A hashable that tells True from 1 and 1 from 1.0, inside tuples and frozensets too."""
    if isinstance(item, (tuple, frozenset)):
        return type(item), tuple(map(_exact, item)) if isinstance(item, tuple) else frozenset(map(_exact, item))
    return type(item), repr(item) if isinstance(item, (float, complex)) else item
