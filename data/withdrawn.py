"""Examples withdrawn in stages (ICRL), for a tiny language model. Remakes withdrawn.json.

    python data/withdrawn.py      # runs already in build/withdrawn are not made again

data/memory.py shows on a table that a policy which calls no tool without examples learns to if they are withdrawn in stages. Here
the policy is a model of 0.1 million parameters, taught to open a lock after one to three examples of the same make, each lesson
with codes of its own, so that it learns to read the examples and knows no code; in half of its lessons the teacher fails. Then it
is trained on locks of four makes: without examples from the first update to the last ("grpo"), with three, two and none ("icrl"),
or with three and then none ("abrupt"); what is asked is how often it opens a lock without any. Who presses at random opens 2.8
locks in 100. Settings were chosen after a look at seeds 100 and 101, where nothing was to be seen for "icrl"; seeds 0 to 7 count.
Five minutes on one core.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gtpo import taught

import workbench as wb
from workbench import models, recipes, seeding, stats, tasks
from workbench.objective import few_shots
from workbench.study import text
from workbench.tasks import Problem, Unlock
from workbench.tasks.base import play

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "withdrawn"
SEEDS, LESSONS, UPDATES = 8, 300, 80
TASK = Unlock(places=2, digits=10, presses=4, makes=4, show="examples")

grpo = recipes.grpo
ARMS = {
    "grpo": grpo,
    "icrl": grpo.but("icrl-20", context=few_shots((3, 2, 0), 20)),
    "abrupt": grpo.but("abrupt", context=few_shots((3, 0), 40)),
}


@dataclass(frozen=True)
class Shown:
    """Locks whose codes nobody has seen, after one to three examples: what a pupil is taught."""

    base: Unlock

    name = "shown"
    tools = ("press",)

    @property
    def max_tokens(self) -> int:
        return self.base.max_tokens

    @property
    def max_turns(self) -> int:
        return self.base.max_turns

    def problem(self, index: int, *, split: str = "train", seed: int = 0) -> Problem:
        lock = dataclasses.replace(self.base, key=1 + seeding.integer(seed, "key", index))
        return lock.hinted(lock.problem(index, split=split, seed=seed), range(1 + index % 3))

    def episode(self, problem: Problem) -> tasks.Episode:
        return self.base.episode(problem)

    def gold(self, problem: Problem) -> list[str]:
        return self.base.gold(problem)

    def do_nothing(self, problem: Problem) -> list[str]:
        return self.base.do_nothing(problem)

    def cheat(self, problem: Problem) -> list[str]:
        return self.base.cheat(problem)

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        if rng.random() < error_rate:
            return self.base.demonstration(problem, rng, 1.0)
        return play(self, problem, self.gold(problem)).transcript


def pupil(seed: int) -> models.LanguageModel:
    """The pupil of a seed, made once and kept in build/withdrawn."""
    lessons = {"steps": LESSONS, "lr": 4e-3, "error_rate": 0.5, "seed": seed}
    return taught(models.tiny("0.1m", seed=seed), BUILD / f"pupil-{seed}", Shown(TASK), **lessons)


def main() -> None:
    task = text(TASK, start=pupil, evaluate_every=20, settings={"lr": 1e-3})
    study = wb.compare(
        ARMS, task, SEEDS, budget=f"{UPDATES} updates", store=BUILD / "runs", name="withdrawn", workers=1, progress=False
    )
    if study.missing:
        raise RuntimeError(f"runs are missing: {study.missing}")
    print(study.summary())
    frame = study.frame.pivot(index=["arm", "seed", "step"], columns="metric", values="value").reset_index()
    looks = frame[frame.test_success.notna()].groupby(["arm", "seed"], sort=False)
    rows = [
        {
            "arm": arm, "seed": int(seed), "updates": run.step.astype(int).tolist(),
            "success": run.test_success.round(4).tolist(), "in training": run.success[1:].round(4).tolist(),
            "turns": run.turns[1:].round(3).tolist(),
        }
        for (arm, seed), run in looks
    ]  # fmt: skip
    last = {arm: [row["success"][-1] for row in rows if row["arm"] == arm] for arm in ARMS}
    effects = {other: stats.paired_difference(last["icrl"], last[other]) for other in ARMS if other != "icrl"}
    about = {
        "made by": "python data/withdrawn.py",
        "made with": study.ran_on().splitlines(),
        "fields": "success: share of 256 test locks opened without examples at temperature 1 after `updates` updates; in "
        "training, turns: of the rollouts of these updates, but for the first, with the examples that they were shown; icrl "
        f"against: paired differences of success after {UPDATES} updates, with 95 % intervals",
        "icrl against": {other: [round(float(value), 4) for value in found] for other, found in effects.items()},
    }
    head = json.dumps({"about": about}, indent=1).removesuffix("\n}")
    page = head + ',\n "rows": [\n  ' + ",\n  ".join(map(json.dumps, rows)) + "\n ]\n}\n"
    HERE.joinpath("withdrawn.json").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
