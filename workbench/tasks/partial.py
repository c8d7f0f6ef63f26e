"""Partial trajectories: logged attempts at `repair`, cut into contexts, each to be continued by one single attempt.

What is left of many turns when one turn at a time is learned (Cobalt, arXiv 2602.03806): play `repair` with a reference model,
`read` the trajectories out of the batch, `choose` those that say most, `cut` them into prefixes, and hand the prefixes to
`Partial`, a task of one turn: a contextual bandit whose contexts are logged prefixes and whose arms are programs.

A prefix is a slice of the ids that were logged, and is handed on as ids: nothing is decoded to be encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workbench import seeding
from workbench.batch import Batch, Stop
from workbench.tasks.base import Problem, Reply
from workbench.tasks.code import Repair, is_program, pass_rate, solves


@dataclass(frozen=True)
class Trajectory:
    """One logged attempt at a problem.

    Attributes:
        ids: all its tokens. ends: how many of them stand before each turn: the prompt, then all up to the last reply.
        rates: share of the hidden tests passed, by turn. public: whether all public tests passed, by turn.
        texts: the programs, to be looked at.
    """

    problem: Problem
    ids: tuple[int, ...]
    ends: tuple[int, ...]
    rates: tuple[float, ...]
    public: tuple[bool, ...]
    texts: tuple[str, ...] = ()

    @property
    def spread(self) -> float:
        """The best rate minus the worst: how much there was to learn on the way."""
        return max(self.rates) - min(self.rates)

    def solved(self, turns: int) -> bool:
        """Whether it would have been solved with so many turns: its last attempt until then passes every hidden test."""
        return self.rates[min(turns, len(self.rates)) - 1] == 1


@dataclass(frozen=True)
class Context(Problem):
    """A prefix to continue. best: the best rate of the attempts in it; turn: how many there are."""

    best: float = 0.0
    turn: int = 0


# ---- from a log to contexts -------------------------------------------------------------------------------------------


def read(batch: Batch, problems: Sequence[Problem], task: Repair, decode: Callable[[list[int]], str]) -> list[Trajectory]:
    """The trajectories of a batch that `sample.rollout` made of `problems`, in the order of its rows.

    Args:
        decode: ids -> text; what it gives is judged, and is not part of any context. An attempt cut off by a limit has rate 0.
    Raises:
        ValueError: the batch has rollouts of several rows, or groups that are not the problems' places.
    """
    if len(batch.rollout.unique()) < len(batch) or (len(batch) and int(batch.group.max()) >= len(problems)):
        raise ValueError("give the batch that was rolled out from these problems, in one row an episode")
    found = []
    for row in range(len(batch)):
        ids, turn, mask = batch.tokens[row], batch.turn[row], batch.mask[row]
        problem = problems[int(batch.group[row])]
        turns = int(turn.max()) + 1
        cut_off = int(batch.stop[row]) in (Stop.LENGTH, Stop.CONTEXT)
        texts = [decode(ids[mask & (turn == j)].tolist()[: None if cut_off and j == turns - 1 else -1]) for j in range(turns)]
        hidden, public = task.hidden(problem), task.public(problem)
        rates = [0.0 if cut_off and j == turns - 1 else pass_rate(text, hidden) for j, text in enumerate(texts)]
        found.append(
            Trajectory(
                problem, tuple(ids[: int(batch.length[row])].tolist()),
                tuple(int((turn == j).nonzero()[0]) for j in range(turns)), tuple(rates),
                tuple(solves(text, public) for text in texts), tuple(texts),
            )
        )  # fmt: skip
    return found


def informative(trajectories: Sequence[Trajectory]) -> list[int]:
    """The places of those worth cutting: some attempt passes every hidden test, and some does not."""
    return [n for n, one in enumerate(trajectories) if one.spread > 0 and max(one.rates) == 1]


def max_variance(spreads: Sequence[float], most: int) -> list[int]:
    """The places of `most` of the numbers whose variance is the largest possible: the k lowest and the highest others, best k.

    Among the numbers sorted, no other set is better: moving one number outwards never lowers the variance. All, if there are no
    more than `most`. Ties: the smaller k, and the earlier place.
    """
    _check_most(most)
    order = np.argsort(np.asarray(spreads, dtype=float), kind="stable").tolist()
    if len(order) <= most:
        return sorted(order)
    sets = [order[:k] + order[len(order) - most + k :] for k in range(most + 1)]
    variances = [float(np.var([spreads[place] for place in chosen])) for chosen in sets]
    return sorted(sets[int(np.argmax(np.round(variances, 12)))])


def choose(
    trajectories: Sequence[Trajectory], most: int = 4, *, how: str = "max variance", seed: int = 0
) -> list[Trajectory]:
    """Of the informative trajectories of each problem, `most`: those whose spreads vary most, or, to compare, random ones.

    Raises:
        ValueError: `how` is neither "max variance" nor "random", or `most` is below 1.
    """
    if how not in ("max variance", "random"):
        raise ValueError(f'how must be "max variance" or "random", not {how!r}')
    _check_most(most)
    kept: list[Trajectory] = []
    for number, mine in enumerate(by_problem([trajectories[n] for n in informative(trajectories)])):
        if how == "max variance":
            places = max_variance([one.spread for one in mine], most)
        else:
            rng = seeding.generator(seed, "choose", number)
            places = sorted(rng.permutation(len(mine))[:most].tolist())
        kept += [mine[place] for place in places]
    return kept


def by_problem(trajectories: Sequence[Trajectory]) -> list[list[Trajectory]]:
    """Groups of the same problem, in order of first appearance."""
    groups: dict[Problem, list[Trajectory]] = {}
    for one in trajectories:
        groups.setdefault(one.problem, []).append(one)
    return list(groups.values())


def cut(
    trajectories: Sequence[Trajectory], *, prefixes: int = 3, longest: int = 400, turns: Sequence[int] | None = None
) -> list[Context]:
    """The contexts of some trajectories: for each problem its bare prompt, once, and prefixes that end with the reply to a turn.

    A trajectory gives a prefix after each of its first `prefixes` turns that was replied to, but none from the turn on that is
    the second in a row to pass the public tests, or the second in a row to pass the hidden ones, nor one of more than `longest`
    tokens.

    Args:
        turns: keep only contexts with so many attempts in them, such as (0,) for bare prompts; default: all.
    Raises:
        ValueError: a negative number of prefixes, or no room for a token.
    """
    if prefixes < 0 or longest < 1:
        raise ValueError(f"prefixes must be 0 or more and longest 1 or more, not {prefixes!r} and {longest!r}")
    found: list[Context] = []
    for mine in by_problem(trajectories):
        problem = mine[0].problem
        found.append(Context(problem.prompt, problem.answer, ids=mine[0].ids[: mine[0].ends[0]]))
        for one in mine:
            for j, end in enumerate(one.ends[1 : prefixes + 1], 1):
                twice = j > 1 and (all(one.public[j - 2 : j]) or all(rate == 1 for rate in one.rates[j - 2 : j]))
                if twice or end > longest:
                    break
                found.append(Context(problem.prompt, problem.answer, ids=one.ids[:end], best=max(one.rates[:j]), turn=j))
    return [context for context in found if turns is None or context.turn in turns]


def _check_most(most: int) -> None:
    if most < 1:
        raise ValueError(f"most must be at least 1, not {most!r}")


# ---- the bandit -------------------------------------------------------------------------------------------------------


def reward(rate: float, best: float = 0.0) -> float:
    """What one program earns, from -1 to 1: `rate` of the hidden tests pass, and `best` did in an earlier attempt.

    1 for all tests, 0.2 for half of them, 0 for some, -0.1 for none. Not all, after earlier attempts that passed some: up to 0.1
    more for a better rate; for one that is no better -0.1, and up to 0.1 less for a worse one. (The authors' code, arXiv
    2602.03806; there the terms for thinking, for lengths and for broken fences come on top.)
    """
    for name, value in (("rate", rate), ("best", best)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a share of tests, from 0 to 1, not {value!r}")
    base = 1.0 if rate == 1 else 0.2 if rate >= 0.5 else 0.0 if rate > 0 else -0.1
    if rate == 1 or best == 0:
        return base
    if rate > best:
        return base + 0.1 * (rate - best) / (1 - best)
    return -0.1 + 0.1 * (rate - best) / best


@dataclass(frozen=True)
class Partial:
    """One attempt at `base` from a logged context: a contextual bandit.

    The training stream goes through `contexts` again and again, each time in another order. The test stream is that of `base`:
    its problems from the start, one attempt. The outcome is 1 if every hidden test passes; the turn's reward, for the recipe
    part `step_rewards`, is `reward` of the share that pass, -1 for a text that is no program.
    """

    base: Repair
    contexts: tuple[Context, ...]

    name = "partial"
    sandboxed = True
    tools = ()
    max_turns = 1

    def __post_init__(self) -> None:
        if not self.contexts:
            raise ValueError("no contexts: the log had no trajectory in which some attempt passes and some does not; log more")
        object.__setattr__(self, "contexts", tuple(self.contexts))

    @property
    def max_tokens(self) -> int:
        return self.base.max_tokens

    def problem(self, index: int, *, split: str = "train", seed: int = 0) -> Problem:
        if split != "train":
            return self.base.problem(index, split=split, seed=seed)
        if index < 0:
            raise ValueError(f"index must be 0 or more, not {index}")
        epoch, place = divmod(index, len(self.contexts))
        return self.contexts[seeding.generator(seed, "partial", epoch).permutation(len(self.contexts))[place]]

    def episode(self, problem: Problem) -> PartialEpisode:
        return PartialEpisode(self, problem)

    def gold(self, problem: Problem) -> list[str]:
        return [problem.answer]

    def do_nothing(self, problem: Problem) -> list[str]:
        return [""]

    def cheat(self, problem: Problem) -> list[str]:
        return self.base.cheat(problem)

    def demonstration(self, problem: Problem, rng: np.random.Generator, error_rate: float = 0.0) -> list[str]:
        raise ValueError("partial trajectories have no demonstrations: warm up on the task they were logged from")


@dataclass
class PartialEpisode:
    """One attempt."""

    task: Partial
    problem: Problem

    def step(self, text: str) -> Reply:
        tests = self.task.base.hidden(self.problem)
        best = self.problem.best if isinstance(self.problem, Context) else 0.0
        rate = pass_rate(text, tests)
        paid = reward(rate, best) if rate or is_program(text) else -1.0
        return Reply(None, paid, done=True, outcome=float(rate == 1))
