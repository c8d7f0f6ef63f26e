"""What an engine is: prompts of ids in, sampled ids and their log-probabilities out. No text anywhere.

`engine.start(prompts, seed=...)` gives a `Session`, one row a prompt. A row grows in two ways only, by `sample` and by
`extend`, and both append: what was sampled is never rewritten, so the policy is trained on exactly what it did. Where a task
rewrites the context, the row is started anew from other ids, by `restart`, and the driver makes a new row of the batch of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from workbench import seeding


@dataclass(frozen=True)
class Completion:
    """What one row sampled.

    Attributes:
        ids: the sampled ids; the stop id that ended them is the last one.
        logps: log-probability of each under the policy at the sampling temperature, over the whole vocabulary: top-p and
            top-k change what is drawn, not what is reported, because the trainer's log-probabilities know nothing of
            them. (With either, samples are slightly off-policy.) For greedy sampling: at temperature 1.
        stopped: a stop id ended it; else it ran into `max_tokens` or the model's context.
    """

    ids: list[int]
    logps: list[float]
    stopped: bool


class Session(Protocol):
    """Rows of tokens that grow."""

    def sample(
        self, rows: Sequence[int], *, max_tokens: int, stop: Collection[int], temperature: float = 1.0,
        top_p: float = 1.0, top_k: int = 0,
    ) -> list[Completion]:  # fmt: skip
        """Let the policy continue `rows` until a stop id, `max_tokens`, or the end of the model's context.

        What a row draws depends on the session's seed, the row and the position alone, not on which other rows there are
        (up to the rounding of products over different numbers of rows).

        Args:
            stop: any ids that end a completion. temperature: 0 is greedy. top_p: 1 is off. top_k: 0 is off.
        Raises:
            ValueError: a setting out of range, or a row that does not exist or is there twice.
        """
        ...

    def extend(self, row: int, ids: Sequence[int]) -> None:
        """Append what the environment said. Raises ValueError for unknown ids, or when the context is too short."""
        ...

    def restart(self, row: int, ids: Sequence[int]) -> None:
        """Replace everything in the row by another prompt. What it draws from here on is independent of what it drew before.

        Raises:
            ValueError: an empty prompt, one longer than the context, or an unknown id.
        """
        ...

    def ids(self, row: int) -> list[int]:
        """Everything in the row so far, since it was last started anew."""
        ...


class Engine(Protocol):
    """A policy that can be sampled from."""

    @property
    def context(self) -> int | None:
        """Tokens in the longest row; None if the model sets no limit."""
        ...

    @property
    def exact(self) -> bool:
        """Whether its log-probabilities are the policy's to float32 rounding; if not, training measures how far they are off."""
        ...

    def start(self, prompts: Sequence[Sequence[int]], *, seed: int) -> Session:
        """A session with one row per prompt, with the policy's weights as they are now.

        Raises:
            ValueError: no prompts, an empty prompt, one longer than the context, or an unknown id.
        """
        ...


# ---- shared by the engines ------------------------------------------------------------------------------------------


def model_of(policy: Any) -> Any:
    """The transformers model of a `LanguageModel`; a bare model, also one wrapped by PEFT, as it is."""
    return getattr(policy, "model", policy) if hasattr(policy, "evaluate") else policy


class Rows:
    """The rows of a session, as plain ids: what a `Session` is, but for sampling.

    Attributes:
        rows: the ids of each. before: how many tokens the row had before it was started anew.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], vocab_size: int, context: int | None) -> None:
        self.vocab_size, self.context = vocab_size, context
        self.rows = [list(prompt) for prompt in prompts]
        self.before = [0] * len(prompts)

    def ids(self, row: int) -> list[int]:
        return list(self.rows[row])

    def extend(self, row: int, ids: Sequence[int]) -> None:
        check_ids(ids, self.vocab_size, f"what is appended to row {row}")
        length = len(self.rows[row])
        if self.context is not None and length + len(ids) > self.context:
            raise ValueError(
                f"row {row} has {length} tokens and cannot take {len(ids)} more: the model's context is {self.context}"
            )
        self.rows[row] += ids

    def restart(self, row: int, ids: Sequence[int]) -> None:
        check_prompts([ids], self.vocab_size, self.context)
        self.before[row] += len(self.rows[row])
        self.rows[row] = list(ids)

    def room(self, row: int, max_tokens: int) -> int:
        """How many tokens the row may sample: `max_tokens`, or what is left of the context."""
        return max_tokens if self.context is None else min(max_tokens, self.context - len(self.rows[row]))


def check_prompts(prompts: Sequence[Sequence[int]], vocab_size: int, context: int | None) -> None:
    """Refuse, in words, prompts that `Engine.start` cannot take."""
    if not len(prompts):
        raise ValueError("no prompts: an empty prompt set gives no rollouts; check the task and its split")
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(
                f"prompt {number} is empty; give at least one id (a beginning-of-text or user tag)"
            )
        if context is not None and len(prompt) > context:
            raise ValueError(
                f"prompt {number} has {len(prompt)} tokens, the model's context is {context}; "
                "shorten the prompt or use a model with a longer context"
            )
        check_ids(prompt, vocab_size, f"prompt {number}")


def check_ids(ids: Sequence[int], vocab_size: int, where: str) -> None:
    """Refuse ids outside the vocabulary; `where` they are is part of the message."""
    low, high = min(ids, default=0), max(ids, default=0)
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"{where} contains id {low if low < 0 else high}; the vocabulary has {vocab_size} ids, "
            f"0 to {vocab_size - 1}: was it encoded with another model's tokenizer?"
        )


def check_sampling(
    rows: Sequence[int], count: int, vocab_size: int, max_tokens: int, stop: Collection[int], temperature: float,
    top_p: float, top_k: int,
) -> None:  # fmt: skip
    """Refuse, in words, settings that `Session.sample` cannot take; `count` is the number of rows there are."""
    for row in rows:
        if not 0 <= row < count:
            raise ValueError(f"row {row} does not exist: the session has rows 0 to {count - 1}")
    if len(set(rows)) < len(rows):
        raise ValueError(f"a row is named twice in {list(rows)}")
    if not _is_whole(max_tokens) or max_tokens < 1:
        raise ValueError(f"max_tokens must be a whole number of at least 1, not {max_tokens!r}")
    if not temperature >= 0 or temperature == float("inf"):
        raise ValueError(f"temperature must be 0 (greedy) or a positive number, not {temperature!r}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1 (off), not {top_p!r}")
    if not _is_whole(top_k) or top_k < 0:
        raise ValueError(f"top_k must be 0 (off) or a positive whole number, not {top_k!r}")
    if isinstance(stop, (str, bytes)) or not all(_is_whole(s) for s in stop):
        raise ValueError(f"stop must be a collection of ids, not {stop!r}")
    check_ids(list(stop), vocab_size, "stop")


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


class Uniforms:
    """One uniform number per (seed, row, position), whoever asks and in whatever order.

    They come in blocks of 64 positions: row r of block j is the r-th 64 numbers of stream ("sample", j), so it does not
    depend on the number of rows. A row that is started anew goes on counting where it was: no number is used twice.
    """

    BLOCK = 64

    def __init__(self, seed: int, rows: int) -> None:
        self.seed, self.rows = seed, rows
        self.numbers = torch.empty(rows, 0, dtype=torch.float64)
        seeding.sequence(seed, "sample")  # refuse a bad seed now

    def __call__(self, row: Tensor, position: Tensor, longest: int) -> Tensor:
        """[n] numbers in [0,1) for n pairs of row and position, none beyond `longest`."""
        while self.numbers.shape[1] <= longest:
            block = seeding.generator(self.seed, "sample", self.numbers.shape[1] // self.BLOCK)
            drawn = torch.from_numpy(block.random((self.rows, self.BLOCK)))
            self.numbers = torch.cat([self.numbers, drawn], 1)
        return self.numbers[row, position]


def draw(
    logits: Tensor, uniform: Tensor, temperature: float, top_p: float, top_k: int
) -> tuple[Tensor, Tensor]:
    """One id per row, by inverting the cumulative distribution, and its log-probability (see `Completion`).

    Args:
        logits: [n,V] float32. uniform: [n] float64 in [0,1); id i is drawn where the cumulative probability passes it.
    Returns:
        ids [n], logps [n].
    """
    if temperature == 0:
        ids = logits.argmax(1, keepdim=True)
        return ids[:, 0], torch.log_softmax(logits, 1).gather(1, ids)[:, 0]
    probability = torch.softmax(logits / temperature if temperature != 1 else logits, 1)
    weight = truncate(probability, top_p, top_k) if top_k or top_p < 1 else probability
    # faster than torch.multinomial, the more so the more rows; float64, so that rare ids keep their probability
    cumulative = weight.cumsum(1, dtype=torch.float64)
    ids = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    return ids[:, 0], probability.gather(1, ids)[:, 0].log_()


def truncate(weight: Tensor, top_p: float, top_k: int) -> Tensor:
    """Keep the `top_k` largest of each row, and of these the smallest set that holds `top_p` of their sum; 0 elsewhere."""
    ordered, index = weight.sort(dim=1, descending=True, stable=True)
    if top_k:
        ordered[:, top_k:] = 0
    if top_p < 1:
        before = ordered.cumsum(1, dtype=torch.float64) - ordered
        ordered = torch.where(before < top_p * ordered.sum(1, keepdim=True, dtype=torch.float64), ordered, 0)
    return torch.zeros_like(weight).scatter_(1, index, ordered)
