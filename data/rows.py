"""Methods of several rows a rollout, each where its claim should show. Remakes rows.json: `python data/rows.py`.

The policy is a table: after each context that it has met, a softmax over what the menu allows next. It is played by the same
driver and trained by the same `wb.train` as a language model, but it has no optimisation of its own to blame: what a method
does to it, the method does. It starts as a pupil that has seen demonstrations with mistakes and slips now and then.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import workbench as wb
from workbench import models, sample, seeding, stats
from workbench import objective as o
from workbench.batch import Batch
from workbench.models import Evaluation
from workbench.objective.layout import as_one_sequence
from workbench.recipes import dynamic_context, flow_grpo, grpo, supo
from workbench.tasks import Stream

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "rows"
SEEDS, UPDATES, LESSONS, PROBLEMS = 8, 20, 400, 300
MISTAKES, SLIPS = 0.5, 0.1


# ---- a language model that is a table -----------------------------------------------------------------------------------


class Table(nn.Module):
    """A policy that says the texts of a menu, and for each context has a softmax of its own over the next token of them.

    Attributes:
        table: [contexts, choices] logits. A place in a text after which the menu knows one token only needs none.
    """

    hidden_size, context = 1, None

    def __init__(self, menu: Sequence[str], contexts: int = 8_000) -> None:
        super().__init__()
        self.tokenizer = _remembering(models.make_tokenizer())
        self.vocab_size = len(self.tokenizer)
        self.next: dict[tuple[int, ...], list[int]] = {}
        for text in menu:
            ids = [*models.encode(self.tokenizer, text), self.tokenizer.eos_token_id]
            for place, token in enumerate(ids):
                known = self.next.setdefault(tuple(ids[:place]), [])
                if token not in known:
                    known.append(token)
        self.table = nn.Parameter(torch.zeros(contexts, max(map(len, self.next.values()))))
        self.number: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        self.choices = torch.zeros(contexts, dtype=torch.int64)

    def look_up(self, before: tuple[int, ...], said: tuple[int, ...]) -> tuple[int, list[int]]:
        """The row in the table (-1 where there is no choice), and the tokens that may come next.

        Args:
            before: the context as the turn began. said: of this turn so far.
        """
        allowed = self.next[said]
        if len(allowed) == 1:
            return -1, allowed
        known = len(self.number)
        row = self.number.setdefault((before, said), known)
        if row == known:
            self.choices[row] = len(allowed)
        return row, allowed

    def chosen(self, batch: Batch) -> list[tuple[int, int, int, int]]:
        """Where there was a choice: row and column of the batch, row of the table, and what was chosen."""
        found = []
        turns = torch.where(batch.mask, batch.turn, -1).tolist()
        for row, (ids, turn) in enumerate(zip(batch.tokens.tolist(), turns)):
            begun, before = -1, ()
            for place in range(len(ids)):
                if turn[place] >= 0 and turn[place] != turn[place - 1]:
                    begun, before = place, tuple(ids[:place])
                if turn[place] >= 0:
                    number, allowed = self.look_up(before, tuple(ids[begun:place]))
                    if number >= 0:
                        found.append((row, place, number, allowed.index(ids[place])))
        return found

    def logps(self) -> Tensor:
        """[contexts, choices]"""
        known = len(self.number)
        outside = torch.arange(self.table.shape[1]) >= self.choices[:known, None]
        return torch.log_softmax(self.table[:known].masked_fill(outside, -torch.inf), 1)

    def evaluate(self, batch: Batch, *, temperature: float = 1.0) -> Evaluation:
        assert temperature == 1
        row, place, number, choice = torch.tensor(self.chosen(batch)).T
        logp = self.logps()
        zeros = torch.zeros(batch.tokens.shape)
        entropy = -(logp.exp() * logp.clamp(min=-1e9)).sum(1)
        return Evaluation(
            zeros.index_put((row, place), logp[number, choice]), zeros.index_put((row, place), entropy[number]),
            zeros[..., None],
        )  # fmt: skip

    @torch.no_grad()
    def imitate(self, batch: Batch, slips: float) -> None:
        """Say what was said in these rows after each context, as often as it was said; with probability `slips` anything."""
        counts: dict[int, np.ndarray] = {}
        for _, _, number, choice in self.chosen(batch):
            counts.setdefault(number, np.zeros(int(self.choices[number])))[choice] += 1
        for number, count in counts.items():
            share = (1 - slips) * count / count.sum() + slips / len(count)
            self.table[number, : len(count)] = torch.from_numpy(np.log(share)).float()


def _remembering(tokenizer: Any) -> Any:
    """The tokenizer, which encodes no text twice: there are few, and this takes most of the time otherwise."""
    encode, decode = functools.cache(tokenizer.encode), functools.cache(tokenizer.decode)
    tokenizer.encode = lambda text, **settings: list(encode(text, **settings))
    tokenizer.decode = lambda ids, **settings: decode(tuple(ids), **settings)
    return tokenizer


class Player:
    """Samples from a table; an engine, as the driver wants it."""

    context = None

    def __init__(self, policy: Table) -> None:
        self.policy = policy

    def start(self, prompts: Sequence[Sequence[int]], *, seed: int) -> Player:
        self.rng, self.rows = seeding.generator(seed, "player"), [list(prompt) for prompt in prompts]
        with torch.no_grad():
            self.logp = self.policy.logps().tolist()
        return self

    def sample(
        self, rows: Sequence[int], *, max_tokens: int, stop: Collection[int], temperature: float = 1.0,
        top_p: float = 1.0, top_k: int = 0,
    ) -> list[sample.Completion]:  # fmt: skip
        said = []
        for row in rows:
            before, ids, logps = tuple(self.rows[row]), [], []
            while len(ids) < max_tokens and (not ids or ids[-1] not in stop):
                number, allowed = self.policy.look_up(before, tuple(ids))
                choice, logp = 0, 0.0
                if number >= 0:
                    uniform = [-float(np.log(len(allowed)))] * len(allowed)  # a context nobody has met
                    table = self.logp[number][: len(allowed)] if number < len(self.logp) else uniform
                    weight = np.exp(table) if temperature else np.asarray(table) == max(table)
                    choice = int(np.searchsorted(np.cumsum(weight) / np.sum(weight), self.rng.random(), side="right"))
                    logp = table[choice]
                ids.append(allowed[choice])
                logps.append(min(logp, 0.0))
            self.rows[row] += ids
            said.append(sample.Completion(ids, logps, ids[-1] in stop))
        return said

    def extend(self, row: int, ids: Sequence[int]) -> None:
        self.rows[row] += ids

    def restart(self, row: int, ids: Sequence[int]) -> None:
        self.rows[row] = list(ids)

    def ids(self, row: int) -> list[int]:
        return list(self.rows[row])


def pupil(tasks: Sequence[Stream], seed: int) -> Table:
    """A table that has seen demonstrations of these tasks, half of them with a mistake, and slips in a tenth of its choices."""
    edits = any(task.memory == "forget" for task in tasks)
    digits = list("0123456789")
    policy = Table(["<T>n</T>", *digits, *(f"{digit}<T>f{k}</T>" for digit in digits for k in range(1, 5) if edits)])
    rows = []
    for number in range(LESSONS):
        task, rng = tasks[number % len(tasks)], seeding.generator(seed, "mistakes", number)
        problem = task.problem(number, seed=seeding.integer(seed, "demonstrated"))
        turns = task.demonstration(problem, rng, MISTAKES)
        keeps = task.keeps(problem, turns[::2])
        rows += sample.encode_rows(problem.prompt, turns, policy.tokenizer, rollout=number, keeps=keeps)
    policy.imitate(Batch.from_dialogues(rows), SLIPS)
    return policy


def played(policy: Table, task: Stream, seed: int) -> Batch:
    asked = [task.problem(number, split="test") for number in range(PROBLEMS)]
    return sample.rollout(
        Player(policy), task, policy.tokenizer, asked, group_size=1, seed=seeding.integer(seed, "test")
    )


# ---- the claims ---------------------------------------------------------------------------------------------------------


@o.part("select")
def drop_summaries(batch: Batch, advantage: Tensor, entropy: Tensor | None) -> Tensor:
    """An ablation: no gradient for the last turn of a row that another row of its rollout follows, which is the summary."""
    last = batch.turn.amax(1)
    final = torch.full_like(last[: batch.rollouts], -1).scatter_reduce(0, batch.rollout, last, "amax")
    summary = (batch.turn == last[:, None]) & (last < final[batch.rollout])[:, None]
    return (batch.mask & ~summary).to(advantage.dtype)


@o.part("layout")
def one_sequence(batch: Batch) -> Batch:
    """An ablation, and wrong: see `objective.layout`."""
    return as_one_sequence(batch)


@dataclass(frozen=True)
class Capped(Stream):
    """A stream that training cuts off after `cap` turns."""

    cap: int = 7

    @property
    def max_turns(self) -> int:
        return self.cap


SHORT = Stream(readings=(3, 4), items=1, window=2, memory="summary", slack=4)
BLIND = replace(SHORT, memory="window")
LONG = Stream(readings=(1, 7), items=1, window=2, memory="summary", slack=0)
CAPPED = Capped(readings=(1, 7), items=1, window=2, memory="summary", slack=0, cap=7)
EDITED = Stream(readings=(3, 3), items=1, window=9, memory="forget", slack=4)
BUDGET = 28
edited = dynamic_context.but("edited", reward=(o.outcome(), o.context_cost(BUDGET, 0.1)))
plain_flow = flow_grpo.but("over-rollouts", advantage=o.episode_advantage())

# name: (what the pupil sees, what it is trained on, the recipe, what it is tested on)
ARMS = {
    "supo": ((SHORT,), SHORT, supo, SHORT),
    "no gradient for summaries": ((SHORT,), SHORT, supo.but("without", select=drop_summaries()), SHORT),
    "oldest turns dropped": ((BLIND,), BLIND, grpo, BLIND),
    "flow_grpo": ((SHORT,), SHORT, flow_grpo, SHORT),
    "statistics over rollouts": ((SHORT,), SHORT, plain_flow, SHORT),
    "overlong masked": ((LONG,), CAPPED, supo, LONG),
    "overlong punished": ((LONG,), CAPPED, grpo, LONG),
    "dynamic_context": ((EDITED, replace(EDITED, window=2)), EDITED, edited, EDITED),
    "no penalty": ((EDITED, replace(EDITED, window=2)), EDITED, grpo, EDITED),
    "one sequence": ((EDITED, replace(EDITED, window=2)), EDITED, edited.but("wrong", layout=one_sequence()), EDITED),
}


def run(arm: str, seed: int) -> dict[str, float]:
    """One pupil, before and after: success, turns, the longest context in tokens, and the ratios of the first update."""
    seen, task, recipe, tested = ARMS[arm]
    policy = pupil(seen, seed)
    before, ratios = played(policy, tested, seed), []
    player = Player(policy)
    for step in wb.train(policy, task, recipe, steps=UPDATES, seed=seed, prompts=6, lr=0.2, engine=player, max_grad_norm=1e9):
        ratios.append(max(step.ratio_max - 1, 1 - step.ratio_min))
    after = played(policy, tested, seed)
    return {
        "before": success(before), "success": success(after), "turns before": turns(before), "turns": turns(after),
        "context before": context(before), "context": context(after), "ratio error": ratios[0],
    }  # fmt: skip


def success(batch: Batch) -> float:
    return batch.outcome[batch.first_rows].mean().item()


def turns(batch: Batch) -> float:
    return batch.turns.sum().item() / batch.rollouts


def context(batch: Batch) -> float:
    """The longest context of an episode, mean over episodes."""
    longest = torch.zeros(batch.rollouts, dtype=torch.int64).scatter_reduce(0, batch.rollout, batch.length, "amax")
    return longest.double().mean().item()


# method, claim, arm, number, other arm (or "before" for the pupil itself), whether more is better
CLAIMS = [
    ("supo", "learning to summarise beats dropping the oldest turns, at the same context limit", "supo", "success",
     "oldest turns dropped", True),
    ("supo", "the same, each less what its own pupil could do before", "supo", "gain", "oldest turns dropped", True),
    ("supo", "ablation: what it learns is the summaries; without a gradient for them less is learned", "supo", "success",
     "no gradient for summaries", True),
    ("supo", "masking rollouts that hit a limit, against punishing them: success where the limit is lifted", "overlong masked",
     "success", "overlong punished", True),
    ("supo", "the same: turns taken where the limit is lifted", "overlong masked", "turns", "overlong punished", True),
    ("flow_grpo", "single turns, credited with the outcome of the whole, improve the policy", "flow_grpo", "success",
     "before", True),
    ("flow_grpo", "against one row a rollout (GRPO)", "flow_grpo", "success", "supo", True),
    ("flow_grpo", "ablation: statistics over rows, as released, against over rollouts", "flow_grpo", "success",
     "statistics over rollouts", True),
    ("dynamic_context", "a shorter context", "dynamic_context", "context", "no penalty", False),
    ("dynamic_context", "and success with it", "dynamic_context", "success", "no penalty", True),
    ("dynamic_context", "ablation: rows with append-only prefixes, against the episode as one sequence", "dynamic_context",
     "success", "one sequence", True),
]  # fmt: skip


def _number(one: dict[str, float], name: str) -> float:
    return one["success"] - one["before"] if name == "gain" else one[name]


def judged(runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """The claims with their effects: mean paired difference over seeds, its 95 % t-interval, and what that says."""
    rows = []
    for method, claim, arm, number, other, more in CLAIMS:
        mine = [_number(one, number) for one in runs[arm]]
        theirs = [_number(one, number) for one in runs[other]] if other != "before" else [one["before"] for one in runs[arm]]
        effect = stats.paired_difference(mine, theirs)
        shown = effect.low > 0 if more else effect.high < 0
        against = effect.high < 0 if more else effect.low > 0
        rows.append({
            "method": method, "claim": claim, "number": number, "arm": arm, "mean": round(float(np.mean(mine)), 3),
            "against": other, "its mean": round(float(np.mean(theirs)), 3), "effect": round(effect.estimate, 3),
            "interval": [round(effect.low, 3), round(effect.high, 3)],
            "verdict": "shown" if shown else "the other way" if against else "no difference shown",
        })  # fmt: skip
    return rows


def main() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or list(ARMS)
    for arm in wanted:
        path = BUILD / f"{arm}.json"
        if not path.exists():
            started = time.process_time()
            made = [run(arm, seed) for seed in range(SEEDS)]
            path.write_text(json.dumps({"runs": made, "seconds": time.process_time() - started}))
            means = {name: round(float(np.mean([one[name] for one in made])), 3) for name in made[0]}
            print(arm, f"{time.process_time() - started:.0f} s", means, flush=True)
    if wanted != list(ARMS):
        return
    found = {arm: json.loads((BUILD / f"{arm}.json").read_text()) for arm in ARMS}
    runs = {arm: [{k: round(v, 4) for k, v in one.items()} for one in each["runs"]] for arm, each in found.items()}
    seconds = sum(each["seconds"] for each in found.values())
    lines = [
        '"made by": "python data/rows.py"',
        f'"made with": "torch {torch.__version__.split("+")[0]}, one thread of a CPU, {seconds:.0f} s of its time"',
        f'"setting": {json.dumps(SETTING)}',
        '"claims": [\n  ' + ",\n  ".join(map(json.dumps, judged(runs))) + "\n ]",
        '"runs": {\n  ' + ",\n  ".join(f"{json.dumps(arm)}: {json.dumps(each)}" for arm, each in runs.items()) + "\n }",
    ]
    Path(__file__).with_suffix(".json").write_text("{\n " + ",\n ".join(lines) + "\n}\n", encoding="utf-8")


SETTING = (
    f"the task `stream` (count), a table over contexts, {SEEDS} seeds of pupil and training, {UPDATES} updates of 6 prompts x 8 "
    f"rollouts; tested on {PROBLEMS} problems at temperature 1; effects are paired by seed, with 95 % t-intervals"
)

if __name__ == "__main__":
    main()
