"""Inverse reinforcement learning on a table: policies that no reward in a class tells from the expert.

`mwal` plays the game against a reward that is a mixture of features (Syed and Schapire 2007); `gail` makes the occupancies
themselves alike (Ho and Ermon 2016), with the table in place of networks. Both take the set of MDPs that demonstrations leave
open: then the worst of them answers each policy, and what the imitator may be sure to earn shrinks by e(x|s) where the
reward is confounded (our derivation, in the style of CAIL-T and CAIL-R of Ruan et al., NeurIPS 2024). `games` has the exact
values that these come close to.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from workbench.causal.bounds import Uncertainty
from workbench.causal.games import certificate
from workbench.causal.imitation import Certificate
from workbench.causal.planning import robust_value, robust_value_iteration
from workbench.causal.scm import Observed, as_policy, occupancy_of


class Apprentice(NamedTuple):
    """What `mwal` found.

    Attributes:
        policies, mixture: one of the deterministic policies [N,S] is drawn for each episode, with these chances [N].
        lead: the expert's lead over the mixture is at most this, for every reward of the class in every MDP that fits.
        floor: no policy can promise a smaller lead. weights: the features' weights [K] that show it.
        certificate: what `lead` proves, and what the proof needs.
    """

    policies: np.ndarray
    mixture: np.ndarray
    lead: float
    floor: float
    weights: np.ndarray
    certificate: Certificate


def mwal(
    observed: Observed, known: Uncertainty, features: Any, *, rounds: int = 300, rewards_identified: bool = True
) -> Apprentice:
    """Multiplicative weights for apprenticeship learning, robust to what demonstrations leave open.

    In each round the adversary weighs the features [K,S,X] (from 0 to 1) towards those that the imitator earns too little of,
    and the imitator answers with the policy that has the best promise. With known transitions `lead` and `floor` meet at
    the rate of sqrt(ln K / rounds) (Syed and Schapire 2007, theorem 2); otherwise `lead` lets the adversary change the MDP for
    each feature and each policy, so it may stay above the exact value.

    Args:
        known: the transitions; its rewards are not looked at. rewards_identified: as in `games.imitation_game`.
    Raises:
        ValueError: features that do not fit or leave [0, 1], or fewer than one round.
    """
    features = _features(features, observed)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds!r}")
    share = np.ones_like(observed.expert) if rewards_identified else observed.expert
    expert = np.einsum("sx,ksx->k", observed.occupancy, features)
    rate = np.sqrt(8 * np.log(len(features)) / rounds) if len(features) > 1 else 1.0
    short, total = np.zeros(len(features)), np.zeros(len(features))
    policies, floor, best = [], -np.inf, total
    for _ in range(rounds):
        weights = np.exp(rate * (short - short.max()))
        weights /= weights.sum()
        policy, lead, earned = _answer(observed, known, features, share, weights, expert)
        if lead > floor:
            floor, best = lead, weights
        policies.append(policy)
        short += expert - earned
        total += weights
    _, lead, _ = _answer(observed, known, features, share, total / rounds, expert)
    if lead > floor:
        floor, best = lead, total / rounds
    found, counts = np.unique(np.array(policies), axis=0, return_counts=True)
    mixture = counts / rounds
    sure = np.array([[_sure(known, policy, share * feature) for feature in features] for policy in found])
    lead = float((expert - mixture @ sure).max())
    proof = certificate(lead, False, _known(known), rewards_identified)
    return Apprentice(found, mixture, lead, float(floor), best, proof)


def _answer(
    observed: Observed, known: Uncertainty, features: np.ndarray, share: np.ndarray, weights: np.ndarray, expert: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """The policy with the best promise for weighted features, the expert's lead over it, and what it earns of each."""
    reward = share * np.einsum("k,ksx->sx", weights, features)
    plan = robust_value_iteration(_with(known, reward), tolerance=1e-10)
    visits = _visits(known, plan.policy, plan.value)
    return plan.policy, float(weights @ expert - plan.score), np.einsum("sx,ksx->k", share * visits, features)


class Alike(NamedTuple):
    """What `gail` found.

    Attributes:
        policy: [S,X]. lead: the expert's lead is at most this, for every reward from 0 to 1 in every MDP that fits.
        divergence: Jensen-Shannon divergence, in nats, between the expert's occupancy and the imitator's, after each round.
        certificate: what `lead` proves, and what the proof needs.
    """

    policy: np.ndarray
    lead: float
    divergence: np.ndarray
    certificate: Certificate


def gail(observed: Observed, known: Uncertainty, *, rounds: int = 300, rewards_identified: bool = True) -> Alike:
    """Generative adversarial imitation on a table (Ho and Ermon 2016), robust to what demonstrations leave open.

    The best discriminator of two occupancies is rho_E / (rho_E + rho); its reward, -ln(1 - D), is the direction in which their
    Jensen-Shannon divergence falls fastest, and the policy step is exact planning: this is the method of Frank and Wolfe
    on a convex function, so with known transitions it ends at the least divergence there is.

    Raises:
        ValueError: fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds!r}")
    share = np.ones_like(observed.expert) if rewards_identified else observed.expert
    expert, states, actions = observed.occupancy, *observed.expert.shape
    mean = _visits(known, np.full((states, actions), 1 / actions), np.zeros(states))
    divergences = []
    for step in range(rounds):
        mine = share * mean
        divergences.append(_jensen_shannon(expert, mine))
        reward = np.log1p(expert / np.maximum(mine, 1e-9))  # -ln(1 - D)
        plan = robust_value_iteration(_with(known, share * reward / reward.max()), tolerance=1e-9)
        mean = mean + 2 / (step + 2) * (_visits(known, plan.policy, plan.value) - mean)
    visits = mean.sum(-1, keepdims=True)
    policy = np.divide(mean, visits, out=np.full_like(mean, 1 / actions), where=visits > 1e-12)
    cells = np.eye(states * actions).reshape(-1, states, actions)
    sure = np.array([_sure(known, policy, share * cell) for cell in cells])
    lead = float(np.maximum(expert.ravel() - sure, 0).sum())
    proof = certificate(lead, True, _known(known), rewards_identified)
    return Alike(policy, lead, np.array(divergences), proof)


def _known(known: Uncertainty) -> bool:
    return bool(known.free.max() < 1e-12)


def _with(known: Uncertainty, reward: np.ndarray) -> Uncertainty:
    return dataclasses.replace(known, reward_low=reward, reward_high=reward)


def _sure(known: Uncertainty, policy: np.ndarray, reward: np.ndarray) -> float:
    """What a policy earns of a reward [S,X] in the worst MDP."""
    return float(robust_value(_with(known, reward), policy, tolerance=1e-10).score)


def _visits(known: Uncertainty, policy: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Occupancy [S,X] of a policy in the MDP that is worst for `value` [S]."""
    chosen = as_policy(policy, *known.reward_low.shape)
    kernel = np.einsum("sx,sxt->st", chosen, known.extreme(value))
    return occupancy_of(kernel, known.start, known.discount)[:, None] * chosen


def _jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Of two tables of mass at most 1."""
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(x > 0, x * np.log(x / middle), 0.0).sum() for x in (p, q)]
    return float(sum(parts) / 2)


def _features(features: Any, observed: Observed) -> np.ndarray:
    features = np.asarray(features, dtype=float)
    if features.ndim != 3 or features.shape[1:] != observed.expert.shape:
        raise ValueError(f"features must be [K,{','.join(map(str, observed.expert.shape))}], not {features.shape}")
    if not (features >= 0).all() or not (features <= 1).all():
        raise ValueError(f"features must lie between 0 and 1, not from {features.min():g} to {features.max():g}")
    return features
