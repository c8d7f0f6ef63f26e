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


def as_one_sequence(batch: Batch) -> Batch:
    """Wrong on purpose, and no part: all that an episode sampled in one row, as if its context had never been rewritten.

    What was sampled after other tokens has another probability, so the ratio is not 1 where nothing has been learned yet.
    """
    first = batch.first_rows
    start = torch.where(torch.isin(torch.arange(len(batch), device=first.device), first), 0, batch.prompt_length)
    column = torch.arange(batch.tokens.shape[1], device=first.device)
    own = batch.end_to_end((column >= start[:, None]) & (column < batch.length[:, None]))  # [R,K*T]
    order = (~own).to(torch.int64).argsort(dim=1, stable=True)[:, : int(own.sum(1).max())]

    def joined(values: torch.Tensor) -> torch.Tensor:
        return batch.end_to_end(values).masked_fill(~own, -1 if values is batch.turn else 0).gather(1, order)

    of_tokens = {name: joined(getattr(batch, name)) for name in ("tokens", "mask", "turn", "logp_old")}
    of_rollouts = {name: getattr(batch, name)[first] for name in ("group", "outcome", "stop", "prompt_length", "origin")}
    return Batch(**of_tokens, **of_rollouts, rewards=batch.of_rollouts(batch.rewards), length=own.sum(1))
