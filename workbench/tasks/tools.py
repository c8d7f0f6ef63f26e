"""Tools as typed methods, and the box that lets a model call them: in JSON between tags, within bounds, whatever it writes.

    box = Toolbox(calculate, Store().get)
    box.answer('<tool_call>{"name": "calculate", "arguments": {"expression": "2**10"}}</tool_call>').text      # "1024"

A tool is a function or a bound method with type hints and a Google-style docstring, as TRL and transformers take them too.
Whatever goes wrong with a call is said to the model in words and counted, never raised: see `Observation`.
"""

from __future__ import annotations

import ast
import ctypes
import inspect
import json
import math
import operator
import queue
import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from workbench import sandbox
from workbench.tasks.code import SandboxBroke

OPEN, CLOSE = "<tool_call>", "</tool_call>"  # as in the chat templates of Qwen and Hermes
FAULTS = ("malformed", "unknown", "arguments", "long", "failed", "time")
CALLS = 8  # calls in one turn that are answered
STRIKES = 3  # calls of a tool in a row that may run out of time before it is out of order: in all boxes, for a while
REST = 10  # how many times longer than it was waited for; then it is tried again
_CALL = re.compile(re.escape(OPEN) + "(.*?)" + re.escape(CLOSE), re.DOTALL)
_TYPES: dict[type, tuple[type, ...]] = {float: (int, float)}  # JSON writes 2.0 as 2


@dataclass(frozen=True)
class Observation:
    """What a model is shown of its calls.

    Attributes:
        text: of bounded length and without control characters.
        faults: one for each call that went wrong. The model's: "malformed" (no JSON, or tags that do not match), "unknown" (no
            such tool), "arguments" (missing, unexpected, of the wrong type), "long" (too many characters, or too many calls).
            The tool's: "failed" (it raised), "time".
    """

    text: str
    faults: tuple[str, ...] = ()

    @property
    def invalid(self) -> bool:
        """Whether any call was not well-formed, which is the model's fault; what a well-formed call does is not."""
        return not {"malformed", "unknown", "arguments", "long"}.isdisjoint(self.faults)


class Toolbox:
    """Tools by name, the bounds of a call, and a count of what became of all calls.

    A call runs in a thread. One that is out of time is left behind and told to stop, which ends a loop in Python but not one
    inside an extension, nor a tool that holds the interpreter's lock: what a model wrote is run in the sandbox, not here.

    Attributes:
        tools: name -> what is called. counts: "calls", and each of `FAULTS`.
        seconds: for one call. characters: shown of one result. longest: characters of a call that is read.
    Raises:
        ValueError: no tools, two of one name, or a bound that is not positive. TypeError: a tool without type hints or docstring.
    """

    def __init__(
        self, *tools: Callable[..., Any], seconds: float = 10.0, characters: int = 2000, longest: int = 8000
    ) -> None:
        if not tools:
            raise ValueError("a toolbox needs at least one tool")
        if not (seconds > 0 and characters > 0 and longest > 0):
            raise ValueError(f"seconds, characters and longest must be positive, not {seconds}, {characters}, {longest}")
        self.tools: dict[str, Callable[..., Any]] = {}
        for tool in tools:
            if tool.__name__ in self.tools:
                raise ValueError(f"two tools are called {tool.__name__!r}; a call could mean either")
            schema(tool)
            self.tools[tool.__name__] = tool
        self.seconds, self.characters, self.longest = seconds, characters, longest
        self.counts: Counter[str] = Counter()

    def schemas(self) -> list[dict[str, Any]]:
        """The JSON schema of each tool, in the form that chat templates, TRL and vLLM take."""
        return [schema(tool) for tool in self.tools.values()]

    def described(self) -> str:
        """The tools and how to call them, in words, for a prompt."""
        listed = "\n".join(json.dumps(each["function"]) for each in self.schemas())
        example = json.dumps({"name": "NAME", "arguments": {"ARGUMENT": "VALUE"}})
        return f"You can call these tools:\n{listed}\nTo call one, write {OPEN}{example}{CLOSE} and end your turn."

    def answer(self, text: str) -> Observation | None:
        """What the calls in a turn give, one after the other; None if there is no call in it, not even a broken one."""
        inside = _CALL.findall(text)
        if text.count(OPEN) != len(inside) or text.count(CLOSE) != len(inside):
            self._count("calls")
            return self._wrong("malformed", f"every {OPEN} must be closed by one {CLOSE}, and calls cannot be nested")
        if not inside:
            return None
        seen = [self._read(call) for call in inside[:CALLS]]
        if len(inside) > CALLS:
            self._count("calls")
            seen.append(self._wrong("long", f"only the first {CALLS} of {len(inside)} calls were made"))
        return Observation("\n".join(each.text for each in seen), tuple(fault for each in seen for fault in each.faults))

    def _read(self, text: str) -> Observation:
        if len(text) > self.longest:
            self._count("calls")
            return self._wrong("long", f"the call has {len(text)} characters; at most {self.longest} are read")
        try:
            call = json.loads(text)
        except (ValueError, RecursionError) as error:
            self._count("calls")
            return self._wrong("malformed", f"the call is not JSON: {error}")
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            self._count("calls")
            return self._wrong("malformed", 'a call is {"name": ..., "arguments": {...}}')
        return self.call(call["name"], call.get("arguments", {}))

    def call(self, name: str, arguments: Any) -> Observation:
        """One call.

        Raises:
            SandboxBroke, sandbox.Unavailable: a tool could not be tried at all, which says nothing about the model.
        """
        self._count("calls")
        if name not in self.tools:
            return self._wrong("unknown", f"there is no tool {name[:100]!r}; there are {', '.join(self.tools)}")
        problem = _misfit(self.tools[name], arguments)
        if problem:
            return self._wrong("arguments", problem)
        tool = self.tools[name]
        health = _HEALTH.setdefault(getattr(tool, "__func__", tool), _Health())
        if health.strikes >= STRIKES and time.monotonic() < health.rests_until:
            return self._wrong("time", f"{name} is out of order")
        try:
            result = _within(self.seconds, lambda: tool(**arguments))
        except TimeoutError:
            health.strikes += 1
            health.rests_until = time.monotonic() + REST * self.seconds
            return self._wrong("time", f"{name} gave nothing within {self.seconds:g} s")
        except (SandboxBroke, sandbox.Unavailable):
            raise
        except Exception as error:
            health.strikes = 0
            return self._wrong("failed", f"{type(error).__name__}: {_said(error, self.characters)}")
        health.strikes = 0
        return Observation(_said(result, self.characters))

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        _TALLY[what] += 1

    def _wrong(self, fault: str, why: str) -> Observation:
        self._count(fault)
        return Observation(sandbox.printable(f"error: {why}", self.characters), (fault,))


@dataclass
class _Health:
    """How a tool has been lately: one that hangs in every episode must not hold up all of them."""

    strikes: int = 0
    rests_until: float = 0.0


_HEALTH: weakref.WeakKeyDictionary[Any, _Health] = weakref.WeakKeyDictionary()  # by function
_TALLY: Counter[str] = Counter()


def tally() -> Counter[str]:
    """What became of all calls in this process: the sum of the `counts` of all boxes there ever were."""
    return _TALLY.copy()


def _said(result: Any, characters: int) -> str:
    """A tool's result as text, cut to a length; what cannot be turned into text says so."""
    try:
        text = result if isinstance(result, str) else str(result)
    except Exception as error:
        text = f"(a {type(result).__name__} that cannot be shown: {type(error).__name__})"
    return sandbox.printable(text, characters)


def _misfit(tool: Callable[..., Any], arguments: Any) -> str:
    """What is wrong with the arguments of a call; empty if nothing is."""
    if not isinstance(arguments, dict):
        return "arguments must be a JSON object"
    taken = inspect.signature(tool).parameters
    try:
        inspect.signature(tool).bind(**arguments)
    except TypeError as error:
        return f"{tool.__name__}({', '.join(taken)}): {error}"
    hints = get_type_hints(tool)
    for name, value in arguments.items():
        wanted = hints[name]
        fits = not isinstance(wanted, type) or isinstance(value, _TYPES.get(wanted, (wanted,)))
        if not fits or (isinstance(value, bool) and wanted in (int, float)):
            return f"{name} must be of type {wanted.__name__}, not {type(value).__name__}"
    return ""


class _Overtime(BaseException):
    """Raised inside a tool's thread from outside, to end it."""


def _within(seconds: float, act: Callable[[], Any]) -> Any:
    """What `act` gives or raises, or TimeoutError."""
    given: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            given.put((act(), None))
        except BaseException as error:
            given.put((None, error if isinstance(error, Exception) else RuntimeError(repr(error))))

    thread = threading.Thread(target=work, daemon=True, name="tool")
    thread.start()
    try:
        value, error = given.get(timeout=seconds)
    except queue.Empty:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Overtime))
        raise TimeoutError from None
    if error is not None:
        raise error
    return value


def schema(tool: Callable[..., Any]) -> dict[str, Any]:
    """A tool's JSON schema, from its type hints and docstring.

    Raises:
        TypeError: one of them is missing; says what.
    """
    return _schema(getattr(tool, "__func__", tool), hasattr(tool, "__self__"))


@cache
def _schema(function: Callable[..., Any], bound: bool) -> dict[str, Any]:
    from transformers.utils import get_json_schema

    tool = function.__get__(object()) if bound else function
    try:
        return get_json_schema(tool)
    except Exception as error:
        raise TypeError(f"{function.__qualname__} cannot be a tool: {error}") from error


# ---- the tools --------------------------------------------------------------------------------------------------------


def calculate(expression: str) -> str:
    """Work out an expression of numbers.

    Args:
        expression: Numbers, parentheses and + - * / // % **, as in Python, such as (37 + 5) * 2**3.

    Returns:
        The result.
    """
    if len(expression) > 200:
        raise ValueError("at most 200 characters")
    return str(_value(ast.parse(expression.strip(), mode="eval").body))


_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip
_LARGEST = 10**100


def _value(node: ast.AST) -> int | float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        value: int | float = node.value
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        value = _OPERATORS[type(node.op)](_value(node.operand))
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        a, b = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and not (abs(b) <= 1000 and abs(b) * math.log10(max(abs(a), 2)) <= 100):
            raise ValueError("the power is too large")
        value = _OPERATORS[type(node.op)](a, b)
    else:
        raise ValueError("only numbers, parentheses and + - * / // % ** are known")
    if isinstance(value, complex) or not abs(value) <= _LARGEST:
        raise ValueError("the result is no real number up to 10**100")
    return value


class Store:
    """Notes by key, for as long as an episode lasts. entries, characters: how many there may be, and how long each."""

    def __init__(self, entries: int = 100, characters: int = 2000) -> None:
        self.entries, self.characters = entries, characters
        self.kept: dict[str, str] = {}

    def put(self, key: str, value: str) -> str:
        """Write a note down, in the place of an earlier one with the same key.

        Args:
            key: Its name.
            value: What to remember.

        Returns:
            A confirmation.
        """
        if len(key) + len(value) > self.characters:
            raise ValueError(f"key and value may have {self.characters} characters together")
        if key not in self.kept and len(self.kept) == self.entries:
            raise ValueError(f"there are {self.entries} notes already; delete one first")
        self.kept[key] = value
        return "kept"

    def get(self, key: str) -> str:
        """Read a note.

        Args:
            key: Its name.

        Returns:
            What was written.
        """
        if key not in self.kept:
            raise KeyError(f"no note of this name; there are {sorted(self.kept)}")
        return self.kept[key]

    def delete(self, key: str) -> str:
        """Throw a note away.

        Args:
            key: Its name.

        Returns:
            A confirmation.
        """
        self.get(key)
        del self.kept[key]
        return "deleted"


class Search:
    """Documents by title, found by the words of a query: BM25 (Robertson and Zaragoza, 2009), with idf as log(1 + ...).

    Args:
        documents: title -> text. The words of a title count as words of the text.
    """

    def __init__(self, documents: Mapping[str, str], k1: float = 1.2, b: float = 0.75) -> None:
        if not documents:
            raise ValueError("there is no document to search")
        self.documents, self.k1, self.b = dict(documents), k1, b
        self.words = {title: Counter(_words(f"{title} {text}")) for title, text in self.documents.items()}
        self.length = {title: sum(words.values()) for title, words in self.words.items()}
        self.mean = sum(self.length.values()) / len(self.length) or 1.0
        self.containing = Counter(word for words in self.words.values() for word in words)

    def scores(self, query: str) -> dict[str, float]:
        """The score of each document that has a word of the query, best first; equals in the order of the documents."""
        found = {}
        for title, words in self.words.items():
            total, norm = 0.0, self.k1 * (1 - self.b + self.b * self.length[title] / self.mean)
            for word in set(_words(query)) & words.keys():
                n = self.containing[word]
                idf = math.log(1 + (len(self.words) - n + 0.5) / (n + 0.5))
                total += idf * words[word] * (self.k1 + 1) / (words[word] + norm)
            if total:
                found[title] = total
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def search(self, query: str, count: int = 3) -> str:
        """Find documents by their words.

        Args:
            query: Words to look for.
            count: How many titles to give, at most 10.

        Returns:
            Titles with the beginning of each text, the best first.
        """
        found = list(self.scores(query))[: max(1, min(count, 10))]
        return "\n".join(f"{title}: {' '.join(self.documents[title].split())[:100]}" for title in found) or "nothing found"

    def read(self, title: str) -> str:
        """Read a document.

        Args:
            title: Its title, as the search gives it.

        Returns:
            The text.
        """
        if title not in self.documents:
            raise KeyError("no document has this title; use search to find one")
        return self.documents[title]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@cache
def python_documentation() -> dict[str, str]:
    """Python's own documentation of its commonest types and functions, by names such as `str.split`: always there."""
    import builtins
    import collections
    import itertools

    places: Sequence[tuple[str, Any]] = (
        ("", builtins), ("str.", str), ("list.", list), ("dict.", dict), ("set.", set), ("math.", math),
        ("itertools.", itertools), ("collections.", collections), ("re.", re),
    )  # fmt: skip
    return {
        prefix + name: inspect.getdoc(getattr(place, name)) or ""
        for prefix, place in places
        for name in dir(place)
        if not name.startswith("_") and callable(getattr(place, name)) and inspect.getdoc(getattr(place, name))
    }


def python(code: str) -> str:
    """Run a Python program. Nothing is kept from one call to the next.

    Args:
        code: The program. What it prints is shown.

    Returns:
        What it printed and, if it failed, how.
    """
    limits = sandbox.Limits(cpu=1.0, output=4000)
    result = sandbox.shared().submit(f"{code}\n\ndef ran_to_its_end_():\n    return 1\n", _RAN, limits=limits).result()
    if result.verdict is sandbox.Verdict.INFRASTRUCTURE:
        raise SandboxBroke(result.message)
    failed = "" if result.verdict is sandbox.Verdict.PASS else f"{result.verdict.value}: {result.message}".removesuffix(": ")
    printed = sandbox.printable(result.output.rstrip("\n"), 1500)  # short enough for what comes after it to be seen
    return "\n".join(part for part in (printed, failed) if part) or "(it printed nothing)"


_RAN = sandbox.suite("assert ran_to_its_end_() == 1")
