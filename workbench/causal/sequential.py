"""Inverse reinforcement learning for a few decisions in turn, with causes that the learner does not see.

If the policies' scopes are chosen well, both halves of a value can be computed from demonstrations although the outcome is never
seen: E[Y | do(pi)] = sum over (x, z) of r(x, z) rho_pi(x, z), with r = E[Y | x, z] unknown but in a known class, and rho_pi
from what follows what (Ruan, Zhang, Di and Bareinboim 2023). Then imitation is a game against r, and whoever knows something of
the reward's shape may do better than the expert. The condition on the scopes here is the sequential back-door criterion for
plans (Pearl and Robins 1995), asked of everything that happens after each action.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from workbench.causal.games import zero_sum
from workbench.causal.graph import Diagram, Verdict, of_model, path_between, replaced, without_effects
from workbench.causal.imitation import DIAGRAM, POSITIVE, Certificate, of_game
from workbench.causal.scm import Chance
from workbench.causal.worlds import Problem

_PLANS = 4096  # deterministic plans at most

Scopes = Mapping[str, Sequence[str]]


class Imitator(NamedTuple):
    """A mixture of plans that look at no more than they may, and what is proved about it.

    Attributes:
        value: the expert's largest lead over the mixture, over the class of rewards. plans, mixture: one deterministic plan, a
            policy for each action, is drawn for each episode, with these chances [K]. names: what the tables are about, in time.
        expert, imitator: occupancies [*sizes of names]. certificate: what `value` proves, and what the proof needs.
    """

    value: float
    plans: list[dict[str, Chance]]
    mixture: np.ndarray
    names: tuple[str, ...]
    expert: np.ndarray
    imitator: np.ndarray
    certificate: Certificate


def plannable(graph: Diagram, scopes: Scopes, outcome: str) -> Verdict:
    """Whether what plans with these scopes lead to can be computed from demonstrations.

    For each action, with the later ones cut off from their causes: what was seen so far must separate the action from the
    outcome and from everything else that scopes will look at, once the action's own effects are cut.
    Raises ValueError for unknown names and for a scope with what comes after its action.
    """
    graph.know([outcome], "the outcome")
    graph.know(scopes, "the actions", seen=True)
    actions = [name for name in graph.order if name in scopes]
    looked_at = {name for scope in scopes.values() for name in scope}
    for action in actions:
        graph.know(scopes[action], f"what {action} looks at", seen=True)
        for name in scopes[action]:
            if name not in graph.before(action):
                raise ValueError(f"{name} does not happen before {action}, so no policy of {action} can look at it")
    for number, action in enumerate(actions):
        now = graph.explicit
        for later in actions[number + 1 :]:
            now = replaced(now, later, ())
        seen = {name for name in graph.before(action) if name in looked_at or name in actions}
        cut = without_effects(now, action)
        for target in (outcome, *sorted(looked_at - seen - {action})):
            if target not in actions and not nx.is_d_separator(cut, action, target, seen):
                path = path_between(cut, action, target, seen)
                given = " and ".join(sorted(seen)) or "nothing"
                return Verdict(None, f"given {given}, {path} is open: {action} tells of a hidden cause of {target}", path, action)
    sets = {action: frozenset(scopes[action]) for action in actions}
    return Verdict(sets, "everything that follows an action can be computed from what was seen before it")


def occupancy(problem: Problem, policies: Mapping[str, Chance]) -> tuple[tuple[str, ...], np.ndarray]:
    """How often plans meet each (x, z), from demonstrations alone: P(z | what came before) times the policies.

    Right for every model of the diagram if the policies' scopes are `plannable`.
    """
    names = _names(problem, {action: chance.parents for action, chance in policies.items()})
    sizes = [problem.model.size(name) for name in names]
    out = np.ones(())
    for number, name in enumerate(names):
        if name in policies:
            chance = policies[name]
            order = np.argsort([names.index(parent) for parent in chance.parents])
            table = np.transpose(np.asarray(chance.table, float), [*order, len(order)])
            shape = [sizes[i] if n in chance.parents else 1 for i, n in enumerate(names[:number])]
            table = table.reshape([*shape, sizes[number]])
        else:
            joint = problem.model.joint(*names[: number + 1])
            total = joint.sum(-1, keepdims=True)
            table = np.divide(joint, total, out=np.full_like(joint, 1 / sizes[number]), where=total > 0)
        out = out[..., None] * table
    return names, out


def scoped_game(problem: Problem, scopes: Scopes, rewards: Any, *, graph: Diagram | None = None) -> Imitator:
    """The best imitation against every reward of a class, exactly: a linear program over deterministic plans.

    Args:
        scopes: what each action may look at. rewards: functions of the values of `names` (as keyword arguments, arrays) that
            return a reward from 0 to 1: the corners of the class. graph: the diagram; the model's own if None.
    Raises:
        ValueError: scopes that are not `plannable` (with the open path), no rewards, rewards outside 0 to 1, or too many plans.
    """
    field = _Field.of(problem, scopes, graph)
    value, mixture = zero_sum(field.leads(rewards))
    return field.imitator(mixture, value, "the reward is a mixture of those of the class")


def causal_mwal(
    problem: Problem, scopes: Scopes, rewards: Any, *, rounds: int = 2000, graph: Diagram | None = None
) -> Imitator:
    """The same game by multiplicative weights (MWAL of Syed and Schapire 2007, with scopes that the diagram admits).

    The value is within sqrt(ln F / (2 rounds)) of the exact one, F the number of rewards. Arguments and errors as `scoped_game`;
    ValueError also for fewer than one round.
    """
    _check_rounds(rounds)
    field = _Field.of(problem, scopes, graph)
    leads = field.leads(rewards)
    rate = np.sqrt(8 * np.log(len(leads)) / rounds)
    total, counts = np.zeros(len(leads)), np.zeros(len(field.plans))
    for _ in range(rounds):
        weights = np.exp(rate * (total - total.max()))
        answer = int((weights @ leads).argmin())
        counts[answer] += 1
        total += leads[:, answer]
    mixture = counts / rounds
    return field.imitator(mixture, float((leads @ mixture).max()), "the reward is a mixture of those of the class")


def causal_gail(problem: Problem, scopes: Scopes, *, rounds: int = 1000, graph: Diagram | None = None) -> Imitator:
    """Generative adversarial imitation (Ho and Ermon 2016) with scopes that the diagram admits.

    The discriminator sees what the plans look at and do; each answer is the best plan against its reward -ln(1 - D), so that
    the Jensen-Shannon divergence of the two occupancies falls to the least there is (Frank and Wolfe). `value` is the
    expert's lead for the worst reward from 0 to 1. Arguments and errors as `causal_mwal`.
    """
    _check_rounds(rounds)
    field = _Field.of(problem, scopes, graph)
    visits = field.visits.reshape(len(field.plans), -1)
    expert, mixture = field.expert.ravel(), np.full(len(field.plans), 1 / len(field.plans))
    for step in range(rounds):
        reward = np.log1p(expert / np.maximum(mixture @ visits, 1e-12))
        mixture *= 1 - 2 / (step + 3)
        mixture[(visits @ reward).argmax()] += 2 / (step + 3)
    lead = float(np.maximum(expert - mixture @ visits, 0).sum())
    return field.imitator(mixture, lead, "the reward lies between 0 and 1")


class _Field(NamedTuple):
    """What all three games are played on: every deterministic plan, and what it meets [K, *sizes of names]."""

    names: tuple[str, ...]
    plans: list[dict[str, Chance]]
    visits: np.ndarray
    expert: np.ndarray

    @staticmethod
    def of(problem: Problem, scopes: Scopes, graph: Diagram | None) -> _Field:
        verdict = plannable(graph or of_model(problem.model, problem.order), scopes, problem.outcome)
        if not verdict.imitable:
            raise ValueError(f"{problem.name}: these scopes do not do; {verdict.reason}")
        plans, names = _plans(problem, scopes), _names(problem, scopes)
        visits = np.array([occupancy(problem, plan)[1] for plan in plans])
        return _Field(names, plans, visits, problem.model.joint(*names))

    def leads(self, rewards: Any) -> np.ndarray:
        """The expert's lead [F,K] over each plan, for each reward."""
        at = dict(zip(self.names, np.indices(self.expert.shape)))
        corners = [np.broadcast_to(np.asarray(reward(**at), float), self.expert.shape) for reward in rewards]
        if not corners:
            raise ValueError("the class of rewards is empty; give at least one function")
        if min(c.min() for c in corners) < 0 or max(c.max() for c in corners) > 1:
            raise ValueError("rewards must be on a scale from 0 to 1")
        return np.array([[((self.expert - mine) * corner).sum() for mine in self.visits] for corner in corners])

    def imitator(self, mixture: np.ndarray, value: float, rewards: str) -> Imitator:
        met = np.tensordot(mixture, self.visits, 1)
        return Imitator(value, self.plans, mixture, self.names, self.expert, met, of_game(value, rewards, DIAGRAM, POSITIVE))


def _check_rounds(rounds: int) -> None:
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds!r}")


def _names(problem: Problem, scopes: Scopes) -> tuple[str, ...]:
    wanted = {*scopes, *(name for scope in scopes.values() for name in scope)}
    return tuple(name for name in problem.order or problem.model.order if name in wanted)


def _plans(problem: Problem, scopes: Scopes) -> list[dict[str, Chance]]:
    """All deterministic plans."""
    choices = []
    for action, scope in scopes.items():
        size = problem.model.size(action)
        shape = tuple(problem.model.size(name) for name in scope)
        picks = itertools.product(range(size), repeat=int(np.prod(shape, dtype=int)))
        choices.append([Chance(tuple(scope), np.eye(size)[np.reshape(pick, shape).astype(int)]) for pick in picks])
    total = int(np.prod([float(len(c)) for c in choices]))
    if total > _PLANS:
        raise ValueError(f"{total} deterministic plans are too many to list ({_PLANS} at most); let the actions look at less")
    return [dict(zip(scopes, plan)) for plan in itertools.product(*choices)]
