"""What a policy would say if it had to answer now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.batch import Batch, Dialogue, Segment


@torch.no_grad()
def answer_logp(
    policy: Any, batch: Batch, answers: Sequence[Sequence[int]], *, temperature: float = 1.0, rows_per_pass: int = 256
) -> Tensor:  # fmt: skip
    """The mean log-probability of the gold answer's tokens if it was said in the place of each turn; no gradient.

    Each history up to the beginning of a turn is continued by the gold answer of its prompt; equal histories are read once.

    Args:
        answers: the ids of the gold answer of each group 0..n-1, with the token that ends a turn.
    Returns: [B,T] float32 on the first sampled token of each turn, 0 elsewhere. Where the answer no longer fits the policy's
        context, what was said one turn before (for the first turn: 0, as if it were certain).
    Raises:
        ValueError: a group without an answer, or an empty answer.
    """
    groups = batch.group.tolist()
    if len(batch) and not 0 <= min(groups) <= max(groups) < len(answers):
        raise ValueError(
            f"the batch has group {max(groups)} and there are {len(answers)} gold answers; give one for every group (replay "
            "and demonstrations from outside the step have none)"
        )
    if any(not len(answer) for answer in answers):
        raise ValueError("a gold answer is empty: it needs at least the token that ends a turn")
    tokens, mask, turns = batch.tokens.tolist(), batch.mask.tolist(), batch.turn.tolist()
    histories: dict[tuple[tuple[int, ...], int], int] = {}
    places: list[tuple[int, int, int]] = []  # row, column, number of the history (-1: too long)
    for row, group in enumerate(groups):
        begun = -1
        for column, (sampled, turn) in enumerate(zip(mask[row], turns[row])):
            if sampled and turn > begun:
                begun = turn
                fits = policy.context is None or column + len(answers[group]) <= policy.context
                key = (tuple(tokens[row][:column]), group)
                places.append((row, column, histories.setdefault(key, len(histories)) if fits else -1))
    said = torch.zeros(len(histories), device=batch.tokens.device)
    keys = list(histories)
    for start in range(0, len(keys), rows_per_pass):
        probes = Batch.from_dialogues([
            Dialogue(list(history), group, [Segment(list(answers[group]), [0.0] * len(answers[group]))], [0.0])
            for history, group in keys[start : start + rows_per_pass]
        ]).to(batch.tokens.device)  # fmt: skip
        logp = policy.evaluate(probes, temperature=temperature).logp.float()
        said[start : start + len(probes)] = (logp * probes.mask).sum(1) / probes.mask.sum(1)
    found = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
    values, before = said.tolist(), {-1: 0.0}
    for row, column, number in places:
        before[row] = values[number] if number >= 0 else before.get(row, 0.0)
        found[row, column] = before[row]
    return found
