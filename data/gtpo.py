"""GTPO against GRPO and against itself without each of its parts, where it matters and where not. Remakes gtpo.json.

    python data/gtpo.py              # everything; runs already in build/gtpo are not made again

Every run starts from a pupil of its seed: a model of 0.1 million parameters after LESSONS demonstrations without mistakes, and
then CARELESS ones whose calls are malformed with probability `noise` (and repeated) and of which half end in a wrong answer. The
arms of a seed share the pupil, the prompts and the streams of random numbers. Success is the share of 256 test problems
answered rightly at temperature 1. On `repair` the pupil is that of data/repair.py, the same for all seeds. An hour on one
core; chapter 16 and the README read the result. Also remakes calculator_pupil/, the pupil of the first seed.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from pathlib import Path

import workbench as wb
from workbench import models, recipes, tasks
from workbench.loop import copy_into, trainable
from workbench.objective import (
    gated_outcome,
    turn_returns,
)
from workbench.study import text

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "gtpo"
SEEDS, LESSONS, CARELESS, UPDATES, SHORT = 8, 450, 60, 40, 20

grpo, gtpo = recipes.grpo, recipes.gtpo
ARMS = {
    "grpo": grpo,
    "grpo-min": grpo.but("grpo-min", reward=gated_outcome()),
    "gtpo": gtpo,
    "gtpo-no-turn-rewards": recipes.get("gtpo_without_turn_rewards"),
    "gtpo-no-returns": recipes.get("gtpo_without_returns"),
    "gtpo-no-shaping": recipes.get("gtpo_without_shaping"),
    "gtpo-floor-.05": gtpo.but("gtpo-floor-.05", advantage=turn_returns(floor=0.05)),
}
MAIN = "noise .5, slack 3"
FEW = ("grpo", "gtpo", "gtpo-floor-.05")
# condition: (noise of the pupil's demonstrations, slack, arms)
CONDITIONS = {
    MAIN: (0.5, 3, tuple(ARMS)),
    "noise .5, slack 1": (0.5, 1, FEW),
    "noise .5, slack 0": (0.5, 0, FEW),
    "noise .2, slack 3": (0.2, 3, FEW),
    "noise .2, slack 1": (0.2, 1, FEW),
    "noise .2, slack 0": (0.2, 0, FEW),
}


def pupil(seed: int, malformed: float) -> models.LanguageModel:
    """The pupil of a seed, made once and kept in build/gtpo."""
    policy = models.tiny("0.1m", seed=seed)
    clean = tasks.get("calculator", malformed=0.3)
    taught(policy, BUILD / f"lessons-{seed}", clean, steps=LESSONS, lr=4e-3, error_rate=0.0, seed=seed)
    messy = tasks.get("calculator", malformed=malformed)
    folder = BUILD / f"pupil-{seed}-{malformed}"
    return taught(policy, folder, messy, steps=CARELESS, lr=1e-3, error_rate=0.5, seed=seed)


def taught(policy: models.LanguageModel, file: Path, task: tasks.Task, **lessons) -> models.LanguageModel:
    """The policy after lessons (arguments of `sft`), which are given once and kept in a file."""
    from safetensors.torch import load_file, save_file

    file = file.with_name(f"{file.name}.safetensors")
    if file.exists():
        copy_into(trainable(policy), load_file(file), file)
    else:
        for _ in wb.sft(policy, task, batch_size=32, **lessons):
            pass
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach().contiguous() for name, value in trainable(policy).items()}, file)
    return policy


@functools.cache
def seeds() -> tuple[int, ...]:
    """The first SEEDS seeds whose pupil answers at least one problem in ten: in about a third, the lessons were too few, and
    neither method has anything to start from. Chosen before any arm is run."""
    found: list[int] = []
    for seed in itertools.count():
        policy = pupil(seed, 0.5)
        if wb.evaluate(policy, "calculator", problems=256, temperature=1.0).success >= 0.1:
            found.append(seed)
        if len(found) == SEEDS:
            return tuple(found)
    raise AssertionError


def study_of(condition: str) -> wb.study.Study:
    """One condition's comparison; runs that are in build/gtpo already are not made again."""
    updates = UPDATES if condition == MAIN else SHORT
    if condition == "repair":
        arms = tuple(ARMS)
        task = text(tasks.get("repair"), start=HERE / "repair_pupil", evaluate_every=10)
    else:
        noise, slack, arms = CONDITIONS[condition]
        calculator = tasks.get("calculator", malformed=noise, slack=slack)
        task = text(calculator, start=functools.partial(pupil, malformed=noise), evaluate_every=10)
    return wb.compare(
        {name: ARMS[name] for name in arms}, task, seeds(), budget=f"{updates} updates", store=BUILD / "runs",
        name=condition.replace(" ", "-").replace(",", "").replace(".", ""), workers=1,
    )  # fmt: skip


def main() -> None:
    rows, made = [], ""
    for condition in sys.argv[1:] or (*CONDITIONS, "repair"):
        study = study_of(condition)
        print(study.summary(), flush=True)
        if study.missing:
            raise RuntimeError(f"runs are missing: {study.missing}")
        made = study.ran_on()
        frame = study.frame.pivot(index=["arm", "seed", "step"], columns="metric", values="value").reset_index()
        for row in frame[frame.test_success.notna()].itertuples():
            first = row.step == 0
            rows.append({
                "task": "repair" if condition == "repair" else "calculator", "condition": condition,
                "arm": row.arm, "seed": row.seed, "update": row.step, "success": round(row.test_success, 4),
                "malformed": None if first else round(row.malformed, 4), "turns": None if first else round(row.turns, 3),
            })  # fmt: skip
    about = {
        "made by": "python data/gtpo.py",
        "made with": made.splitlines(),
        "fields": "success: share of 256 test problems at temperature 1 after `update` updates; malformed, turns: of the "
        "rollouts of that update, the share of turns that were malformed and the turns of an episode",
    }
    page = json.dumps(about, indent=1) + ',\n "rows": [\n  ' + ",\n  ".join(json.dumps(row) for row in rows) + "\n ]\n}\n"
    pupil(seeds()[0], 0.5).save(HERE / "calculator_pupil")
    HERE.joinpath("gtpo.json").write_text('{\n "about": ' + page, encoding="utf-8")


if __name__ == "__main__":
    main()
