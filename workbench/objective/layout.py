"""How the rollouts are laid out in rows before they are trained on. `Batch.rollout` keeps the rows of one episode together."""

from __future__ import annotations

import torch

from workbench.batch import Batch
from workbench.objective.part import part


@part("layout")
def as_sampled(batch: Batch) -> Batch:
    """As the driver made them: an episode is one row, or one for each time its context was rewritten."""
    return batch


@part("layout")
def one_row_a_turn(batch: Batch) -> Batch:
    """A row for each turn: everything before the turn is its prompt (Flow-GRPO, arXiv 2510.05592).

    Every sampled token is in one row, and sees there what it saw when it was sampled. A row without a turn stays as it is.
    """
    sampled = batch.last_token >= 0
    pairs = sampled.clone()
    pairs[:, 0] |= ~sampled.any(1)
    row, turn = pairs.nonzero(as_tuple=True)
    column = torch.arange(batch.tokens.shape[1], device=row.device)
    mine = batch.mask[row] & (batch.turn[row] == turn[:, None])  # [N,T]
    some = mine.any(1)
    length = torch.where(some, batch.last_token[row, turn] + 1, batch.length[row])
    here = torch.arange(batch.rewards.shape[1], device=row.device) == turn[:, None]  # [N,U]
    return Batch(
        tokens=torch.where(column < length[:, None], batch.tokens[row], 0),
        mask=mine,
        turn=torch.where(mine, turn[:, None], -1),
        group=batch.group[row],
        logp_old=torch.where(mine, batch.logp_old[row], 0),
        rewards=torch.where(here & some[:, None], batch.rewards[row], 0),
        outcome=batch.outcome[row],
        stop=batch.stop[row],
        prompt_length=torch.where(some, mine.to(torch.int64).argmax(1), batch.prompt_length[row]),
        length=length,
        origin=batch.origin[row],
        rollout=batch.rollout[row],
    )
