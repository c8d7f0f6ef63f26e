"""The driver: plays a task with an engine, turn by turn, and hands back a `Batch`.

A row is prompt ids + sampled ids + reply ids + sampled ids + ..., only ever appended. An episode is one row, or several where
its task rewrites the context on the way: each starts from the context as it then was. A turn is decoded to show its
text to the task and for nothing else: decoding and encoding again may give other ids (merges, dropped whitespace), and then
the policy would be trained on tokens that it never chose.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.batch import Batch, Dialogue, Origin, Segment, Stop
from workbench.models import check_template, decode, encode, prompt_ids, reply_ids, turn_text
from workbench.sample import calls
from workbench.sample.engine import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from workbench.models import LanguageModel
    from workbench.tasks.base import Episode, Problem, Reply, Task

log = logging.getLogger(__name__)


def rollout(
    engine: Engine, task: Task, tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], *, group_size: int,
    seed: int, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0,
) -> Batch:  # fmt: skip
    """Sample `group_size` episodes of every problem.

    A turn ends with the tokenizer's end token, which is part of it. A turn that reaches `task.max_tokens` without one ends
    its episode with `Stop.LENGTH`; the task does not see it. A reply that no longer fits the model's context is left out and
    ends its episode with `Stop.CONTEXT`. An episode in which the task raises ends with `Stop.ERROR` and no reward; the
    error is logged, and the trainer leaves the episode out. Only episodes that the task calls done have an outcome.

    Where a reply leaves only some turns in the context (`Reply.keep`), the episode goes on in a new row of the batch: its
    prompt is the prompt and what was kept, as ids, and to that everything is appended as before.

    Where a problem leaves it to the chat template to tell of its tools (`Problem.schemas`), the task is shown calls as it reads
    them, whatever the template's format; the ids stay what they are.

    Returns:
        Batch of len(problems) * group_size rollouts in the order of the problems, each of one row or, where its context was
        rewritten, of several; `group` is the problem's place in the list.
    Raises:
        ValueError: no problems, no rollouts, a prompt that the engine refuses, or a chat template that cannot be trained with.
    """
    if not len(problems):
        raise ValueError("no problems: there is nothing to roll out; check the task and its split")
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, not {group_size!r}")
    check_template(tokenizer)
    end = tokenizer.eos_token_id
    prompts = [list(problem.ids) or prompt_ids(tokenizer, problem.prompt, problem.schemas) for problem in problems]
    forms = [calls.format_of(tokenizer) if problem.schemas else None for problem in problems]
    attempts = [_Attempt(ids, group, group * group_size + n) for group, ids in enumerate(prompts) for n in range(group_size)]
    session = engine.start([one.prompt for one in attempts], seed=seed)
    context = engine.context or float("inf")

    def attempt(row: int, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except Exception:
            first = all(one.stop is not Stop.ERROR for one in attempts)  # a broken task fails in every row: one traceback will do
            level = logging.ERROR if first else logging.DEBUG
            log.log(level, "task %s raised in rollout %d (problem %d)", task.name, row, attempts[row].group, exc_info=True)
            attempts[row].stop, attempts[row].outcome = Stop.ERROR, 0.0
            return None

    episodes = [attempt(r, task.episode, problems[one.group]) for r, one in enumerate(attempts)]
    live = [row for row, episode in enumerate(episodes) if episode is not None]
    for turn in range(task.max_turns):
        if not live:
            break
        completions = session.sample(
            live, max_tokens=task.max_tokens, stop=[end], temperature=temperature, top_p=top_p, top_k=top_k
        )
        rows, live = live, []
        for row, completion in zip(rows, completions):
            one = attempts[row]
            if not completion.ids:
                one.stop = Stop.CONTEXT
                continue
            one.sampled(completion.ids, completion.logps)
            if not completion.stopped:
                one.stop = Stop.CONTEXT if len(one.context) >= context else Stop.LENGTH
                continue
            text, form = turn_text(tokenizer, completion.ids[:-1]), forms[one.group]
            text = calls.for_task(text, form) if form else text
            reply = attempt(row, _step, episodes[row], text, turn)
            if reply is None:
                continue
            one.rows[-1].rewards[-1] = float(reply.reward)
            if reply.done:
                one.stop, one.outcome = Stop.DONE, float(reply.outcome)
                continue
            if turn + 1 == task.max_turns:
                one.stop = Stop.TURNS
                continue
            ids = attempt(row, _reply_ids, tokenizer, reply.text or "")
            if ids is None:
                continue
            if len(one.after(ids, reply.keep)) >= context:
                one.stop = Stop.CONTEXT
                continue
            if one.replied(ids, reply.keep):
                session.restart(row, one.context)
            else:
                session.extend(row, ids)
            live.append(row)
    return Batch.from_dialogues([dialogue for one in attempts for dialogue in one.finished()])


@dataclass
class _Attempt:
    """One episode while it is played.

    Attributes:
        prompt: its ids. group, number: of its problem, and of itself.
        turns: the ids of each assistant turn and of the reply to it. kept: which of them the policy still sees.
        context: the ids the policy sees. rows: what becomes the rows of the batch; the last one grows.
    """

    prompt: list[int]
    group: int
    number: int
    turns: list[list[int]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    context: list[int] = field(default_factory=list)
    rows: list[Dialogue] = field(default_factory=list)
    stop: Stop = Stop.DONE
    outcome: float = 0.0

    def __post_init__(self) -> None:
        self.context = list(self.prompt)
        self.start_row()

    def start_row(self) -> None:
        self.rows.append(Dialogue(list(self.context), self.group, rollout=self.number, first_turn=len(self.turns)))

    def sampled(self, ids: list[int], logps: list[float]) -> None:
        self.rows[-1].segments.append(Segment(ids, logps))
        self.rows[-1].rewards.append(0.0)
        self.kept.append(len(self.turns))
        self.turns.append(list(ids))
        self.context += ids

    def after(self, ids: list[int], keep: tuple[int, ...] | None) -> list[int]:
        """The context after a reply, of which only `keep` is left."""
        if keep is None or list(keep) == self.kept:
            return self.context + ids
        turns = [*self.turns[:-1], self.turns[-1] + ids]
        return self.prompt + [i for turn in keep for i in turns[turn]]

    def replied(self, ids: list[int], keep: tuple[int, ...] | None) -> bool:
        """Append a reply, or go on in a new row. Returns whether the context was rewritten."""
        rewritten = keep is not None and list(keep) != self.kept
        self.context = self.after(ids, keep)
        self.turns[-1] += ids
        if rewritten:
            self.kept = list(keep or ())
            self.start_row()
        else:
            self.rows[-1].segments.append(Segment(ids))
        return rewritten

    def finished(self) -> list[Dialogue]:
        for row in self.rows:
            row.stop, row.outcome = self.stop, self.outcome
            if self.stop is Stop.ERROR:
                row.rewards = [0.0] * len(row.rewards)
        return self.rows


def _reply_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """`reply_ids`, with `?` for characters that the tokenizer has no token for: nobody knows what a tool will say."""
    try:
        return reply_ids(tokenizer, text)
    except ValueError:
        known = tokenizer.get_vocab()
        return reply_ids(tokenizer, "".join(character if character in known else "?" for character in text))


def _step(episode: Episode, text: str, turn: int) -> Reply:
    reply = episode.step(text)
    if not (math.isfinite(reply.reward) and math.isfinite(reply.outcome)):
        raise ValueError(f"the task's reply has a reward or an outcome that is not finite: {reply!r}")
    if reply.keep is not None and (sorted({*reply.keep}) != list(reply.keep) or not {*reply.keep} <= {*range(turn + 1)}):
        raise ValueError(f"Reply.keep must be turns from 0 to {turn}, in order and each once, not {reply.keep!r}")
    return reply


def encode_demonstration(
    prompt: str,
    turns: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    group: int = 0,
    outcome: float = 1.0,
    schemas: Sequence[str] = (),
) -> Dialogue:
    """A demonstration in one row, as an episode of the expert; see `encode_rows`."""
    rows = encode_rows(prompt, turns, tokenizer, rollout=0, group=group, outcome=outcome, schemas=schemas)
    return dataclasses.replace(rows[0], rollout=None)


def encode_rows(
    prompt: str, turns: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, rollout: int, group: int = 0, outcome: float = 1.0,
    keeps: Sequence[tuple[int, ...] | None] = (), schemas: Sequence[str] = (),
) -> list[Dialogue]:  # fmt: skip
    """A demonstration as an episode of the expert, ready for `Batch.from_dialogues` and supervised training.

    Args:
        turns: assistant turn, reply, assistant turn, ..., as `task.demonstration` gives them. The assistant's turns and
            their end tokens are marked as sampled (log-probability 0: nobody sampled them); prompt and replies are not.
        rollout: a number that no other episode of the batch has.
        keeps: what stays in the context after each assistant turn, see `Reply.keep`. schemas: see `Problem.schemas`.
    Raises:
        ValueError: no turns, or the last one is not the assistant's.
    """
    if len(turns) % 2 == 0:
        raise ValueError(
            f"a demonstration is assistant turn, reply, ..., assistant turn: an odd number of texts, not {len(turns)}"
        )
    one = _Attempt(prompt_ids(tokenizer, prompt, schemas), group, rollout, outcome=outcome)
    form, opened = calls.format_of(tokenizer) if schemas else None, check_template(tokenizer).opened
    for number, text in enumerate(turns):
        if number % 2:
            one.replied(reply_ids(tokenizer, text), keeps[number // 2] if keeps else None)
        else:
            said = calls.for_model(text, form) if form else text
            said = f"\n</think>\n\n{said}" if opened else said  # an expert who says it without a thought
            ids = [*encode(tokenizer, said), tokenizer.eos_token_id]
            one.sampled(ids, [0.0] * len(ids))
    for row in one.finished():
        row.origin = Origin.EXPERT
    return one.rows


def transcript(batch: Batch, row: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of one episode, tags included: for logs and for reading."""
    return decode(tokenizer, batch.tokens[row, : int(batch.length[row])].tolist())


def mismatch(policy: LanguageModel, batch: Batch, *, temperature: float = 1.0) -> Mismatch:
    """How far the sampler's log-probabilities in `batch` are from what `policy` itself says of the same tokens.

    float32 rounding is about 1e-6. An engine in bfloat16, or with other weights, shows here before it shows in training.
    """
    with torch.no_grad():
        return Mismatch.of((policy.evaluate(batch, temperature=temperature).logp - batch.logp_old)[batch.mask])


@dataclass(frozen=True)
class Mismatch:
    """mean, largest: of |log p of the trainer - log p of the sampler|; kl: the k3 estimate of KL(sampler || trainer), nats."""

    mean: float
    largest: float
    kl: float

    @staticmethod
    def of(gap: Tensor) -> Mismatch:
        """From log p of the trainer - log p of the sampler of each token [N]."""
        gap = gap.double()
        return Mismatch(gap.abs().mean().item(), gap.abs().max().item(), (gap.exp() - 1 - gap).mean().item())

    def __str__(self) -> str:
        return f"mean |dlogp| {self.mean:.1e}, max {self.largest:.1e}, KL {self.kl:.1e}"
