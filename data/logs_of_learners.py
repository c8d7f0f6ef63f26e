"""What a transformer learns from the logs of players who learn. Remakes logs_of_learners.json: `python data/logs_of_learners.py`.

Chapter 05. Small bandits (3 arms, 20 pulls), 600 steps of training, eight seeds of each: decision pretraining on logs of Thompson
sampling, in the order of play and shuffled, and distillation of UCB1. About four minutes on one core.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from workbench.bandits import in_context as ic

ARMS, PULLS, STEPS, SEEDS = 3, 20, 600, 8
TASKS = ic.TaskDistribution(ARMS)


class UCB1:
    """Every arm once, then the highest mean plus sqrt(2 ln t / n)."""

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        self.pulls, self.sums = np.zeros((repetitions, arms)), np.zeros((repetitions, arms))

    def choose(self, rng: np.random.Generator) -> np.ndarray:
        pulls, t = np.maximum(self.pulls, 1), max(self.pulls[0].sum(), 1)
        index = self.sums / pulls + np.sqrt(2 * math.log(t) / pulls)
        return np.where(self.pulls == 0, 1e6 + rng.random(index.shape), index).argmax(1)

    def update(self, arm: np.ndarray, reward: np.ndarray) -> None:
        rows = np.arange(len(arm))
        self.pulls[rows, arm] += 1
        self.sums[rows, arm] += reward


def in_order(tasks: ic.TaskDistribution, count: int, horizon: int, seed: np.random.Generator | int) -> ic.Logs:
    """Logs of Thompson sampling, as they were played."""
    return ic.play_tasks(ic.PosteriorSampling(tasks, gaussian=True), tasks, count, horizon, seed)


def shuffled(tasks: ic.TaskDistribution, count: int, horizon: int, seed: np.random.Generator | int) -> ic.Logs:
    """The same logs, the rows of each in random order: arm and reward stay together."""
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    logs = in_order(tasks, count, horizon, rng)
    order = rng.permuted(np.tile(np.arange(horizon), (count, 1)), axis=1)
    arms, rewards = (np.take_along_axis(x, order, 1) for x in (logs.arms, logs.rewards))
    return ic.Logs(arms, rewards, logs.best, logs.means)


def main() -> None:
    torch.set_num_threads(1)
    record: dict[str, object] = {
        "made by": "python data/logs_of_learners.py", "fields": FIELDS,
        "teacher": played(UCB1()), "thompson": played(ic.PosteriorSampling(TASKS, gaussian=True)),
    }  # fmt: skip
    for name in ("in order", "shuffled", "distilled"):
        record[name] = [run(name, seed) for seed in range(SEEDS)]
    record["made with"] = f"torch {torch.__version__.split('+')[0]}, one thread of a CPU, {time.process_time():.0f} s of its time"
    Path(__file__).with_suffix(".json").write_text(written(record), encoding="utf-8")


def written(record: dict) -> str:
    """JSON with a line for each entry, and for each run."""
    lines = []
    for name, value in record.items():
        rows = ",\n  ".join(json.dumps(row) for row in value) if isinstance(value, list) else ""
        lines.append(f"{json.dumps(name)}: " + (f"[\n  {rows}\n ]" if rows else json.dumps(value)))
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def run(name: str, seed: int) -> dict[str, object]:
    """Train one network and let it play."""
    model = ic.HistoryTransformer(ARMS, PULLS, seed=seed)
    found: dict[str, object] = {}
    if name == "distilled":
        for _ in ic.distil(model, TASKS, UCB1(), steps=STEPS, seed=seed):
            pass
    else:
        make = in_order if name == "in order" else shuffled
        for _ in ic.pretrain(model, TASKS, steps=STEPS, seed=seed, logs=make):
            pass
        test = make(TASKS, 4000, PULLS, 10_000)
        with torch.no_grad():
            logits = model(torch.from_numpy(test.arms), torch.from_numpy(test.rewards).float())
            loss = ic.prefix_loss(logits, torch.from_numpy(test.best))
        found = {"loss": _short(loss.tolist()), "exact": _short(ic.bayes_loss(TASKS, test).tolist())}
    found |= played(ic.InContext(model))
    print(name, seed, found["mean"], f"{time.process_time():.0f} s", flush=True)
    return found


def played(policy: ic.Policy) -> dict[str, object]:
    """Regret after all pulls on 2,000 tasks: mean and 99th percentile."""
    final = ic.play_tasks(policy, TASKS, 2000, PULLS, 7).regret[:, -1]
    return {"mean": round(final.mean(), 4), "worst": round(float(np.quantile(final, 0.99)), 4)}


def _short(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]


FIELDS = {
    "in order, shuffled": "decision pretraining on logs of Thompson sampling; per seed",
    "distilled": "algorithm distillation of UCB1; per seed",
    "loss": "nats on 4,000 logs of the same kind, after 0, 1, 2, ... rows",
    "exact": "on the same logs, the loss of the exact posterior given arms and rewards",
    "mean, worst": "regret after 20 pulls of 2,000 new tasks: mean, and 99th percentile",
    "teacher, thompson": "UCB1 and Thompson sampling on the same tasks",
}

if __name__ == "__main__":
    main()
