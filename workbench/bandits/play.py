"""The loop: a policy chooses, the problem answers, the policy learns; R repetitions side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from workbench import seeding, stats
from workbench.bandits.problems import Array, Problem

POINTS = 200  # about so many moments are recorded


class Policy(Protocol):
    """Chooses arms for R repetitions at once; its state are arrays [R,K].

    Attributes:
        feedback: what it must be told: "bandit", "full" or "contextual"; see `Problem`.
    """

    feedback: str

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        """Forget everything and get ready."""
        ...

    def choose(self, rng: np.random.Generator, *context: Any) -> Array:
        """An arm [R] for each repetition; `context` is what the problem showed, if it shows anything."""
        ...

    def update(self, arm: Array, reward: Array) -> None:
        """Learn from arm [R] and what was told of it: [R], or [R,K] with full feedback."""
        ...


@dataclass(frozen=True)
class Played:
    """What a policy did.

    Attributes:
        times: [L] rounds at which was looked, log-spaced; the last one is the horizon.
        regret: [R,L] what it had lost by then on average against the best choice (pseudo-regret).
        pulls: [R,K] how often each arm was pulled.
    """

    name: str
    times: Array
    regret: Array
    pulls: Array

    @property
    def final(self) -> Array:
        """[R] regret at the horizon."""
        return self.regret[:, -1]

    def interval(self, *, level: float = 0.95) -> stats.Interval:
        """Student's interval of the mean regret at each of `times`, over repetitions."""
        return stats.t_interval(self.regret.T, level=level)


def play(
    policy: Policy, problem: Problem, horizon: int, repetitions: int = 100, *, seed: int = 0, points: int = POINTS
) -> Played:
    """Let a policy play a problem for `horizon` rounds, `repetitions` times side by side.

    The problem's luck and the policy's dice are separate streams, so that every policy with the same seed meets the same luck.

    Raises:
        ValueError: a horizon or number of repetitions below 1, or a policy for another kind of feedback.
    """
    _check(policy, problem, horizon, repetitions)
    full = policy.feedback == "full"
    rounds = problem.start(repetitions, horizon, seeding.generator(seed, "bandit", "luck"), full=full)
    dice = seeding.generator(seed, "bandit", "dice")
    policy.start(repetitions, problem.arms, horizon)
    times = log_spaced(horizon, points)
    regret, record = np.zeros(repetitions), np.empty((len(times), repetitions))
    pulls = np.zeros((repetitions, problem.arms), dtype=np.int64)
    flat, first = pulls.reshape(-1), np.arange(repetitions) * problem.arms
    look = 0
    for t in range(1, horizon + 1):
        context = rounds.show()
        arm = policy.choose(dice) if context is None else policy.choose(dice, context)
        told, lost = rounds.pull(arm)
        policy.update(arm, told)
        regret += lost
        flat[first + arm] += 1
        if t == times[look]:
            record[look] = regret
            look += 1
    return Played(name_of(policy), times, record.T, pulls)


def name_of(policy: object) -> str:
    """What a policy is called in figures: its `name` if it has one, else that of its class."""
    return str(getattr(policy, "name", type(policy).__name__))


def log_spaced(horizon: int, points: int = POINTS) -> Array:
    """At most `points` different rounds from 1 to `horizon`, evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(1, horizon, min(points, horizon)).round().astype(np.int64))


def _check(policy: Policy, problem: Problem, horizon: int, repetitions: int) -> None:
    for name, value in (("horizon", horizon), ("repetitions", repetitions)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    if policy.feedback not in problem.feedback:
        raise ValueError(
            f"{name_of(policy)} learns from {policy.feedback} feedback; {type(problem).__name__} gives "
            f"{' or '.join(problem.feedback)}: choose a policy for that"
        )
