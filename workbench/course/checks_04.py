"""Checks of chapter 04, bandits with hidden causes."""

from __future__ import annotations

import numpy as np

from workbench.course.checks import expect


def _world(rng: np.random.Generator) -> tuple:
    """Six hidden states, three machines, every intent present: chance [U], intent [U], pays [K,U]."""
    return rng.dirichlet(np.full(6, 3.0)), rng.permutation([0, 1, 2, 0, 1, 2]), rng.random((3, 6))


def _given_intent(chance: np.ndarray, intent: np.ndarray, pays: np.ndarray) -> np.ndarray:
    rows = [np.where(intent == z, chance, 0) for z in range(len(pays))]
    return np.stack([pays @ row / row.sum() for row in rows])


def _see(chance: np.ndarray, intent: np.ndarray, pays: np.ndarray) -> np.ndarray:
    return np.diagonal(_given_intent(chance, intent, pays)).copy()


def _joint(chance: np.ndarray, intent: np.ndarray, pays: np.ndarray) -> np.ndarray:
    return np.array([(chance * pays[x])[intent == x].sum() for x in range(len(pays))])


expect(
    "04.see",
    _see,
    inputs=_world,
    mistakes={
        "you intervened instead of conditioning: that is the mean over all states, also those whose players never choose this "
        "machine; keep the states with intent == x":
            lambda c, z, p: p @ c,
        "you did not divide: that is P(chose x and won); of those who chose x, divide by P(chose x)": _joint,
        "the states are not equally likely: weigh each by its chance":
            lambda c, z, p: np.array([p[x, z == x].mean() for x in range(len(p))]),
        "that is the average over everybody, one number for all machines; wanted is one for each":
            lambda c, z, p: np.full(len(p), c @ p[z, np.arange(len(c))]),
    },
    praise="correct: E[Y | X = x], among those who chose x",
)  # fmt: skip

expect(
    "04.do",
    lambda chance, intent, pays: pays @ chance,
    inputs=_world,
    mistakes={
        "you conditioned instead of intervening: keeping only the states whose players choose x is seeing. When a coin chooses, "
        "every state comes as often as it comes":
            _see,
        "you kept only the states whose players choose x; when a coin chooses, all states are left": _joint,
        "the states are not equally likely: weigh each by its chance": lambda c, z, p: p.mean(1),
        "you averaged what seeing shows, weighted by how often each machine is chosen: that is what natural players earn":
            lambda c, z, p: np.full(len(p), c @ p[z, np.arange(len(c))]),
    },
    praise="correct: E[Y | do(X = x)]; the intent does not appear",
)  # fmt: skip

expect(
    "04.do_given_intent",
    _given_intent,
    inputs=_world,
    mistakes={
        "your table is turned round: rows are intents, columns are machines": lambda c, z, p: _given_intent(c, z, p).T,
        "you treated the intent as noise: all your rows are the same. Keep in row z the states with intent == z":
            lambda c, z, p: np.tile(p @ c, (len(p), 1)),
        "you did not divide: row z is about those who intend z, so divide by P(intent is z)":
            lambda c, z, p: np.stack([p @ np.where(z == k, c, 0) for k in range(len(p))]),
        "the states are not equally likely: weigh each by its chance":
            lambda c, z, p: np.stack([p[:, z == k].mean(1) for k in range(len(p))]),
        "every column is the same: the machine that is played should differ from column to column, whatever was intended":
            lambda c, z, p: np.tile(_see(c, z, p)[:, None], (1, len(p))),
    },
    praise="correct: E[Y_x | X = z], a row for each intent",
)  # fmt: skip


def _unseen(see: np.ndarray, do: np.ndarray, share: np.ndarray) -> np.ndarray:
    return (do - share * see) / share[::-1]


def _mixture(rng: np.random.Generator) -> tuple:
    table, first = rng.random((2, 2)), rng.uniform(0.2, 0.8)
    share = np.array([first, 1 - first])
    return np.diagonal(table).copy(), share @ table, share


expect(
    "04.unseen",
    _unseen,
    inputs=_mixture,
    mistakes={
        "you divided by the share of those who chose the machine; the others are asked about, so divide by their share":
            lambda see, do, share: (do - share * see) / share,
        "you weighed what is seen by the others' share; those who chose the machine are a share of P(X = x)":
            lambda see, do, share: (do - share[::-1] * see) / share[::-1],
        "you did not divide by the share of the others": lambda see, do, share: do - share * see,
        "you took what is seen without its weight: only a share of the players chose that machine":
            lambda see, do, share: (do - see) / share[::-1],
        "your two entries have changed places: entry x is machine x, played by those who intended the other one":
            lambda see, do, share: _unseen(see, do, share)[::-1],
    },
    praise="correct: a third layer without a look at anybody's mind",
)  # fmt: skip


def _tally(intent: np.ndarray, arm: np.ndarray, reward: np.ndarray) -> np.ndarray:
    table = np.ones((2, 2, 2))
    np.add.at(table, (1 - reward, intent, arm), 1)
    return table


def _history(rng: np.random.Generator) -> tuple:
    return rng.integers(0, 2, 20), rng.integers(0, 2, 20), (rng.random(20) < 0.3).astype(int)


def _pooled(intent: np.ndarray, arm: np.ndarray, reward: np.ndarray) -> np.ndarray:
    pooled = _tally(intent, arm, reward) - 1
    return 1 + np.tile(pooled.sum(1, keepdims=True), (1, 2, 1))


expect(
    "04.memory",
    _tally,
    inputs=_history,
    mistakes={
        "you treated the intent as noise: both rows hold the same counts. A round belongs to the row of its intent alone":
            _pooled,
        "intent and machine have changed places: index the table as [won or lost, intent, machine]":
            lambda z, a, y: _tally(a, z, y),
        "you left out the prior: start every count at 1": lambda z, a, y: _tally(z, a, y) - 1,
        "wins come first: entry 0 counts wins, entry 1 losses": lambda z, a, y: _tally(z, a, y)[::-1],
        "you counted pulls as losses: a round is a win or a loss, not both":
            lambda z, a, y: np.stack([_tally(z, a, y)[0], _tally(z, a, y).sum(0) - 1]),
    },
    praise="correct: one bandit for each intent",
)  # fmt: skip
