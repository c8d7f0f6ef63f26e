"""What GRPO does for two pupils who both get three sums in ten right. Remakes addition_grpo.json and careless_pupil/.

    python data/addition_grpo.py

With each of eight seeds an untrained model of 0.1 million parameters learns two-digit addition from flawless
demonstrations, 1500 steps of 64. Then:
- "careless": it goes on for 300 steps with a teacher who gets 70 % of the sums wrong, and catches it;
- "half taught": instead, the pupil is the model as it was when it first got 30 % of the test problems right.
Both are then trained with GRPO, 150 steps of 64 prompts x 8 answers. Seed 0's careless pupil is kept in careless_pupil/.
About a quarter of an hour on one core. Chapter 11 reads the result.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

import workbench as wb
from workbench import models, sample

HERE = Path(__file__).parent
SEEDS, LESSONS, CARELESS, STEPS = 8, 1500, 300, 150
CURVES = ("success", "zero_advantage")
TASK = wb.tasks.get("addition")


def sampled(policy: models.LanguageModel) -> float:
    return wb.evaluate(policy, TASK, problems=256, temperature=1.0).success


def scores(policy: models.LanguageModel) -> dict[str, float]:
    """On 256 test problems: one answer drawn, the likeliest answer, and whether any of eight drawn answers is right."""
    problems = [TASK.problem(number, split="test") for number in range(256)]
    batch = sample.rollout(sample.LocalEngine(policy), TASK, policy.tokenizer, problems, group_size=8, seed=0)
    groups = batch.outcome.view(-1, 8)
    return {
        "sampled": groups.mean().item(),
        "greedy": wb.evaluate(policy, TASK, problems=256).success,
        "any of 8": groups.max(1).values.mean().item(),
    }


def pupils(seed: int) -> dict[str, models.LanguageModel]:
    policy, half = models.tiny("0.1m", seed=seed), None
    for record in wb.sft(policy, TASK, steps=LESSONS, batch_size=64, lr=3e-3, error_rate=0.0, seed=seed):
        if half is None and record.step % 10 == 0 and sampled(policy) >= 0.3:
            half = policy.copy()
    for _ in wb.sft(policy, TASK, steps=CARELESS, batch_size=64, lr=1e-3, error_rate=0.7, seed=seed):
        pass
    if half is None:
        raise RuntimeError(f"seed {seed} never got 30 % right")
    return {"careless": policy, "half taught": half}


def main() -> None:
    arms: dict[str, list[dict]] = {"careless": [], "half taught": []}
    for seed in range(SEEDS):
        began = time.process_time()
        made = pupils(seed)
        taught = time.process_time() - began
        for arm, policy in made.items():
            if seed == 0 and arm == "careless":
                policy.save(HERE / "careless_pupil")
            run, began = {"seed": seed, "before": scores(policy)}, time.process_time()
            records = list(wb.train(policy, TASK, "grpo", steps=STEPS, seed=seed, prompts=64))
            run |= {"after": scores(policy), "seconds": [round(taught), round(time.process_time() - began)]}
            arms[arm].append(run | {name: [round(getattr(r, name), 4) for r in records] for name in CURVES})
            print(arm, {key: run[key] for key in ("seed", "before", "after", "seconds")}, flush=True)
    about = {
        "made by": "python data/addition_grpo.py",
        "made with": f"torch {torch.__version__.split('+')[0]}, one thread of a busy CPU",
        "fields": "before, after: shares of 256 test problems; seconds of CPU: warm start, GRPO; curves: a number a step",
    }
    text = json.dumps({**about, "arms": arms}, indent=1)
    HERE.joinpath("addition_grpo.json").write_text(_one_line_lists(text) + "\n", encoding="utf-8")


def _one_line_lists(text: str) -> str:
    """Lists of numbers on one line each."""
    import re

    return re.sub(r"\[\s+([-\d.,\sA-Za-z]*?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)


if __name__ == "__main__":
    main()
