"""Problems of the package reasoning-gym (Stojanovski et al., 2025, arXiv 2505.24760), an optional extra, with two traps closed.

Its data sets number their problems by seed + index, so two of them with seeds 0 and 1 share all problems but one: here a
problem's split is decided by its text. And its scorers give part of the credit to an answer that contains the right one, a few
all of it (`knights_knaves`, `sokoban`), or to any answer whatever (`game_of_life_halting`): here there is 1 or 0. What is
said of scorers was found by trying version 0.1.25.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from workbench.tasks.base import TRIES, Drawn, Problem, Reply, check_rate

INSTALL = "reasoning-gym is not installed: pip install reasoning-gym==0.1.25"
INDICES = 2**31  # problems are drawn from this many

# Their scorers hand the model's text to `eval`, or to sympy's parser, which does: it would run in the trainer's own process.
EVALUATES = frozenset({
    "binary_matrix", "countdown", "intermediate_integration", "n_queens", "polynomial_multiplication", "puzzle24",
    "simple_integration", "spiral_matrix", "string_insertion",
})  # fmt: skip
_PROBES = ("", "no idea", "it is {}", "{} or 7")  # that must not earn all the credit


@dataclass(frozen=True)
class Numbered(Problem):
    """A problem and its number in the data set, by which the data set finds what it knows of it."""

    number: int = 0


@dataclass(frozen=True)
class ReasoningGym(Drawn):
    """One data set of reasoning-gym. The answer is the whole turn or, if there is one, its last `<answer>...</answer>`.

    Attributes:
        dataset: a name that reasoning-gym knows. settings: of the data set, as (name, value) pairs.
        official: credit what the data set's own scorer gives its full score; otherwise only the very text of its answer.
        max_tokens: of the turn.
    Raises:
        ModuleNotFoundError: reasoning-gym is not installed. ValueError: a data set it does not have, settings it does not take,
            answers that it does not tell, or a scorer that is no judge: one that runs the text it is given, refuses the
            data set's own answer, or gives its full score to no answer, or to one with words around it.
    """

    dataset: str = "chain_sum"
    settings: tuple[tuple[str, Any], ...] = ()
    official: bool = False
    max_tokens: int = 256

    tools = ()
    max_turns = 1

    def __post_init__(self) -> None:
        source = _source(self.dataset, self.settings)
        items = [source[number] for number in range(3)]
        if not all(isinstance(item["answer"], str) and item["answer"].strip() for item in items):
            raise ValueError(f"{self.dataset!r} does not say what a right answer would be: nothing to compare with")
        if self.official:
            _check_scorer(self.dataset, source, items)

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"reasoning_gym/{self.dataset}"

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        number = int(rng.integers(INDICES))
        item = _source(self.dataset, self.settings)[number]
        question = item["question"]
        return Numbered(question, item["answer"], number=number), " ".join(question.lower().split())

    def episode(self, problem: Problem) -> ReasoningGymEpisode:
        return ReasoningGymEpisode(self, problem)

    def credit(self, problem: Problem, answer: str) -> float:
        """1 or 0 for an answer."""
        if not self.official:
            return float(answer == problem.answer.strip())
        assert isinstance(problem, Numbered)
        source = _source(self.dataset, self.settings)
        return float(_score(source, answer, source[problem.number]))

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """The answer; with probability `error_rate` that of another problem."""
        check_rate("error_rate", error_rate)
        if rng.random() >= error_rate:
            return [problem.answer]
        source = _source(self.dataset, self.settings)
        for _ in range(TRIES):
            other = source[int(rng.integers(INDICES))]["answer"]
            if other != problem.answer:
                return [other]
        return [""]


@dataclass
class ReasoningGymEpisode:
    """One answer."""

    task: ReasoningGym
    problem: Problem

    def step(self, text: str) -> Reply:
        marked = re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL)
        answer = (marked[-1] if marked else text).strip()
        return Reply(None, done=True, outcome=self.task.credit(self.problem, answer))


def datasets() -> tuple[str, ...]:
    """The data sets there are. Raises ModuleNotFoundError: reasoning-gym is not installed."""
    _import()
    from reasoning_gym.factory import DATASETS

    return tuple(sorted(name for name in DATASETS if name != "composite"))


def _import() -> Any:
    try:
        import reasoning_gym
    except ImportError:
        raise ModuleNotFoundError(INSTALL) from None
    return reasoning_gym


@cache
def _source(dataset: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    """The data set, endless for our purposes; every number gives the same problem always."""
    gym = _import()
    if dataset not in datasets():
        raise ValueError(f"reasoning-gym has no data set {dataset!r}; it has {', '.join(datasets())}")
    if not {"seed", "size"}.isdisjoint(name for name, _ in settings):
        raise ValueError("seed and size are not settings: problems are drawn by index, split and seed of the stream")
    try:
        return gym.create_dataset(dataset, seed=0, size=INDICES, **dict(settings))
    except (TypeError, AssertionError, ValueError) as error:
        raise ValueError(f"{dataset!r} does not take {dict(settings)}: {error}") from None


def _score(source: Any, answer: str, item: Mapping[str, Any]) -> bool:
    """Whether the data set's scorer gives its full score; no answer is worth an error."""
    try:
        return source.score_answer(answer, dict(item)) > 1 - 1e-9
    except Exception:
        return False


def _check_scorer(dataset: str, source: Any, items: list[Mapping[str, Any]]) -> None:
    if dataset in EVALUATES:
        raise ValueError(f"the scorer of {dataset!r} evaluates the model's text, in this process: use official=False")
    for item in items:
        if not _score(source, item["answer"], item):
            raise ValueError(f"the scorer of {dataset!r} refuses the data set's own answer: use official=False")
        for probe in _PROBES:
            text = probe.format(item["answer"])
            if text != item["answer"] and _score(source, text, item):
                raise ValueError(f"the scorer of {dataset!r} gives all the credit to {text[:80]!r}: use official=False")
