"""Tests that stay outside: what is called and the values it must return, and how an answer is compared.

Tests are written as Python, but never run as Python. Each assert is read as an expression and the one value that it must
have: the expression goes to the program, the value stays here, and they are compared here, as plain data. So there is nothing
in a test that an answer could fool: no truth value, no `__eq__`, no exception that is swallowed. What cannot be read this way is
refused when the suite is made, with what to write instead. Read are:

    assert f(2, [1]) == 3                  also f(g(2)), f(2, key=1), Stack([1]).pop(), f(2)[0], f(2).name
    assert f(2) is None                    or True or False
    assert abs(f(2) - 0.5) < 1e-9          or <=
    assert round(f(2), 3) == 0.5           within half a unit of that digit
    assert sorted(f(2)) == [1, 2, 3]       also set, frozenset, list and tuple
    with raises(ValueError): f(-1)         or pytest.raises
    s = Stack([1])                         then s.push(2), and s in later tests; such a suite keeps its order
    def check(candidate): ...              with asserts, then check(f); also def test_it(): ...
"""

from __future__ import annotations

import ast
import builtins
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.sandbox import codec

VIEWS: dict[str, Callable[[Any], Any]] = {
    view.__name__: view for view in (sorted, set, frozenset, list, tuple)
}  # what an answer may be looked at through, here


DONE = codec.framed(codec.VALUE, codec.encode(None))  # what a program says when it, or a statement, has run


@dataclass(frozen=True)
class Raised:
    """An exception instead of a value. name: of its type, as the program says it."""

    name: str

    def __str__(self) -> str:
        return f"an exception of type {self.name}"


@dataclass(frozen=True)
class Case:
    """One call and what it must return.

    Attributes:
        function, arguments: what is called. expected: what it must return; or a `Raised`, for that exception or one below it.
        tolerance: for floats, the largest absolute difference; 0 means equal. view: one of VIEWS, for the answer.
        expression: Python to be evaluated in place of a call of `function`. first: statements to run before it.
    """

    function: str
    arguments: tuple
    expected: object
    tolerance: float = 0.0
    view: str = ""
    expression: str = ""
    first: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.expression or (isinstance(self.function, str) and self.function.isidentifier())):
            raise ValueError(f"a case calls a function by its name, such as 'double', not {self.function!r}")
        if not isinstance(self.arguments, tuple):
            raise ValueError(f"arguments of the test of {self.function}: a tuple, such as (3,), not {self.arguments!r}")
        for name, value in (("arguments", self.arguments), ("expected", self.expected)):
            try:
                codec.encode(value.name if isinstance(value, Raised) else value)
            except codec.Unsupported as error:
                raise ValueError(f"{name} of the test of {self.function}: {error}; tests use plain data only") from None
        if not (isinstance(self.tolerance, (int, float)) and 0 <= self.tolerance < math.inf):
            raise ValueError(f"the tolerance of {self.function} must be 0 or more, not {self.tolerance!r}")
        if self.view and self.view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, not {self.view!r}")

    @functools.cached_property
    def asked(self) -> list[tuple]:
        """What the program is sent: (False, statement) for each of `first`, then (function, arguments) or (True, expression)."""
        call = (True, self.expression) if self.expression else (self.function, self.arguments)
        return [*((False, text) for text in self.first), call]

    @functools.cached_property
    def right(self) -> bytes:
        """What a program says whose answer is exactly the expected one, so that most answers need not be rebuilt to be compared;
        empty where an answer has to be looked at."""
        if self.view or isinstance(self.expected, Raised):
            return b""
        return DONE * len(self.first) + codec.framed(codec.VALUE, codec.encode(self.expected))

    def accepts(self, answer: object) -> bool:
        """Whether `answer`, plain data rebuilt outside the sandbox, or a `Raised`, is what was expected."""
        if isinstance(answer, Raised) or isinstance(self.expected, Raised):
            return _below(answer, self.expected)
        try:
            return same(self._seen(answer), self.expected, self.tolerance)
        except (OverflowError, TypeError):  # an integer too large to be near any float, an answer that has no such view
            return False

    def _seen(self, answer: Any) -> Any:
        if not self.view:
            return answer
        if len(answer) > codec.MEMBERS:  # which a set of hostile integers would need a minute to hold
            raise TypeError("too many members")
        return VIEWS[self.view](answer)

    def __str__(self) -> str:
        call = self.expression or f"{self.function}({', '.join(map(shown, self.arguments))})"
        if isinstance(self.expected, Raised):
            return f"{call} raises {self.expected.name}"
        return f"{self.view}({call}) == {shown(self.expected)}" if self.view else f"{call} == {shown(self.expected)}"


@dataclass(frozen=True)
class Suite:
    """The cases that a program must all get right."""

    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        if not self.cases:
            raise ValueError("a suite needs at least one test: with none, every program would pass")
        for case in self.cases:
            if not isinstance(case, Case):
                raise ValueError(f"a suite is made of cases, such as Case('double', (3,), 6), not of {case!r}")

    @functools.cached_property
    def keeps_order(self) -> bool:
        """Whether a test needs what was done before it; if not, the order is drawn anew for every program."""
        return any(case.first for case in self.cases)


def suite(tests: str | Suite | Sequence[Case]) -> Suite:
    """A suite from Python such as `assert f(2, [1]) == 3`; what is read is listed at the top of this module.

    Raises:
        ValueError: not Python, no test, a line that is not read (it is named), or neither text nor cases.
    """
    if isinstance(tests, Suite):
        return tests
    if not isinstance(tests, str):
        try:
            return Suite(tuple(tests))
        except TypeError:
            asked = "Python, such as 'assert double(3) == 6', a Suite or a list of Case"
            raise ValueError(f"tests are {asked}, not {tests!r}") from None
    try:
        lines = ast.parse(tests).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"the tests are not Python: {error}") from None
    cases: list[Case] = []
    first: list[str] = []
    lines = list(_flat(lines))
    for line in lines:
        _check_names(line, lines)
        if isinstance(line, (ast.Assert, ast.With)):
            cases.append(_case(line, tuple(first)))
            first.clear()
        else:
            first.append(_statement(line))
    if first and cases:
        raise ValueError(f"{first[-1]!r}, after the last test, tests nothing; a test is an assert")
    if first:
        raise ValueError(f"{first[-1]!r} tests nothing: a test is an assert, and there is none")
    return Suite(tuple(cases))


def _refused(line: ast.stmt, why: str) -> ValueError:
    return ValueError(f"line {line.lineno}, {ast.unparse(line)!r}: {why}. Write: assert f(arguments) == value")


def _check_names(line: ast.stmt, lines: list[ast.stmt]) -> None:
    """Refuse a name that nothing gives a value: every program would fail the test."""
    nodes = [node for other in lines for node in ast.walk(other)]
    used = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    used |= {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    known = {node.arg for node in nodes if isinstance(node, ast.arg)} | {*vars(builtins)}
    known |= {node.id for node in nodes if isinstance(node, ast.Name) and (id(node) in used or isinstance(node.ctx, ast.Store))}
    for node in ast.walk(line):
        if isinstance(node, ast.Name) and node.id not in known:
            raise _refused(line, f"{node.id} is not written out: no line before gives it a value")


def _flat(lines: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The lines, with those of test functions where they are called. Docstrings are left out."""
    checks: dict[str, ast.FunctionDef] = {}
    for line in lines:
        match line:
            case ast.FunctionDef(args=ast.arguments(args=[], posonlyargs=[], kwonlyargs=[], vararg=None, kwarg=None)):
                yield from _flat(line.body)
            case ast.FunctionDef(args=ast.arguments(args=[_], posonlyargs=[], kwonlyargs=[], vararg=None, kwarg=None)):
                checks[line.name] = line
            case ast.Expr(ast.Call(func=ast.Name(id=name), args=[ast.Name(id=given)], keywords=[])) if name in checks:
                put = _Renamed({checks[name].args.args[0].arg: given})
                yield from _flat([put.visit(inner) for inner in checks.pop(name).body])
            case ast.Expr(ast.Constant(str())):
                pass
            case _:
                yield line
    for line in checks.values():
        raise _refused(line, "it is never called with the function to test")


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.copy_location(ast.Name(self.names.get(node.id, node.id), node.ctx), node)


def _case(line: ast.Assert | ast.With, first: tuple[str, ...]) -> Case:
    tolerance, view, expected = 0.0, "", None
    match line:
        case ast.With(
            items=[ast.withitem(ast.Call(func=ast.Name("raises") | ast.Attribute(ast.Name("pytest"), "raises"),
                                         args=[ast.Name(id=kind)], keywords=[]), None)],
            body=[ast.Expr(called)],
        ):  # fmt: skip
            return _called(line, called, Raised(kind), 0.0, "", first)
        case ast.Assert(ast.Compare(called, [ast.Is()], [ast.Constant(value=None | bool()) as value])):
            pass
        case ast.Assert(
            ast.Compare(ast.Call(ast.Name("abs"), [ast.BinOp(called, ast.Sub(), value)], []), [ast.Lt() | ast.LtE()],
                        [ast.Constant(value=float() | int() as tolerance)])
        ):  # fmt: skip
            pass
        case ast.Assert(
            ast.Compare(ast.Call(ast.Name("round"), [called, ast.Constant(value=int() as digits)], []), [ast.Eq()], [value])
        ):
            tolerance = 0.5 * 10.0**-digits * (1 + 1e-9)
        case ast.Assert(ast.Compare(ast.Call(ast.Name(seen), [ast.Call() as called], []), [ast.Eq()], [value])) if seen in VIEWS:
            view = seen
        case ast.Assert(ast.Compare(called, [ast.Eq()], [value])) if not _weak(called):
            pass
        case ast.With():
            raise _refused(line, "of with statements only `with raises(ValueError): f(arguments)` is read")
        case _:
            raise _refused(line, "it accepts more than one value")
    try:
        expected = ast.literal_eval(value)
    except (ValueError, TypeError):
        raise _refused(line, "arguments and value must be written out") from None
    return _called(line, called, expected, float(tolerance), view, first)


def _weak(called: ast.expr) -> bool:
    """Whether a call says only a little about what the program returns."""
    match called:
        case ast.Call(ast.Name(id=name), [ast.Call()]):
            return name in ("len", "bool", "any", "all", "type", "isinstance", "callable", "hasattr", "id")
        case ast.Call(ast.Name("isinstance" | "hasattr")):
            return True
    return False


def _called(
    line: ast.stmt, called: ast.expr, expected: object, tolerance: float, view: str, first: tuple[str, ...]
) -> Case:  # fmt: skip
    """The case for an expression: a plain call if it is one, or else Python for the program's side."""
    try:
        if not any(isinstance(node, (ast.Call, ast.Attribute)) for node in ast.walk(called)):
            raise _refused(line, "nothing of the program is called")
        match called:
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                try:
                    return Case(name, tuple(map(ast.literal_eval, arguments)), expected, tolerance, view, first=first)
                except (ValueError, TypeError) as error:
                    if "plain data" in str(error):
                        raise _refused(line, str(error)) from None
        return Case("", (), expected, tolerance, view, _expression(line, called), first)
    except RecursionError:
        raise _refused(line, "it is nested too deeply") from None


_PARTS = (
    ast.Call, ast.Name, ast.Attribute, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Subscript, ast.Slice,
    ast.Starred, ast.keyword, ast.Lambda, ast.expr_context, ast.USub, ast.UAdd,
)  # fmt: skip


def _expression(line: ast.stmt, expression: ast.expr) -> str:
    """Python for the program's side. Arithmetic and comparisons would tell it what is expected."""
    waiting: list[ast.AST] = [expression]
    while waiting:
        node = waiting.pop()
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)
        if not (isinstance(node, _PARTS) or negative):
            raise _refused(line, f"{ast.unparse(node)!r} is not a call, a name or a value that is written out")
        if not isinstance(node, ast.Lambda):  # a function given to the program may do as it likes
            waiting.extend(ast.iter_child_nodes(node))
    return ast.unparse(expression)


def _statement(line: ast.stmt) -> str:
    """Python for the program's side that prepares a test."""
    match line:
        case ast.Expr(ast.Call() as value):
            return _expression(line, value)
        case ast.Assign([ast.Name() | ast.Subscript() | ast.Attribute() as target], value):
            return f"{_expression(line, target)} = {_expression(line, value)}"
    raise _refused(line, "a test is an assert; before it, only calls and assignments are read")


def _below(answer: object, expected: object) -> bool:
    """Whether an exception is the expected one, or by Python's own families below it."""
    if not (isinstance(answer, Raised) and isinstance(expected, Raised)):
        return False
    kind, base = (getattr(builtins, raised.name, None) for raised in (answer, expected))
    below = isinstance(kind, type) and isinstance(base, type) and issubclass(kind, base) and issubclass(base, BaseException)
    return answer.name == expected.name or below


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
        return str(value) if isinstance(value, Raised) else repr(value)
    except ValueError:
        return f"{type(value).__name__} with a very long integer"


def _exact(item: object) -> object:
    """A hashable that tells True from 1 and 1 from 1.0, inside tuples and frozensets too."""
    if isinstance(item, (tuple, frozenset)):
        return type(item), tuple(map(_exact, item)) if isinstance(item, tuple) else frozenset(map(_exact, item))
    return type(item), repr(item) if isinstance(item, (float, complex)) else item
