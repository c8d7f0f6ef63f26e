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
    """[B] -> [B,U]: the value on the last turn of each episode, 0 before it (and in the rows before it)."""
    last = batch.turn.amax(1)
    final = torch.full_like(last[: batch.rollouts], -1).scatter_reduce(0, batch.rollout, last, "amax")
    value = torch.where(last == final[batch.rollout], value, 0)
    return torch.zeros_like(batch.rewards).scatter(1, last.clamp(min=0)[:, None], value[:, None].to(batch.rewards.dtype))


@part("reward")
def outcome(batch: Batch) -> Tensor:
    """The verdict on the episode, on its last turn."""
    return on_last_turn(batch, batch.outcome)


@part("reward")
def gated_outcome(batch: Batch) -> Tensor:
    """min(accuracy, format): the verdict, but nothing for an episode with any bad turn (arXiv 2511.14846's baseline)."""
    malformed = batch.of_rollouts((batch.rewards < 0).sum(1))
    well_formed = (malformed == 0)[batch.rollout]
    return on_last_turn(batch, torch.where(well_formed, batch.outcome, batch.outcome.clamp(max=0)))


@part("reward", penalty=not_negative)
def turn_penalty(batch: Batch, *, penalty: float = 0.1) -> Tensor:
    """`penalty` times what the task said of each turn: -penalty for a malformed one."""
    return penalty * batch.rewards


@part("reward")
def step_rewards(batch: Batch) -> Tensor:
    """The rewards of a Markov decision process as they came, one a step."""
    return batch.rewards


@part("reward", scale=not_negative, least=fraction)
def calibrated(batch: Batch, *, scale: float = 0.5, least: float = 0.1) -> Tensor:
    """What the task said of each turn, as a tier, paid by how it goes with success (arXiv 2604.02869).

    Each distinct value in `batch.rewards` is a tier. A turn of it is paid scale x the correlation, over the rollouts of the
    batch, of the number of such turns with the outcome, both less their group's mean; 0 where that is below `least` in size.
    So a tier that goes with failure is punished, whatever its number said, and one that says nothing is ignored.

    Raises:
        ValueError: for more than 16 tiers: those are scores, not tiers.
    """
    sampled = batch.last_token >= 0
    tiers, tier = torch.unique(batch.rewards, return_inverse=True)
    if len(tiers) > 16:
        raise ValueError(f"calibrated() needs tiers, and the task's turn rewards have {len(tiers)} different values: round them")
    count = batch.of_rollouts(torch.nn.functional.one_hot(tier, len(tiers)).mul(sampled[..., None]).sum(1).double())  # [R,C]
    _, group = torch.unique(batch.group[batch.first_rows], return_inverse=True)

    def centred(value: Tensor) -> Tensor:
        total = torch.zeros(int(group.max()) + 1, value.shape[1], dtype=value.dtype, device=value.device)
        mean = total.index_add(0, group, value) / torch.bincount(group)[:, None]
        return value - mean[group]

    count, verdict = centred(count), centred(batch.outcome[batch.first_rows].double()[:, None])
    spread = (count**2).sum(0) * (verdict**2).sum(0)
    correlation = torch.where(spread > 1e-12, (count * verdict).sum(0) / spread.clamp(min=1e-12).sqrt(), 0)
    paid = scale * torch.where(correlation.abs() >= least, correlation, 0)
    return (paid[tier] * sampled).to(batch.rewards.dtype)


@part("reward", limit=whole(1), cache=whole(1))
def soft_overlong(batch: Batch, *, limit: int = 96, cache: int = 32) -> Tensor:
    """0 up to limit - cache sampled tokens, then falling linearly to -1 at `limit`, -1 beyond (arXiv 2503.14476)."""
    excess = batch.of_rollouts(batch.mask.sum(1))[batch.rollout] - (limit - cache)
    return on_last_turn(batch, -(excess / cache).clamp(0, 1))


@part("reward", budget=whole(1), penalty=not_negative)
def context_cost(batch: Batch, *, budget: int = 256, penalty: float = 0.1) -> Tensor:
    """-penalty for an episode whose context was ever longer than `budget` tokens (arXiv 2510.12635), whatever it was later."""
    longest = torch.zeros_like(batch.length[: batch.rollouts]).scatter_reduce(0, batch.rollout, batch.length, "amax")
    return on_last_turn(batch, -penalty * (longest > budget)[batch.rollout].to(batch.rewards.dtype))


@part("reward", alpha=fraction)
def similarity(batch: Batch, *, alpha: float = 0.5) -> Tensor:
    """Partial credit for a failed rollout (outcome at most 0) that looks like its group's successes (outcome at least 1).

    alpha times the mean cosine similarity to the successes, on the last turn (arXiv 2511.14846). Similarity is
    that of the counts of 3-grams of sampled tokens, over all turns; it stands in for the paper's text-embedding model. An
    episode of fewer than three sampled tokens counts as one gram. A group without a success gets nothing.
    """
    tokens, mask = batch.end_to_end(batch.tokens).tolist(), batch.end_to_end(batch.mask).tolist()
    verdicts, groups, stops = (values[batch.first_rows].tolist() for values in (batch.outcome, batch.group, batch.stop))
    grams = [_grams([token for token, sampled in zip(*row) if sampled]) for row in zip(tokens, mask)]
    successes: dict[int, list[int]] = {}
    for row, verdict in enumerate(verdicts):
        if verdict >= 1 and stops[row] != Stop.ERROR:
            successes.setdefault(groups[row], []).append(row)
    credit = []
    for row, verdict in enumerate(verdicts):
        near = successes.get(groups[row], []) if verdict <= 0 else []
        credit.append(alpha * sum(_cosine(grams[row], grams[other]) for other in near) / len(near) if near else 0.0)
    return on_last_turn(batch, torch.tensor(credit, device=batch.outcome.device)[batch.rollout])


def _grams(tokens: list[int]) -> Counter[tuple[int, ...]]:
    if len(tokens) < 3:
        return Counter([tuple(tokens)] if tokens else [])
    return Counter(zip(tokens, tokens[1:], tokens[2:]))


def _cosine(a: Counter[tuple[int, ...]], b: Counter[tuple[int, ...]]) -> float:
    dot = sum(count * b[gram] for gram, count in a.items())
    norm = math.sqrt(sum(c * c for c in a.values()) * sum(c * c for c in b.values()))
    return dot / norm if norm else 0.0
