"""Credit by the turn: a critic of turns, the outcome beside the turns, information gain, implicit step rewards.

As in `advantage.py`: from the rewards of the tokens [B,T] to what each token is credited with [B,T], and an episode of several
rows counts once. R is the number of rollouts; the turns of a rollout are numbered through its rows, so that a table [R,U]
holds one number for each turn of each rollout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.batch import Batch, Stop
from workbench.objective.advantage import _numbered, moments
from workbench.objective.part import fraction, not_negative, one_of, part, positive


def turn_table(batch: Batch, rewards: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the rewards [B,T] of each turn of each rollout [R,U], and which of those turns there are [R,U] bool."""
    per_turn = torch.zeros(batch.rewards.shape, dtype=rewards.dtype, device=rewards.device)
    per_turn = per_turn.scatter_add(1, batch.turn.clamp(min=0), rewards * batch.mask)
    return batch.of_rollouts(per_turn), batch.of_rollouts((batch.last_token >= 0).to(torch.int64)) > 0


def first_token(batch: Batch) -> Tensor:
    """[B,U] position of the first sampled token of each turn; -1 where the row has no such turn."""
    width = batch.tokens.shape[1]
    position = torch.arange(width, device=batch.tokens.device).expand_as(batch.tokens)
    first = torch.full(batch.rewards.shape, width, dtype=torch.int64, device=batch.tokens.device)
    first = first.scatter_reduce(1, batch.turn.clamp(min=0), torch.where(batch.mask, position, width), "amin")
    return torch.where(first < width, first, -1)


def _read(batch: Batch, values: Tensor, at: Tensor) -> Tensor:
    """[R,U] the values [B,T] at the positions `at` [B,U], 0 where that is -1."""
    return batch.of_rollouts(torch.where(at >= 0, values.gather(1, at.clamp(min=0)), 0))


def _discounted(per_turn: Tensor, gamma: float) -> Tensor:
    """[R,U] -> [R,U]: R_j = r_j + gamma R_{j+1}."""
    returns, running = torch.zeros_like(per_turn), torch.zeros_like(per_turn[:, 0])
    for j in reversed(range(per_turn.shape[1])):
        running = per_turn[:, j] + gamma * running
        returns[:, j] = running
    return returns


def _standardised(values: Tensor, exists: Tensor, pool: Tensor, floor: float, eps: float, ddof: int) -> Tensor:
    """(value - mean) / (max(std, floor) + eps) of the values that exist, among those of the same pool; all of one shape.

    0 where there is nothing else in the pool, or where nothing in it differs.
    """
    mean, std, count = moments(values[exists], _numbered(pool[exists]), ddof)
    scaled = (values[exists] - mean) / (std.clamp(min=floor) + eps).clamp(min=torch.finfo(values.dtype).tiny)
    result = torch.zeros_like(values)
    result[exists] = torch.where((count > 1) & (std > 0), scaled, 0)
    return result


def _groups(batch: Batch) -> Tensor:
    """[R] the group of each rollout, 0..n-1."""
    return _numbered(batch.group[batch.first_rows])


def _needed(value: Tensor | None, whose: str, what: str) -> Tensor:
    if value is None:
        raise ValueError(f"{whose} needs {what}")
    return value


# ---- a critic -------------------------------------------------------------------------------------------------


def _turn_level(rewards: Tensor, values: Tensor, exists: Tensor, gamma: float, lam: float) -> Tensor:
    """[R,U] generalised advantages from one turn that exists to the next."""
    advantage = torch.zeros_like(rewards)
    running, following = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for j in reversed(range(rewards.shape[1])):
        step = rewards[:, j] + gamma * following - values[:, j] + gamma * lam * running
        advantage[:, j] = torch.where(exists[:, j], step, 0)
        running = torch.where(exists[:, j], step, running)
        following = torch.where(exists[:, j], values[:, j], following)
    return advantage


@part("advantage", needs=("values",), gamma=fraction, lam=fraction)
def turn_gae(
    batch: Batch, rewards: Tensor, values: Tensor | None, *, gamma: float = 0.99, lam: float = 0.9
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over turns: a turn is one action, gamma and lambda are per turn (arXiv 2512.17008).

    delta_j = r_j + gamma V(s_{j+1}) - V(s_j), with V(s_j) the value where turn j begins, r_j all rewards of its tokens. All
    tokens of a turn get its advantage. Returns it, and the target of the value head: on every token of turn j the same
    A_j + V(s_j), which is what the rest of the episode is worth from there.
    """
    values = _needed(values, "turn_gae()", "values [B,T]: give prepare(values=...) those of a value head").to(rewards.dtype)
    per_turn, exists = turn_table(batch, rewards)
    start = _read(batch, values, first_token(batch))
    advantage = _turn_level(per_turn, start, exists, gamma, lam)
    return tuple(batch.at_all_tokens(value[batch.rollout]) for value in (advantage, advantage + start))  # type: ignore[return-value]


@part("advantage", needs=("values",), gamma=fraction, lam=fraction, token_gamma=fraction, token_lam=fraction)
def bilevel_gae(
    batch: Batch, rewards: Tensor, values: Tensor | None, *,
    gamma: float = 0.95, lam: float = 0.95, token_gamma: float = 1.0, token_lam: float = 0.95,
) -> Tensor:  # fmt: skip
    """Generalised advantages at two levels: between turns, then inside each turn (arXiv 2510.16907).

    Between turns, from last token to last token: delta_j = r_j + gamma V_{j+1} - V_j with V_j the value at the last token of
    turn j and r_j the reward on it, A_j by gamma and lam. Inside turn j, backwards from its last token, whose advantage is
    A_j: A_t = r_t + token_gamma V_{t+1} - V_t + token_gamma token_lam A_{t+1}.
    """
    values = _needed(values, "bilevel_gae()", "values [B,T]: give prepare(values=...) those of a value head").to(rewards.dtype)
    last = batch.last_token
    exists = batch.of_rollouts((last >= 0).to(torch.int64)) > 0
    between = _turn_level(_read(batch, rewards, last), _read(batch, values, last), exists, gamma, lam)
    of_turn, ends = batch.at_all_tokens(between[batch.rollout]), batch.at_last_tokens(torch.ones_like(batch.rewards)) > 0
    advantage = torch.zeros_like(rewards)
    running, following = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        inside = rewards[:, t] + token_gamma * following - values[:, t] + token_gamma * token_lam * running
        step = torch.where(ends[:, t], of_turn[:, t], inside)
        advantage[:, t] = torch.where(batch.mask[:, t], step, 0)
        running = torch.where(batch.mask[:, t], step, running)
        following = torch.where(batch.mask[:, t], values[:, t], following)
    return advantage


@part("advantage", needs=("values",), gamma=fraction, lam=fraction)
def action_gae(
    batch: Batch, rewards: Tensor, values: Tensor | None, *, gamma: float = 0.95, lam: float = 0.95
) -> Tensor:  # fmt: skip
    """GAE over tokens that discounts only from one turn to the next (action decomposition, arXiv 2405.15821).

    Inside a turn gamma is 1, so what a turn is worth does not depend on in how many tokens it was said.
    """
    values = _needed(values, "action_gae()", "values [B,T]: give prepare(values=...) those of a value head").to(rewards.dtype)
    ends = batch.at_last_tokens(torch.ones_like(batch.rewards)) > 0
    rewards, values, mask, ends = (batch.end_to_end(x) for x in (rewards, values, batch.mask, ends))
    advantage = torch.zeros_like(rewards)
    running, following = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        discount = torch.where(ends[:, t], gamma, torch.ones_like(values[:, t]))
        step = rewards[:, t] + discount * following - values[:, t] + discount * lam * running
        advantage[:, t] = torch.where(mask[:, t], step, 0)
        running = torch.where(mask[:, t], step, running)
        following = torch.where(mask[:, t], values[:, t], following)
    return batch.row_by_row(advantage)


# ---- several signals, each with its own statistics ------------------------------------------------------------


@part(
    "advantage",
    gamma=fraction, weight=not_negative, floor=not_negative, eps=not_negative, ddof=one_of(0, 1),
)  # fmt: skip
def turn_and_outcome(
    batch: Batch, rewards: Tensor, given: Tensor | None, *,
    gamma: float = 0.9, weight: float = 0.3, floor: float = 0.0, eps: float = 1e-6, ddof: int = 0,
) -> Tensor:  # fmt: skip
    """The return of a turn among the turns of its number, plus `weight` times the outcome among the outcomes (2604.02869).

    A_j = norm_j(G_j) + weight norm(O), G_j = r_j + gamma G_{j+1}: the outcome O stands on a virtual turn after the last, so
    the last turn sees gamma O. O is the task's verdict; the recipe's reward terms are those of the turns alone.

    Args:
        floor: the least standard deviation, of both. ddof: 0, the population's, as the authors' code has it.
    """
    per_turn, exists = turn_table(batch, rewards)
    outcome = batch.outcome[batch.first_rows].to(rewards.dtype)
    number = torch.arange(exists.shape[1], device=exists.device).expand_as(exists)
    final = number == torch.where(exists, number, -1).amax(1, keepdim=True)
    returns = _discounted(per_turn + gamma * outcome[:, None] * final, gamma)
    group = _groups(batch)
    turns = _standardised(returns, exists, group[:, None] * exists.shape[1] + number, floor, eps, ddof)
    whole = _standardised(outcome, torch.ones_like(group, dtype=torch.bool), group, floor, eps, ddof)
    return batch.at_all_tokens((turns + weight * whole[:, None] * exists)[batch.rollout])


@part(
    "advantage", needs=("answer",),
    gamma=fraction, gain=one_of("probability", "log"), pool=one_of("separate", "joint"), floor=not_negative,
    eps=not_negative, ddof=one_of(0, 1),
)  # fmt: skip
def information_gain(
    batch: Batch, rewards: Tensor, answer: Tensor | None, *,
    gamma: float = 1.0, gain: str = "probability", pool: str = "separate", floor: float = 0.0, eps: float = 1e-4,
    ddof: int = 1,
) -> Tensor:  # fmt: skip
    """Each turn is paid by how much likelier it made the right answer, the last one by the outcome (arXiv 2510.14967).

    r_j = p_{j+1} - p_j for all turns but the last, p_j = exp(answer) the probability (geometric mean over tokens) of the gold
    answer where turn j begins; r_U the episode's reward. Both are standardised in the group, and A_j = sum gamma^k r_{j+k}.

    Args:
        gain: of p, or of log p. pool: the gains and the episodes' rewards have each their own mean and std, or share them.
        gamma: per turn; the paper leaves it open, and the authors' released code uses 1.
        answer: [B,T] mean log-probability of the gold answer's tokens under the policy that sampled, on the first token of
            each turn; see `models.answer_logp`. The gold answer is needed, and no gradient goes through it.
    """
    answer = _needed(answer, "information_gain()", "answer [B,T]: give prepare(answer=...) what models.answer_logp says")
    per_turn, exists = turn_table(batch, rewards)
    known = _read(batch, answer.to(rewards.dtype), first_token(batch))
    known = known.exp() if gain == "probability" else known
    following = exists & torch.nn.functional.pad(exists[:, 1:], (0, 1))  # every turn but the last
    gains = torch.where(following, torch.nn.functional.pad(known[:, 1:], (0, 1)) - known, 0)
    paid = torch.where(following, gains, per_turn.sum(1, keepdim=True))
    group = _groups(batch)[:, None].expand_as(paid)
    apart = 2 * group + following if pool == "separate" else group
    return batch.at_all_tokens(_discounted(_standardised(paid, exists, apart, floor, eps, ddof), gamma)[batch.rollout])


@part(
    "advantage", needs=("implicit",),
    alpha=not_negative, beta=positive, speed=positive, score=one_of("mean", "sum"), floor=not_negative, eps=not_negative,
    ddof=one_of(0, 1),
)  # fmt: skip
def implicit_steps(
    batch: Batch, rewards: Tensor, implicit: Tensor | None, *,
    alpha: float = 1.0, beta: float = 0.05, speed: float = 2.0, score: str = "mean", floor: float = 0.0, eps: float = 1e-4,
    ddof: int = 1,
) -> Tensor:  # fmt: skip
    """The episode's advantage plus alpha times that of the turn, by a judge that learns online (arXiv 2509.19199).

    A turn's reward is r_j = beta sum_tokens log(judge / pi_old); A = norm(R) + alpha norm(r_j), the second over all turns of
    the group. The judge starts as a copy of the policy and learns after every batch to prefer its successes: see
    `preference_loss`, whose `score` is meant; its learning rate is `speed` times the policy's.

    Args:
        implicit: [B,T] log(judge / pi_old) of each sampled token, by the judge as it was before it learned from this batch.
    """
    implicit = _needed(implicit, "implicit_steps()", "implicit [B,T]: give prepare(implicit=...) log(judge / pi_old)")
    steps, exists = turn_table(batch, beta * implicit.to(rewards.dtype))
    group = _groups(batch)
    total = batch.of_rollouts(rewards.sum(1))
    whole = _standardised(total, torch.ones_like(group, dtype=torch.bool), group, floor, eps, ddof)
    turns = _standardised(steps, exists, group[:, None].expand_as(steps), floor, eps, ddof)
    return batch.at_all_tokens(((whole[:, None] + alpha * turns) * exists)[batch.rollout])


def preference_loss(batch: Batch, implicit: Tensor, *, beta: float = 0.05, score: str = "mean") -> tuple[Tensor, int]:
    """What trains the judge of `implicit_steps`: mean of -log sigmoid(score_i - score_j), and over how many pairs.

    Pairs are all rollouts i, j of one group where i has the larger outcome (direct preference optimisation, arXiv 2305.18290,
    over whole trajectories, with pi_old as the reference). The score of a rollout is the mean, or the sum, over its turns of
    beta sum_tokens log(judge / pi_old).

    Args:
        implicit: [B,T] log(judge / pi_old), with gradient.
    Returns: a scalar (0, without gradient, where no group has both), and the number of pairs.
    """
    steps, exists = turn_table(batch, beta * implicit)
    scores = steps.sum(1)
    if score == "mean":
        scores = scores / exists.sum(1).clamp(min=1)
    first = batch.first_rows
    group, outcome, valid = batch.group[first], batch.outcome[first], batch.stop[first] != Stop.ERROR
    pairs = (group[:, None] == group) & (outcome[:, None] > outcome) & valid[:, None] & valid
    if not pairs.any():
        return scores.new_zeros(()), 0
    better, worse = pairs.nonzero(as_tuple=True)
    return -torch.nn.functional.logsigmoid(scores[better] - scores[worse]).mean(), len(better)
