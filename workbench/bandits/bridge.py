"""A bandit as a `Batch`: so every method of the later chapters runs on it, and can be checked where everything is known.

A context is a prompt of one token, a pull an answer of one token, the reward the verdict. With a softmax table as the policy
(`workbench.models.Tabular`) one update of any recipe is

    batch = rollout(policy, bernoulli(means), contexts, group_size=8, seed=step)
    prepared = objective.prepare(recipe, batch)
    said = policy.evaluate(batch)
    loss, _ = objective.loss(recipe, prepared, said.logp, said.entropy)

and `workbench.objective.exact.expected_update` says what it is on average.
Shapes: N prompts, G pulls of each, S contexts, K arms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from workbench import seeding
from workbench.bandits.offline import Log
from workbench.batch import Batch, Origin

Pay = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]  # contexts, arms [B] -> rewards [B]


class Puller(Protocol):
    """A policy that draws arms; `workbench.models.Tabular` is one."""

    def pull(self, states: Tensor, *, seed: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """One arm in each of the contexts [B], and the log-probability it had: both [B]."""
        ...


def bernoulli(means: Any) -> Pay:
    """Pays 1 with the chance means[context, arm], else 0. means: [S,K], or [K] if there is one context."""
    table = _table(means)
    if ((table < 0) | (table > 1)).any():
        raise ValueError(f"a Bernoulli arm pays 1 with a chance from 0 to 1, not {table[(table < 0) | (table > 1)][0]}")
    return lambda contexts, arms, rng: (rng.random(len(arms)) < _look_up(table, contexts, arms)).astype(float)


def gaussian(means: Any, std: float) -> Pay:
    """Pays means[context, arm] plus normal noise of deviation `std`, which may be 0. means: [S,K], or [K]."""
    table = _table(means)
    if not 0 <= std < np.inf:
        raise ValueError(f"std must be 0 or more, not {std!r}")
    return lambda contexts, arms, rng: _look_up(table, contexts, arms) + std * rng.standard_normal(len(arms))


def rollout(
    policy: Puller, pay: Pay, contexts: Any, *, group_size: int, seed: int, temperature: float = 1.0
) -> Batch:
    """`group_size` pulls in each of the contexts [N] (numbers from 0; the same one may come twice, as two prompts).

    Returns:
        Batch of N * group_size episodes in the order of `contexts`; `group` is the place in it.
    Raises:
        ValueError: no contexts, an empty group, or whatever the policy or `pay` refuse.
    """
    asked = np.asarray(contexts)
    if asked.ndim != 1 or not len(asked) or asked.dtype.kind not in "iu":
        raise ValueError(f"contexts must be a list of whole numbers, one a prompt, not {contexts!r}")
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, not {group_size!r}")
    states = np.repeat(asked, group_size)
    arms, logp = policy.pull(torch.from_numpy(states), seed=seeding.integer(seed, "bridge", "arms"), temperature=temperature)
    paid = pay(states, arms.numpy(), seeding.generator(seed, "bridge", "rewards"))
    group = torch.arange(len(asked)).repeat_interleave(group_size)
    return Batch.from_pulls(arms, torch.from_numpy(paid), logp, context=torch.from_numpy(states), group=group)


def from_log(log: Log) -> Batch:
    """Somebody else's choices, one episode a logged round, to be learnt from off-policy.

    The propensities become the old log-probabilities, so a recipe's importance ratio is the one of chapter 03. Rounds of one
    context are one group. Leading axes of the log are flattened.

    Raises:
        ValueError: the log has no propensities: without them nobody knows what the logger might have done instead.
    """
    if log.propensities is None:
        raise ValueError("this log has no propensities; estimate them (offline.with_counted_propensities), or log them")
    arms, rewards, chance = (torch.from_numpy(np.array(x).reshape(-1)) for x in (log.actions, log.rewards, log.propensities))
    context = None if log.contexts is None else torch.from_numpy(np.array(log.contexts).reshape(-1))
    batch = Batch.from_pulls(arms, rewards, chance.log(), context=context)
    return batch.replace(origin=torch.full((len(batch),), int(Origin.REPLAY)))


def _table(means: Any) -> np.ndarray:
    table = np.atleast_2d(np.asarray(means, dtype=float))
    if table.ndim != 2 or table.shape[1] < 2 or not np.isfinite(table).all():
        raise ValueError(f"means must be finite, [S,K] with at least two arms, not of shape {np.shape(means)}")
    return table


def _look_up(table: np.ndarray, contexts: np.ndarray, arms: np.ndarray) -> np.ndarray:
    for what, found, size in (("context", contexts, table.shape[0]), ("arm", arms, table.shape[1])):
        if found.min() < 0 or found.max() >= size:
            raise ValueError(f"{what} {found[(found < 0) | (found >= size)][0]} does not exist: this bandit has {size} {what}s")
    return table[contexts, arms]
