"""Transformers that learn to explore. Remakes explorers.json and explorers/: `python data/explorers.py`.

Decision pretraining of chapter 05: three networks for 3 arms and 30 pulls, about two minutes of one core each, and three for 5
arms and 50 pulls, three to four minutes each on a busy core. A network whose file is in explorers/ is not trained again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from workbench.bandits import in_context

SIZES = ((3, 30, 2, 8000), (5, 50, 4, 6000))  # arms, pulls, heads, steps; with two heads five arms were learnt less well
SEEDS, LOOKS = 3, 40  # LOOKS: how often in a training the test loss is looked at
HERE = Path(__file__).parent


def main() -> None:
    torch.set_num_threads(1)
    record = json.loads(Path(HERE / "explorers.json").read_text()) if (HERE / "explorers.json").exists() else {"runs": []}
    for arms, pulls, heads, steps in SIZES:
        for seed in range(SEEDS):
            path = HERE / "explorers" / f"k{arms}_{seed}.safetensors"
            if path.exists():
                continue
            record["runs"] = [run for run in record["runs"] if (run["arms"], run["seed"]) != (arms, seed)]
            record["runs"].append(train(arms, pulls, heads, steps, seed, path))
            write(record["runs"])


def train(arms: int, pulls: int, heads: int, steps: int, seed: int, path: Path) -> dict:
    """Train one network, save it, and say how its loss on 2,000 other logs fell towards that of the exact posterior."""
    tasks = in_context.TaskDistribution(arms)
    model = in_context.HistoryTransformer(arms, pulls, heads=heads, seed=seed)
    test = in_context.random_logs(tasks, 2000, pulls, 10_000)
    inputs = torch.from_numpy(test.arms), torch.from_numpy(test.rewards).float()
    best, spent, curve = torch.from_numpy(test.best), 0.0, []
    start = time.process_time()
    for step in in_context.pretrain(model, tasks, steps=steps, seed=seed):
        if step.step % (steps // LOOKS) == 0:
            spent += time.process_time() - start
            with torch.no_grad():
                curve.append(in_context.prefix_loss(model(*inputs), best).mean().item())
            start = time.process_time()
    with torch.no_grad():
        by_prefix = in_context.prefix_loss(model(*inputs), best).tolist()
    model.save(path)
    print(arms, seed, f"loss {curve[-1]:.4f}, {spent:.0f} s", flush=True)
    return {
        "arms": arms, "pulls": pulls, "heads": heads, "seed": seed, "steps": steps, "seconds": round(spent), "loss": curve,
        "by_prefix": by_prefix, "exact": in_context.bayes_loss(tasks, test).tolist(),
    }  # fmt: skip


def write(runs: list[dict]) -> None:
    """One line a run, numbers to four decimals."""
    runs = sorted(runs, key=lambda run: (run["arms"], run["seed"]))
    lines = [json.dumps({name: _short(value) for name, value in run.items()}) for run in runs]
    head = [
        '"made by": "python data/explorers.py"',
        f'"made with": "torch {torch.__version__.split("+")[0]}, one thread of a CPU"',
        f'"fields": {json.dumps(FIELDS)}',
        '"runs": [\n  ' + ",\n  ".join(lines) + "\n ]",
    ]
    (HERE / "explorers.json").write_text("{\n " + ",\n ".join(head) + "\n}\n", encoding="utf-8")


def _short(value: object) -> object:
    return [round(number, 4) for number in value] if isinstance(value, list) else value


FIELDS = {
    "loss": f"nats on 2,000 logs that were never trained on, mean over all prefixes, {LOOKS} times, equally spaced",
    "by_prefix": "the same after the last step, after 0, 1, 2, ... pulls",
    "exact": "the loss of the exact posterior on the same logs, after 0, 1, 2, ... pulls",
    "seconds": "of one core that was busy with other things too, in training",
}

if __name__ == "__main__":
    main()
