"""A bandit as a `Batch`: so every method of the later chapters runs on it, and can be checked where everything is known.

A context is a prompt of one token, a pull an answer of one token, the reward the verdict. With a softmax table as the policy
(`workbench.models.Tabular`) one update of any recipe is

    batch = rollout(policy, Bernoulli([0.2, 0.5, 0.9]), group_size=8, seed=step)
    prepared = objective.prepare(recipe, batch)
    said = policy.evaluate(batch)
    loss, _ = objective.loss(recipe, prepared, said.logp, said.entropy)

and `workbench.objective.exact.expected_update` says what it is on average.
Shapes: N prompts, G pulls of each, S contexts, K arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from workbench import seeding
from workbench.bandits.offline import Log
from workbench.bandits.problems import Stochastic
from workbench.batch import Batch, Origin


class Puller(Protocol):
    """A policy that draws arms; `workbench.models.Tabular` is one."""

    def pull(self, states: Tensor, *, seed: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """One arm in each of the contexts [B], and the log-probability it had: both [B]."""
        ...


def rollout(
    policy: Puller, problems: Stochastic | Sequence[Stochastic], contexts: Any = (0,), *, group_size: int, seed: int,
    temperature: float = 1.0,
) -> Batch:  # fmt: skip
    """`group_size` pulls in each of the contexts [N].

    Args:
        problems: the bandit met in each context 0 to S-1, all with as many arms; or one bandit, if there is one context.
        contexts: numbers; the same one may come twice, as two prompts.
    Returns:
        Batch of N * group_size episodes in the order of `contexts`; `group` is the place in it.
    Raises:
        ValueError: no contexts or one that has no problem, an empty group, problems that differ in their arms, or an arm that
            the problem does not have.
    """
    each = list(problems) if isinstance(problems, Sequence) else [problems]
    asked, widths = np.asarray(contexts), {problem.arms for problem in each}
    if asked.ndim != 1 or not len(asked) or asked.dtype.kind not in "iu":
        raise ValueError(f"contexts must be a list of whole numbers, one a prompt, not {contexts!r}")
    if asked.min() < 0 or asked.max() >= len(each):
        raise ValueError(f"contexts must be numbers from 0 to {len(each) - 1}, one problem each, not {contexts!r}")
    if len(widths) > 1:
        raise ValueError(f"all problems must have the same number of arms, not {sorted(widths)}")
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, not {group_size!r}")
    states = np.repeat(asked, group_size)
    arms, logp = policy.pull(torch.from_numpy(states), seed=seeding.integer(seed, "bridge", "arms"), temperature=temperature)
    pulled, paid, rng = arms.numpy(), np.empty(len(states)), seeding.generator(seed, "bridge", "rewards")
    if pulled.max() >= each[0].arms:
        raise ValueError(f"the policy pulled arm {pulled.max()}, but the problem has {each[0].arms}: give both as many arms")
    for context in np.unique(asked):
        here, problem = states == context, each[context]
        paid[here] = problem.reward(np.array(problem.means)[pulled[here]], problem.luck(rng, (int(here.sum()),)))
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
