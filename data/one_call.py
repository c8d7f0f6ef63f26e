"""How surely does a tiny model learn to ask a calculator? Remakes one_call.json: `python data/one_call.py`.

The warm start of chapters 00 and 10, with eight seeds: an untrained model of 0.1 million parameters sees 150 x 32 flawless
demonstrations of one calculator call. About a minute on one core.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

import workbench as wb

SEEDS, STEPS, EVERY = 8, 150, 10


def main() -> None:
    task = wb.tasks.get("calculator", operations=(1, 1), malformed=0.0)
    curves, sampled = [], []
    for seed in range(SEEDS):
        policy = wb.models.tiny("0.1m", seed=seed)
        records = wb.sft(policy, task, steps=STEPS, error_rate=0.0, seed=seed, evaluate_every=EVERY)
        curves.append([record.test_success for record in records if record.test_success is not None])
        sampled.append(wb.evaluate(policy, task, temperature=1.0, seed=seed).success)
        print(seed, curves[-1][-1], sampled[-1], f"{time.process_time():.0f} s", flush=True)
    lines = [
        '"made by": "python data/one_call.py"',
        f'"made with": "torch {torch.__version__.split("+")[0]}, one thread of a CPU, {time.process_time():.0f} s of its time"',
        f'"fields": {json.dumps(FIELDS)}',
        f'"steps": {json.dumps(list(range(EVERY, STEPS + 1, EVERY)))}',
        '"greedy": [\n  ' + ",\n  ".join(json.dumps([round(value, 4) for value in curve]) for curve in curves) + "\n ]",
        f'"sampled": {json.dumps([round(value, 4) for value in sampled])}',
    ]
    Path(__file__).with_suffix(".json").write_text("{\n " + ",\n ".join(lines) + "\n}\n", encoding="utf-8")


FIELDS = {
    "greedy": "per seed: success on 128 test problems after each number of steps, taking the most probable token",
    "sampled": "per seed: success on 256 test problems after the last step, sampled at temperature 1",
}

if __name__ == "__main__":
    main()
