"""A bandit as a Gymnasium environment, for agents that know `reset` and `step`.

It is one repetition of a problem; `play` runs a hundred in the same time, so measure with that.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from workbench import seeding
from workbench.bandits.problems import Problem, Rounds


class BanditEnv(gymnasium.Env):
    """`problem` a round at a time, for `horizon` rounds, after which the episode is cut off (truncated).

    What is observed is the context; a problem that shows nothing shows state 0. `info["regret"]` is the pseudo-regret of the
    arm. `reset(seed=s)` brings the luck that `play(..., repetitions=1, seed=s)` meets.

    Raises:
        ValueError: a problem that tells of no single arm's reward, a horizon below 1, an arm that does not exist, or a step
            before `reset` or after the end.
    """

    def __init__(self, problem: Problem, *, horizon: int = 100) -> None:
        if not {"bandit", "contextual"} & set(problem.feedback):
            given = " or ".join(problem.feedback)
            raise ValueError(f"step() tells the reward of one arm; {type(problem).__name__} gives {given} feedback")
        if isinstance(horizon, bool) or not isinstance(horizon, (int, np.integer)) or horizon < 1:
            raise ValueError(f"horizon must be a whole number of at least 1, not {horizon!r}")
        self.problem, self.horizon = problem, int(horizon)
        self.action_space = gymnasium.spaces.Discrete(problem.arms)
        self._rounds: Rounds | None = None
        self._left = 0
        self._rng = seeding.generator(0, "bandit", "luck")
        shown = problem.start(1, 1, seeding.generator(0, "bandit", "look")).show()
        self.observation_space: gymnasium.Space[Any]
        if shown is None:
            self.observation_space = gymnasium.spaces.Discrete(1)
        else:
            self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, np.shape(shown)[1:], dtype=np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The first observation. With a seed, everything that follows is determined by it."""
        super().reset(seed=seed)
        if seed is not None:
            self._rng = seeding.generator(seed, "bandit", "luck")
        self._rounds, self._left = self.problem.start(1, self.horizon, self._rng), self.horizon
        return self._see(self._rounds), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Pull an arm: the next observation, reward, terminated (never), truncated, info with the regret."""
        if self._rounds is None or not self._left:
            raise ValueError("there is no round to play: call reset() first")
        if not self.action_space.contains(action):
            raise ValueError(f"action must be an integer from 0 to {self.problem.arms - 1}, not {action!r}")
        told, lost = self._rounds.pull(np.array([action]))
        self._left -= 1
        return self._see(self._rounds), float(told[0]), False, not self._left, {"regret": float(lost[0])}

    def _see(self, rounds: Rounds) -> Any:
        """What is shown before the next round; after the last one there is none, and zeros stand for it."""
        if isinstance(self.observation_space, gymnasium.spaces.Discrete):
            rounds.show()
            return 0
        if not self._left:
            return np.zeros(self.observation_space.shape or ())
        return np.asarray(rounds.show(), dtype=np.float64)[0, ...]
