"""Causal imitation: robust planning next to the ten lines one would write by hand, and the time of the exact games."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from workbench import seeding
from workbench.bench import Paired, paired
from workbench.causal import bounds, games, planning, worlds
from workbench.causal.scm import Observed

STATES, ACTIONS, DISCOUNT = 1000, 10, 0.9
TARGETS = {"robust value iteration": 1.0, "an imitation game": 0.1}  # seconds of one core


def big_world() -> Observed:
    """Random demonstrations of an MDP with 1000 states and 10 actions, every next state possible."""
    rng = seeding.generator(0, "bench", "causal")
    expert = rng.dirichlet(np.ones(ACTIONS), STATES)
    joint = expert[..., None] * rng.dirichlet(np.ones(STATES), (STATES, ACTIONS))
    visits = np.full((STATES, ACTIONS), 1 / (STATES * ACTIONS))
    return Observed(expert, joint, expert * rng.random(expert.shape), visits, visits.sum(1), DISCOUNT, 0.0, 1.0)


def by_hand(watched: Observed, tolerance: float = 1e-12) -> np.ndarray:
    """Robust value iteration as in chapter 08: a backup a round, until nothing moves."""
    value = np.zeros(STATES)
    while True:
        known = watched.joint @ value + (1 - watched.expert) * value.min()
        new = ((1 - DISCOUNT) * watched.reward + DISCOUNT * known).max(1)
        if np.abs(new - value).max() * DISCOUNT <= tolerance * (1 - DISCOUNT):
            return new
        value = new


def _seconds(act: Callable[[], object], times: int) -> float:
    """CPU seconds of `act`, the least of several."""
    found = []
    for _ in range(times):
        start = time.process_time()
        act()
        found.append(time.process_time() - start)
    return min(found)


def report(pairs: int, *, quick: bool = False, show: Callable[[str], None] = print) -> dict[str, Paired]:
    """Time both sides in turn; the ratios by name."""
    watched = big_world()

    def ours() -> np.ndarray:
        return planning.robust_value_iteration(bounds.natural(watched)).value

    if not np.allclose(ours(), by_hand(watched), atol=1e-10):
        raise RuntimeError("the two robust values differ")
    name = "robust value iteration"
    result = paired(lambda: by_hand(watched), ours, pairs)
    show(f"causal: {STATES} states x {ACTIONS} actions, and imitation games of two states; one thread")
    show(f"  {name:38s} {result}  {min(result.ours):.2f} s (target below {TARGETS[name]:g} s)")
    for case in worlds.TWO_STATE[:1] if quick else worlds.TWO_STATE:
        watched_case = worlds.two_state(case).observed
        known = bounds.natural(watched_case)
        took = _seconds(lambda w=watched_case, k=known: games.imitation_game(w, k, rewards_identified=False), 3)  # type: ignore[misc]
        show(f"  game, {case:32s} {took:.3f} s (target below {TARGETS['an imitation game']:g} s)")
    return {name: result}
