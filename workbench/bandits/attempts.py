"""Several attempts at one question, small enough to list: when may each attempt be learned by itself?

One of K answers is right, arm a with chance `prior[a]`. There are T attempts, and the episode ends with the right one; after a
wrong one the player knows that it was wrong, and no more. What it knows is its *history*, the wrong answers so far, so a policy
is a table of the chances of each answer after each history, and everything is a sum over histories.

A wrong answer costs an attempt and nothing else: whatever went wrong, the next attempt can still be right. That is what makes it
possible to learn the attempts one by one, as a contextual bandit whose contexts are logged histories (Cobalt, arXiv 2602.03806,
builds on this for code). A *trap* is an answer that, when wrong, ends the episode: then it is not possible.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from workbench import seeding
from workbench.bandits.offline import Log

MOST = 20_000  # histories to list


@dataclass(frozen=True)
class Attempts:
    """The world: see the module.

    Attributes:
        prior: [K] the chance of each answer to be the right one. turns: T. traps: answers that end the episode when wrong.
    Raises:
        ValueError: chances that are no distribution, no attempts, unknown traps, or more than `MOST` histories.
    """

    prior: tuple[float, ...]
    turns: int = 3
    traps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        chances = np.asarray(self.prior, dtype=float)
        if chances.ndim != 1 or len(chances) < 2 or not (chances >= 0).all() or abs(chances.sum() - 1) > 1e-9:
            raise ValueError(f"prior must be the chances of at least 2 answers, adding up to 1, not {self.prior!r}")
        if self.turns < 1:
            raise ValueError(f"turns must be at least 1, not {self.turns!r}")
        if not all(0 <= trap < len(chances) for trap in self.traps):
            raise ValueError(f"traps must be numbers of answers, from 0 to {len(chances) - 1}, not {self.traps!r}")
        harmless = len(chances) - len(set(self.traps))
        if sum(harmless**n for n in range(self.turns)) > MOST:
            raise ValueError(f"{harmless} answers over {self.turns} turns have more than {MOST} histories: use fewer of either")

    @property
    def arms(self) -> int:
        """K."""
        return len(self.prior)

    @cached_property
    def histories(self) -> list[tuple[int, ...]]:
        """All sequences of wrong answers after which there is another attempt, H of them, shortest first."""
        harmless = [a for a in range(self.arms) if a not in self.traps]
        return [h for n in range(self.turns) for h in itertools.product(harmless, repeat=n)]

    @cached_property
    def _number(self) -> dict[tuple[int, ...], int]:
        return {h: n for n, h in enumerate(self.histories)}

    @cached_property
    def possible(self) -> np.ndarray:
        """[H] the chance that none of the history's answers is right."""
        return np.array([1 - sum(self.prior[a] for a in set(h)) for h in self.histories])

    @cached_property
    def reward(self) -> np.ndarray:
        """[H,K] the chance that an answer is right, given that those of the history were not."""
        table = np.zeros((len(self.histories), self.arms))
        for n, h in enumerate(self.histories):
            if self.possible[n] > 1e-12:
                for a in set(range(self.arms)) - set(h):
                    table[n, a] = self.prior[a] / self.possible[n]
        return table

    def _check(self, policy: Any, name: str = "policy") -> np.ndarray:
        table = np.asarray(policy, dtype=float)
        shape = (len(self.histories), self.arms)
        if table.shape != shape or not (table >= 0).all() or not np.allclose(table.sum(1), 1, rtol=0, atol=1e-9):
            raise ValueError(f"{name} must be chances [H,K] = {shape} that add up to 1 after every history, not {table.shape}")
        return table

    def reach(self, policy: Any) -> np.ndarray:
        """[H] the chance that the policy comes to each history, unsolved."""
        table = self._check(policy)
        taken = np.array([np.prod([table[self._number[h[:n]], a] for n, a in enumerate(h)]) for h in self.histories])
        return taken * self.possible

    def value(self, policy: Any) -> float:
        """The chance that the policy is right within T attempts."""
        return self.stepwise(policy, policy)

    def stepwise(self, policy: Any, logger: Any) -> float:
        """The sum over the attempts of the chance to be right in them, where the *logger* made all attempts before.

        This is what single attempts from logged histories are trained on, and what such a log can estimate. It is no chance: it
        may be above 1, because a logger that fails leaves histories in which a better policy is never found.
        """
        table = self._check(policy)
        return float((self.reach(self._check(logger, "logger"))[:, None] * table * self.reward).sum())

    def bound(self, policy: Any, logger: Any) -> float:
        """The most by which `stepwise` can be wrong: the total variation between the two policies after each history with
        attempts left after this one, weighted by how often the logger comes there, added up.

        Our derivation: by the performance difference lemma, value - stepwise is the sum over these histories of (policy - logger)
        times the chance to be right later, which is between 0 and 1. It grows with T at most linearly.
        """
        distance = np.abs(self._check(policy) - self._check(logger, "logger")).sum(1) / 2
        more = np.array([len(h) + 1 < self.turns for h in self.histories])
        return float((self.reach(logger) * distance * more).sum())

    def later(self, policy: Any) -> np.ndarray:
        """[H,K] the chance to be right after this attempt, having made it: 0 in the last one, and after a trap."""
        table, after, value = self._check(policy), np.zeros((len(self.histories), self.arms)), np.zeros(len(self.histories))
        for n in reversed(range(len(self.histories))):
            h = self.histories[n]
            for a in range(self.arms):
                if (following := self._number.get((*h, a))) is not None:
                    after[n, a] = (1 - self.reward[n, a]) * value[following]
            value[n] = table[n] @ (self.reward[n] + after[n])
        return after

    def greedy(self) -> np.ndarray:
        """[H,K] the policy that makes the likeliest answer each time: the best there is for `stepwise`, whoever logged."""
        return np.eye(self.arms)[self.reward.argmax(1)]

    def best(self) -> np.ndarray:
        """[H,K] a policy of the highest `value`, by working backwards."""
        table = self.greedy()
        for n in reversed(range(len(self.histories))):
            table[n] = np.eye(self.arms)[(self.reward + self.later(table))[n].argmax()]
        return table

    def cost(self) -> np.ndarray:
        """[H,K] what each answer costs someone who does everything right after it: the best value minus its own.

        Without traps that is never more than 1 / (attempts left, this one included): an attempt, and no more.
        """
        worth = self.reward + self.later(self.best())
        return worth.max(1, keepdims=True) - worth

    def record(self, logger: Any, episodes: int, *, seed: int) -> tuple[Log, np.ndarray]:
        """A log of single attempts, their contexts the numbers of the histories; and, for each, which episode it belongs to.

        Raises:
            ValueError: no episodes, or a logger that is no policy.
        """
        table = self._check(logger, "logger")
        if episodes < 1:
            raise ValueError(f"episodes must be at least 1, not {episodes!r}")
        rng = seeding.generator(seed, "attempts")
        right = rng.choice(self.arms, size=episodes, p=np.asarray(self.prior))
        rows: list[tuple[int, int, bool, float, int]] = []
        for episode in range(episodes):
            at: int | None = 0
            while at is not None:
                a = int(rng.choice(self.arms, p=table[at]))
                rows.append((at, a, bool(a == right[episode]), table[at, a], episode))
                at = None if a == right[episode] else self._number.get((*self.histories[at], a))
        contexts, actions, rewards, chances, belongs = (np.array(column) for column in zip(*rows))
        return Log(actions, rewards.astype(float), self.arms, chances, contexts, len(self.histories)), belongs
