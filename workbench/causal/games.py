"""Imitation as a game, solved exactly: the imitator picks a policy, an adversary what it is judged by.

The adversary picks a reward from a class, and, where demonstrations leave it open, the world. The value of the game is the
largest lead the expert may have over the imitator. If it is at most 0, the policy is at least as good as the expert in
every world that fits: that is a certificate. If it is positive there is none, and it says by how much the promise may be
missed.

Four games, by what is identified (our derivation, "natural-bounds robust GAIL", in the style of the CAIL-T and CAIL-R of
Ruan et al., NeurIPS 2024, whose algorithms may differ). rho are discounted occupancies, e(x|s) the expert's choices:

    both known       min over pi, max over r       <rho_E, r> - <rho_pi, r>                (what GAIL plays)
    T in bounds      min over pi, max over r, T    <rho_E, r> - <rho_pi under T, r>
    R in bounds      min over pi, max over r       <rho_E, r> - <e . rho_pi, r>            (the unseen share may pay 0)
    both in bounds   min over pi, max over r, T    <rho_E, r> - <e . rho_pi under T, r>

In the last two r(s,x) is what the expert is seen to earn, E[Y | s, x]; rewards are on a scale from 0 to 1.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog

from workbench.causal.bounds import Uncertainty
from workbench.causal.imitation import Certificate, of_game
from workbench.causal.scm import Observed, distribution

_LARGEST = 200_000  # rows or columns of a game at most


class Game(NamedTuple):
    """A solved imitation game.

    Attributes:
        value: the largest lead the expert may have over the imitator; the promise.
        policies, mixture: the imitator draws one of the deterministic policies [K,S] once for each episode, with these
        chances [K].
        reward, transitions: an adversary's pure answer [S,X], [S,X,S] that attains the value against this mixture.
        certificate: whether the mixture is proved at least as good as the expert, for every reward and world that was let in.
    """

    value: float
    policies: np.ndarray
    mixture: np.ndarray
    reward: np.ndarray
    transitions: np.ndarray
    certificate: Certificate


def zero_sum(payoff: Any) -> tuple[float, np.ndarray]:
    """Value and best mixture [K] of the player who picks a column of `payoff` [M,K] and pays it, by linear programming.

    Raises ValueError for an empty or infinite payoff.
    """
    payoff = np.asarray(payoff, dtype=float)
    if payoff.ndim != 2 or not payoff.size or not np.isfinite(payoff).all():
        raise ValueError(f"payoff must be a table of finite numbers [M,K], not shape {payoff.shape}")
    rows, columns = payoff.shape
    found = linprog(
        np.append(np.zeros(columns), 1.0),
        A_ub=np.hstack([payoff, -np.ones((rows, 1))]),
        b_ub=np.zeros(rows),
        A_eq=np.append(np.ones(columns), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * columns + [(None, None)],
        method="highs",
    )
    if found.status != 0:
        raise ValueError(f"the linear program failed: {found.message}")
    mixture = np.maximum(found.x[:columns], 0)
    return float(found.fun), mixture / mixture.sum()


def all_rewards(states: int, actions: int) -> np.ndarray:
    """The corners of the class of all rewards from 0 to 1: [2^(SX), S, X]."""
    _affordable(2.0 ** (states * actions), "rewards")
    return np.array(list(itertools.product((0.0, 1.0), repeat=states * actions))).reshape(-1, states, actions)


def state_rewards(states: int, actions: int) -> np.ndarray:
    """The corners of the class of rewards from 0 to 1 that depend on the state alone: [2^S, S, X]."""
    _affordable(2.0**states, "rewards")
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=states)))
    return np.repeat(corners[..., None], actions, axis=-1)


def all_policies(states: int, actions: int) -> np.ndarray:
    """All deterministic policies: [X^S, S]."""
    _affordable(float(actions) ** states, "policies")
    return np.array(list(itertools.product(range(actions), repeat=states)))


def corners(known: Uncertainty) -> np.ndarray:
    """The worlds [M,S,X,S] in which each row fills states up in some order: every corner of the set is among them.

    Raises ValueError where there are too many.
    """
    states, actions = known.low.shape[-3:-1]
    if known.low.ndim != 3:
        raise ValueError(f"one set at a time, not {known.low.shape[:-3]} of them")
    if known.high is None:  # all free mass goes to the state that comes first
        values = 1 - np.eye(states)
    else:
        values = np.array(list(itertools.permutations(range(states))), dtype=float)
    rows = np.stack([known.extreme(value) for value in values])  # [orders, S, X, S]
    choices = []
    for s, x in itertools.product(range(states), range(actions)):
        different = np.unique(rows[:, s, x].round(12), axis=0, return_index=True)[1]
        choices.append(rows[different, s, x])
    _affordable(float(np.prod([float(len(c)) for c in choices])), "worlds")
    return np.array(list(itertools.product(*choices))).reshape(-1, states, actions, states)


def imitation_game(
    observed: Observed, transitions: Any, *, rewards_identified: bool = True, rewards: Any = None
) -> Game:
    """The exact value of an imitation game over all mixtures of deterministic policies.

    Args:
        transitions: T [S,X,S] where it is known, or the `Uncertainty` it lies in.
        rewards_identified: if not, the hidden cause may enter the reward, and what the imitator is sure to earn shrinks by
        e(x|s).
        rewards: the corners [M,S,X] of the class of rewards, on a scale from 0 to 1; `all_rewards` if None.

    A mixture is drawn once for an episode. Where T is known it is worth no more than a stationary random policy (see
    `occupancy_game`); where it is not, the two may differ, and this is the game over mixtures.
    Raises ValueError for rewards outside 0 to 1, transitions that are none, and games that are too large.
    """
    states, actions = observed.expert.shape
    if isinstance(transitions, Uncertainty):
        worlds = corners(transitions)
    else:
        worlds = distribution(transitions, "the next state S'")[None]
    if worlds.shape[1:] != (states, actions, states):
        raise ValueError(f"transitions must be [{states},{actions},{states}], not {worlds.shape[1:]}")
    judged = all_rewards(states, actions) if rewards is None else np.asarray(rewards, dtype=float)
    _check_rewards(judged, states, actions)
    _affordable(float(len(worlds) * len(judged)), "pairs of a world and a reward")
    policies = all_policies(states, actions)
    kernels = worlds[:, np.arange(states), policies]  # [M,K,S,S]
    system = np.eye(states) - observed.discount * np.swapaxes(kernels, -1, -2)
    start = np.broadcast_to(observed.start[:, None], (*system.shape[:-1], 1))
    visits = (1 - observed.discount) * np.linalg.solve(system, start)[..., 0]  # [M,K,S]
    earns = visits[..., None] * np.eye(actions)[policies]  # [M,K,S,X]
    if not rewards_identified:
        earns = earns * observed.expert
    lead = np.einsum("rsx,mksx->mrk", judged, observed.occupancy - earns).reshape(-1, len(policies))
    value, mixture = zero_sum(lead)
    world, reward = np.unravel_index(int((lead @ mixture).argmax()), (len(worlds), len(judged)))
    proof = certificate(value, rewards is None, len(worlds) == 1, rewards_identified)
    return Game(value, policies, mixture, judged[reward], worlds[world], proof)


class OccupancyGame(NamedTuple):
    """A solved game with known transitions: its value, the imitator's stationary policy [S,X] and occupancy [S,X], and what the
    value proves."""

    value: float
    policy: np.ndarray
    occupancy: np.ndarray
    certificate: Certificate


def occupancy_game(
    observed: Observed, transitions: Any, *, rewards_identified: bool = True, rewards: Any = None
) -> OccupancyGame:
    """The same game for known transitions, as one linear program over occupancies (Syed, Bowling and Schapire 2008).

    With the class of all rewards from 0 to 1 (None) the adversary's best answer is 1 wherever the expert goes more often
    than the imitator, so the value is the sum of those differences. Raises ValueError as `imitation_game`.
    """
    transitions = distribution(transitions, "the next state S'")
    states, actions = observed.expert.shape
    if transitions.shape != (states, actions, states):
        raise ValueError(f"transitions must be [{states},{actions},{states}], not {transitions.shape}")
    pairs, g = states * actions, observed.discount
    flow = np.repeat(np.eye(states), actions, axis=1) - g * transitions.reshape(pairs, states).T  # [S, SX]
    share = (observed.expert if not rewards_identified else np.ones((states, actions))).ravel()
    expert = observed.occupancy.ravel()
    if rewards is None:  # rho, then z >= expert - share rho, z >= 0
        cost = np.concatenate([np.zeros(pairs), np.ones(pairs)])
        unequal, limit = np.hstack([-np.diag(share), -np.eye(pairs)]), -expert
        least = np.zeros(2 * pairs)
    else:  # rho, then the value, at least the lead for each reward
        judged = np.asarray(rewards, dtype=float)
        _check_rewards(judged, states, actions)
        judged = judged.reshape(len(judged), pairs)
        cost = np.append(np.zeros(pairs), 1.0)
        unequal, limit = np.hstack([-judged * share, -np.ones((len(judged), 1))]), -judged @ expert
        least = np.append(np.zeros(pairs), -np.inf)
    equal = np.hstack([flow, np.zeros((states, len(cost) - pairs))])
    between = np.stack([least, np.full_like(least, np.inf)], axis=1)
    first = (1 - g) * observed.start
    found = linprog(cost, A_ub=unequal, b_ub=limit, A_eq=equal, b_eq=first, bounds=between, method="highs")
    if found.status != 0:
        raise ValueError(f"the linear program failed: {found.message}")
    occupancy = np.maximum(found.x[:pairs].reshape(states, actions), 0)
    visits = occupancy.sum(-1, keepdims=True)
    policy = np.divide(occupancy, visits, out=np.full_like(occupancy, 1 / actions), where=visits > 1e-12)
    proof = certificate(float(found.fun), rewards is None, True, rewards_identified)
    return OccupancyGame(float(found.fun), policy, occupancy, proof)


def certificate(lead: float, any_reward: bool, known: bool, identified: bool) -> Certificate:
    """What the expert's largest lead proves, and what the proof needs.

    Args:
        any_reward: the class is all rewards from 0 to 1. known: the transitions are, and not only a set they lie in.
        identified: E[Y | s, x] is what an action earns; if not, the game has allowed for that.
    """
    rewards = "the reward lies between 0 and 1" if any_reward else "the reward is a mixture of those of the class"
    worlds = "the transitions are as given" if known else "the transitions lie in the set given"
    hidden = ("nothing hidden enters both the expert's choice and the reward",) if identified else ()
    return of_game(lead, rewards, worlds, *hidden)


def _check_rewards(judged: np.ndarray, states: int, actions: int) -> None:
    if judged.ndim != 3 or judged.shape[1:] != (states, actions):
        raise ValueError(f"rewards must be corners of a class [M,{states},{actions}], not {judged.shape}")
    if judged.min() < 0 or judged.max() > 1:
        raise ValueError(f"rewards must be on a scale from 0 to 1, not {judged.min():.6g} to {judged.max():.6g}")


def _affordable(size: float, what: str) -> None:
    if size > _LARGEST:
        raise ValueError(f"{size:.0f} {what} are too many to list ({_LARGEST} at most); take a smaller class or world")
