"""A pupil that puts wrong formulas right, and is wrong more often than not. Remakes repair_pupil/ and repair.json.

    python data/repair.py

An untrained model of 0.1 million parameters sees 600 x 64 demonstrations of `repair` (level 2, up to four turns). One in five
ends in a wrong attempt, and one in five of these writes the examples down instead of finding a formula. The model has never met a
perturbed problem. Two minutes on one core. Chapters 16 and 17 start from it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

import workbench as wb

HERE = Path(__file__).parent
STEPS, BATCH, RATE, ERRORS = 600, 64, 4e-3, 0.2
PROBLEMS = 512


def scores(policy: wb.models.LanguageModel) -> dict[str, dict[str, float]]:
    """Shares of problems solved with answers drawn at temperature 1, by the number of turns."""
    return {
        split: {
            str(turns): wb.evaluate(policy, wb.tasks.Repair(turns=turns), split=split, problems=PROBLEMS, temperature=1.0).success
            for turns in (1, 3, 8)
        }
        for split in ("train", "test")
    }


def main() -> None:
    task = wb.tasks.Repair(turns=4, lookups=0.2)
    policy, began = wb.models.tiny("0.1m", seed=0), time.process_time()
    for record in wb.sft(policy, task, steps=STEPS, batch_size=BATCH, lr=RATE, error_rate=ERRORS, seed=0):
        if record.step % 100 == 0:
            print(record.step, round(record.loss, 3), flush=True)
    seconds = time.process_time() - began
    policy.save(HERE / "repair_pupil")
    about = {
        "made by": "python data/repair.py",
        "made with": f"torch {torch.__version__.split('+')[0]}, one thread of a busy CPU, {seconds:.0f} s of its time",
        "fields": f"success: share of {PROBLEMS} problems solved, answers drawn at temperature 1, by the number of turns allowed",
        "success": scores(policy),
    }
    HERE.joinpath("repair.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(about["success"])


if __name__ == "__main__":
    main()
