"""A confounded MDP as a Gymnasium environment: `step` acts, `expert_step` watches the expert act."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gymnasium

from workbench import seeding
from workbench.causal.scm import ConfoundedMDP, draw
from workbench.permission import Layer, require


class ConfoundedEnv(gymnasium.Env):
    """`mdp` one step at a time. Actions may be given one by one to either; the hidden cause is drawn anew each step.

    Args:
        steps: after how many steps an episode is cut off (truncated).
        allow: the layers the learner was given: "do" for `step`, "see" for `expert_step`.
        debug: put the hidden cause into `info["hidden"]`.

    Raises:
        NotPermitted: from `step` or `expert_step` without the permission.
        ValueError: for an action that does not exist.
    """

    def __init__(
        self,
        mdp: ConfoundedMDP,
        *,
        steps: int = 100,
        allow: Collection[Layer | str] = (Layer.SEE, Layer.DO),
        debug: bool = False,
    ) -> None:
        if mdp.noise.ndim != 1:
            raise ValueError(f"one MDP at a time, not {mdp.noise.shape[:-1]} of them")
        self.mdp, self.steps, self.allow, self.debug = mdp, steps, allow, debug
        self.observation_space = gymnasium.spaces.Discrete(mdp.states)
        self.action_space = gymnasium.spaces.Discrete(mdp.actions)
        self._state: int | None = None
        self._left = 0
        self._rng = seeding.generator(0, "confounded env")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """The first state. With a seed, everything that follows is determined by it."""
        super().reset(seed=seed)
        if seed is not None:
            self._rng = seeding.generator(seed, "confounded env")
        self._left, self._state = self.steps, int(draw(self.mdp.start[None], self._rng)[0])
        return self._state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Do `action`: next state, reward, terminated (never), truncated, info with the action taken."""
        require(Layer.DO, self.allow, f"step({action})")
        if not self.action_space.contains(action):
            raise ValueError(f"action must be an integer from 0 to {self.mdp.actions - 1}, not {action!r}")
        return self._advance(action)

    def expert_step(self) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Watch the expert act: the same as from `step`, `info["action"]` saying what it did."""
        require(Layer.SEE, self.allow, "expert_step()")
        return self._advance(None)

    def _advance(self, action: int | None) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if self._state is None:
            raise ValueError("the episode has not begun: call reset() first")
        mdp, s = self.mdp, self._state
        u = int(draw(mdp.noise[None], self._rng)[0])
        chosen = int(draw(mdp.choice[s, u][None], self._rng)[0])  # also drawn under do: the same luck either way
        x = chosen if action is None else int(action)
        self._state = int(draw(mdp.kernel[s, x, u][None], self._rng)[0])
        self._left -= 1
        info = {"action": x, **({"hidden": u} if self.debug else {})}
        return self._state, float(mdp.mean_reward[s, x, u]), False, self._left <= 0, info
