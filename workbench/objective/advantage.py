"""What each token is credited with, [B,T], from the rewards of the tokens [B,T] (a turn's reward sits on its last token).

An episode that is several rows of the batch (`Batch.rollout`) counts once, with the rewards of all its rows: how it is laid
out changes no advantage. Statistics are computed in the rewards' own precision. Values that are all equal have spread exactly
0 here, and advantage exactly 0, so that rounding cannot pass for a signal when it is divided by a tiny standard deviation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.objective.part import flag, fraction, not_negative, one_of, part, positive


def _numbered(group: Tensor) -> Tensor:
    """[N] any integers -> [N] 0..n-1."""
    return torch.unique(group, return_inverse=True)[1]


def moments(values: Tensor, group: Tensor, ddof: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and count of each value's group, all [N] like `values`; `group` [N] holds 0..n-1.

    A group whose values are all equal has exactly that value as its mean, and standard deviation exactly 0.
    """
    if not len(values):
        return values, values, values
    groups = int(group.max()) + 1

    def total(x: Tensor) -> Tensor:
        return torch.zeros(groups, dtype=x.dtype, device=x.device).scatter_add(0, group, x)

    count = total(torch.ones_like(values))
    mean = total(values) / count
    std = (total((values - mean[group]) ** 2) / (count - ddof).clamp(min=1)).sqrt()
    low = torch.full_like(mean, torch.inf).scatter_reduce(0, group, values, "amin")
    high = torch.full_like(mean, -torch.inf).scatter_reduce(0, group, values, "amax")
    flat = low == high
    return torch.where(flat, low, mean)[group], torch.where(flat, 0, std)[group], count[group]


def _scaled(centred: Tensor, std: Tensor, floor: float, eps: float) -> Tensor:
    return centred / (std.clamp(min=floor) + eps)


@part(
    "advantage",
    baseline=one_of("none", "group", "loo", "batch", "batch_loo"),
    scale=one_of("none", "group", "batch", "centred_batch"),
    floor=not_negative, eps=not_negative, ddof=one_of(0, 1), over=one_of("rollouts", "rows"),
)  # fmt: skip
def episode_advantage(
    batch: Batch, rewards: Tensor, values: Tensor | None, *,
    baseline: str = "group", scale: str = "group", floor: float = 0.0, eps: float = 1e-4, ddof: int = 1,
    over: str = "rollouts",
) -> Tensor:  # fmt: skip
    """One advantage an episode, on all its tokens: (R - baseline) / (max(std, floor) + eps), R the sum of its rewards.

    Args:
        baseline: the mean R of the group or of the batch; "loo" and "batch_loo" leave the episode itself out. Alone in its
            group, an episode has nothing to be compared with: its advantage is 0 for "group" and "loo".
        scale: the standard deviation of R in the group, of R in the batch, or of R - baseline in the batch.
        ddof: 1 divides by n - 1 in the variance (as TRL and verl do), 0 by n.
        over: what mean and std count: every episode once, or once for each of its rows, so that one of many rows weighs more.
    """
    total, first = batch.of_rollouts(rewards.sum(1)), batch.first_rows
    group, back = batch.group[first], batch.rollout
    if over == "rows":
        total, group, back = total[batch.rollout], batch.group, torch.arange(len(batch), device=back.device)
    group, whole_batch = _numbered(group), torch.zeros_like(group)
    centred = total
    if baseline != "none":
        mean, _, count = moments(total, whole_batch if baseline.startswith("batch") else group, ddof)
        centred = total - mean
        if baseline.endswith("loo"):
            centred = centred * count / (count - 1).clamp(min=1)
    if scale == "group":
        centred = _scaled(centred, moments(total, group, ddof)[1], floor, eps)
    elif scale != "none":
        of = total if scale == "batch" else centred
        centred = _scaled(centred, moments(of, whole_batch, ddof)[1], floor, eps)
    return centred[back][:, None] * batch.mask


@part(
    "advantage",
    gamma=fraction, pool=one_of("turn", "flat", "r0"), scale=one_of("std", "none"),
    floor=not_negative, eps=not_negative, ddof=one_of(0, 1),
)  # fmt: skip
def turn_returns(
    batch: Batch, rewards: Tensor, values: Tensor | None, *,
    gamma: float = 0.9, pool: str = "turn", scale: str = "std", floor: float = 0.3, eps: float = 1e-4, ddof: int = 1,
) -> Tensor:  # fmt: skip
    """One advantage a turn, on all its tokens: the discounted return from that turn on, normalised (arXiv 2511.14846).

    R_j = r_j + gamma R_{j+1}, gamma per turn; A_j = (R_j - mean) / (max(std, floor) + eps).

    Args:
        pool: over what mean and std run. The paper's text that we could read does not say; three readings are in use:
            "turn": the turns with the same number j in the group (a turn that only one rollout reached gets 0);
            "flat": all turns of all rollouts of the group; "r0": the returns of the first turns, applied to all turns.
        floor: keeps a group whose only differences are small penalties from being blown up to full size.
    """
    turns = batch.rewards.shape[1]
    exists = batch.of_rollouts((batch.last_token >= 0).to(torch.int64)) > 0  # [R,U], and so is all up to the last line
    per_turn = torch.zeros_like(batch.rewards, dtype=rewards.dtype)
    per_turn = batch.of_rollouts(per_turn.scatter_add(1, batch.turn.clamp(min=0), rewards * batch.mask))
    returns, running = torch.zeros_like(per_turn), torch.zeros_like(per_turn[:, 0])
    for j in reversed(range(turns)):
        running = per_turn[:, j] + gamma * running
        returns[:, j] = running
    group = _numbered(batch.group[batch.first_rows])[:, None].expand_as(returns)
    number = torch.arange(turns, device=group.device).expand_as(returns)
    mean, std, count = (torch.zeros_like(returns) for _ in range(3))
    if pool == "r0":
        for full, first in zip((mean, std, count), moments(returns[:, 0], group[:, 0], ddof)):
            full += first[:, None]
    else:
        member = group[exists] if pool == "flat" else _numbered(group[exists] * turns + number[exists])
        mean[exists], std[exists], count[exists] = moments(returns[exists], member, ddof)
    centred = torch.where(exists & (count > 1), returns - mean, 0)
    advantage = centred if scale == "none" else _scaled(centred, std, floor, eps)
    return batch.at_all_tokens(advantage[batch.rollout])


@part("advantage", needs=("values",), gamma=fraction, lam=fraction)
def gae(batch: Batch, rewards: Tensor, values: Tensor | None, *, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """Generalised advantage estimation with a value head (arXiv 1506.02438): A_t = sum_k (gamma lam)^k delta_{t+k}.

    delta_t = r_t + gamma V_{t+1} - V_t, from one sampled token to the next (what the environment wrote in between is part
    of the step). The value after the last token is 0, also where an episode was cut off.
    """
    if values is None:
        raise ValueError("gae() needs values [B,T]: give prepare(values=...) those of a value head")
    rewards, values, mask = (batch.end_to_end(x) for x in (rewards, values.to(rewards.dtype), batch.mask))
    advantage = torch.zeros_like(rewards)
    running, following = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        sampled, value = mask[:, t], values[:, t]
        step = rewards[:, t] + gamma * following - value + gamma * lam * running
        running, following = torch.where(sampled, step, running), torch.where(sampled, value, following)
        advantage[:, t] = torch.where(sampled, step, 0)
    return batch.row_by_row(advantage)


@part("advantage", gamma=fraction, whiten=flag, eps=positive)
def token_returns(
    batch: Batch, rewards: Tensor, values: Tensor | None, *, gamma: float = 1.0, whiten: bool = True, eps: float = 1e-4
) -> Tensor:
    """The return from each token on; `whiten`: minus the mean, divided by the std, over all sampled tokens of the batch.

    REINFORCE++ (arXiv 2501.03262). gamma is per sampled token.
    """
    rewards, mask = batch.end_to_end(rewards), batch.end_to_end(batch.mask)
    returns, running = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        running = torch.where(mask[:, t], rewards[:, t] + gamma * running, running)
        returns[:, t] = torch.where(mask[:, t], running, 0)
    returns = batch.row_by_row(returns)
    if whiten:
        valid = returns[batch.mask]
        mean, std, _ = moments(valid, torch.zeros(len(valid), dtype=torch.int64, device=valid.device), 1)
        returns[batch.mask] = (valid - mean) / (std + eps)
    return returns
