"""Planning where the MDP is known only to lie in a set, each state and action by itself.

Values are normalised, (1 - discount) E sum discount^t Y_t, so that they lie in the range of one reward. The worst MDP of a
set may be chosen anew at each step or once and for all: for stationary policies the value is the same (Iyengar 2005; Nilim
and El Ghaoui 2005), so a robust value is a promise about every MDP in the set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from workbench.causal.bounds import Uncertainty, point
from workbench.causal.scm import as_policy

_SWEEPS = 30  # evaluations of the policy at hand between two improvements
_ROUNDS = 100_000


class Plan(NamedTuple):
    """A policy and what it is worth (leading axes as in the set).

    Attributes:
        score: the value averaged over the first state. value: [S]. policy: [S]. q: the value of each action [S,X].
    """

    score: Any
    value: np.ndarray
    policy: np.ndarray
    q: np.ndarray


def backup(known: Uncertainty, value: np.ndarray, *, worst: bool = True) -> np.ndarray:
    """One robust Bellman backup: value [S] -> q [S,X], (1 - g) R + g min over T of T value; or with both at their best."""
    reward = known.reward_low if worst else known.reward_high
    return (1 - known.discount) * reward + known.discount * known.expectation(value, worst=worst)


def robust_value_iteration(known: Uncertainty, *, worst: bool = True, tolerance: float = 1e-12) -> Plan:
    """The policy with the best promise: max over policies of min over the MDPs in the set; exact to `tolerance`.

    With `worst=False` the optimistic plan: the best policy in the best MDP, an upper bound on what any policy can be worth.
    Between two backups the policy at hand is evaluated by some sweeps of its own (robust modified policy iteration, Kaufman
    and Schaefer 2013), or, where a backup is costly and as long as that brings it nearer, by an exact solution in the MDP that
    is worst for the last values (Pollatschek and Avi-Itzhak 1969). Both change the speed and not the answer.
    """
    value = np.broadcast_to(known.reward_low.min((-1, -2))[..., None], known.reward_low.shape[:-1]).copy()
    least = np.inf
    for _ in range(_ROUNDS):
        q = backup(known, value, worst=worst)
        new = q.max(-1)
        moved = np.abs(new - value).max()
        if moved * known.discount <= tolerance * (1 - known.discount):
            return Plan((known.start * new).sum(-1), new, q.argmax(-1), q)
        chosen = _under(known, q.argmax(-1))
        if known.high is not None and moved < least:
            value, least = _solved(chosen, value, worst), moved
            continue
        for _ in range(_SWEEPS):
            new = backup(chosen, new, worst=worst)[..., 0]
        value = new
    raise ValueError(f"no convergence to {tolerance} in {_ROUNDS} rounds; is the discount {known.discount} too close to 1?")


def _under(known: Uncertainty, policy: np.ndarray) -> Uncertainty:
    """The set as seen by a deterministic policy [S]: one action left."""

    def pick(table: np.ndarray, axes: int) -> np.ndarray:
        at = policy.reshape(policy.shape + (1,) * axes)
        return np.take_along_axis(table, at, -axes)

    high = None if known.high is None else pick(known.high, 2)
    rewards = pick(known.reward_low, 1), pick(known.reward_high, 1)
    return Uncertainty(pick(known.low, 2), high, *rewards, known.start, known.discount)


def _solved(chosen: Uncertainty, value: np.ndarray, worst: bool) -> np.ndarray:
    """The value [S] of the one action left, in the MDP that is worst (best) for `value`."""
    reward = (chosen.reward_low if worst else chosen.reward_high)[..., 0]
    kernel = chosen.extreme(value, worst=worst)[..., 0, :]
    system = np.eye(kernel.shape[-1]) - chosen.discount * kernel
    return np.linalg.solve(system, (1 - chosen.discount) * reward[..., None])[..., 0]


def value_iteration(transitions: Any, rewards: Any, start: Any, discount: float, *, tolerance: float = 1e-12) -> Plan:
    """The best policy of one MDP: T [S,X,S], R [S,X], start [S]."""
    return robust_value_iteration(point(transitions, rewards, start, discount), tolerance=tolerance)


def robust_value(known: Uncertainty, policy: Any, *, worst: bool = True, tolerance: float = 1e-12) -> Plan:
    """What a policy, actions [S] or probabilities [S,X], is worth in the worst (best) MDP of the set."""
    states, actions = known.reward_low.shape[-2:]
    policy = as_policy(policy, states, actions)
    value = np.zeros(known.reward_low.shape[:-1])
    for _ in range(_ROUNDS):
        q = backup(known, value, worst=worst)
        new = (policy * q).sum(-1)
        if np.abs(new - value).max() * known.discount <= tolerance * (1 - known.discount):
            return Plan((known.start * new).sum(-1), new, policy.argmax(-1), q)
        value = new
    raise ValueError(f"no convergence to {tolerance} in {_ROUNDS} rounds; is the discount {known.discount} too close to 1?")


def regularised(known: Uncertainty, reference: Any, temperature: float, *, tolerance: float = 1e-12) -> tuple[Plan,
np.ndarray]:
    """The policy [S,X] that maximises the worst value minus `temperature` times its divergence KL(policy, reference).

    The divergence is charged at each step like a reward. Then V(s) = t log sum_x reference(x|s) exp(Q(s,x) / t) with Q the
    robust backup, and the policy is reference times exp(Q / t), normalised: the fixed point of the mirror step of DR-RPO
    (Gu et al. 2025, arXiv 2510.14246), whose exploration and linear features are left out. A small temperature gives
    `robust_value_iteration`, a large one the reference.

    Raises ValueError for a temperature that is not positive and a reference that is no policy.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature!r}; for 0 use robust_value_iteration")
    states, actions = known.reward_low.shape[-2:]
    reference = as_policy(reference, states, actions)
    price = (1 - known.discount) * temperature  # values are normalised, so is the price of a step
    value = np.zeros(known.reward_low.shape[:-1])
    for _ in range(_ROUNDS):
        q = backup(known, value)
        top = np.where(reference > 0, q, -np.inf).max(-1, keepdims=True)
        weight = reference * np.exp(np.minimum(q - top, 0) / price)
        total = weight.sum(-1, keepdims=True)
        new = (top + price * np.log(total))[..., 0]
        if np.abs(new - value).max() * known.discount <= tolerance * (1 - known.discount):
            policy = weight / total
            return Plan((known.start * new).sum(-1), new, policy.argmax(-1), q), policy
        value = new
    raise ValueError(f"no convergence to {tolerance} in {_ROUNDS} rounds; is the discount {known.discount} too close to 1?")


class Iwocs(NamedTuple):
    """What `iwocs` found: the plan, how many MDPs it kept, and by how much it may fall short of the best promise."""

    plan: Plan
    kept: int
    gap: float


def iwocs(known: Uncertainty, *, tolerance: float = 1e-10, rounds: int = 1000) -> Iwocs:
    """Incremental worst-case search (Zouitine et al. 2024, arXiv 2410.06212), with exact inner solvers.

    Solve some MDP of the set; keep its values; in each state act as in the kept MDP whose value is smallest there; find the
    worst MDP for that policy; keep it too; stop when it lowers no value. The smallest kept value is an upper bound on the
    best promise, the policy's robust value a lower one; their distance is the `gap`.
    """
    kernel, reward = known.extreme(np.zeros(known.low.shape[-1])), known.reward_low
    values: list[np.ndarray] = []
    policies: list[np.ndarray] = []
    for _ in range(rounds):
        solved = value_iteration(kernel, reward, known.start, known.discount)
        values.append(solved.value)
        policies.append(solved.policy)
        stack = np.array(values)
        least = stack.argmin(0)
        policy = np.array(policies)[least, np.arange(len(least))]
        promise = robust_value(known, policy)
        gap = float((stack.min(0) - promise.value).max())
        if gap <= tolerance or (len(stack) > 1 and (stack[-1] >= stack[:-1].min(0) - tolerance).all()):
            break
        kernel = known.extreme(promise.value)
    return Iwocs(promise._replace(policy=policy), len(values), gap)
