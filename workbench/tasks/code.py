"""Code tasks: what is paid for is a program that works, and only the sandbox says whether it does.

`Programs` and `Repair` are small enough for a model of a hundred thousand weights: formulas of one variable, found from
examples, or put right over several turns. `Katas` are problems in plain English for models that can read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from workbench import sandbox, seeding
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
    return _suite(tuple((x, of[x]) for x in points))


@lru_cache(maxsize=1 << 14)
def _suite(pairs: tuple[tuple[int, int], ...]) -> sandbox.Suite:
    return sandbox.Suite(tuple(sandbox.Case("f", (x,), y) for x, y in pairs))


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
    sandboxed = True
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
    `f(1)=5`, and another turn is left; once it passes them all, or in the last turn, hidden tests at all of POINTS decide. A
    turn that is no program, or raises where it is tried, is malformed: its reward is -1.

    In a *perturbed* problem two examples have exchanged their outputs. The hidden tests are the true ones still, so the right
    formula is told that it fails, turn after turn, and what pleases the examples is wrong. A problem has the same formula and the
    same examples, but for the exchange, whatever the share `perturbed` is.

    Attributes:
        level, examples: as in `Programs`. turns: how many attempts there are, at most 8.
        perturbed: share of perturbed problems, where two examples differ in their output; needs two examples.
        lookups: share of the wrong last attempts of demonstrations that write the examples down, `{1:5,4:11}[x]`.
    """

    level: int = 2
    examples: int = 2
    turns: int = 3
    perturbed: float = 0.0
    lookups: float = 0.0

    name = "repair"
    sandboxed = True
    tools = ()

    def __post_init__(self) -> None:
        _check_level(self.level)
        if not 1 <= self.examples <= 6:
            raise ValueError(f"examples must be from 1 to 6, not {self.examples!r}")
        if not 1 <= self.turns <= 8:
            raise ValueError(f"turns must be from 1 to 8, not {self.turns!r}")
        check_rate("perturbed", self.perturbed)
        check_rate("lookups", self.lookups)
        if self.perturbed and self.examples < 2:
            raise ValueError("perturbed problems exchange the outputs of two examples: examples must be 2 or more")

    @property
    def max_turns(self) -> int:
        return self.turns

    @property
    def max_tokens(self) -> int:
        return 8 + 8 * self.examples  # enough to write the examples down, as a cheat would

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        formula = _formula(rng, self.level)
        of, broken = values(formula), _changed(formula, rng)
        wrong = [x for x in POINTS if values(broken)[x] != of[x]]
        first = int(rng.choice(wrong))  # at least one example shows the fault
        rest = rng.choice([x for x in POINTS if x != first], self.examples - 1, replace=False).tolist()
        shown = {x: of[x] for x in sorted([first, *rest])}
        # a stream of its own: what is drawn after a problem that was refused must not depend on `perturbed`
        own = seeding.generator(0, self.name, "exchange", broken, _examples(of, list(shown)))
        if self.perturbed and own.random() < self.perturbed:
            shown = _exchanged(shown, own)
        return Problem(f"{broken};{_examples(shown, list(shown))}:", formula), str(of)

    def public(self, problem: Problem) -> sandbox.Suite:
        """The tests whose failures are told: the examples of the prompt, right or exchanged."""
        shown = {int(x): int(y) for x, y in re.findall(r"f\((-?\d+)\)=(-?\d+)", problem.prompt)}
        return cases(shown, list(shown))

    def hidden(self, problem: Problem) -> sandbox.Suite:
        """The tests that decide."""
        return cases(values(problem.answer), POINTS)

    def misleading(self, problem: Problem) -> bool:
        """Whether the problem is perturbed: its examples contradict the hidden tests."""
        return any(values(problem.answer)[case.arguments[0]] != case.expected for case in self.public(problem).cases)

    def episode(self, problem: Problem) -> RepairEpisode:
        return RepairEpisode(self, problem)

    def gold(self, problem: Problem) -> list[str]:
        return [problem.answer] * self.turns  # a perturbed problem hears it out to the end

    def do_nothing(self, problem: Problem) -> list[str]:
        return [problem.prompt.partition(";")[0]] * self.turns

    def cheat(self, problem: Problem) -> list[str]:
        """A script that writes the examples down: every public test passes, and the hidden ones do not."""
        return ["{" + ",".join(f"{c.arguments[0]}:{c.expected}" for c in self.public(problem).cases) + "}[x]"]

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """The right formula, after a wrong attempt in half of the demonstrations, after another in half of these, and so on while
        there are turns. With probability `error_rate` the last attempt is wrong too: a formula, or, in a share `lookups` of these
        cases, the examples written down. Told that a right formula fails (a perturbed problem), it stays with it."""
        check_rate("error_rate", error_rate)
        public = self.public(problem)
        wrong = rng.random() < error_rate
        last = [problem.answer] * self.turns
        if wrong:
            last = self.cheat(problem) if rng.random() < self.lookups else [_changed(problem.answer, rng)]
        out: list[str] = []
        while len(out) < 2 * self.turns - 2 and rng.random() < 0.5:
            attempt = _changed(problem.answer, rng)
            failed = _first_wrong(values(attempt), public)
            if failed is None:
                break
            out += [attempt, failed]
        for attempt in last[: self.turns - len(out) // 2]:
            failed = None if wrong else _first_wrong(values(attempt), public)
            out += [attempt] if failed is None else [attempt, failed]
            if failed is None:
                break
        return out[: 2 * self.turns - 1]


@dataclass
class RepairEpisode:
    """One formula, put right over turns."""

    task: Repair
    problem: Problem
    turn: int = 0

    def step(self, text: str) -> Reply:
        self.turn += 1
        reply, reward = None, 0.0
        for case in self.task.public(self.problem).cases:
            found = verdict(text, case)
            if found is not sandbox.Verdict.PASS:
                reward = 0.0 if found is sandbox.Verdict.WRONG_ANSWER else -1.0
                reply = f"f({case.arguments[0]})={case.expected}"
                break
        if reply is not None and self.turn < self.task.turns:
            return Reply(reply, reward)
        return Reply(None, reward, done=True, outcome=float(solves(text, self.task.hidden(self.problem))))


# What is known of a formula. Only the sandbox says what a program that a model wrote does, but it says it once: a text that is
# arithmetic in x is worked out here too, and once the sandbox has found the same values, these answer every later test of it.

_TERM = r"(?:x|0|[1-9]\d?)"
_PLAIN = re.compile(
    rf"-?{_TERM}(?:[-+*]{_TERM}|(?:%|//)[1-9]\d?){{0,3}}|(?:max|min)\(x,(?:0|[1-9]\d?)\)|abs\(x[-+*](?:0|[1-9]\d?)\)"
)


@cache
def known(text: str) -> dict[int, int] | None:
    """What a program gives at POINTS, where it is plain arithmetic in x and the sandbox has confirmed it; else None.

    Raises:
        SandboxBroke: it could not say anything; nothing is remembered then.
    """
    if not _PLAIN.fullmatch(text):
        return None
    mine = values(text)
    return mine if judged(program(text), cases(mine, POINTS)).reward == 1 else None


def verdict(text: str, case: sandbox.Case) -> sandbox.Verdict:
    """How a program does in one test at one of POINTS."""
    of = known(text)
    if of is None:
        return _result(text, sandbox.Suite((case,))).verdict if is_program(text) else sandbox.Verdict.EXCEPTION
    return sandbox.Verdict.PASS if of[case.arguments[0]] == case.expected else sandbox.Verdict.WRONG_ANSWER


def solves(text: str, tests: sandbox.Suite) -> bool:
    """Whether a program passes all of some tests at POINTS."""
    if known(text) is None:
        return is_program(text) and _result(text, tests).reward == 1
    return all(verdict(text, case) is sandbox.Verdict.PASS for case in tests.cases)


def pass_rate(text: str, tests: sandbox.Suite) -> float:
    """The share of some tests at POINTS that a program passes, each run by itself."""
    if not is_program(text):
        return 0.0
    return sum(verdict(text, case) is sandbox.Verdict.PASS for case in tests.cases) / len(tests.cases)


def is_program(text: str) -> bool:
    """Whether it is Python at all."""
    return known(text) is not None or not _result(text, _ONE_TEST).message.startswith(("SyntaxError", "IndentationError"))


_ONE_TEST = sandbox.Suite((sandbox.Case("f", (1,), 0),))


@lru_cache(maxsize=1 << 16)
def _result(text: str, tests: sandbox.Suite) -> sandbox.Result:
    return judged(program(text), tests)


def _exchanged(shown: dict[int, int], rng: np.random.Generator) -> dict[int, int]:
    """The examples with two different outputs exchanged; as they are if all outputs are equal."""
    pairs = [(a, b) for a in shown for b in shown if a < b and shown[a] != shown[b]]
    if not pairs:
        return shown
    a, b = pairs[int(rng.integers(len(pairs)))]
    return {**shown, a: shown[b], b: shown[a]}


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
    sandboxed = True
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
