"""Four recipes over 48 seeds, a short and noisy study to resample. Remakes four_recipes.json.

    python data/four_recipes.py

Every run starts from careless_pupil/ and trains 12 updates of 16 prompts x 8 answers on two-digit addition; its score is the
share of 256 test problems answered rightly at temperature 1. Three minutes on one core. Chapter 21 reads the result.
"""

from __future__ import annotations

import json
from pathlib import Path

import workbench as wb
from workbench.study import text

HERE = Path(__file__).parent
ARMS, SEEDS, BUDGET = ("grpo", "dr_grpo", "dapo", "reinforce"), 48, "12 updates"


def main() -> None:
    task = text("addition", start=HERE / "careless_pupil", evaluate_every=12)
    study = wb.compare(ARMS, task, SEEDS, budget=BUDGET, store=None)
    print(study.summary())
    if study.missing:
        raise RuntimeError(f"runs are missing: {study.missing}")
    scores = study.scores()
    about = {
        "made by": "python data/four_recipes.py",
        "made with": study.ran_on().splitlines(),
        "fields": f"scores: share of 256 test problems right after {BUDGET}, one number a seed, seeds 0 to {SEEDS - 1}",
    }
    lines = [f'  "{arm}": {json.dumps([round(value, 4) for value in scores[arm]])}' for arm in ARMS]
    start = json.dumps(about, indent=1).removesuffix("\n}")
    page = start + ',\n "scores": {\n' + ",\n".join(lines) + "\n }\n}\n"
    HERE.joinpath("four_recipes.json").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
