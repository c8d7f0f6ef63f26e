"""Code tasks: what is paid for is a program that works, and only the sandbox says whether it does.

`Programs` and `Repair` are small enough for a model of a hundred thousand weights: formulas of one variable, found from
examples, or put right over several turns. `Katas` are problems in plain English for models that can read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from workbench import sandbox
from workbench.tasks.base import Drawn, Problem, Reply, check_rate

POINTS = range(-4, 10)  # where formulas are compared
KATAS = Path(__file__).parents[2] / "data" / "katas.toml"
_LIMITS = sandbox.Limits(cpu=0.5)

# What a formula may look like, by level: each adds to the ones before. {c} is a number from 2 to 9.
_GRAMMAR = (
    ("x+{c}", "x-{c}", "x*{c}", "{c}-x"),
    ("x*{c}+{c}", "x*{c}-{c}", "x*x+{c}", "{c}-x*{c}"),
    ("x%{c}", "x//{c}", "max(x,{c})", "min(x,{c})", "abs(x-{c})"),
)


class SandboxBroke(RuntimeError):
    """The sandbox, not the program, failed: the episode is left out of learning, not scored 0."""


def judged(program: str, tests: sandbox.Suite) -> sandbox.Result:
    """What the sandbox says of a program.

    Raises:
        SandboxBroke: it could not say anything. sandbox.Unavailable: there is none on this machine.
    """
    result = sandbox.shared().submit(program, tests, limits=_LIMITS).result()
    if result.reward is None:
        raise SandboxBroke(result.message)
    return result


# ---- formulas of one variable -----------------------------------------------------------------------------------------


@cache
def values(formula: str) -> dict[int, int]:
    """What one of our own formulas gives at POINTS. Never for what a model wrote: that is the sandbox's."""
    made = compile(formula, "<formula>", "eval")
    return {x: eval(made, {"__builtins__": {"max": max, "min": min, "abs": abs}}, {"x": x}) for x in POINTS}


def cases(of: dict[int, int], points: Sequence[int]) -> sandbox.Suite:
    """Tests of `f` at `points`."""
    return sandbox.Suite(tuple(sandbox.Case("f", (x,), of[x]) for x in points))


def program(text: str) -> str:
    """The program that a formula stands for."""
    return f"f = lambda x: {text.strip()}"


def _formula(rng: np.random.Generator, level: int) -> str:
    forms = [form for forms in _GRAMMAR[:level] for form in forms]
    form = forms[int(rng.integers(len(forms)))]
    return re.sub(r"\{c\}", lambda _: str(rng.integers(2, 10)), form)


def _changed(formula: str, rng: np.random.Generator) -> str:
    """The formula with one number or one sign replaced, so that it means something else."""
    before = values(formula)
    while True:
        place = int(rng.integers(len(formula)))
        options = "23456789" if formula[place].isdigit() else "+-*" if formula[place] in "+-*" else ""
        if not options:
            continue
        new = formula[:place] + str(rng.choice(list(options))) + formula[place + 1 :]
        if values(new) != before:
            return new


@dataclass(frozen=True)
class Programs(Drawn):
    """Find a formula from examples: `f(1)=5,f(4)=11:` is answered `x*2+3`, or by anything else that gives the same.

    Hidden tests compare it at all of POINTS. Problems with the same values there are in the same split.

    Attributes:
        level: 1 has one operation, 2 has two, 3 adds remainders, maxima and the like. examples: how many are shown.
    """

    level: int = 1
    examples: int = 3

    name = "programs"
    tools = ()
    max_turns = 1
    max_tokens = 12

    def __post_init__(self) -> None:
        _check_level(self.level)
        if not 1 <= self.examples <= 6:
            raise ValueError(f"examples must be from 1 to 6, not {self.examples!r}")

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        formula = _formula(rng, self.level)
        of = values(formula)
        shown = sorted(rng.choice(POINTS, self.examples, replace=False).tolist())
        return Problem(_examples(of, shown) + ":", formula), str(of)

    def tests(self, problem: Problem) -> sandbox.Suite:
        """The hidden tests."""
        return cases(values(problem.answer), POINTS)

    def episode(self, problem: Problem) -> ProgramsEpisode:
        return ProgramsEpisode(self, problem)

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """The formula; with probability `error_rate` a number or a sign in it is wrong."""
        check_rate("error_rate", error_rate)
        return [_changed(problem.answer, rng) if rng.random() < error_rate else problem.answer]


@dataclass
class ProgramsEpisode:
    """One formula."""

    task: Programs
    problem: Problem

    def step(self, text: str) -> Reply:
        return Reply(None, done=True, outcome=judged(program(text), self.task.tests(self.problem)).reward or 0.0)


@dataclass(frozen=True)
class Repair(Drawn):
    """Put a wrong formula right: `x*2+4;f(1)=5,f(4)=11:`, in a few turns.

    Each turn is a whole formula. While it fails a public test (the examples) the reply is the first one that it fails, such as
    `f(1)=5`, and another turn is left; once it passes them all, or in the last turn, hidden tests at all of POINTS decide.

    Attributes:
        level, examples: as in `Programs`. turns: how many attempts there are, at most 8.
    """

    level: int = 2
    examples: int = 2
    turns: int = 3

    name = "repair"
    tools = ()
    max_tokens = 12

    def __post_init__(self) -> None:
        _check_level(self.level)
        if not 1 <= self.examples <= 6:
            raise ValueError(f"examples must be from 1 to 6, not {self.examples!r}")
        if not 1 <= self.turns <= 8:
            raise ValueError(f"turns must be from 1 to 8, not {self.turns!r}")

    @property
    def max_turns(self) -> int:
        return self.turns

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        formula = _formula(rng, self.level)
        of, broken = values(formula), _changed(formula, rng)
        wrong = [x for x in POINTS if values(broken)[x] != of[x]]
        first = int(rng.choice(wrong))  # at least one example shows the fault
        rest = rng.choice([x for x in POINTS if x != first], self.examples - 1, replace=False).tolist()
        prompt = f"{broken};{_examples(of, sorted([first, *rest]))}:"
        return Problem(prompt, formula), str(of)

    def public(self, problem: Problem) -> sandbox.Suite:
        """The tests whose failures are told: the examples of the prompt."""
        shown = [int(x) for x in re.findall(r"f\((-?\d+)\)=", problem.prompt)]
        return cases(values(problem.answer), shown)

    def hidden(self, problem: Problem) -> sandbox.Suite:
        """The tests that decide."""
        return cases(values(problem.answer), POINTS)

    def episode(self, problem: Problem) -> RepairEpisode:
        return RepairEpisode(self, problem)

    def do_nothing(self, problem: Problem) -> list[str]:
        return [problem.prompt.partition(";")[0]] * self.turns

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """The right formula, after a first wrong attempt in half of the demonstrations that have turns for it; with
        probability `error_rate` the last attempt is wrong too."""
        check_rate("error_rate", error_rate)
        last = _changed(problem.answer, rng) if rng.random() < error_rate else problem.answer
        public, out = self.public(problem), []
        if self.turns > 1 and rng.random() < 0.5:
            first = _changed(problem.answer, rng)
            failed = _first_wrong(values(first), public)
            if failed is not None:
                out = [first, failed]
        return [*out, last]


@dataclass
class RepairEpisode:
    """One formula, put right over turns."""

    task: Repair
    problem: Problem
    turn: int = 0

    def step(self, text: str) -> Reply:
        self.turn += 1
        if self.turn < self.task.turns:
            for case in self.task.public(self.problem).cases:
                if judged(program(text), sandbox.Suite((case,))).reward != 1:
                    return Reply(f"f({case.arguments[0]})={case.expected}")
        return Reply(None, done=True, outcome=judged(program(text), self.task.hidden(self.problem)).reward or 0.0)


def _examples(of: dict[int, int], points: Sequence[int]) -> str:
    return ",".join(f"f({x})={of[x]}" for x in points)


def _first_wrong(got: dict[int, int], public: sandbox.Suite) -> str | None:
    return next((f"f({c.arguments[0]})={c.expected}" for c in public.cases if got[c.arguments[0]] != c.expected), None)


def _check_level(level: int) -> None:
    if level not in range(1, len(_GRAMMAR) + 1):
        raise ValueError(f"level must be from 1 to {len(_GRAMMAR)}, not {level!r}")


# ---- problems in plain English ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kata:
    """One problem.

    Attributes:
        text: the statement. code: a reference solution. wrong: one that looks right and is not.
        public: tests that a model is shown. hidden: tests that decide, those for more inputs among them, whose expected values
            are the reference's.
    """

    name: str
    text: str
    code: str
    wrong: str
    public: sandbox.Suite
    hidden: sandbox.Suite


@cache
def katas() -> dict[str, Kata]:
    """All problems, by name; from data/katas.toml.

    Raises:
        FileNotFoundError: the package is installed without its checkout.
    """
    if not KATAS.exists():
        raise FileNotFoundError(f"{KATAS.name} is not there: the katas are read from the folder data of the checkout")
    return {name: _kata(name, fields) for name, fields in tomllib.loads(KATAS.read_text(encoding="utf-8")).items()}


def _kata(name: str, fields: dict) -> Kata:
    public, hidden = (sandbox.suite("\n".join(f"assert {t}" for t in fields[key])) for key in ("public", "hidden"))
    reference: dict = {}
    exec(fields["code"], reference)  # ours, and read by us
    more = []
    for text in fields["inputs"]:
        arguments = eval(f"({text},)", {"__builtins__": {}})
        more.append(sandbox.Case(name, arguments, reference[name](*eval(f"({text},)", {"__builtins__": {}}))))
    everything = sandbox.Suite((*public.cases, *hidden.cases, *more))
    return Kata(name, fields["text"], fields["code"], fields["wrong"], public, everything)


@dataclass(frozen=True)
class Katas(Drawn):
    """Write a Python function that a sentence describes. The answer is a program, with or without a ```python fence.

    A tenth or so of the problems are kept for testing, always the same. Made for real models: a tiny one cannot read.
    """

    name = "katas"
    tools = ()
    max_turns = 1
    max_tokens = 400

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        kata = list(katas().values())[int(rng.integers(len(katas())))]
        shown = "\n".join(f"assert {case}" for case in kata.public.cases)
        return Problem(f"{kata.text}\nYour function must pass these tests, among others:\n{shown}\n", kata.code), kata.name

    def kata(self, problem: Problem) -> Kata:
        """The problem's kata."""
        return next(kata for kata in katas().values() if kata.code == problem.answer)

    def episode(self, problem: Problem) -> KatasEpisode:
        return KatasEpisode(self, problem)

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """The reference, or with probability `error_rate` the solution that looks right and is not."""
        check_rate("error_rate", error_rate)
        return [self.kata(problem).wrong if rng.random() < error_rate else problem.answer]


@dataclass
class KatasEpisode:
    """One program."""

    task: Katas
    problem: Problem

    def step(self, text: str) -> Reply:
        tests = self.task.kata(self.problem).hidden
        return Reply(None, done=True, outcome=judged(fenced(text), tests).reward or 0.0)


def fenced(text: str) -> str:
    """The program in an answer: what the last ```python fence holds, or all of it if there is none."""
    found = re.findall(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    return found[-1] if found else text
