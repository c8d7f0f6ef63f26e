"""Checks of chapter 07, causal imitation over many steps, and inverse reinforcement learning."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import networkx as nx
import numpy as np

from workbench.course.checks import expect

_Pairs = Sequence[tuple[str, str]]

# text, and the actions in turn with what happens before each (from Kumor, Zhang and Bareinboim 2021)
_GRAPHS = (
    ("X1->X2 X2->Y Y<->Z X1<->Z Z<->X2", "Z X1 X2 Y"),
    ("X1->X2 X2->Y Z->Y Z<->X1", "Z X1 X2 Y"),
    ("X1->X2 X2->Y Z->Y Z<->X1", "X1 Z X2 Y"),
    ("X1<->Z Z->X2 X2->Y X1->Y Z<->Y", "X1 Z X2 Y"),
    ("X1->X2 X2->Y X1->Y X1<->X2", "X1 X2 Y"),
    ("Z<->X1 X1->W W->X2 X2->Y Z->Y", "X1 W Z X2 Y"),
    ("X1<->Z Z->W W->X2 X2->Y X1->Y W<->Y", "Z X1 W X2 Y"),
)


def _drawing(rng: np.random.Generator) -> tuple[list[tuple[str, str]], list[tuple[str, str]], dict[str, set[str]], str]:
    """A graph of the table, and random scopes."""
    text, order = _GRAPHS[rng.integers(len(_GRAPHS))]
    names = order.split()
    arrows: list[tuple[str, str]] = []
    pairs: list[tuple[str, str]] = []
    for edge in text.split():
        a, b = edge.split("<->" if "<->" in edge else "->")
        (pairs if "<->" in edge else arrows).append((a, b))
    scopes = {x: {n for n in names[: names.index(x)] if rng.random() < 0.5} for x in names if x.startswith("X")}
    return arrows, pairs, scopes, "Y"


def _separated(arrows: _Pairs, pairs: _Pairs, x: str, y: str, given: Collection[str]) -> bool:
    graph = nx.DiGraph(arrows)
    graph.add_nodes_from([x, y, *given])
    for i, (a, b) in enumerate(pairs):
        graph.add_edges_from([(f"hidden {i}", a), (f"hidden {i}", b)])
    return bool(nx.is_d_separator(graph, x, y, set(given)))


def _causes(arrows: _Pairs, x: str, y: str) -> bool:
    graph = nx.DiGraph(arrows)
    graph.add_nodes_from([x, y])
    return bool(nx.has_path(graph, x, y))


def _in_turn(
    arrows: _Pairs,
    pairs: _Pairs,
    scopes: Mapping[str, Collection[str]],
    outcome: str,
    *,
    replace: bool = True,
    forwards: bool = False,
    idle: bool = True,
    unhide: bool = True,
    adds: bool = True,
) -> bool:
    for action in scopes if forwards else reversed(list(scopes)):
        tells = [(a, b) for a, b in arrows if a != action]
        matters = _causes(arrows, action, outcome) or not idle
        if matters and not _separated(tells, pairs, action, outcome, scopes[action]):
            return False
        if replace:
            arrows = [(a, b) for a, b in arrows if b != action]
            if adds:
                arrows += [(z, action) for z in scopes[action]]
            if unhide:
                pairs = [pair for pair in pairs if action not in pair]
    return True


def _in_turn_exactly(arrows: _Pairs, pairs: _Pairs, scopes: Mapping[str, Collection[str]], outcome: str) -> bool:
    return _in_turn(arrows, pairs, scopes, outcome)


def _same_set(arrows: _Pairs, pairs: _Pairs, scopes: Mapping[str, Collection[str]], outcome: str) -> bool:
    first = next(iter(scopes.values()))
    return _in_turn(arrows, pairs, dict.fromkeys(scopes, first), outcome)


expect(
    "07.imitates_in_turn",
    _in_turn_exactly,
    inputs=_drawing,
    mistakes={
        "you test each step in the drawing in which the *expert* takes the later ones; but by then your policy takes them, so "
        "put it in (its arrows in, the expert's out) before you go on to the step before":
            lambda a, p, s, y: _in_turn(a, p, s, y, replace=False),
        "one admissible set reused at every step: each step must be tested with its own set":
            _same_set,
        "you go from the first step to the last; a step can only be judged once it is settled what the later ones look at":
            lambda a, p, s, y: _in_turn(a, p, s, y, forwards=True),
        "you cut the expert's arrows out of a settled step and forgot the new ones, from what your policy looks at":
            lambda a, p, s, y: _in_turn(a, p, s, y, adds=False),
        "a settled step is taken by your policy, and nothing hidden causes your policy: take its two-headed arrows away too":
            lambda a, p, s, y: _in_turn(a, p, s, y, unhide=False),
        "a step that is no cause of the outcome any more may look at anything; you refuse it":
            lambda a, p, s, y: _in_turn(a, p, s, y, idle=False),
    },
    cases=150,
    praise="correct: from the last step to the first, with your policy in place of the expert where a step is settled",
)  # fmt: skip


def _record(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    joint = rng.dirichlet(np.ones(24)).reshape(2, 2, 3, 2)
    return joint, rng.dirichlet(np.ones(2), size=2), rng.dirichlet(np.ones(2), size=(2, 2, 3))


def _occupancy(joint: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    start = joint.sum((1, 2, 3))
    follows = joint.sum(-1) / joint.sum((2, 3))[..., None]
    return np.einsum("a,ab,abc,abcd->abcd", start, first, follows, second)


def _deaf(joint: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    alone = joint.sum((1, 3))
    return np.einsum("a,ab,ac,abcd->abcd", alone.sum(-1), first, alone / alone.sum(-1, keepdims=True), second)


expect(
    "07.plan_occupancy",
    _occupancy,
    inputs=_record,
    mistakes={
        "what is seen next depends on what *you* did: P(z1 | z0, x0), not P(z1 | z0), in which the expert chose x0": _deaf,
        "the first decision is still the expert's: P(z0, x0, z1) has the expert's x0 in it; start from P(z0), then your own":
            lambda joint, first, second: joint.sum(-1)[..., None] * second,
        "you weighed the expert's record by your policy; the expert's own choices must go out of it":
            lambda joint, first, second: joint * first[:, :, None, None] * second,
        "P(z1 | z0, x0) is P(z0, x0, z1) divided by P(z0, x0): you forgot to divide":
            lambda joint, first, second: np.einsum("a,ab,abc,abcd->abcd", joint.sum((1, 2, 3)), first, joint.sum(-1), second),
    },
    praise="correct: nature's part from the record, the decisions from your policy",
)  # fmt: skip


def _weights(lead: np.ndarray, rounds: int, *, sign: float = 1, last: bool = False, memory: bool = True) -> np.ndarray:
    rate = np.sqrt(8 * np.log(len(lead)) / rounds)
    short, counts = np.zeros(len(lead)), np.zeros(lead.shape[1])
    for _ in range(rounds):
        weights = np.exp(sign * rate * (short - short.max() if sign > 0 else short))
        best = int((weights / weights.sum() @ lead).argmin())
        if last:
            counts[:] = 0
        counts[best] += 1
        short = (short if memory else 0) + lead[:, best]
    return counts / counts.sum()


def _weights_exactly(lead: np.ndarray, rounds: int) -> np.ndarray:
    return _weights(lead, rounds)


def _flatterer(lead: np.ndarray, rounds: int) -> np.ndarray:
    return _weights(-lead, rounds, sign=-1)


expect(
    "07.mixture_by_weights",
    _weights_exactly,
    inputs=lambda rng: (rng.uniform(-1, 1, (4, 6)), 60),
    mistakes={
        "the adversary learns the wrong way: it must move *towards* features on which the expert leads":
            lambda lead, rounds: _weights(lead, rounds, sign=-1),
        "that is the last plan alone; the promise is about the mixture of all of them": lambda lead, rounds: _weights(
            lead, rounds, last=True),
        "your adversary remembers only the round before: add up the leads of all rounds":
            lambda lead, rounds: _weights(lead, rounds, memory=False),
        "you pick the plan with the largest lead of the expert; the imitator wants the smallest": _flatterer,
    },
    praise="correct: the adversary leans on what you lack, you answer, and the average of the answers is the imitator",
)  # fmt: skip


expect(
    "07.discriminator_reward",
    lambda expert, mine: np.log1p(expert / mine),
    inputs=lambda rng: tuple(rng.dirichlet(np.ones(6), size=2).reshape(2, 3, 2)),
    mistakes={
        "that is ln D, another common choice, which is never positive; wanted is -ln(1 - D)":
            lambda expert, mine: np.log(expert / (expert + mine)),
        "your D is the chance that it was the *imitator*; D is the chance that it was the expert":
            lambda expert, mine: np.log1p(mine / expert),
        "that is D itself; the reward is -ln(1 - D)": lambda expert, mine: expert / (expert + mine),
        "the sign: 1 - D is below 1, its logarithm negative, and the reward is minus that":
            lambda expert, mine: -np.log1p(expert / mine),
    },
    praise="correct: large where the expert goes and you do not",
)  # fmt: skip


def _lead_without_z0(expert: np.ndarray, mine: np.ndarray, feature: np.ndarray) -> float:
    shown = (expert * feature).sum(0) / expert.sum(0)
    return float(((expert.sum(0) - mine.sum(0)) * shown).sum())


expect(
    "07.feature_lead",
    lambda expert, mine, feature: float(((expert - mine) * feature).sum()),
    inputs=lambda rng: (*rng.dirichlet(np.ones(16), size=2).reshape(2, 2, 2, 2, 2), rng.random((2, 2, 2, 2))),
    mistakes={
        "you averaged the feature over z0 as it was for the *expert*: a feature that the learner cannot see is met differently "
        "by the imitator, and this average hides it":
            _lead_without_z0,
        "the sign is turned round: the lead is the expert's": lambda a, b, f: float(((b - a) * f).sum()),
        "no absolute value: where the imitator is ahead, that counts for it": lambda a, b, f: float((np.abs(a - b) * f).sum()),
        "both average the same feature: you left the expert's average out": lambda a, b, f: float((b * f).sum()),
    },
    praise="correct: the same feature, averaged over what each of the two meets",
)  # fmt: skip
