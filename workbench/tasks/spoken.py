"""Tasks for models that can read: problems in English, tools called in JSON. The house tags are for tiny models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from workbench.tasks.base import Drawn, Problem, Reply, check_rate, play
from workbench.tasks.calculator import Calculator
from workbench.tasks.code import Katas, fenced, judged
from workbench.tasks.lookup import ASK, LETTERS, Lookup
from workbench.tasks.tools import CLOSE, OPEN, Search, Toolbox, python, python_documentation

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


@dataclass
class ToolEpisode:
    """Turns of calls, then an answer.

    A turn with a tool tag is answered by the box; its reward is -1 if a call in it was not well-formed. Any other turn is the
    final answer: what its last `<answer>...</answer>` holds or, if there is none, all of it. A first turn without a call has
    reward -1, as in `Calculator`. What is written between `<think>` and `</think>` is nobody's business.

    Attributes:
        box: tools, and the count of what became of the calls. judge: the outcome of a final answer.
    """

    box: Toolbox
    judge: Callable[[str], float]
    turn: int = 0

    def step(self, text: str) -> Reply:
        self.turn += 1
        said = _THOUGHT.sub("", text)
        seen = self.box.answer(said)
        if seen is not None:
            return Reply(seen.text, -1.0 if seen.invalid else 0.0)
        answers = _ANSWER.findall(said)
        outcome = self.judge((answers[-1] if answers else said).strip())
        return Reply(None, -1.0 if self.turn == 1 else 0.0, done=True, outcome=outcome)


def _told(box: Toolbox, tools_in: str) -> tuple[str, tuple[str, ...]]:
    """What a prompt says of the tools, and what it leaves to the chat template."""
    if tools_in == "prompt":
        return f"{box.described()}\n", ()
    return "", tuple(json.dumps(schema) for schema in box.schemas())


def _check_tools_in(value: str) -> None:
    if value not in ("prompt", "template"):
        raise ValueError(f'tools_in must be "prompt" or "template", not {value!r}')


def call(name: str, **arguments: Any) -> str:
    """A call as a model writes it."""
    return OPEN + json.dumps({"name": name, "arguments": arguments}) + CLOSE


# ---- the small tasks, in English ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpokenProblem(Problem):
    """A problem in English, and the one that it was. steps: calls in JSON, with their results."""

    small: Problem = field(default_factory=lambda: Problem("", ""))


@dataclass(frozen=True)
class Spoken(Drawn):
    """`Calculator` or `Lookup` for real models: the same problems, tools and rewards, told in English and called in JSON.

    Attributes:
        task: the small task; its settings are those of this one.
        max_tokens: of a turn, its end included.
        tools_in: who tells of the tools: the "prompt", in words, or the model's chat "template", in a format of its own.
    """

    task: Calculator | Lookup = field(default_factory=Calculator)
    max_tokens: int = 256
    tools_in: str = "prompt"

    name = "spoken"

    def __post_init__(self) -> None:
        if not isinstance(self.task, (Calculator, Lookup)):
            raise TypeError(f"only calculator and lookup have words, not {getattr(self.task, 'name', self.task)!r}")
        _check_tools_in(self.tools_in)

    @property
    def max_turns(self) -> int:
        return self.task.max_turns

    @property
    def tools(self) -> tuple[str, ...]:
        return self.task.tools

    def problem(self, index: int, *, split: str = "train", seed: int = 0) -> SpokenProblem:
        small = self.task.problem(index, split=split, seed=seed)
        asked = _calculation(small) if isinstance(self.task, Calculator) else _search(self.task, small)
        told, schemas = _told(self._box(small), self.tools_in)
        prompt = f"{asked}\n\n{told}Give the final answer as <answer>NUMBER</answer>.\n"
        steps = tuple((self._say(f"<T>{step}</T>"), found) for step, found in small.steps)
        return SpokenProblem(prompt, small.answer, steps, schemas=schemas, small=small)

    def _box(self, small: Problem) -> Toolbox:
        episode = self.task.episode(small)
        return Toolbox(*(getattr(self.task, name, None) or getattr(episode, name) for name in self.tools))

    def _say(self, turn: str) -> str:
        """A turn of the small task as a call in JSON, or a broken one where it is malformed, or an answer."""
        if "<T>" not in turn and "</T>" not in turn:
            return f"<answer>{turn}</answer>"
        inside = turn.removeprefix("<T>").removesuffix("</T>")
        if self.task.episode(Problem("aa=", "", ((ASK, "a"), ("aa", "a")))).step(turn).reward < 0:
            return f'{OPEN}{{"name": "{self.tools[0]}", "arguments": {CLOSE}'
        if isinstance(self.task, Calculator):
            return call("calculate", expression=inside)
        return call("ask") if inside == ASK else call("look_up", place=inside)

    def episode(self, problem: Problem) -> ToolEpisode:
        small = problem.small if isinstance(problem, SpokenProblem) else problem
        return ToolEpisode(self._box(small), lambda answer: float(answer == problem.answer))

    def gold(self, problem: Problem) -> list[str]:
        return [step for step, _ in problem.steps] + [f"<answer>{problem.answer}</answer>"]

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """Those of the small task, in JSON."""
        small = problem.small if isinstance(problem, SpokenProblem) else problem
        shown = self.task.demonstration(small, rng, error_rate)
        return play(self, problem, [self._say(turn) for turn in shown[::2]]).transcript


def spoken(task: Calculator | Lookup) -> Spoken:
    """A small task for a model that can read.

    Raises:
        TypeError: the task has no words.
    """
    return Spoken(task)


def _calculation(small: Problem) -> str:
    chain = " ".join(re.findall("[0-9]+|[-+*]", small.prompt))
    return (
        f"Work out {chain} strictly from left to right, whatever the signs, and take every result modulo 1000 before you go on. "
        "The tool does one operation, and takes it modulo 1000."
    )


def _search(task: Lookup, small: Problem) -> str:
    key = small.prompt.removesuffix("=")
    told = f"Which number is behind the key {key}? Looking a key up gives another key, to be looked up in turn, or the number."
    if task.tables > 1:
        holds: dict[str, str] = {}
        for letter in LETTERS:
            holds[task.table(letter)] = holds.get(task.table(letter), "") + letter
        stretches = ", ".join(f"{name} has those from {letters[0]} to {letters[-1]}" for name, letters in holds.items())
        told += f" Each key is in one table: {stretches}. Write the table's name before the key, like {task.table('kq')}kq."
    if key.endswith("_"):
        told += " The second letter of the key is missing; the user knows it."
    return told


# ---- programs, with an interpreter at hand ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToolKatas(Drawn):
    """`Katas` over several turns: try things in Python and look things up in its documentation, then answer with the program.

    The final answer is judged by the hidden tests in the sandbox. Tools: `python`, `search`, `read`.

    Attributes:
        turns: the answer's included. max_tokens: of a turn, its end included. tools_in: see `Spoken`.
    """

    turns: int = 4
    max_tokens: int = 400
    tools_in: str = "prompt"

    name = "tool_katas"
    sandboxed = True
    tools = ("python", "search", "read")

    def __post_init__(self) -> None:
        if not isinstance(self.turns, int) or not 2 <= self.turns <= 30:
            raise ValueError(f"turns must be a whole number from 2 to 30, a try and the answer, not {self.turns!r}")
        _check_tools_in(self.tools_in)

    @property
    def max_turns(self) -> int:
        return self.turns

    def box(self) -> Toolbox:
        """The tools of one episode."""
        library = _library()
        return Toolbox(python, library.search, library.read, seconds=60.0)  # the sandbox has limits of its own, and a queue

    def problem(self, index: int, *, split: str = "train", seed: int = 0) -> Problem:
        kata = Katas().problem(index, split=split, seed=seed)
        words = f"You have {self.turns} turns. When the function works, answer with it and no call: <answer>PROGRAM</answer>\n"
        told, schemas = _told(self.box(), self.tools_in)
        return Problem(f"{kata.prompt}\n{told}{words}", kata.answer, self._steps(kata.answer), schemas=schemas)

    def _steps(self, code: str) -> tuple[tuple[str, str], ...]:
        """One try of a program on the first public test."""
        case = Katas().kata(Problem("", code)).public.cases[0]
        tried = f"print(repr({case.function}({', '.join(map(repr, case.arguments))})))"
        return ((call("python", code=f"{code}\n{tried}"), repr(case.expected)),)

    def episode(self, problem: Problem) -> ToolEpisode:
        tests = Katas().kata(problem).hidden
        return ToolEpisode(self.box(), lambda answer: judged(fenced(answer), tests).reward or 0.0)

    def gold(self, problem: Problem) -> list[str]:
        return [step for step, _ in problem.steps] + [f"<answer>{problem.answer}</answer>"]

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """A try in Python and the answer; with probability `error_rate` both are of the solution that looks right and is not."""
        check_rate("error_rate", error_rate)
        code = Katas().kata(problem).wrong if rng.random() < error_rate else problem.answer
        [(tried, _)] = problem.steps
        tried = tried.replace(json.dumps(problem.answer)[1:-1], json.dumps(code)[1:-1])
        return play(self, problem, [tried, f"<answer>{code}</answer>"]).transcript


@cache
def _library() -> Search:
    return Search(python_documentation())
