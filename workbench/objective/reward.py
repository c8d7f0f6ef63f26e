"""Reward terms, one number a turn [B,U]. A recipe adds up its terms.

The task speaks in two places: `batch.outcome`, the verdict on the episode, and `batch.rewards`, what it said of each turn
(-1 for a malformed call; the step reward of a Markov decision process).
"""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from workbench.batch import Batch, Stop
from workbench.objective.part import fraction, not_negative, part, whole


def on_last_turn(batch: Batch, value: Tensor) -> Tensor:
    """[B] -> [B,U]: the value on the last turn of each episode, 0 before it."""
    last = (batch.turns - 1).clamp(min=0)
    return torch.zeros_like(batch.rewards).scatter(1, last[:, None], value[:, None].to(batch.rewards.dtype))


@part("reward")
def outcome(batch: Batch) -> Tensor:
    """The verdict on the episode, on its last turn."""
    return on_last_turn(batch, batch.outcome)


@part("reward")
def gated_outcome(batch: Batch) -> Tensor:
    """min(accuracy, format): the verdict, but nothing for an episode with any bad turn (arXiv 2511.14846's baseline)."""
    well_formed = (batch.rewards >= 0).all(1)
    return on_last_turn(batch, torch.where(well_formed, batch.outcome, batch.outcome.clamp(max=0)))


@part("reward", penalty=not_negative)
def turn_penalty(batch: Batch, *, penalty: float = 0.1) -> Tensor:
    """`penalty` times what the task said of each turn: -penalty for a malformed one."""
    return penalty * batch.rewards


@part("reward")
def step_rewards(batch: Batch) -> Tensor:
    """The rewards of a Markov decision process as they came, one a step."""
    return batch.rewards


@part("reward", limit=whole(1), cache=whole(1))
def soft_overlong(batch: Batch, *, limit: int = 96, cache: int = 32) -> Tensor:
    """0 up to limit - cache sampled tokens, then falling linearly to -1 at `limit`, -1 beyond (arXiv 2503.14476)."""
    excess = batch.mask.sum(1) - (limit - cache)
    return on_last_turn(batch, -(excess / cache).clamp(0, 1))


@part("reward", alpha=fraction)
def similarity(batch: Batch, *, alpha: float = 0.5) -> Tensor:
    """Partial credit for a failed rollout (outcome at most 0) that looks like its group's successes (outcome at least 1).

    alpha times the mean cosine similarity to the successes, on the last turn (arXiv 2511.14846). Similarity is
    that of the counts of 3-grams of sampled tokens, over all turns; it stands in for the paper's text-embedding model. An
    episode of fewer than three sampled tokens counts as one gram. A group without a success gets nothing.
    """
    tokens, mask = batch.tokens.tolist(), batch.mask.tolist()
    verdicts, groups, stops = batch.outcome.tolist(), batch.group.tolist(), batch.stop.tolist()
    grams = [_grams([token for token, sampled in zip(*row) if sampled]) for row in zip(tokens, mask)]
    successes: dict[int, list[int]] = {}
    for row, verdict in enumerate(verdicts):
        if verdict >= 1 and stops[row] != Stop.ERROR:
            successes.setdefault(groups[row], []).append(row)
    credit = []
    for row, verdict in enumerate(verdicts):
        near = successes.get(groups[row], []) if verdict <= 0 else []
        credit.append(alpha * sum(_cosine(grams[row], grams[other]) for other in near) / len(near) if near else 0.0)
    return on_last_turn(batch, torch.tensor(credit, device=batch.outcome.device))


def _grams(tokens: list[int]) -> Counter[tuple[int, ...]]:
    if len(tokens) < 3:
        return Counter([tuple(tokens)] if tokens else [])
    return Counter(zip(tokens, tokens[1:], tokens[2:]))


def _cosine(a: Counter[tuple[int, ...]], b: Counter[tuple[int, ...]]) -> float:
    dot = sum(count * b[gram] for gram, count in a.items())
    norm = math.sqrt(sum(c * c for c in a.values()) * sum(c * c for c in b.values()))
    return dot / norm if norm else 0.0
