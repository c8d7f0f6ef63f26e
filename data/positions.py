"""Does a tiny language model need positions to learn to copy? Remakes positions.json: `python data/positions.py`.

The smallest Qwen3 of the workbench (2 layers, width 64) learns `string=string` for random strings of 4 to 10 letters, and is
tested on 4 to 20. The arms differ in how it is told where a token stands: rotary positions (as the model is made), a table of
learned positions added to the embeddings instead, or nothing; and nothing with a single layer. Same seeds for all arms.
About seven minutes on one core. Chapter 10 reads the result.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from workbench import models, seeding

ARMS = {"rotary": 2, "learned": 2, "none": 2, "none, one layer": 1}  # name: layers
SEEDS, STEPS, ROWS, RATE = 8, 1000, 32, 3e-3
TRAINED, TESTED = (4, 10), (4, 20)
LETTERS = np.array(models.encode(models.make_tokenizer(), "abcdefghijklmnopqrstuvwxyz"))
EQUALS, END = models.encode(models.make_tokenizer(), "=<E>")


class Still(nn.Module):
    """Rotary positions that turn nothing."""

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*position_ids.shape, 32)
        return torch.ones(shape), torch.zeros(shape)


class Copier(nn.Module):
    def __init__(self, arm: str, seed: int) -> None:
        super().__init__()
        self.model = models.tiny("0.1m", seed=seed).model
        self.model.model.layers = self.model.model.layers[: ARMS[arm]]
        self.model.config.num_hidden_layers = ARMS[arm]
        self.table = None
        if arm != "rotary":
            self.model.model.rotary_emb = Still()
        if arm == "learned":
            stream = torch.Generator().manual_seed(seeding.integer(seed, "positions"))
            spread = self.model.config.initializer_range  # that of the embeddings
            self.table = nn.Parameter(spread * torch.randn(64, 64, generator=stream))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B,T] -> logits [B,T,V]."""
        x = self.model.model.embed_tokens(tokens)
        if self.table is not None:
            x = x + self.table[: tokens.shape[1]]
        return self.model(inputs_embeds=x, use_cache=False).logits


def strings(rng: np.random.Generator, rows: int, length: int) -> Tensor:
    """[rows, 2 length + 2]: letters, =, the same letters, the end."""
    letters = LETTERS[rng.integers(len(LETTERS), size=(rows, length))]
    equals, end = np.full((rows, 1), EQUALS), np.full((rows, 1), END)
    return torch.from_numpy(np.concatenate([letters, equals, letters, end], 1))


@torch.no_grad()
def right(model: Copier, lengths: range, rows: int, key: str) -> list[Tensor]:
    """For each length [rows,length]: whether each letter of the copy is the most probable one, given those before it."""
    found = []
    for n in lengths:
        tokens = strings(seeding.generator(0, key, n), rows, n)
        found.append(model(tokens)[:, n : 2 * n].argmax(-1) == tokens[:, n + 1 : 2 * n + 1])
    return found


def run(arm: str, seed: int) -> dict[str, list[float]]:
    model, rng = Copier(arm, seed), seeding.generator(seed, "copy")
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    curve = []
    for step in range(STEPS + 1):
        if step % 100 == 0:
            hits = right(model, range(TRAINED[0], TRAINED[1] + 1), 64, "curve")
            curve.append(float(np.mean([hit.all(1).float().mean() for hit in hits])))
        if step == STEPS:
            break
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * (1 - step / STEPS)
        n = int(rng.integers(TRAINED[0], TRAINED[1] + 1))
        tokens = strings(rng, ROWS, n)
        loss = nn.functional.cross_entropy(model(tokens)[:, n:-1].flatten(0, 1), tokens[:, n + 1 :].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    hits = right(model, range(TESTED[0], TESTED[1] + 1), 128, "test")
    return {
        "curve": [round(value, 4) for value in curve],
        "letters": [round(float(hit.float().mean()), 4) for hit in hits],
        "strings": [round(float(hit.all(1).float().mean()), 4) for hit in hits],
    }


def main() -> None:
    torch.set_num_threads(1)
    arms: dict[str, dict] = {}
    for arm in ARMS:
        runs = [run(arm, seed) for seed in range(SEEDS)]
        arms[arm] = {field: [one[field] for one in runs] for field in runs[0]}
        print(f"{arm}: {np.mean(arms[arm]['curve'], 0).round(2)}, {time.process_time():.0f} s", flush=True)
    record = {
        "made by": "python data/positions.py",
        "made with": f"torch {torch.__version__.split('+')[0]}, one thread of a CPU, {time.process_time():.0f} s of its time",
        "fields": {
            "curve": "per seed: share of strings copied without a fault, lengths 4 to 10, every 100 steps from 0 to 1000",
            "letters": "per seed: share of letters copied right after training, at the lengths of `lengths`",
            "strings": "the same for whole strings",
        },
        "seeds": SEEDS,
        "trained": list(TRAINED),
        "lengths": list(range(TESTED[0], TESTED[1] + 1)),
        "arms": arms,
    }
    text = json.dumps(record, indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
