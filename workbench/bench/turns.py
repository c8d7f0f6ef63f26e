"""Rollouts of several turns next to calling `generate` of transformers turn by turn.

Same weights, same prompts, the same number of sampled tokens in every turn, the same replies. Ours is the whole driver: it
decodes every turn, asks the task, and ends with a `Batch`; theirs appends the ids of the reply and generates on.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.bench import Paired, paired
from workbench.bench.language import SIZES, FixedLength, bench_policy, bench_prompts

GROUPS, GROUP, TURNS, NEW = 8, 8, 4, 12  # 64 episodes, 12 tokens a turn: the longest turn of `calculator`
TARGET = 1.5  # on the 0.8m model, in float32, one thread


@dataclass(frozen=True)
class Talk:
    """A task of `TURNS` turns that answers every one but the last with the same words."""

    name = "talk"
    tools = ()
    max_turns = TURNS
    max_tokens = NEW
    reply = "1234"

    def problem(self, index: int, *, split: str = "train", seed: int = 0) -> Any:
        from workbench.tasks import Problem

        return Problem(bench_prompts()[index], "")

    def episode(self, problem: Any) -> Talking:
        return Talking()


@dataclass
class Talking:
    """How many turns there were."""

    turns: int = 0

    def step(self, text: str) -> Any:
        from workbench.tasks import Reply

        self.turns += 1
        return Reply(None, done=True) if self.turns == TURNS else Reply(Talk.reply)


class FixedTurns(FixedLength):
    """An engine whose turns all have the same length, as `min_new_tokens` makes those of generate."""

    def start(self, prompts: Sequence[Sequence[int]], *, seed: int) -> FixedTurns:
        super().start(prompts, seed=seed)
        return self

    def extend(self, row: int, ids: Sequence[int]) -> None:
        self.session.extend(row, ids)


def ours(policy: Any) -> Any:
    """A batch of 64 episodes of 4 turns."""
    from workbench import sample

    task: Any = Talk()
    engine: Any = FixedTurns(sample.LocalEngine(policy))
    problems = [task.problem(number) for number in range(GROUPS)]
    return sample.rollout(engine, task, policy.tokenizer, problems, group_size=GROUP, seed=0)


def theirs(policy: Any) -> Any:
    """The ids [64, T] of the same episodes, by four calls of generate."""
    import torch

    from workbench import models

    prompts = [models.prompt_ids(policy.tokenizer, text) for text in bench_prompts()[:GROUPS] for _ in range(GROUP)]
    ids, reply = torch.tensor(prompts), torch.tensor(models.reply_ids(policy.tokenizer, Talk.reply))
    for turn in range(TURNS):
        if turn:
            ids = torch.cat([ids, reply.expand(len(ids), -1)], 1)
        ids = policy.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0, eos_token_id=policy.eos,
        )  # fmt: skip
    return ids


def report(pairs: int, *, quick: bool = False, show: Callable[[str], None] = print) -> dict[str, Paired]:
    """Time both at every size, or with `quick` the 0.8m model only, and print it; the ratios by size."""
    import torch

    from workbench.models import fast

    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    warnings.filterwarnings("ignore")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fast.tune_allocator()
    try:
        show(f"\n{GROUPS * GROUP} episodes of {TURNS} turns of {NEW} tokens; how many times sooner ours is done:")
        found = {}
        for size in ("0.8m",) if quick else SIZES:
            policy = bench_policy(size)
            found[size] = paired(lambda policy=policy: theirs(policy), lambda policy=policy: ours(policy), pairs)  # type: ignore[misc]
            show(f"  {size:5s} {'rollouts: generate, turn by turn':38s} {found[size]}")
    finally:
        torch.set_num_threads(threads)
    if "0.8m" in found:
        verdict = "reached" if found["0.8m"].ratio >= TARGET else "not reached"
        show(f"target on 0.8m, rollouts: {TARGET}x, {verdict} ({found['0.8m'].ratio:.2f}x)")
    return found
