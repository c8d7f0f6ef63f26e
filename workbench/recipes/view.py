"""The same rollouts, credited by several recipes: a batch as the rollout viewer's dialogues and colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench import objective
from workbench.batch import Batch, Stop
from workbench.models.tokenizer import decode
from workbench.plots import RolloutViewer
from workbench.recipes.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def credit_view(
    batch: Batch, tokenizer: PreTrainedTokenizerBase, compared: Sequence[Recipe], *, logp: Tensor | None = None,
    entropy: Tensor | None = None, given: Mapping[str, Tensor] | None = None, groups: int = 4, columns: int = 4,
) -> RolloutViewer:  # fmt: skip
    """Who is credited with what: the batch's rollouts, with the advantage and the reward that each recipe gives to each token.

    Every quantity is what `objective.prepare` says for the *whole* batch; the first `groups` prompts are shown.

    Args:
        compared: recipes, each with a name of its own.
        logp: [B,T] log-probabilities under a newer policy; then the ratio pi/pi_old can be painted as well.
        entropy: [B,T] of the policy that sampled, to be painted. given: what else `objective.prepare` wants, by name.
    Returns:
        A viewer: the last line of a cell shows it; `.save(path)` writes a page of its own.
    Raises:
        ValueError: no recipes, two of one name, or one that needs something that was not given.
    """
    names = [recipe.name for recipe in compared]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"give recipes with different names, not {names}")
    shown = torch.isin(batch.group, torch.tensor(list(dict.fromkeys(batch.group.tolist()))[:groups]))
    rows = shown.nonzero()[:, 0].tolist()
    advantage, reward = {}, {}
    for recipe in compared:
        prepared = objective.prepare(recipe, batch, entropy=entropy, **(given or {}))
        advantage[recipe.name] = _painted(batch, rows, prepared.advantage)
        reward[recipe.name] = _painted(batch, rows, batch.at_all_tokens(_per_turn(batch, prepared.rewards)))
    colours: dict[str, Any] = {"advantage": advantage, "reward of the turn": reward}
    if bool((batch.logp_old != 0).any()):  # demonstrations were sampled by nobody
        colours["log-probability"] = _painted(batch, rows, batch.logp_old)
    if logp is not None:
        colours["ratio"] = _painted(batch, rows, (logp - batch.logp_old).exp())
    if entropy is not None:
        colours["entropy"] = _painted(batch, rows, entropy)
    return RolloutViewer([_dialogue(batch, row, tokenizer) for row in rows], colours, columns=columns)


def _per_turn(batch: Batch, rewards: Tensor) -> Tensor:
    return torch.zeros_like(batch.rewards, dtype=rewards.dtype).scatter_add(1, batch.turn.clamp(min=0), rewards * batch.mask)


def _painted(batch: Batch, rows: Sequence[int], value: Tensor) -> list[list[float | None]]:
    """Numbers on what the policy sampled, nothing on what it was given."""
    numbers, mask = value.tolist(), batch.mask.tolist()
    return [[v if mine else None for v, mine in zip(numbers[b], mask[b])][: int(batch.length[b])] for b in rows]


def _dialogue(batch: Batch, row: int, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    length, said = int(batch.length[row]), batch.rewards[row].tolist()
    stop = Stop(int(batch.stop[row]))
    verdict = {1.0: "right", 0.0: "wrong"}.get(batch.outcome[row].item(), f"outcome {batch.outcome[row].item():.2f}")
    mine = int(batch.rollout[row])
    number = mine - int(batch.rollout[batch.group == batch.group[row]].min()) + 1
    rows = (batch.rollout == mine).nonzero()[:, 0].tolist()
    part = f", row {rows.index(row) + 1}" if len(rows) > 1 else ""
    return {
        "tokens": [decode(tokenizer, [token]) for token in batch.tokens[row, :length].tolist()],
        "mask": batch.mask[row, :length].tolist(),
        "turn": batch.turn[row, :length].tolist(),
        "group": int(batch.group[row]),
        "name": f"rollout {number}{part}",
        "verdict": verdict if stop is Stop.DONE else f"{verdict}, {stop.name}",
        "notes": ["bad turn" if reward < 0 else "" for reward in said[: int(batch.turns[row])]],
    }
