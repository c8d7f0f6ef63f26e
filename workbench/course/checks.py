"""Checks of exercises: right, not yet, or the mistake by its name.

A chapter's checks are declared in `workbench/course/checks_NN.py` with `expect`; a notebook says
`check("09.leave_one_out", leave_one_out)`, and a grader runs the same checks on a whole notebook with `grade`. A check
compares the learner's function with a reference on a few seeded inputs; where it differs, wrong answers that people
often give are tried, and the one that explains every output is named.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import seeding

_REGISTRY: dict[str, _Expectation] = {}


@dataclass(frozen=True)
class Result:
    """What a check found. `status` is "correct", "not yet" or "wrong"; `function` is the learner's own answer where it
    is correct and the reference where it is not, so that a notebook can go on with something that works."""

    name: str
    status: str
    message: str
    function: Any = None

    def __bool__(self) -> bool:
        return self.status == "correct"

    def __str__(self) -> str:
        mark = {"correct": "✔", "not yet": "…", "wrong": "✘"}[self.status]
        return f"{mark} {self.name}: {self.message}"

    __repr__ = __str__


@dataclass(frozen=True)
class _Expectation:
    reference: Any
    inputs: Callable[[np.random.Generator], tuple] | None
    mistakes: Mapping[str, Any]
    cases: int
    tolerance: float
    praise: str
    judge: Callable[[Any], str | None] | None


def expect(
    name: str,
    reference: Any,
    *,
    inputs: Callable[[np.random.Generator], tuple] | None = None,
    mistakes: Mapping[str, Any] | None = None,
    cases: int = 5,
    tolerance: float = 1e-5,
    praise: str = "correct",
    judge: Callable[[Any], str | None] | None = None,
) -> None:
    """Declare the check `name` ("NN.word", where word is what the learner's notebook calls it).

    With `inputs` (a function of a numpy Generator that returns the arguments as a tuple) the answer is a function,
    compared with the function `reference` on `cases` draws; without, it is a value compared with the value
    `reference`. `mistakes` maps a sentence ("you divided by ...") to the wrong function or value it explains. Numbers,
    arrays and tensors agree within `tolerance` (absolute and relative). Where many answers are right, `judge` takes the
    answer and returns None or what is wrong with it, in words. Raises ValueError for a malformed or repeated name, for a
    mistake that gives the right answer on every draw, and for a judge that refuses the reference.
    """
    chapter, _, word = name.partition(".")
    if not (len(chapter) == 2 and chapter.isdigit() and word.isidentifier()):
        raise ValueError(f"a check is named like '09.leave_one_out', not {name!r}")
    if name in _REGISTRY:
        raise ValueError(f"the check {name!r} is declared twice")
    known = _Expectation(reference, inputs, dict(mistakes or {}), cases, tolerance, praise, judge)
    if judge is not None:
        if inputs or mistakes:
            raise ValueError(
                f"{name}: a judge looks at the answer itself; give it neither inputs nor mistakes"
            )
        if (refusal := judge(reference)) is not None:
            raise ValueError(f"{name}: the judge refuses the reference: {refusal}")
    for message, wrong in known.mistakes.items():
        if all(
            _agree(_answer(known, wrong, i, name), _answer(known, reference, i, name), tolerance)
            for i in _draws(known)
        ):
            raise ValueError(f"{name}: the mistake {message!r} gives the right answer on every input")
    _REGISTRY[name] = known


def check(name: str, answer: Any = None) -> Result:
    """Check one exercise, print the verdict and return it. Raises ValueError if there is no check of that name."""
    result = _run(name, answer)
    print(result)
    return result


def names(chapter: str | int) -> list[str]:
    """The checks of a chapter (9 or "09"), in the order they are declared."""
    number = f"{int(chapter):02d}"
    module = f"workbench.course.checks_{number}"
    if importlib.util.find_spec(module) is not None:
        importlib.import_module(module)
    return [name for name in _REGISTRY if name.startswith(f"{number}.")]


def grade(chapter: str | int, namespace: Mapping[str, Any]) -> list[Result]:
    """Run a chapter's checks on what a notebook defined; a name it does not define counts as not yet.

    So does our own function: `f = check(name, f).function` leaves it under the learner's name when the exercise is unsolved.
    """
    results = []
    for name in names(chapter):
        answer = namespace.get(name.partition(".")[2])
        lent = callable(answer) and answer is _REGISTRY[name].reference
        results.append(_run(name, None if lent else answer))
    return results


def _run(name: str, answer: Any) -> Result:
    if name not in _REGISTRY and name not in names(name[:2] if name[:2].isdigit() else 0):
        raise ValueError(
            f"there is no check {name!r}; chapter {name[:2]} has {names(name[:2]) if name[:2].isdigit() else []}"
        )
    known = _REGISTRY[name]
    status, message = _verdict(known, answer, name)
    return Result(name, status, message, answer if status == "correct" else known.reference)


def _draws(known: _Expectation) -> range:
    return range(known.cases if known.inputs else 1)


def _arguments(known: _Expectation, case: int, name: str) -> tuple:
    if known.inputs is None:
        return ()
    arguments = known.inputs(seeding.generator(0, "check", name, case))
    return arguments if isinstance(arguments, tuple) else (arguments,)


def _answer(known: _Expectation, function: Any, case: int, name: str) -> Any:
    return function(*_arguments(known, case, name)) if known.inputs else function


def _blank(value: Any) -> bool:
    """None and ... are what stubs leave, alone or as all of a tuple or a list."""
    if isinstance(value, (tuple, list)) and value:
        return all(_blank(item) for item in value)
    return value is None or value is Ellipsis


def _verdict(known: _Expectation, answer: Any, name: str) -> tuple[str, str]:
    if _blank(answer):
        return "not yet", "not yet"
    if known.judge is not None:
        try:
            refusal = known.judge(answer)
        except NotImplementedError:
            return "not yet", "not yet"
        except Exception as error:
            return "wrong", f"your answer stops the check with {type(error).__name__}: {error}"
        return ("correct", known.praise) if refusal is None else ("wrong", refusal)
    if known.inputs is None:
        return _compare(known, [answer], [known.reference], {m: [w] for m, w in known.mistakes.items()}, None)
    if not callable(answer):
        return "wrong", f"this should be a function, but it is {_short(answer)}"
    got, wanted = [], []
    for case in _draws(known):
        arguments = _arguments(known, case, name)
        before = copy.deepcopy(arguments)
        try:
            value = answer(*arguments)
        except NotImplementedError:
            return "not yet", "not yet"
        except Exception as error:  # whatever a learner's code can raise is told in words
            return "wrong", _crash(error, before)
        if _blank(value):
            return "not yet", "not yet" if case == 0 else f"your function returns nothing for {_call(before)}"
        if not _agree(arguments, before, 0.0):
            return "wrong", "your function changes its input; work on a copy"
        got.append(value)
        wanted.append(_answer(known, known.reference, case, name))
    wrong = {m: [_answer(known, w, case, name) for case in _draws(known)] for m, w in known.mistakes.items()}
    return _compare(known, got, wanted, wrong, lambda case: _call(_arguments(known, case, name)))


def _compare(
    known: _Expectation, got: list, wanted: list, wrong: Mapping[str, list], call: Callable[[int], str] | None
) -> tuple[str, str]:
    bad = [
        case for case, (a, b) in enumerate(zip(got, wanted, strict=True)) if not _agree(a, b, known.tolerance)
    ]
    if not bad:
        return "correct", known.praise
    for message, outputs in wrong.items():
        if all(_agree(a, b, known.tolerance) for a, b in zip(got, outputs, strict=True)):
            return "wrong", message
    case = bad[0]
    mine, right = got[case], wanted[case]
    if call is None:
        return "wrong", f"not {_short(mine)}"
    shapes = _shape(mine), _shape(right)
    if shapes[0] != shapes[1]:
        return "wrong", f"for {call(case)} you return {shapes[0]}, wanted is {shapes[1]}"
    numbers, truth = _array(mine), _array(right)
    if (
        numbers is not None
        and truth is not None
        and np.isfinite(truth).all()
        and not np.isfinite(numbers).all()
    ):
        return (
            "wrong",
            f"for {call(case)} your answer has values that are not finite (nan or inf): a division by zero?",
        )
    return "wrong", f"for {call(case)} you return {_short(mine)}, wanted is {_short(right)}"


def _array(value: Any) -> np.ndarray | None:
    """Numbers, arrays and tensors as one numpy array; None for anything else."""
    if hasattr(value, "detach"):  # a tensor, without importing torch
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        array = np.asarray(value)
        return array if array.dtype.kind in "biuf" else None
    if isinstance(value, (list, tuple)) and value:
        parts = [_array(item) for item in value]
        if all(part is not None for part in parts) and len({part.shape for part in parts}) == 1:  # type: ignore[union-attr]
            return np.stack(parts)  # type: ignore[arg-type]
    return None


def _agree(mine: Any, right: Any, tolerance: float) -> bool:
    a, b = _array(mine), _array(right)
    if a is not None and b is not None:
        if a.shape != b.shape:
            return False
        return bool(
            np.allclose(a.astype(float), b.astype(float), rtol=tolerance, atol=tolerance, equal_nan=True)
        )
    if isinstance(right, Mapping) and isinstance(mine, Mapping):
        return mine.keys() == right.keys() and all(_agree(mine[key], right[key], tolerance) for key in right)
    if isinstance(right, (list, tuple)) and isinstance(mine, (list, tuple)):
        return len(mine) == len(right) and all(
            _agree(x, y, tolerance) for x, y in zip(mine, right, strict=True)
        )
    try:
        return bool(mine == right)
    except Exception:  # objects that refuse to be compared are not equal
        return mine is right


def _shape(value: Any) -> str:
    array = _array(value)
    if array is not None:
        return "a number" if array.ndim == 0 else f"an array of shape {tuple(array.shape)}"
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, Mapping)):
        return f"a {type(value).__name__}"
    return f"a {type(value).__name__} of length {len(value)}"


def _short(value: Any) -> str:
    array = _array(value)
    if array is not None and not isinstance(value, (bool, int)):
        if array.ndim == 0:
            number = float(array)
            return f"{number:.4g}" if math.isfinite(number) else str(number)
        text = np.array2string(array, precision=3, suppress_small=True, separator=", ", threshold=12).replace(
            "\n", ""
        )
    else:
        text = repr(value)
    return text if len(text) <= 90 else text[:87] + "..."


def _call(arguments: tuple) -> str:
    text = ", ".join(_short(argument) for argument in arguments)
    return f"({text})" if len(text) <= 120 else "one of the test inputs"


def _crash(error: Exception, arguments: tuple) -> str:
    frame = (
        error.__traceback__.tb_next if error.__traceback__ else None
    )  # the first frame inside the learner's code
    line = f", line {frame.tb_lineno} of {frame.tb_frame.f_code.co_name}" if frame is not None else ""
    return f"your function stops with {type(error).__name__}: {error} (for {_call(arguments)}{line})"
