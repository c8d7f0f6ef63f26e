"""A tiny language model learns to play a bandit told as text. Remakes verbal_bandit.json: `python data/verbal_bandit.py`.

The warm start of chapter 05, eight seeds: 0.1 million parameters read games of UCB, three arms and ten pulls, raw context.
About two minutes on one core.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch

import workbench as wb

SEEDS, STEPS, GAMES = 8, 150, 512


def main() -> None:
    wb.models.fast.tune_allocator()
    task = wb.tasks.get("verbal_bandit")
    problems = [task.problem(number, split="test") for number in range(GAMES)]
    record: dict[str, object] = {"made by": "python data/verbal_bandit.py", "fields": FIELDS, "steps": STEPS}
    for name, error_rate in (("expert", 0.0), ("random", 1.0)):
        rng = wb.seeding.generator(0, name)
        games = (task.demonstration(problem, rng, error_rate)[::2] for problem in problems)
        record[name] = [wb.tasks.play(task, problem, game).outcome for problem, game in zip(problems, games)]
        record[name] = round(float(np.mean(record[name])), 4)
    greedy, sampled = [], []
    for seed in range(SEEDS):
        policy = wb.models.tiny("0.1m", seed=seed)
        for _ in wb.sft(policy, task, steps=STEPS, error_rate=0.0, seed=seed):
            pass
        greedy.append(round(wb.evaluate(policy, task, problems=GAMES).success, 4))
        sampled.append(round(wb.evaluate(policy, task, problems=GAMES, temperature=1.0, seed=seed).success, 4))
        print(seed, greedy[-1], sampled[-1], f"{time.process_time():.0f} s", flush=True)
    record |= {"greedy": greedy, "sampled": sampled}
    record["made with"] = f"torch {torch.__version__.split('+')[0]}, one thread of a CPU, {time.process_time():.0f} s of its time"
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


FIELDS = {
    "greedy, sampled": "per seed: mean outcome of 512 games never trained on; the likeliest letter, or drawn at temperature 1",
    "expert, random": "mean outcome of UCB and of arms drawn at random on the same games",
}

if __name__ == "__main__":
    main()
