"""The same recipe trained here and inside TRL's trainer, to the same success. Remakes both_trainers.json.

    python data/both_trainers.py

`addition` with GRPO from careless_pupil/, `calculator` with GTPO from calculator_pupil/: eight seeds (200 to 207: no setting was
chosen on them), 20 updates of 16 prompts x 8 rollouts, by `workbench.train` and by `scale.trainer`. Both take the same problems
and draw from the same streams of random numbers; what they compute rounds differently, so that in some runs another answer is
sampled in the end. Success is the share of 512 test problems answered rightly at temperature 1. A few minutes on one core. The
README reads the difference, paired by seed.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from pathlib import Path
from statistics import mean

import torch

import workbench as wb
from workbench import models, scale, stats

HERE = Path(__file__).parent
SEEDS, UPDATES, PROMPTS, RATE = range(200, 208), 20, 16, 3e-4
ARMS = {"addition": ("careless_pupil", "grpo"), "calculator": ("calculator_pupil", "gtpo")}
QUIET = {"save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}


def here(policy: models.LanguageModel, task: str, recipe: str, seed: int) -> None:
    for _ in wb.train(policy, task, recipe, steps=UPDATES, prompts=PROMPTS, lr=RATE, seed=seed):
        pass


def in_trl(policy: models.LanguageModel, task: str, recipe: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scale.trainer(
            policy, task, recipe, steps=UPDATES, prompts=PROMPTS, lr=RATE, seed=seed, folder=folder, config=QUIET
        ).train()


def success(policy: models.LanguageModel, task: str) -> float:
    return wb.evaluate(policy, task, problems=512, temperature=1.0).success


def compared(task: str, pupil: str, recipe: str) -> dict:
    start = models.load(HERE / pupil)
    runs = []
    for seed in SEEDS:
        run: dict = {"seed": seed}
        for name, train in (("here", here), ("trl", in_trl)):
            policy, began = start.copy(), time.process_time()
            train(policy, task, recipe, seed)
            spent = time.process_time() - began
            run |= {name: round(success(policy, task), 4), f"{name}_seconds": round(spent, 1)}
        runs.append(run)
        print(task, run, flush=True)
    arms = {name: [run[name] for run in runs] for name in ("here", "trl")}
    found = stats.paired_difference(arms["trl"], arms["here"])
    return {
        "recipe": recipe, "pupil": pupil, "before": round(success(start, task), 4),
        **{name: [round(float(number), 4) for number in stats.t_interval(values)] for name, values in arms.items()},
        "trl_minus_here": [round(float(number), 4) for number in found],
        "seconds": {name: round(mean(run[f"{name}_seconds"] for run in runs), 1) for name in arms}, "runs": runs,
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    about = {
        "made by": "python data/both_trainers.py",
        "made with": f"torch {torch.__version__.split('+')[0]}, one thread of a busy CPU",
        "fields": f"after {UPDATES} updates, shares of 512 test problems: here, trl and their difference paired by seed, each as "
        "mean, low and high of a 95 % t interval over seeds; seconds of CPU of a run",
    }
    tasks = {task: compared(task, *arm) for task, arm in ARMS.items()}
    for task, found in tasks.items():
        print(task, {name: found[name] for name in ("before", "here", "trl", "trl_minus_here", "seconds")})
    text = json.dumps({**about, "tasks": tasks}, indent=1)
    HERE.joinpath("both_trainers.json").write_text(_one_line_rows(text) + "\n", encoding="utf-8")


def _one_line_rows(text: str) -> str:
    """Lists of numbers, and the runs, on one line each."""
    import re

    return re.sub(r"([\[{])\s+([^\[\]{}]*?)\s+([\]}])", lambda found: found[1] + " ".join(found[2].split()) + found[3], text)


if __name__ == "__main__":
    main()
