"""Studies: what the harness costs next to the bare loop, and what a second worker brings.

The runs are Thompson sampling on ten arms, about half a second each: small runs, where a harness shows most.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from typing import Any

from workbench.bench import Paired, paired

TARGETS = {"overhead": 0.03, "two workers": 1.7}
ROUNDS, REPETITIONS = 1000, 2000  # of one run


def _setting(rounds: int = ROUNDS) -> tuple[Any, Any, str]:
    """The policy, the problem and the budget of the runs."""
    from workbench.bandits import policies, problems
    from workbench.study import bandit

    problem = problems.Bernoulli([0.1 * k + 0.05 for k in range(10)])
    return policies.Thompson(), bandit(problem, repetitions=REPETITIONS), f"{rounds} updates"


def bare(seeds: int, rounds: int = ROUNDS) -> list[float]:
    """The final regrets of a study of `seeds` runs, without a study."""
    from workbench.bandits import play

    policy, setting, _ = _setting(rounds)
    return [float(play.play(policy, setting.problem, rounds, REPETITIONS, seed=seed).final.mean()) for seed in range(seeds)]


def harness(seeds: int, rounds: int = ROUNDS, **how: Any) -> list[float]:
    """The same from a study that keeps its runs in a fresh folder."""
    from workbench.study import compare

    policy, setting, budget = _setting(rounds)
    with tempfile.TemporaryDirectory() as store:
        found = compare([policy], setting, seeds, budget=budget, store=store, progress=False, **how)
        return [float(value) for value in found.scores().iloc[:, 0]]


def overhead(pairs: int, seeds: int = 4, rounds: int = ROUNDS) -> Paired:
    """The bare loop against the study in this process; CPU seconds, so `1 / ratio - 1` is the share that the harness costs."""
    return paired(functools.partial(bare, seeds, rounds), functools.partial(harness, seeds, rounds, backend="in_process"), pairs)


def workers(pairs: int, seeds: int = 12, rounds: int = ROUNDS) -> Paired:
    """One worker against two, in seconds of wall-clock time, their start included: it needs two idle cores."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(pairs):
        for count, found in zip((1, 2), times):
            started = time.perf_counter()
            harness(seeds, rounds, workers=count)
            found.append(time.perf_counter() - started)
    return Paired(*times)


def report(pairs: int, *, quick: bool = False) -> dict[str, Paired]:
    """Print both, and return them by name."""
    print(f"Studies of {ROUNDS} rounds of Thompson sampling, {REPETITIONS} side by side, one thread a run")
    found = {"overhead": overhead(pairs)}
    cost = statistics.median(o / t - 1 for t, o in zip(found["overhead"].theirs, found["overhead"].ours))
    each = statistics.median(found["overhead"].theirs) / 4
    goal = TARGETS["overhead"]
    print(f"  harness over the bare loop, runs of {each:.2f} s of CPU   {cost:+.1%} of run time (target: below {goal:.0%})")
    found["two workers"] = workers(1 if quick else pairs)
    print(f"  two workers over one, wall clock, idle cores   {found['two workers']}  (target: {TARGETS['two workers']}x)")
    return found
