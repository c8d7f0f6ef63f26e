"""A bandit told as text, a pull a turn, so that a language model can play it like any other task."""

from __future__ import annotations

import math
import re
import string
from dataclasses import dataclass, field

import numpy as np

from workbench import seeding
from workbench.tasks.base import Problem, Reply, check_rate, play, stream

CONTEXTS = ("raw", "summary", "guided")
WORDINGS = ("brief", "story")
_NEW = {"brief": "{arm} new", "story": "{arm} not pulled yet"}
_TOLD = {
    ("brief", "summary"): "{arm} {n} {mean:.2f}",
    ("brief", "guided"): "{arm} {mean:.2f}+{bonus:.2f}",
    ("story", "summary"): "{arm} pulled {n} times, paid {mean:.2f} on average",
    ("story", "guided"): "{arm} pulled {n} times, mean {mean:.2f}, exploration bonus {bonus:.2f}",
}
_NUMBER = re.compile(r"\b[1-9][0-9]{5}\b")


@dataclass(frozen=True)
class VerbalBandit:
    """Pull one of a few arms, `pulls` times; each pays 1 or 0, with a chance of its own that never changes.

    A turn is the letter of an arm. It is answered by what the arm paid and, depending on `context`, by more (the three ways of
    telling a bandit to a language model that EVOLvE compares; there a summary replaces the history, here it follows it, since a
    dialogue only grows). A turn that is not a letter of an arm has reward -1 and ends the episode; the pulls not made count
    like the worst arm. The outcome is the mean over pulls of (mean of the arm pulled - worst mean) / (best mean - worst mean):
    1 is the best arm every time, and with three arms and uniform means a player who draws arms at random gets 1/2 on average.
    It is made of the means, not of what was paid, so luck is no part of it.

    The table's number in the prompt stands for everything random in the problem, so that all rollouts of it are paid alike: the
    n-th pull of an arm pays the same in each.

    Attributes:
        context: "raw", what the arm paid; "summary", also how often each arm was pulled and its mean; "guided", also the bonus
            sqrt(ln(t) / (2 n)) that UCB adds to the mean of an arm pulled n times out of t.
        gap: if given, one arm pays with chance 1/2 + gap/2 and all others with 1/2 - gap/2; else chances are uniform on 0 to 1.
        wording: "brief" for tiny models with a character a token; "story" for models that know English.
        max_tokens: of a turn, its end included.
    Raises:
        ValueError: a setting out of range.
    """

    arms: int = 3
    pulls: int = 10
    context: str = "raw"
    gap: float | None = None
    wording: str = "brief"
    max_tokens: int = 4

    name = "verbal_bandit"
    tools = ()

    def __post_init__(self) -> None:
        if not isinstance(self.arms, int) or not 2 <= self.arms <= 26:
            raise ValueError(f"arms must be a whole number from 2 to 26, a letter each, not {self.arms!r}")
        if not isinstance(self.pulls, int) or self.pulls < 1:
            raise ValueError(f"pulls must be a whole number of at least 1, not {self.pulls!r}")
        if self.context not in CONTEXTS:
            raise ValueError(f"context must be one of {', '.join(CONTEXTS)}, not {self.context!r}")
        if self.wording not in WORDINGS:
            raise ValueError(f"wording must be one of {', '.join(WORDINGS)}, not {self.wording!r}")
        if self.gap is not None and not 0 < self.gap <= 1:
            raise ValueError(f"gap must be above 0 and at most 1, or None, not {self.gap!r}")
        if self.max_tokens < 2:
            raise ValueError(f"max_tokens must be at least 2, a letter and the end of the turn, not {self.max_tokens!r}")

    @property
    def max_turns(self) -> int:
        return self.pulls

    @property
    def letters(self) -> str:
        """The arms' names: "ABC"."""
        return string.ascii_uppercase[: self.arms]

    def problem(self, index: int, *, split: str = "train", seed: int = 0) -> Problem:
        return stream(self.name, self._draw, index, split, seed)

    def _draw(self, rng: np.random.Generator) -> tuple[Problem, str]:
        number = int(rng.integers(100_000, 1_000_000))
        if self.wording == "brief":
            prompt = f"Table {number}: {self.letters}, {self.pulls} pulls."
        else:
            prompt = (
                f"You sit at table {number} of a casino, before the slot machines {', '.join(self.letters)}. Each machine "
                f"pays 1 or 0 coins, with a chance of its own that stays the same. You have {self.pulls} pulls and want as many "
                "coins as you can get. Say which machine you pull next: one letter, nothing else."
            )
        return Problem(prompt, self.letters[int(self._means(number).argmax())]), str(number)

    def means(self, problem: Problem) -> np.ndarray:
        """[K] the chance that each arm pays, which the player does not know.

        Raises:
            ValueError: the prompt names no table.
        """
        return self._means(_number(problem))

    def _means(self, number: int) -> np.ndarray:
        rng = seeding.generator(number, "verbal bandit", "means")
        if self.gap is None:
            return rng.random(self.arms)
        return np.where(np.arange(self.arms) == rng.integers(self.arms), 0.5 + self.gap / 2, 0.5 - self.gap / 2)

    def episode(self, problem: Problem) -> VerbalBanditEpisode:
        means = self.means(problem)
        luck = seeding.generator(_number(problem), "verbal bandit", "luck").random((self.pulls, self.arms))
        return VerbalBanditEpisode(self, means, (luck < means).astype(int))

    def gold(self, problem: Problem) -> list[str]:
        return [problem.answer] * self.pulls

    def do_nothing(self, problem: Problem) -> list[str]:
        return [""]

    def cheat(self, problem: Problem) -> list[str]:
        """Always the first arm, whatever it pays."""
        return [self.letters[0]] * self.pulls

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        """A game of UCB, with the bonus of the guided context; with probability `error_rate`, of somebody who pulls at random."""
        check_rate("error_rate", error_rate)
        if rng.random() < error_rate:
            return play(self, problem, [str(arm) for arm in rng.choice(list(self.letters), self.pulls)]).transcript
        episode, shown = self.episode(problem), []
        for _ in range(self.pulls):
            shown.append(self.letters[upper_bound_choice(episode.count, episode.won)])
            reply = episode.step(shown[-1])
            if reply.text is not None:
                shown.append(reply.text)
        return shown

    def tell(self, paid: int, count: np.ndarray, won: np.ndarray) -> str:
        """The reply to a pull: what it paid, and what `context` adds, from the pulls and winnings [K] of each arm so far."""
        paid_text, between, end = ("{}", "|", "") if self.wording == "brief" else ("It pays {}.", "; ", ".")
        text = paid_text.format(paid)
        if self.context == "raw":
            return text
        told, new = _TOLD[self.wording, self.context], _NEW[self.wording]
        arms = zip(self.letters, count.tolist(), *guide(count, won))
        parts = [(told if n else new).format(arm=arm, n=n, mean=mean, bonus=bonus) for arm, n, mean, bonus in arms]
        return text + ("|" if self.wording == "brief" else " So far: ") + between.join(parts) + end


@dataclass
class VerbalBanditEpisode:
    """One game. paid [T,K]: what the n-th pull of an arm pays. count, won [K]: pulls and winnings of each arm so far."""

    task: VerbalBandit
    means: np.ndarray
    paid: np.ndarray
    credit: float = 0.0
    count: np.ndarray = field(init=False)
    won: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.count, self.won = np.zeros(self.task.arms, int), np.zeros(self.task.arms, int)

    def step(self, text: str) -> Reply:
        letter = text.strip()
        arm = self.task.letters.find(letter) if len(letter) == 1 else -1
        if arm < 0:
            return Reply(None, -1.0, done=True, outcome=self._outcome())
        paid = int(self.paid[self.count[arm], arm])
        self.count[arm] += 1
        self.won[arm] += paid
        worst, best = self.means.min(), self.means.max()
        self.credit += (self.means[arm] - worst) / (best - worst)
        if self.count.sum() == self.task.pulls:
            return Reply(None, done=True, outcome=self._outcome())
        return Reply(self.task.tell(paid, self.count, self.won))

    def _outcome(self) -> float:
        return float(self.credit / self.task.pulls)


def guide(count: np.ndarray, won: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and UCB bonus of each arm [K], to the two decimals that are told; an arm never pulled has mean 0 and bonus inf."""
    pulls = np.maximum(count, 1)
    bonus = np.sqrt(0.5 * math.log(max(int(count.sum()), 1)) / pulls)
    return np.round(won / pulls, 2), np.where(count > 0, np.round(bonus, 2), np.inf)


def upper_bound_choice(count: np.ndarray, won: np.ndarray) -> int:
    """UCB's arm: the highest mean plus bonus, the first of equals; so at first every arm once, in order."""
    means, bonuses = guide(count, won)
    return int(np.argmax(np.round(means + bonuses, 2)))


def _number(problem: Problem) -> int:
    found = _NUMBER.search(problem.prompt)
    if found is None:
        raise ValueError(f"the prompt names no table of six digits, so there is no bandit behind it: {problem.prompt[:60]!r}")
    return int(found[0])
