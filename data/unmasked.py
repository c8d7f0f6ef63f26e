"""A pupil that is trained on what its tool said, too: the mask on and off, in lessons and in GRPO. Remakes unmasked.json.

    python data/unmasked.py

Eight seeds each, all from the pupil in data/calculator_pupil. "Mask off" trains on everything after the prompt, replies included.
Lessons are from flawless demonstrations; GRPO is 16 prompts of 8 rollouts an update. About three minutes on one core.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import workbench as wb
from workbench import models, objective, recipes, sample, seeding, tasks
from workbench.batch import Batch

HERE = Path(__file__).parent
SEEDS, TASK = 8, tasks.get("calculator", malformed=0.5)
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}


def invents(policy: models.LanguageModel, seed: int, problems: int = 96) -> float:
    """Share of calls after which the policy, if nobody stops it, writes the tool's reply itself."""
    tokenizer = policy.tokenizer
    asked = [TASK.problem(number, split="test") for number in range(problems)]
    session = sample.LocalEngine(policy).start([models.prompt_ids(tokenizer, p.prompt) for p in asked], seed=seed)
    calls = session.sample(list(range(problems)), max_tokens=12, stop=[tokenizer.eos_token_id], **SAMPLING)
    rows = [i for i, call in enumerate(calls) if call.stopped and "<T>" in models.decode(tokenizer, call.ids)]
    more = session.sample(rows, max_tokens=6, stop=[tokenizer.convert_tokens_to_ids("</R>")], **SAMPLING)
    said = [models.decode(tokenizer, one.ids) for one in more]
    return float(np.mean([text.startswith("<R>") and text.endswith("</R>") for text in said]))


def everything(batch: Batch, policy: models.LanguageModel) -> Batch:
    """The batch with the mask of somebody who forgot it: all that follows the prompt."""
    place = torch.arange(batch.tokens.shape[1])
    mask = (place < batch.length[:, None]) & (place >= batch.prompt_length[:, None])
    wide = batch.replace(mask=mask)
    with torch.no_grad():
        logp = policy.evaluate(wide).logp.clamp(max=0)
    return wide.replace(logp_old=torch.where(mask, logp, 0))


def update(policy: models.LanguageModel, optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimiser.step()


def lessons(masked: bool, seed: int, steps: int = 20) -> list[dict]:
    policy = models.load(HERE / "calculator_pupil")
    optimiser = torch.optim.AdamW(policy.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    rows = [{"update": 0, "invented": invents(policy, seed)}]
    for step in range(1, steps + 1):
        rng = seeding.generator(seed, "lessons", step)
        shown = [TASK.problem(32 * step + i, seed=100 + seed) for i in range(32)]
        batch = Batch.from_dialogues([
            sample.encode_demonstration(p.prompt, TASK.demonstration(p, rng), policy.tokenizer, group=i)
            for i, p in enumerate(shown)
        ])  # fmt: skip
        batch = batch if masked else everything(batch, policy)
        update(policy, optimiser, -policy.evaluate(batch).logp.sum() / batch.mask.sum())
        if step % 10 == 0:
            rows.append({"update": step, "invented": invents(policy, seed)})
    return rows


def grpo(masked: bool, seed: int, steps: int = 10) -> list[dict]:
    policy = models.load(HERE / "calculator_pupil")
    optimiser = torch.optim.AdamW(policy.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.0)

    def success() -> float:
        return wb.evaluate(policy, TASK, problems=256, temperature=1.0, seed=seed).success

    rows = [{"update": 0, "success": success()}]
    for step in range(1, steps + 1):
        asked = [TASK.problem(16 * step + i, seed=100 + seed) for i in range(16)]
        engine, number = sample.LocalEngine(policy), seeding.integer(seed, "rollout", step)
        batch = sample.rollout(engine, TASK, policy.tokenizer, asked, group_size=8, seed=number)
        prepared = objective.prepare(recipes.grpo, batch if masked else everything(batch, policy))
        update(policy, optimiser, objective.loss(recipes.grpo, prepared, policy.evaluate(prepared.batch).logp)[0])
        if step % 5 == 0:
            rows.append({"update": step, "success": success()})
    return rows


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for kind, run in (("lessons", lessons), ("grpo", grpo)):
        for masked in (True, False):
            for seed in range(SEEDS):
                found = run(masked, seed)
                print(kind, masked, seed, found[-1], flush=True)
                rows += [{"kind": kind, "mask": masked, "seed": seed, **row} for row in found]
    about = {
        "made by": "python data/unmasked.py",
        "made with": f"torch {torch.__version__.split('+')[0]}, one thread",
        "fields": "invented: share of calls after which the policy, if nobody stops it, writes the tool's reply itself "
        "(96 test problems); success: share of 256 test problems right at temperature 1",
    }
    page = json.dumps({"about": about}, indent=1)[:-2] + ',\n "rows": [\n  '
    page += ",\n  ".join(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}) for row in rows)
    HERE.joinpath("unmasked.json").write_text(page + "\n ]\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
