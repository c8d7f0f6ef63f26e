"""Six methods that look back or change with the step, each on a lock where its claim should show. Remakes memory.json.

    python data/memory.py

The policy is a table, small enough for many seeds: which token follows which (the form of a call), the digit it knows for a
place of a make's code, and how strongly it presses a digit that a hint shows. It starts with calls that are mostly well formed
and with no code known, and goes through the same `train` and `evaluate` as a language model. An effect is the mean paired
difference over SEEDS seeds between two arms, with Student's 95 % interval. Four minutes on one core; runs that are in
build/memory already are not made again.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import workbench as wb
from workbench import models, recipes
from workbench.batch import Batch
from workbench.models.evaluation import Evaluation
from workbench.objective import (
    clip,
    entropy_bonus,
    entropy_window,
    few_shots,
    helpful_hints,
    likelihood_drops,
    replay,
    uniform,
    updates,
)  # fmt: skip
from workbench.recipes import Recipe
from workbench.sample.engine import Completion, Uniforms, draw
from workbench.stats import paired_difference
from workbench.tasks import Unlock

HERE = Path(__file__).parent
SEEDS = 8
TOKENIZER: Any = models.make_tokenizer()
TOKENIZER.encode = cache(TOKENIZER.encode)  # the same few texts, over and over
ID = TOKENIZER.get_vocab()
CALL, CLOSE, END, REPLY, UNKNOWN, LINE = (ID[token] for token in ("<T>", "</T>", "<E>", "<R>", "?", "\n"))
DIGITS = torch.tensor([ID[digit] for digit in "0123456789"])
ACTIONS = torch.tensor([CALL, CLOSE, END, *DIGITS.tolist()])  # all that it ever says
COLUMN = torch.full((128,), -1).index_put((ACTIONS,), torch.arange(len(ACTIONS)))
ASK = ID["<A>"]


@cache
def look(prompt: tuple[int, ...], places: int) -> tuple[int, tuple[int, ...], int]:
    """Of a prompt the make (0 for A), the digit that hints show at each place (10 for none), and the number of examples."""
    text = models.decode(TOKENIZER, prompt).removeprefix("<U>").removesuffix("<A>")
    *examples, last = text.split("\n")
    shown = [10] * places
    if examples:
        shown = [int(part[0]) for part in examples[0].split("<T>")[1:]]
    elif " " in last:
        shown = [10 if digit == "?" else int(digit) for digit in last.split(" ")[0]]
    return ord(last[-4]) - ord("A"), tuple(shown), len(examples)


class Presser(nn.Module):
    """Presses digits. Logits of what comes next are a sum of tables: `form`, the token before; for a digit also `known`, make
    and place, and `copied`, the digit that is shown; for opening a call also `imitated`, how many examples there are.

    Args:
        task: the lock. called: log-odds of opening a call, against giving up. formed: logit of every other right token of the
            form. follows: logit of a digit that a hint shows, for each example that does. follows_calls: what each of them adds
            to `called`.
    """

    context = None
    hidden_size = 1
    vocab_size = 128
    tokenizer = TOKENIZER

    def __init__(
        self, task: Unlock, *, called: float = 4.0, formed: float = 5.0, follows: float = 0.0, follows_calls: float = 0.0
    ) -> None:
        super().__init__()
        self.places = task.places
        form = torch.zeros(128, len(ACTIONS))
        form[ASK] = torch.tensor([called, -9.0, 0.0] + [-9.0] * 10)
        form[CALL] = torch.tensor([-9.0, 0.0, -9.0] + [formed] * task.digits + [-9.0] * (10 - task.digits))
        form[DIGITS] = torch.tensor([-9.0, formed, -9.0] + [0.0] * task.digits + [-9.0] * (10 - task.digits))
        form[CLOSE] = torch.tensor([-9.0, -9.0, formed] + [-9.0] * 10)
        self.form = nn.Parameter(form)
        self.known = nn.Parameter(torch.zeros(task.makes, task.places, 10))
        self.copied = nn.Parameter(torch.cat([follows * torch.eye(10), torch.zeros(1, 10)]))
        self.imitated = nn.Parameter(follows_calls * torch.arange(9).float())

    def logits(self, before: Tensor, make: Tensor, place: Tensor, shown: Tensor, examples: Tensor) -> Tensor:
        """[N] features -> [N,13]."""
        digit = (self.known[make, place] + self.copied[shown] * examples.clamp(min=1)[:, None]) * (before == CALL)[:, None]
        call = self.imitated[examples] * (before == ASK)
        return self.form[before] + torch.cat([call[:, None], torch.zeros(len(before), 2), digit], 1)

    def evaluate(self, batch: Batch, *, temperature: float = 1.0) -> Evaluation:
        row, column = batch.mask.nonzero(as_tuple=True)
        seen = [look(tuple(t[:n]), self.places) for t, n in zip(batch.tokens.tolist(), batch.prompt_length.tolist())]
        make, examples = torch.tensor([s[0] for s in seen]), torch.tensor([s[2] for s in seen])
        shown = torch.tensor([s[1] for s in seen])
        position = torch.arange(batch.tokens.shape[1])
        counted = torch.zeros_like(batch.mask)
        counted[:, 1:] = (batch.tokens[:, :-1] == REPLY) & torch.isin(batch.tokens[:, 1:], DIGITS)
        latest = torch.where(counted, position, 0).cummax(1).values  # of the digit in the last reply
        place = torch.where(latest > 0, batch.tokens.gather(1, latest) - DIGITS[0], 0)[row, column - 1]
        logits = self.logits(batch.tokens[row, column - 1], make[row], place, shown[row, place], examples[row])
        logp = torch.log_softmax(logits / temperature, 1)
        zeros = torch.zeros(batch.tokens.shape)
        chosen = logp.gather(1, COLUMN[batch.tokens[row, column]][:, None])[:, 0]
        return Evaluation(
            logp=zeros.index_put((row, column), chosen),
            entropy=zeros.index_put((row, column), -(logp.exp() * logp).sum(1)),
            hidden=zeros[:, :, None],
        )


@dataclass
class Session:
    """Rows of a `Presser`; `sample.engine.Session`."""

    policy: Presser
    rows: list[list[int]]
    uniforms: Uniforms
    place: list[int] = field(init=False)

    def __post_init__(self) -> None:
        seen = [look(tuple(row), self.policy.places) for row in self.rows]
        self.make, self.examples = torch.tensor([s[0] for s in seen]), torch.tensor([s[2] for s in seen])
        self.shown, self.place = torch.tensor([s[1] for s in seen]), [0] * len(seen)

    def ids(self, row: int) -> list[int]:
        return self.rows[row]

    def extend(self, row: int, ids: Sequence[int]) -> None:
        self.rows[row] += ids
        digit = ids[ids.index(REPLY) + 1] - int(DIGITS[0])
        self.place[row] = digit if 0 <= digit <= 9 else self.place[row]

    @torch.no_grad()
    def sample(
        self, rows: Sequence[int], *, max_tokens: int, stop: Collection[int], temperature: float = 1.0, top_p: float = 1.0,
        top_k: int = 0,
    ) -> list[Completion]:  # fmt: skip
        number, length = torch.tensor(rows), torch.tensor([len(self.rows[row]) for row in rows])
        place, before = torch.tensor(self.place)[number], torch.tensor([self.rows[row][-1] for row in rows])
        found: list[tuple[Tensor, Tensor]] = []
        for _ in range(max_tokens):
            logits = self.policy.logits(before, self.make[number], place, self.shown[number, place], self.examples[number])
            chosen, logp = draw(logits, self.uniforms(number, length, int(length.max())), temperature, top_p, top_k)
            before, length = ACTIONS[chosen], length + 1
            found.append((before, logp))
        completions = []
        for row, ids, logps in zip(rows, *(torch.stack(each, 1).tolist() for each in zip(*found))):
            count = ids.index(END) + 1 if END in ids else max_tokens
            completions.append(Completion(ids[:count], logps[:count], END in ids))
            self.rows[row] += ids[:count]
        return completions


@dataclass
class Table:
    """The engine of a `Presser`."""

    policy: Presser
    context = None

    def start(self, prompts: Sequence[Sequence[int]], *, seed: int) -> Session:
        return Session(self.policy, [list(prompt) for prompt in prompts], Uniforms(seed, len(prompts)))


# ---- what is compared ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A lock, a policy to start from, and how it is trained."""

    task: Unlock
    start: dict[str, float]
    steps: int
    lr: float
    prompts: int = 4


def scores(setting: Setting, recipe: Recipe, seed: int) -> dict[str, float]:
    """One run, from the policy of the setting: what it can do at the end without hints, and what was seen on the way."""
    policy = Presser(setting.task, **setting.start)
    engine = Table(policy)
    task: Any = setting.task
    records = list(
        wb.train(policy, task, recipe, steps=setting.steps, seed=seed, prompts=setting.prompts, lr=setting.lr, engine=engine)  # type: ignore[arg-type]
    )
    success = wb.evaluate(policy, task, problems=200, temperature=1.0, seed=seed, engine=engine).success  # type: ignore[arg-type]
    return {
        "success": success,
        "mean success": statistics.fmean(record.success for record in records),
        "dead groups": statistics.fmean(record.zero_advantage for record in records),
        "entropy": records[-1].entropy,
        "entropy sd": statistics.pstdev(record.entropy for record in records[len(records) // 4 :]),
        "malformed": records[-1].malformed,
        "largest gradient": max(record.gradient_norm for record in records),
    }


@dataclass(frozen=True)
class Claim:
    """What is said of a method, and the arms that can show it.

    Attributes:
        says: the claim. measure: one of the names of `scores`. arms: the first two are the parent and the method; the others are
            what is left of the method without a part, or other ways to the same end.
    """

    method: str
    says: str
    where: str
    setting: Setting
    measure: str
    arms: dict[str, Recipe]


grpo = recipes.grpo
few = grpo.but("few-prompts", prompts=uniform(pool=8), surrogate=clip(0.2, 0.3))
often = grpo.but("four-epochs", schedule=updates(epochs=4))
bonus = grpo.but("bonus", regulariser=entropy_bonus(0.03))
SHORT = Unlock(places=2, digits=10, presses=4)  # opened at random: 2.8 %

CLAIMS = (
    Claim(
        "arpo", "Where successes are rare, replaying them raises success.",
        "8 locks asked over and over, 2.8 % opened at random", Setting(SHORT, {}, 40, 0.15), "success",
        {
            "grpo": few,
            "arpo": few.but("arpo", mix=replay()),
            "replay with the sampler's log-probabilities": few.but("sampled", mix=replay(logp="sampled")),
        },
    ),
    Claim(
        "epo", "Keeping entropy near what it was raises success with a sparse reward.",
        "fresh locks of 4 makes, three places of 4 digits, 5.1 % opened at random, high learning rate",
        Setting(Unlock(places=3, digits=4, presses=6, makes=4), {}, 25, 0.3), "success",
        {
            "entropy bonus alone": bonus,
            "epo": bonus.but("epo", regulariser=(entropy_bonus(0.03), entropy_window(0.3, 0.8, 1.2))),
            "grpo": grpo,
        },
    ),
    Claim(
        "simple_tir", "Leaving out episodes with a void turn raises success.",
        "two places of 4 digits, a policy that garbles 63 % of its calls",
        Setting(Unlock(places=2, digits=4, presses=4, makes=4), {"formed": 1.0}, 25, 0.1), "success",
        {
            "grpo": grpo,
            "simple_tir": recipes.simple_tir,
            "a penalty for malformed turns": grpo.but("penalty", reward=(wb.outcome(), wb.turn_penalty(0.1))),
        },
    ),
    Claim(
        "llds", "Holding up the likelihood of what was not bad keeps GRPO from collapsing where batches are used often.",
        "two places of 4 digits, four epochs a batch, high learning rate",
        Setting(Unlock(places=2, digits=4, presses=4, makes=4), {}, 15, 0.5), "success",
        {
            "grpo, four epochs": often,
            "llds": often.but("llds", regulariser=likelihood_drops(0.1)),
            "llds on every token": often.but("all", regulariser=likelihood_drops(0.1, credited=False)),
        },
    ),
    Claim(
        "icrl", "A policy that calls no tool without examples learns to, if they are withdrawn in stages.",
        "two places of 10 digits, 1.8 % of turns are calls without examples; success without examples at the end",
        Setting(Unlock(places=2, digits=10, presses=4, makes=4, show="examples"),
                {"called": -4.0, "follows": 1.5, "follows_calls": 2.0}, 33, 0.15), "success",
        {
            "grpo": grpo,
            "icrl": grpo.but("icrl", context=few_shots((3, 2, 0), 11)),
            "from three to none at once": grpo.but("abrupt", context=few_shots((3, 0), 22)),
            "three to the end": grpo.but("always", context=few_shots((3,), 1)),
        },
    ),
    Claim(
        "skill0", "Hints withdrawn over training raise success without hints.",
        "8 makes, 2.8 % opened at random, hints followed in 86 % of presses; success without hints at the end",
        Setting(SHORT, {"follows": 4.0}, 30, 0.15), "success",
        {
            "grpo": grpo,
            "skill0": grpo.but("skill0", context=helpful_hints((2, 1, 0), 10, 10, 16)),
            "from all to none at once": grpo.but("abrupt", context=helpful_hints((2, 0), 20, 10, 16)),
            "all to the end": grpo.but("always", context=helpful_hints((2,), 1, 10, 16)),
        },
    ),
)  # fmt: skip


def verdict(low: float, high: float) -> str:
    """What a 95 % interval of the difference says of the claim that it is above 0."""
    return "seen" if low > 0 else "the opposite" if high < 0 else "not seen"


def row(claim: Claim, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """One line of the record, from `scores` of every arm and seed."""
    parent, method, *others = claim.arms

    def effect(other: str, measure: str = claim.measure) -> dict[str, float]:
        found = paired_difference([run[measure] for run in runs[method]], [run[measure] for run in runs[other]])
        return {"effect": round(float(found.estimate), 4), "low": round(float(found.low), 4), "high": round(float(found.high), 4)}

    main = effect(parent)
    return {
        "method": claim.method, "claim": claim.says, "setting": claim.where, "measure": claim.measure,
        "against": parent, **main, "verdict": verdict(main["low"], main["high"]),
        "ablation": {other: effect(other) for other in others},
        "also": {name: effect(parent, name) for name in runs[method][0] if name != claim.measure},
        "means": {arm: {k: round(statistics.fmean(run[k] for run in found), 4) for k in found[0]} for arm, found in runs.items()},
        "scores": {arm: [round(run[claim.measure], 4) for run in found] for arm, found in runs.items()},
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for claim in CLAIMS:
        runs: dict[str, list[dict[str, float]]] = {}
        for arm, recipe in claim.arms.items():
            runs[arm] = [run_once(claim, arm, recipe, seed) for seed in range(SEEDS)]
        rows.append(row(claim, runs))
        print({key: rows[-1][key] for key in ("method", "effect", "low", "high", "verdict", "ablation")}, flush=True)
    about = {
        "made by": "python data/memory.py",
        "made with": f"torch {torch.__version__.split('+')[0]}, one thread of a busy CPU",
        "fields": "effect, low, high: mean paired difference of `measure` from `against` (and from each arm of `ablation`), and "
        f"its 95 % interval; also: the same of what else was seen; scores: a number a seed, seeds 0 to {SEEDS - 1}; means: over "
        "seeds. success: share of 200 test locks at the end, without hints; mean success: of the training locks, over all steps",
    }
    text = json.dumps({**about, "rows": rows}, indent=1)
    HERE.joinpath("memory.json").write_text(one_line_lists(text) + "\n", encoding="utf-8")


def run_once(claim: Claim, arm: str, recipe: Recipe, seed: int) -> dict[str, float]:
    """`scores`, kept in build/memory so that a script that was stopped does not begin again."""
    name = "-".join("".join(c if c.isalnum() else "_" for c in part) for part in (claim.method, arm, str(seed)))
    file = HERE.parent / "build" / "memory" / f"{name}.json"
    wanted = repr((claim.setting, recipe))
    if not file.exists() or json.loads(file.read_text())["of"] != wanted:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"of": wanted, "scores": scores(claim.setting, recipe, seed)}))
    return json.loads(file.read_text())["scores"]


def one_line_lists(text: str) -> str:
    """Lists of numbers on one line each."""
    return re.sub(r"\[\s+([-\d.,\s]*?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)


if __name__ == "__main__":
    main()
