"""Where else credit by turns might matter: decoys, long dialogues, late errors, useless calls. Remakes horizons.json.

    python data/horizons.py              # everything; runs already in build/horizons are not made again
    python data/horizons.py decoys long  # the runs of these conditions, and no record

data/gtpo.py found GTPO ahead of GRPO where malformed calls are frequent. These conditions were written down, with the measure and
the number of seeds, before any arm but GRPO had been tried on them (and that for five updates on seeds 100 and 101, to see that
there is something to learn and how long it takes; "late errors" was meant for longer chains of `calculator`, whose pupils took
too long to teach, and became what it is before it was run at all):

- "decoys": three tables that answer whatever they are asked; the wrong one gives a wrong key that looks like any other;
- "long": four to six lookups in a row, up to ten turns, half of the calls of the demonstrations malformed at first;
- "late errors": the same number of lookups without a turn to spare, where what is looked up in the wrong place gives a key that
  looks like any other: nothing is malformed, and a slip in the first turn shows in the last;
- "useless calls": six in ten calls of the demonstrations come after another one that is good for nothing.

The arms of a seed share a pupil (see `Pupils`), prompts and streams: GRPO paid for right answers, GRPO paid the lower of
correctness and form (the rule that the authors of GTPO give their GRPO), and GTPO as the package has it; on the decoys also IGPO,
which pays a turn for making the right answer likelier, and needs no malformed calls to tell turns apart. Success is the share of
256 test problems answered rightly at temperature 1; its mean over the looks at 10 and 20 updates is what is compared, as in the
map of chapter 16. Half an hour on one core; chapter 16 and the README read the result.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gtpo import taught

import workbench as wb
from workbench import models, recipes, stats, tasks
from workbench.objective import gated_outcome
from workbench.study import text
from workbench.tasks import Lookup

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "horizons"
SEEDS, UPDATES = 8, 20

grpo = recipes.grpo
MAIN = {"grpo": grpo, "grpo-min": grpo.but("grpo-min", reward=gated_outcome()), "gtpo": recipes.gtpo}


@dataclass(frozen=True)
class Pupils:
    """Models of 0.1 million parameters, one a seed, taught to do a task and then spoilt.

    Attributes:
        name: of the condition. task: what is trained later. easy: what is taught first, with fewer faults or the same.
        lessons: steps of 32 demonstrations of `easy`, without mistakes. careless: steps on `task`; a share `slips` has a mistake.
    """

    name: str
    task: tasks.Task
    easy: tasks.Task
    lessons: int
    careless: int = 40
    slips: float = 0.5

    def __call__(self, seed: int) -> models.LanguageModel:
        """The pupil of a seed, made once and kept in build/horizons."""
        policy, folder = models.tiny("0.1m", seed=seed), BUILD / self.name.replace(" ", "-")
        taught(policy, folder / f"lessons-{seed}", self.easy, steps=self.lessons, lr=4e-3, error_rate=0.0, seed=seed)
        return taught(policy, folder / f"pupil-{seed}", self.task, steps=self.careless, lr=1e-3, error_rate=self.slips, seed=seed)


DECOYS, LONG = Lookup((2, 3), 3, traps=True, malformed=0.0), Lookup((4, 6), malformed=0.1, slack=3)
ERRORS, USELESS = Lookup((4, 6), traps=True, malformed=0.0, slack=0), Lookup(malformed=0.0, useless=0.6, slack=3)
CONDITIONS = {
    "decoys": (Pupils("decoys", DECOYS, DECOYS, 300), MAIN | {"igpo": recipes.get("igpo")}),
    "long": (Pupils("long", dataclasses.replace(LONG, malformed=0.5), LONG, 250), MAIN),
    "late errors": (Pupils("late errors", ERRORS, LONG, 250), MAIN),
    "useless calls": (Pupils("useless calls", USELESS, dataclasses.replace(USELESS, useless=0.1), 250), MAIN),
}
SEARCH = [(condition, "gtpo", base) for condition in CONDITIONS for base in ("grpo", "grpo-min")]
OTHERS = [("decoys", "igpo", "grpo")]


@functools.cache
def seeds(pupils: Pupils) -> tuple[int, ...]:
    """The first SEEDS seeds whose pupil answers at least one problem in ten: as in data/gtpo.py, chosen before any arm is run."""

    def able(seed: int) -> bool:
        return wb.evaluate(pupils(seed), pupils.task, problems=256, temperature=1.0).success >= 0.1

    return tuple(itertools.islice(filter(able, itertools.count()), SEEDS))


def runs(condition: str) -> Iterator[dict]:
    """The curves of all arms and seeds of one condition; runs that are in build/horizons already are not made again."""
    pupils, arms = CONDITIONS[condition]
    task = text(pupils.task, start=pupils, evaluate_every=10)
    study = wb.compare(
        arms, task, seeds(pupils), budget=f"{UPDATES} updates", store=BUILD / "runs", name=condition.replace(" ", "-"), workers=1,
        progress=False,
    )  # fmt: skip
    print(study.summary(), flush=True)
    if study.missing:
        raise RuntimeError(f"runs are missing: {study.missing}")
    frame = study.frame.pivot(index=["arm", "seed", "step"], columns="metric", values="value").reset_index()
    for (arm, seed), run in frame[frame.test_success.notna()].groupby(["arm", "seed"], sort=False):
        yield {
            "condition": condition, "arm": arm, "seed": int(seed), "updates": run.step.astype(int).tolist(),
            "success": run.test_success.round(4).tolist(), "malformed": run.malformed[1:].round(4).tolist(),
            "turns": run.turns[1:].round(3).tolist(), "made with": study.ran_on().splitlines(),
        }  # fmt: skip


def difference(rows: list[dict], condition: str, arm: str, base: str, comparisons: int) -> dict:
    """Of mean success in points, seed by seed: with an interval for itself, and one that allows for the other comparisons."""
    mean = {(run["arm"], run["seed"]): 100 * np.mean(run["success"][1:]) for run in rows if run["condition"] == condition}
    pair = [[mean[name, seed] for seed in sorted(seed for known, seed in mean if known == arm)] for name in (arm, base)]
    alone, together = (stats.paired_difference(*pair, level=level) for level in (0.95, 1 - 0.05 / comparisons))
    ends = {"low": alone.low, "high": alone.high, "low of all": together.low, "high of all": together.high}
    found = {"effect": alone.estimate, **ends}
    return {"condition": condition, "arm": arm, "against": base, **{name: round(float(end), 2) for name, end in found.items()}}


def main() -> None:
    rows: list[dict] = []
    for condition in sys.argv[1:] or CONDITIONS:
        rows += runs(condition)
    if sys.argv[1:]:
        return
    made = list(dict.fromkeys(line for row in rows for line in row.pop("made with")))
    about = {
        "made by": "python data/horizons.py",
        "made with": made,
        "fields": "success: share of 256 test problems at temperature 1 after `updates` updates; malformed, turns: of the "
        "rollouts of these updates, but for the first, the share of turns that were malformed and the turns of an episode; "
        "search, others: differences of mean success after the first look, in points, with a 95 % interval, and (low, high of "
        "all) one that holds for all of its list",
    }
    lists = {
        "search": [difference(rows, *each, len(SEARCH)) for each in SEARCH],
        "others": [difference(rows, *each, len(OTHERS)) for each in OTHERS],
        "rows": rows,
    }
    parts = [f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, lines)) + "\n ]" for name, lines in lists.items()]
    head = json.dumps({"about": about}, indent=1).removesuffix("\n}")
    HERE.joinpath("horizons.json").write_text(",\n".join([head, *parts]) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
