"""Checks of chapter 08, partial identification: imitating with bounds."""

from __future__ import annotations

import numpy as np

from workbench.course.checks import expect


def _record(rng: np.random.Generator) -> np.ndarray:
    """A random P(s', x | s) [3,2,3]: for each s it sums to 1 over x and s'."""
    return rng.dirichlet(np.ones(6), size=3).reshape(3, 2, 3)


def _natural_bounds(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    elsewhere = 1 - joint.sum(-1, keepdims=True)
    return joint, joint + elsewhere


def _shown(joint: np.ndarray) -> np.ndarray:
    return joint / joint.sum(-1, keepdims=True)


expect(
    "08.natural_bounds",
    _natural_bounds,
    inputs=lambda rng: (_record(rng),),
    mistakes={
        "bounds on the wrong conditional: the lower end is P(s', x | s), what was seen of x among *all* visits; you divided by "
        "e(x|s) and got P(s' | s, x), which is no bound at all":
            lambda joint: (_shown(joint), np.minimum(_shown(joint) + 1 - joint.sum(-1, keepdims=True), 1)),
        "the lower end is right; at the upper end all of the unseen share 1 - e(x|s) may go to this one s', so add all of it":
            lambda joint: (joint, joint + (1 - joint.sum(-1, keepdims=True)) / joint.shape[-1]),
        "the lower end is right; the unseen share is 1 - e(x|s), what is missing for this action, not e(x|s)":
            lambda joint: (joint, joint + joint.sum(-1, keepdims=True)),
        "an upper end of 1 is true but gives away what was seen: when the expert did take x, it often led elsewhere":
            lambda joint: (joint, np.ones_like(joint)),
        "a lower end of 0 is true but gives away what was seen: with chance P(s', x | s) it did happen":
            lambda joint: (np.zeros_like(joint), joint + 1 - joint.sum(-1, keepdims=True)),
    },
    praise="correct: what was seen, and what was seen plus everything that was not",
)  # fmt: skip


def _robust_values(joint: np.ndarray, reward: np.ndarray, discount: float, leftover: str = "worst") -> np.ndarray:
    elsewhere = 1 - joint.sum(-1)
    value = np.zeros(len(joint))
    for _ in range(2000):
        goes = {"worst": value.min(), "best": value.max(), "mean": value.mean(), "lost": 0.0}[leftover]
        value = ((1 - discount) * reward + discount * (joint @ value + elsewhere * goes)).max(-1)
    return value


def _trusting(joint: np.ndarray, reward: np.ndarray, discount: float) -> np.ndarray:
    value = np.zeros(len(joint))
    for _ in range(2000):
        value = ((1 - discount) * reward + discount * (_shown(joint) @ value)).max(-1)
    return value


def _unscaled(joint: np.ndarray, reward: np.ndarray, discount: float) -> np.ndarray:
    return _robust_values(joint, reward, discount) / (1 - discount)


def _worst_action(joint: np.ndarray, reward: np.ndarray, discount: float) -> np.ndarray:
    elsewhere, value = 1 - joint.sum(-1), np.zeros(len(joint))
    for _ in range(2000):
        q = (1 - discount) * reward + discount * (joint @ value + elsewhere * value.min())
        value = q.min(-1)
    return value


expect(
    "08.robust_values",
    _robust_values,
    inputs=lambda rng: (_record(rng), 0.2 + rng.random((3, 2)), 0.9),
    mistakes={
        "you forgot the leftover mass: the rows of P(s', x | s) sum to e(x|s) only, and the missing 1 - e(x|s) must go to the "
        "worst state, value.min()":
            lambda j, r, g: _robust_values(j, r, g, "lost"),
        "your leftover mass goes to the *best* state: that is hope, not a promise":
            lambda j, r, g: _robust_values(j, r, g, "best"),
        "you spread the leftover mass evenly; the worst case puts all of it on the worst state":
            lambda j, r, g: _robust_values(j, r, g, "mean"),
        "you divided by e(x|s): that is plain value iteration on P(s'|s,x), which trusts the record": _trusting,
        "these are sums of rewards, 1/(1-g) too large: weigh the reward of a step by (1 - discount)": _unscaled,
        "the adversary picks the world, but *you* pick the action: a maximum over x": _worst_action,
    },
    cases=3,
    praise="correct: you choose the action, the leftover goes to the worst state",
)  # fmt: skip


def _between(joint: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    e, shown = joint.sum(-1, keepdims=True), _shown(joint)
    return shown * (e + (1 - e) / gamma), np.minimum(shown * (e + (1 - e) * gamma), 1)


expect(
    "08.sensitivity_bounds",
    _between,
    inputs=lambda rng: (_record(rng), float(rng.choice([1.0, 1.5, 3.0, 40.0]))),
    mistakes={
        "the factor gamma is for the visits in which the expert did something else only; in the share e(x|s) you have seen what "
        "x does":
            lambda joint, gamma: (_shown(joint) / gamma, np.minimum(_shown(joint) * gamma, 1)),
        "the two shares are swapped: e(x|s) of the visits are seen and have no factor, 1 - e(x|s) have one":
            lambda joint, gamma: (_shown(joint) * (joint.sum(-1, keepdims=True) / gamma + 1 - joint.sum(-1, keepdims=True)),
                                  np.minimum(_shown(joint) * (joint.sum(-1, keepdims=True) * gamma
                                                              + 1 - joint.sum(-1, keepdims=True)), 1)),
        "start from P(s'|s,x), the record divided by e(x|s): the two shares e and 1 - e are in the bracket already":
            lambda joint, gamma: (joint * (joint.sum(-1, keepdims=True) + (1 - joint.sum(-1, keepdims=True)) / gamma),
                                  joint * (joint.sum(-1, keepdims=True) + (1 - joint.sum(-1, keepdims=True)) * gamma)),
        "the lower end is right; a probability is never above 1, so cut the upper end there":
            lambda joint, gamma: (_between(joint, gamma)[0],
                                  _shown(joint) * (joint.sum(-1, keepdims=True) + (1 - joint.sum(-1, keepdims=True)) * gamma)),
        "that is the natural bounds: what happened elsewhere is now within a factor gamma of what was seen":
            lambda joint, gamma: _natural_bounds(joint),
    },
    cases=8,
    praise="correct: gamma = 1 gives P(s'|s,x), and nothing is gained on the share that was seen",
)  # fmt: skip


def _honest_lead(expert: np.ndarray, imitator: np.ndarray, e: np.ndarray) -> float:
    return float(np.maximum(expert - e * imitator, 0).sum())


def _occupancies(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    expert, imitator = rng.dirichlet(np.ones(6), size=2).reshape(2, 3, 2)
    return expert, imitator, rng.dirichlet(np.ones(2), size=3)


expect(
    "08.honest_lead",
    _honest_lead,
    inputs=_occupancies,
    mistakes={
        "that is what plain GAIL computes: it takes for granted that you earn what the expert was seen to earn; you are sure of "
        "that in a share e(x|s) only":
            lambda a, b, e: float(np.maximum(a - b, 0).sum()),
        "e(x|s) belongs to the imitator's side alone: what the expert earns was seen in full":
            lambda a, b, e: float(np.maximum(e * (a - b), 0).sum()),
        "the adversary is free to choose r = 0 where you are ahead: only the places where the expert leads count":
            lambda a, b, e: float((a - e * b).sum()),
        "where you are ahead the adversary sets r = 0 and gains nothing: no absolute value":
            lambda a, b, e: float(np.abs(a - e * b).sum()),
        "that is the largest lead at a single pair (s, x); a reward may be 1 at many of them":
            lambda a, b, e: float(np.maximum(a - e * b, 0).max()),
        "the sign is turned round: the lead is the expert's": lambda a, b, e: float(np.maximum(e * b - a, 0).sum()),
    },
    praise="correct: 1 wherever the expert leads, 0 elsewhere, and only the seen share counts for you",
)  # fmt: skip
