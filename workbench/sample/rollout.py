"""The driver: plays a task with an engine, turn by turn, and hands back a `Batch`.

An episode is prompt ids + sampled ids + reply ids + sampled ids + ..., only ever appended. A turn is decoded to show its
text to the task and for nothing else: decoding and encoding again may give other ids (merges, dropped whitespace), and then
the policy would be trained on tokens that it never chose.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from workbench.batch import Batch, Dialogue, Origin, Segment, Stop
from workbench.models.tokenizer import decode, encode, prompt_ids, reply_ids
from workbench.sample.engine import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from workbench.models import LanguageModel
    from workbench.tasks.base import Problem, Reply, Task

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

    Returns:
        Batch of len(problems) * group_size rows in the order of the problems; `group` is the problem's place in the list.
    Raises:
        ValueError: no problems, no rollouts, or a prompt that the engine refuses.
    """
    if not len(problems):
        raise ValueError("no problems: there is nothing to roll out; check the task and its split")
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, not {group_size!r}")
    end = tokenizer.eos_token_id
    prompts = [prompt_ids(tokenizer, problem.prompt) for problem in problems]
    dialogues = [Dialogue(list(ids), group) for group, ids in enumerate(prompts) for _ in range(group_size)]
    session = engine.start([dialogue.prompt for dialogue in dialogues], seed=seed)
    context = engine.context or float("inf")

    def attempt(row: int, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except Exception:
            first = all(dialogue.stop is not Stop.ERROR for dialogue in dialogues)
            level = (
                logging.ERROR if first else logging.DEBUG
            )  # a broken task fails in every row: one traceback will do
            log.log(
                level,
                "task %s raised in row %d (problem %d)",
                task.name,
                row,
                dialogues[row].group,
                exc_info=True,
            )
            dialogues[row].stop, dialogues[row].outcome = Stop.ERROR, 0.0
            return None

    episodes = [attempt(r, task.episode, problems[d.group]) for r, d in enumerate(dialogues)]
    live = [row for row, episode in enumerate(episodes) if episode is not None]
    for turn in range(task.max_turns):
        if not live:
            break
        completions = session.sample(
            live, max_tokens=task.max_tokens, stop=[end], temperature=temperature, top_p=top_p, top_k=top_k
        )
        rows, live = live, []
        for row, completion in zip(rows, completions):
            dialogue = dialogues[row]
            length = len(dialogue.prompt) + sum(len(s.ids) for s in dialogue.segments)
            if not completion.ids:
                dialogue.stop = Stop.CONTEXT
                continue
            dialogue.segments.append(Segment(completion.ids, completion.logps))
            dialogue.rewards.append(0.0)
            length += len(completion.ids)
            if not completion.stopped:
                dialogue.stop = Stop.CONTEXT if length >= context else Stop.LENGTH
                continue
            text = decode(tokenizer, completion.ids[:-1])
            reply = attempt(row, lambda row=row, text=text: _finite(episodes[row].step(text)))
            if reply is None:
                continue
            dialogue.rewards[-1] = float(reply.reward)
            if reply.done:
                dialogue.stop, dialogue.outcome = Stop.DONE, float(reply.outcome)
                continue
            if turn + 1 == task.max_turns:
                dialogue.stop = Stop.TURNS
                continue
            ids = attempt(row, reply_ids, tokenizer, reply.text or "")
            if ids is None:
                continue
            if length + len(ids) >= context:
                dialogue.stop = Stop.CONTEXT
                continue
            session.extend(row, ids)
            dialogue.segments.append(Segment(ids))
            live.append(row)
    for dialogue in dialogues:
        if dialogue.stop is Stop.ERROR:
            dialogue.rewards = [0.0] * len(dialogue.rewards)
    return Batch.from_dialogues(dialogues)


def _finite(reply: Reply) -> Reply:
    if not (math.isfinite(reply.reward) and math.isfinite(reply.outcome)):
        raise ValueError(f"the task's reply has a reward or an outcome that is not finite: {reply!r}")
    return reply


def encode_demonstration(
    prompt: str,
    turns: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    group: int = 0,
    outcome: float = 1.0,
) -> Dialogue:
    """A demonstration as an episode of the expert, ready for `Batch.from_dialogues` and supervised training.

    Args:
        turns: assistant turn, reply, assistant turn, ..., as `task.demonstration` gives them. The assistant's turns and
            their end tokens are marked as sampled (log-probability 0: nobody sampled them); prompt and replies are not.
    Raises:
        ValueError: no turns, or the last one is not the assistant's.
    """
    if len(turns) % 2 == 0:
        raise ValueError(
            f"a demonstration is assistant turn, reply, ..., assistant turn: an odd number of texts, not {len(turns)}"
        )
    dialogue = Dialogue(prompt_ids(tokenizer, prompt), group, outcome=outcome, origin=Origin.EXPERT)
    for number, text in enumerate(turns):
        if number % 2:
            dialogue.segments.append(Segment(reply_ids(tokenizer, text)))
        else:
            ids = [*encode(tokenizer, text), tokenizer.eos_token_id]
            dialogue.segments.append(Segment(ids, [0.0] * len(ids)))
            dialogue.rewards.append(0.0)
    return dialogue


def transcript(batch: Batch, row: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of one episode, tags included: for logs and for reading."""
    return decode(tokenizer, batch.tokens[row, : int(batch.length[row])].tolist())


def mismatch(policy: LanguageModel, batch: Batch, *, temperature: float = 1.0) -> Mismatch:
    """How far the sampler's log-probabilities in `batch` are from what `policy` itself says of the same tokens.

    float32 rounding is about 1e-6. An engine in bfloat16, or with other weights, shows here before it shows in training.
    """
    with torch.no_grad():
        gap = (policy.evaluate(batch, temperature=temperature).logp - batch.logp_old)[batch.mask].double()
    return Mismatch(gap.abs().mean().item(), gap.abs().max().item(), (gap.exp() - 1 - gap).mean().item())


@dataclass(frozen=True)
class Mismatch:
    """mean, largest: of |log p of the trainer - log p of the sampler|; kl: the k3 estimate of KL(sampler || trainer), nats."""

    mean: float
    largest: float
    kl: float

    def __str__(self) -> str:
        return f"mean |dlogp| {self.mean:.1e}, max {self.largest:.1e}, KL {self.kl:.1e}"
