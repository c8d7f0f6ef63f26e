"""One attempt at a time, from logged contexts, against whole trajectories. Remakes cobalt.json.

    python data/cobalt.py [processes]

Every run starts from repair_pupil/ and may sample TOKENS tokens, those of its log included; seeds 0 to 7. All optimise alike:
Adam at 0.001, 8 rollouts a prompt, clip 0.2 and 0.4, one update for a batch; these numbers were set once and not tuned.
- "online": GRPO on whole episodes of three turns, paid by their outcome, fresh problems in every step;
- "cobalt": the pupil plays LOGGED problems 8 times each, three turns; of each problem the 4 trajectories of most varied progress
  are cut into contexts, and single attempts at these are trained with the recipe `cobalt`;
- "perturbed": as "cobalt", but in about half of the logged problems two examples have exchanged their outputs;
- "varied", "random": the pupil plays each problem LONG times, so that there is something to choose, and 2 of its trajectories
  are kept: those of most varied progress, or any two. Both may sample TOKENS besides their log, which is the same for both.
Finished runs are kept in runs/cobalt.jsonl, and are not made again. About eight minutes on one core. Chapter 17 reads the result.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

import workbench as wb
from workbench import models, objective, recipes, sample, sandbox, seeding
from workbench.tasks import Problem, Repair, partial

HERE = Path(__file__).parent
KEPT = HERE.parent / "runs" / "cobalt.jsonl"
SUBSETS = {"varied": "max variance", "random": "random"}
ARMS = ("online", "cobalt", "perturbed", *SUBSETS)
SEEDS, TOKENS, LOGGED, ROLLOUTS, LONG, TURNS, DEEPEST = 8, 24_000, 64, 8, 32, 3, 8
PROBLEMS, RATE = 128, 1e-3
TASK = Repair(turns=TURNS)
COBALT = recipes.get("cobalt").but("cobalt-8", rollout=objective.fixed(size=ROLLOUTS), schedule=objective.updates())
ONLINE = COBALT.but("online", reward=recipes.get("grpo").reward)


def play(policy: models.LanguageModel, task: Repair, problems: list[Problem], size: int, seed: int) -> tuple[list, int]:
    """The trajectories of some episodes, and how many tokens were sampled for them."""
    batch = sample.rollout(sample.LocalEngine(policy), task, policy.tokenizer, problems, group_size=size, seed=seed)
    return partial.read(batch, problems, task, lambda ids: models.decode(policy.tokenizer, ids)), int(batch.mask.sum())


def contexts(pupil: models.LanguageModel, arm: str, seed: int) -> tuple[list[partial.Context], int]:
    """The contexts of an arm, and what its log cost in tokens."""
    task = Repair(turns=TURNS, perturbed=0.5 if arm == "perturbed" else 0.0)
    problems = [task.problem(number, seed=seed) for number in range(LOGGED)]
    logged, tokens = play(pupil, task, problems, LONG if arm in SUBSETS else ROLLOUTS, seeding.integer(seed, "log", 0))
    kept = partial.choose(logged, 2, how=SUBSETS[arm], seed=seed) if arm in SUBSETS else partial.choose(logged, 4)
    return partial.cut(kept), tokens


def run(job: tuple[str, int]) -> dict:
    """One run of one arm; "pupil" is examined as it is."""
    arm, seed = job
    torch.set_num_threads(1)
    policy, began = models.load(HERE / "repair_pupil"), time.process_time()
    task: Repair | partial.Partial = TASK
    recipe, prompts, spent, updates, made = ONLINE, 8, 0, 0, {}
    if arm not in ("online", "pupil"):
        cuts, spent = contexts(policy, arm, seed)
        task, recipe, prompts = partial.Partial(TASK, tuple(cuts)), COBALT, 16
        made = {"contexts": [sum(context.turn == turn for context in cuts) for turn in range(TURNS)], "log": spent}
    most = TOKENS + (spent if arm in SUBSETS else 0)
    if arm != "pupil":
        for record in wb.train(policy, task, recipe, steps=1000, seed=seeding.integer(seed, 0), prompts=prompts, lr=RATE):
            spent, updates = spent + record.tokens, record.step
            if spent >= most:
                break
    seconds = round(time.process_time() - began)
    return {"arm": arm, "seed": seed, **made, "updates": updates, "tokens": spent, **examine(policy), "seconds": seconds}


def examine(policy: models.LanguageModel) -> dict[str, list[float] | float]:
    """On test problems, answers drawn: solved with 1 to 8 turns, true examples and exchanged ones; and of the latter, the shares
    of episodes in which some program satisfies the exchanged examples, in which one contains a wrong pair as it stands, and, of
    those with a right program, in which the last program is wrong."""
    found: dict[str, list[float] | float] = {}
    for name, share in (("true", 0.0), ("lies", 1.0)):
        task = Repair(turns=DEEPEST, perturbed=share)
        problems = [task.problem(number, split="test") for number in range(PROBLEMS)]
        problems = [problem for problem in problems if task.misleading(problem) == bool(share)]
        played, _ = play(policy, task, problems, 1, 0)
        found[name] = [mean([one.solved(depth) for one in played]) for depth in range(1, DEEPEST + 1)]
        if share:
            found["satisfied"] = mean(any(one.public) for one in played)
            found["wrong pair"] = mean(any(wrong_pair(text, task, one.problem) for text in one.texts) for one in played)
            found["given up"] = mean(one.rates[-1] < 1 for one in played if max(one.rates) == 1)
    return found


def wrong_pair(text: str, task: Repair, problem: Problem) -> bool:
    """Whether a program contains an exchanged example literally, as in {3:7}[x]."""
    return any(re.search(rf"(?<![-\d]){c.arguments[0]}:{c.expected}(?!\d)", text) for c in task.public(problem).cases)


def mean(values: Iterable[float]) -> float:
    numbers = [float(value) for value in values]
    return round(sum(numbers) / max(len(numbers), 1), 4)


def made(jobs: list[tuple[str, int]], processes: int) -> Iterator[dict]:
    """The runs, the first in this process: what the sandbox confirms in it is then known to the others."""
    if jobs:
        yield run(jobs[0])
    if jobs[1:]:
        with multiprocessing.get_context("fork").Pool(processes, sandbox.shared.cache_clear) as pool:
            yield from pool.imap_unordered(run, jobs[1:])


def main() -> None:
    KEPT.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    known = {(one["arm"], one["seed"]) for one in done}
    jobs = [("pupil", 0), *((arm, seed) for arm in ARMS for seed in range(SEEDS))]
    with KEPT.open("a", encoding="utf-8") as file:
        for found in made([job for job in jobs if job not in known], int(sys.argv[1]) if len(sys.argv) > 1 else 1):
            file.write(json.dumps(found) + "\n")
            file.flush()
            print({name: found[name] for name in ("arm", "seed", "updates", "true", "lies", "seconds")}, flush=True)
            done.append(found)
    about = {
        "made by": "python data/cobalt.py",
        "made with": f"torch {torch.__version__.split('+')[0]}, a busy CPU, {sum(one['seconds'] for one in done)} s of its time",
        "fields": FIELDS,
    }
    runs = {arm: [one for one in sorted(done, key=lambda one: one["seed"]) if one["arm"] == arm] for arm in ("pupil", *ARMS)}
    lines = [
        f'  "{arm}": [\n   ' + ",\n   ".join(json.dumps({k: v for k, v in one.items() if k != "arm"}) for one in found) + "\n  ]"
        for arm, found in runs.items()
    ]
    page = json.dumps(about, indent=1).removesuffix("\n}") + ',\n "runs": {\n' + ",\n".join(lines) + "\n }\n}\n"
    HERE.joinpath("cobalt.json").write_text(page, encoding="utf-8")


FIELDS = {
    "true, lies": f"shares of {PROBLEMS} test problems solved with 1 to {DEEPEST} turns, true examples and exchanged ones",
    "satisfied, wrong pair, given up": "exchanged examples: shares of episodes with a program that satisfies them, with one that "
    "contains a wrong pair, and, of those with a right program, whose last one is wrong",
    "contexts, log, tokens": "contexts with 0, 1, 2 attempts in them; tokens sampled for the log, and in all",
}

if __name__ == "__main__":
    main()
