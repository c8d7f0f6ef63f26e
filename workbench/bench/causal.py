"""Causal imitation: robust planning next to the ten lines one would write by hand; the time of exact games and of FindOx."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from workbench import seeding
from workbench.bench import Paired, paired
from workbench.causal import bounds, games, graph, planning, worlds
from workbench.causal.scm import Observed

STATES, ACTIONS, DISCOUNT = 1000, 10, 0.9
TARGETS = {"robust value iteration": 1.0, "an imitation game": 0.1, "FindOx": 1.0}  # seconds of one core


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


def big_diagram(nodes: int = 60, actions: int = 8) -> tuple[graph.Diagram, list[str]]:
    """A random diagram in which FindOx has much to do, and its actions; the last variable is the outcome."""
    rng = seeding.generator(0, "bench", "diagram")
    order = tuple(f"V{i}" for i in range(nodes))
    every = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    directed = [(a, b) for (a, b) in every if rng.random() < 4 / nodes] + list(zip(order[-12:], order[-11:]))
    bidirected = [pair for pair in every if rng.random() < 1 / nodes]
    chosen = sorted(rng.choice(nodes - 1, size=actions, replace=False))
    return graph.Diagram(tuple(directed), tuple(bidirected), order), [order[i] for i in chosen]


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
    diagram, actions = big_diagram()
    took = _seconds(lambda: graph.sequential_pi_backdoor(diagram, actions, diagram.order[-1]), 3)
    said = f"FindOx, {len(diagram.order)} variables, {len(actions)} actions"
    show(f"  {said:38s} {took:.3f} s (target below {TARGETS['FindOx']:g} s)")
    return {name: result}
