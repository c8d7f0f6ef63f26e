"""Bandits: rounds per second next to river's and mabwiser's policies on the same ten arms, and a study of twelve policies.

The others loop over rounds in Python and serve one stream at a time; ours plays a hundred repetitions side by side. That is the
fair comparison for a study of regret, which needs many repetitions, and says nothing of serving one user at a time. mabwiser in
particular is made for scoring contexts in batches.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from workbench import seeding
from workbench.bandits.play import play
from workbench.bandits.policies import POLICIES, UCB1, EpsilonGreedy, Thompson, get
from workbench.bandits.problems import Bernoulli
from workbench.bench import Paired, paired

PROBLEM = Bernoulli([0.5] + [0.4] * 9)
REPETITIONS = 100
ROUNDS = {"ours": 5000, "river": 5000, "mabwiser": 1000}  # a round costs each the same at any length
TARGETS = {
    ("river", "UCB1"): 40.0, ("river", "Thompson"): 20.0, ("mabwiser", "UCB1"): 400.0, ("mabwiser", "Thompson"): 150.0,
}  # fmt: skip
STUDY = (*(get(name) for name in POLICIES), EpsilonGreedy(None), UCB1(0.5))  # twelve
STUDY_SIZE, STUDY_SECONDS = (10_000, 1000), 120.0  # horizon, repetitions


def river(policy: str, rounds: int) -> None:
    """One stream of `rounds` with river's policy."""
    from river import bandit, proba

    made: Any = (
        bandit.UCB(delta=1, seed=0) if policy == "UCB1" else bandit.ThompsonSampling(reward_obj=proba.Beta(), seed=0)
    )
    arms = range(PROBLEM.arms)
    for luck in seeding.generator(0, "bench", "bandits").random(rounds).tolist():
        arm = made.pull(arms)
        made.update(arm, int(luck < PROBLEM.means[arm]))


def mabwiser(policy: str, rounds: int) -> None:
    """One stream of `rounds` with mabwiser's policy."""
    from mabwiser.mab import MAB, LearningPolicy

    rule = LearningPolicy.UCB1(alpha=1) if policy == "UCB1" else LearningPolicy.ThompsonSampling()
    made = MAB(list(range(PROBLEM.arms)), rule, seed=0)
    made.fit([], [])
    for luck in seeding.generator(0, "bench", "bandits").random(rounds).tolist():
        arm = made.predict()
        made.partial_fit([arm], [int(luck < PROBLEM.means[arm])])


LIBRARIES: dict[str, Callable[[str, int], None]] = {"river": river, "mabwiser": mabwiser}


def rounds_per_second(library: str, policy: str, pairs: int) -> Paired:
    """Seconds a round of `library` takes, and of ours with REPETITIONS side by side."""
    ours = {"UCB1": UCB1, "Thompson": Thompson}[policy]
    found = paired(
        lambda: LIBRARIES[library](policy, ROUNDS[library]),
        lambda: play(ours(), PROBLEM, ROUNDS["ours"], REPETITIONS),
        pairs,
    )
    return Paired(
        [seconds / ROUNDS[library] for seconds in found.theirs],
        [seconds / (ROUNDS["ours"] * REPETITIONS) for seconds in found.ours],
    )


def study_seconds() -> float:
    """CPU seconds of twelve policies, each with the horizon and repetitions of STUDY_SIZE."""
    horizon, repetitions = STUDY_SIZE
    start = time.process_time()
    for policy in STUDY:
        assert np.isfinite(play(policy, PROBLEM, horizon, repetitions).final).all()
    return time.process_time() - start


def report(pairs: int, *, quick: bool = False, show: Callable[[str], None] = print) -> dict[str, Paired]:
    """Time both sides in turn; the ratios by name."""
    show(f"bandits: rounds per second on {PROBLEM.arms} arms, ours with {REPETITIONS} repetitions side by side")
    found: dict[str, Paired] = {}
    for (library, policy), target in TARGETS.items():
        name = f"{policy} against {library}"
        if importlib.util.find_spec(library) is None:
            show(f"  {name}: skipped, {library} is not installed")
            continue
        found[name] = rounds_per_second(library, policy, pairs)
        ratio = found[name].ratio
        show(f"  {name:38s} {found[name]}")
        show(f"  {name}: {target:g}x, {'reached' if ratio >= target else 'not reached'} ({ratio:.0f}x)")
    if not quick:
        seconds = study_seconds()
        said = "reached" if seconds < STUDY_SECONDS else "not reached"
        horizon, repetitions = STUDY_SIZE
        size = f"{len(STUDY)} policies x {repetitions} repetitions x {horizon} rounds"
        show(f"  {size}: under {STUDY_SECONDS:g} s, {said} ({seconds:.0f} s)")
    return found
