"""Imitation with a certificate: a policy, and what is proved about it, under which assumptions.

First part: cloning in structural models with finite variables. Everything is exact: it starts from the distribution of what
is seen, not from samples. A learner here never sees the outcome; it knows the diagram and who acts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from workbench.causal.graph import Diagram, Instrument, Verdict, admissible, sequential_pi_backdoor
from workbench.causal.scm import Chance, distribution

_EXACT = 1e-9


@dataclass(frozen=True)
class Certificate:
    """What is proved about a policy.

    Attributes:
        proved: whether, under the assumptions, the policy does at least as well as the expert. Never True on a guess: where
            nothing is known it is False, and `reason` says what is missing.
        assumptions: what the proof needs, one sentence each.
        reason: in words, why it is proved, or what stands in the way (an open path, a positive game value).
        value: the largest lead the expert may have over the policy, where that was worked out (a game value, reward units per
            normalised step); None where the proof does not go by a number.
    """

    proved: bool
    assumptions: tuple[str, ...]
    reason: str
    value: float | None = None

    def __post_init__(self) -> None:
        if self.proved and self.value is not None and self.value > _EXACT:
            raise ValueError(f"nothing is proved while the expert may lead by {self.value:.6g}")

    def __str__(self) -> str:
        lead = "" if self.value is None else f" (the expert leads by at most {self.value:.6g})"
        return f"{'certificate' if self.proved else 'no certificate'}{lead}: {self.reason}"


def of_game(lead: float, *assumptions: str) -> Certificate:
    """The certificate of an imitation game: proved where the expert's largest lead over the imitator is 0 (to 1e-9)."""
    proved = lead <= _EXACT
    reason = "no reward of the class puts the expert ahead" if proved else "some reward of the class may put the expert ahead"
    return Certificate(proved, assumptions, reason, float(lead))


@dataclass(frozen=True)
class Imitation:
    """A policy for each action (None where it was refused), with its certificate."""

    policies: dict[str, Chance] | None
    certificate: Certificate

    def __str__(self) -> str:
        return str(self.certificate)


class NotImitable(ValueError):
    """No policy imitates in every model of the diagram. `verdict` has the witness."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"refused: {verdict.reason}")
        self.verdict = verdict


DIAGRAM = "the diagram has every arrow and every hidden cause that there is"
POSITIVE = "the distribution of what is seen is known exactly"


def copied(seen: np.ndarray, names: Sequence[str], action: str, looks_at: Collection[str]) -> Chance:
    """P(action | looks_at) from the distribution `seen` with an axis for each of `names`.

    Where the values never happen the policy is uniform: nothing there is ever looked up while the copy holds.
    Raises ValueError for a name without an axis, and a table that is no distribution.
    """
    names, looks_at = tuple(names), tuple(looks_at)
    seen = distribution(np.asarray(seen, dtype=float).ravel(), "what is seen").reshape(np.shape(seen))
    if seen.ndim != len(names):
        raise ValueError(f"a table of {seen.ndim} axes does not fit the names {', '.join(names)}")
    for name in (*looks_at, action):
        if name not in names:
            raise ValueError(f"unknown name {name!r}; what is seen is {', '.join(names)}")
    if action in looks_at:
        raise ValueError(f"{action} cannot look at itself")
    kept = [name for name in names if name == action or name in looks_at]
    table = seen.sum(tuple(i for i, name in enumerate(names) if name not in kept))
    table = table.transpose([kept.index(name) for name in (*looks_at, action)])
    total = table.sum(-1, keepdims=True)
    return Chance(looks_at, np.divide(table, total, out=np.full_like(table, 1 / table.shape[-1]), where=total > 0))


def behaviour_cloning(
    graph: Diagram,
    seen: np.ndarray,
    names: Sequence[str],
    outcome: str,
    scopes: Mapping[str, Collection[str]],
) -> Imitation:
    """Copy each action from its scope, whatever the diagram says; the certificate says whether that was allowed.

    Args:
        seen, names: the distribution of what is seen, one axis for each name.
        scopes: what the policy of each action looks at, e.g. everything seen before: `graph.before(action)`.

    Raises ValueError as `admissible` and `copied`.
    """
    verdict = admissible(graph, scopes, outcome)
    ordered = {a: tuple(n for n in graph.order if n in set(scopes[a])) for a in graph.order if a in scopes}
    policies = {action: copied(seen, names, action, looks_at) for action, looks_at in ordered.items()}
    if verdict.imitable:
        return Imitation(policies, Certificate(True, (DIAGRAM, POSITIVE), verdict.reason, 0.0))
    why = f"copying from these is wrong in some model: {verdict.reason}"
    return Imitation(policies, Certificate(False, (DIAGRAM, POSITIVE), why))


def causal_cloning(
    graph: Diagram, seen: np.ndarray, names: Sequence[str], outcome: str, actions: Collection[str]
) -> Imitation:
    """Causal behaviour cloning, of one action or several in turn: copy from smallest admissible sets.

    The outcome's distribution is then the expert's in every model of the diagram (Zhang, Kumor and Bareinboim 2020, theorem
    2; Kumor, Zhang and Bareinboim 2021, theorem 3.1).

    Raises:
        NotImitable: where there are no such sets, with the open path. Nothing is answered then.
        ValueError: as `sequential_pi_backdoor` and `copied`.
    """
    verdict = sequential_pi_backdoor(graph, actions, outcome)
    if verdict.sets is None:
        raise NotImitable(verdict)
    return behaviour_cloning(graph, seen, names, outcome, verdict.sets)


def through_surrogate(seen: np.ndarray, names: Sequence[str], instrument: Instrument) -> Imitation:
    """A policy that reproduces the distribution of a surrogate, and with it the outcome's, by linear programming.

    In the policy's probabilities what it does to the surrogate is linear: sum over x and z of pi(x|z) P(s, z | do x). Solves
    for the least total deviation; 0 is a certificate. (Zhang, Kumor and Bareinboim 2020, theorem 3: "p-imitable".)

    Raises ValueError as `copied`, and where positivity fails.
    """
    action, looks_at, names = instrument.action, instrument.looks_at, tuple(names)
    copied(seen, names, action, looks_at)  # checks the table and the names
    seen = np.asarray(seen, dtype=float)
    sizes = dict(zip(names, seen.shape))
    contexts, actions = math.prod(sizes[name] for name in looks_at), sizes[action]
    told = tuple(name for name in names if name in instrument.surrogate)  # the axes of the constraints
    axis = {name: i for i, name in enumerate(names)}
    effect = np.ones(actions)
    known: tuple[str, ...] = (action,)
    if instrument.estimand is not None:
        effect = instrument.estimand.evaluate(seen, names)
        known = (*instrument.estimand.actions, *instrument.estimand.outcomes)
    # one row for each value of the surrogate, one column for each (z, x); a name that is in both has an axis in each, and
    # an identity matrix says that the two are the same
    twice = {name: len(names) + axis[name] for name in told if name in (*looks_at, action)}
    operands: list = [effect, [axis[name] for name in known]]
    for name, other in twice.items():
        operands += [np.eye(sizes[name]), [axis[name], other]]
    rows = [twice.get(name, axis[name]) for name in told]
    columns = [*(axis[name] for name in looks_at), axis[action]]
    matrix = np.einsum(*operands, [*rows, *columns]).reshape(-1, contexts * actions)
    wanted = seen.sum(tuple(i for i, name in enumerate(names) if name not in told)).ravel()
    k, m = contexts * actions, len(wanted)
    found = linprog(
        np.concatenate([np.zeros(k), np.ones(2 * m)]),
        A_eq=np.vstack(
            [
                np.hstack([matrix, np.eye(m), -np.eye(m)]),
                np.hstack([np.repeat(np.eye(contexts), actions, axis=1), np.zeros((contexts, 2 * m))]),
            ]
        ),
        b_eq=np.concatenate([wanted, np.ones(contexts)]),
        method="highs",
    )
    if found.status != 0:
        raise ValueError(f"the linear program failed: {found.message}")
    table = np.maximum(found.x[:k].reshape(*(sizes[name] for name in looks_at), actions), 0)
    policies = {action: Chance(looks_at, table / table.sum(-1, keepdims=True))}
    what, missed = ", ".join(told), float(found.fun)
    if missed > _EXACT:
        why = f"no policy that looks at {', '.join(looks_at) or 'nothing'} reproduces {what}; the nearest misses by {missed:.6g}"
        return Imitation(policies, Certificate(False, (DIAGRAM, POSITIVE), why))
    why = f"{what} comes out as for the expert, and given {what} the outcome does not depend on who acts"
    return Imitation(policies, Certificate(True, (DIAGRAM, POSITIVE), why, 0.0))
