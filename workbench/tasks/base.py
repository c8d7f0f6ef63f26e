"""What a task is: a stream of problems, and an environment that answers the assistant's turns.

A task works on text and knows nothing of models. `problem` gives a `Problem`; `episode(problem)` gives an `Episode`;
`step(text)` takes one assistant turn, without its end-of-turn token, and returns a `Reply`. Reply texts and prompts are
bare ("665", "37*45+58-9="): whoever drives the episode adds the tags of the model's tokenizer.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from workbench import seeding

log = logging.getLogger(__name__)

TEST_SHARE = 1 / 8  # of all problems; which ones is decided by their content
TRIES = 1000  # draws before a split is declared empty


@dataclass(frozen=True)
class Problem:
    """One question.

    Attributes:
        prompt: what the user says. answer: what the last assistant turn should be.
        steps: the tool calls a scripted expert makes, with their right results; empty for a task without tools.
        ids: the tokens to start from, of a dialogue that was logged; empty to start from the prompt. Never decoded and encoded.
        schemas: of the tools, each as JSON, where the model's chat template is to tell of them; calls are then in the template's
            format. Empty where the prompt tells all there is to tell.
    """

    prompt: str
    answer: str
    steps: tuple[tuple[str, str], ...] = ()
    ids: tuple[int, ...] = ()
    schemas: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What the environment makes of one assistant turn.

    Attributes:
        text: what it says back; None when the episode is over.
        reward: what it thinks of this turn by itself: 0 is fine, -1 is a malformed call.
        done: the episode is over.
        outcome: the verdict on the whole episode, from 0 to 1; only meaningful when `done`.
        keep: which assistant turns (0 the first, this one included) stay in the context, each with the reply to it; the rest is
            gone from now on. The prompt always stays. None: everything does. What stays keeps its ids: the driver puts them
            together again and encodes nothing anew.
    """

    text: str | None
    reward: float = 0.0
    done: bool = False
    outcome: float = 0.0
    keep: tuple[int, ...] | None = None


class Episode(Protocol):
    """One attempt at one problem."""

    def step(self, text: str) -> Reply:
        """Answer one assistant turn. Any text is legal; what makes no sense is answered, never raised.

        What raises here ends this episode with `Stop.ERROR`, as no fault of the model; what hangs here hangs the run. So a tool
        that may do either, or answer at any length, belongs in a `tools.Toolbox`, which bounds it and tells the model.

        The caller counts turns: an episode that is not done after `task.max_turns` steps has failed.
        """
        ...


@runtime_checkable
class Task(Protocol):
    """A task is a plain class with these members; a frozen dataclass whose fields are its settings will do."""

    @property
    def name(self) -> str: ...
    @property
    def max_turns(self) -> int:
        """Assistant turns in an episode, the final answer included."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens the model may spend on one turn, its end-of-turn token included."""
        ...

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of what the environment calls for the model: methods of the task or of its episodes."""
        ...

    def problem(self, index: int, *, split: str = "train", seed: int = 0) -> Problem:
        """Problem number `index` of an endless stream: a pure function of its arguments.

        No problem is in both splits. A small task repeats problems within a split.
        """
        ...

    def episode(self, problem: Problem) -> Episode:
        """A fresh attempt at `problem`."""
        ...

    def gold(self, problem: Problem) -> list[str]:
        """The assistant turns of a script that scores 1."""
        ...

    def do_nothing(self, problem: Problem) -> list[str]:
        """The assistant turns of the laziest script; it scores 0."""
        ...

    def cheat(self, problem: Problem) -> list[str]:
        """The assistant turns of a script that wants the reward without the work; it scores next to nothing."""
        ...

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """Texts for a supervised warm start: assistant turn, reply, assistant turn, ..., assistant turn.

        A share `error_rate` of them ends in a wrong answer, so that the warm-started policy also samples wrong ones and
        reinforcement learning has something to sharpen.
        """
        ...


@runtime_checkable
class Hinted(Protocol):
    """A task that can also put hints before its problems: problems solved, or advice. Optional; see `objective.context`."""

    @property
    def hints(self) -> int:
        """How many there are, numbered from 0."""
        ...

    def hinted(self, problem: Problem, hints: Sequence[int]) -> Problem:
        """The same problem, whose prompt shows these hints. `episode`, `gold` and `do_nothing` take it like the bare one."""
        ...


@runtime_checkable
class Rewriting(Protocol):
    """A task that rewrites the context on the way (`Reply.keep`), and says what its demonstrations look like. Optional."""

    def keeps(self, problem: Problem, turns: Sequence[str]) -> list[tuple[int, ...] | None]:
        """What stays in the context after each of these assistant turns, see `Reply.keep`."""
        ...


@runtime_checkable
class Taught(Protocol):
    """A task that says what a tiny model must have been shown before it acts sensibly. Optional; see `study.WarmStart`."""

    @property
    def lessons(self) -> tuple[tuple[Task, int], ...]:
        """Tasks, easier ones first, and for how many steps of `train.sft` each is demonstrated."""
        ...


def stream(
    name: str, draw: Callable[[np.random.Generator], tuple[Problem, str]], index: int, split: str, seed: int
) -> Problem:
    """Problem `index` of a split, drawn until its content falls into that split.

    Args:
        name: the task's name, part of the key of the random stream.
        draw: makes a problem and the text that identifies its content (equal for problems that give each other away).
    Raises:
        ValueError: `split` is not "train" or "test", `index` is negative, or `TRIES` draws found nothing in the split.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", not {split!r}')
    if index < 0:
        raise ValueError(f"index must be 0 or more, not {index}")
    rng = seeding.generator(seed, "problem", name, split, index)
    for _ in range(TRIES):
        problem, content = draw(rng)
        if split_of(f"{name}|{content}") == split:
            return problem
    raise ValueError(
        f"task {name!r}: none of {TRIES} draws is a {split} problem; the task has too few different problems, enlarge it"
    )


ERROR = "!"  # the reply to a call that came to nothing


@functools.cache
def _warn_once(tool: str) -> None:
    log.warning("the tool %s raised; the model is told `%s`, this time and always", tool, ERROR, exc_info=True)


def observe(tool: Callable[..., object], *arguments: object, characters: int = 200) -> Reply:
    """The reply to a call in the tags of tiny models: what the tool gives, cut to a length.

    A call that the tool cannot read (ValueError) is malformed: `!`, reward -1. Whatever else the tool raises is no fault of the
    model: `!`, reward 0, and the first time a warning in the log. A tool that may hang belongs in a `tools.Toolbox`.
    """
    try:
        return Reply(str(tool(*arguments))[:characters])
    except ValueError:
        return Reply(ERROR, -1.0)
    except Exception:
        _warn_once(getattr(tool, "__qualname__", repr(tool)))
        return Reply(ERROR)


class Drawn:
    """What most tasks share: problems drawn by `_draw` (see `stream`), answered in one turn by their answer, by silence not at
    all, and by a guess next to never."""

    name: str

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        raise NotImplementedError

    def problem(self, index: int, *, split: str = "train", seed: int = 0) -> Problem:
        return stream(self.name, self._draw, index, split, seed)

    def gold(self, problem: Problem) -> list[str]:
        return [problem.answer]

    def do_nothing(self, problem: Problem) -> list[str]:
        return [""]

    def cheat(self, problem: Problem) -> list[str]:
        return [_commonest_answer(self)]


@functools.lru_cache(maxsize=64)
def _commonest_answer(task: Drawn) -> str:
    """The best guess of somebody who has seen the answers of 200 training problems and looks at none."""
    return Counter(task.problem(number).answer for number in range(200)).most_common(1)[0][0]


def split_of(content: str) -> str:
    """The split a content belongs to, by its hash: "test" for about one in eight, whatever the seed."""
    number = int.from_bytes(hashlib.blake2s(content.encode(), digest_size=8).digest(), "big")
    return "test" if number < TEST_SHARE * 2**64 else "train"


@dataclass(frozen=True)
class Played:
    """A script played to its end. `transcript`: assistant turn, reply, assistant turn, ...; `rewards`: one a turn."""

    transcript: list[str]
    rewards: list[float]
    outcome: float
    done: bool


def play(task: Task, problem: Problem, turns: Sequence[str]) -> Played:
    """Give the assistant turns of a script to an episode, until it is done or the turns run out."""
    episode, transcript, rewards = task.episode(problem), [], []
    for text in turns[: task.max_turns]:
        reply = episode.step(text)
        transcript.append(text)
        rewards.append(reply.reward)
        if reply.done:
            return Played(transcript, rewards, reply.outcome, True)
        transcript.append(reply.text or "")
    return Played(transcript, rewards, 0.0, False)


def check_rate(name: str, value: float) -> None:
    """Refuse a probability outside 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a probability from 0 to 1, not {value!r}")


def slip(number: str, rng: np.random.Generator) -> str:
    """`number` with one digit replaced by another: a plausible mistake. No leading zero appears."""
    place = int(rng.integers(len(number)))
    allowed = [
        d for d in "0123456789" if d != number[place] and not (d == "0" and place == 0 and len(number) > 1)
    ]
    return number[:place] + str(rng.choice(allowed)) + number[place + 1 :]
