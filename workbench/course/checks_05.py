"""Checks of chapter 05, a transformer that learns to explore."""

from __future__ import annotations

import numpy as np

from workbench.course.checks import expect


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


# ---- 1: the generator ----


def _write_logs(means: np.ndarray, habits: np.ndarray, luck: np.ndarray, noise: np.ndarray) -> tuple:
    arms = (luck[:, :, None] >= habits.cumsum(1)[:, None, :-1]).sum(2)
    return arms, np.take_along_axis(means, arms, 1) + noise, means.argmax(1)


def _best_average(means: np.ndarray, habits: np.ndarray, luck: np.ndarray, noise: np.ndarray) -> np.ndarray:
    arms, rewards, _ = _write_logs(means, habits, luck, noise)
    hot = np.eye(means.shape[1])[arms]
    return ((hot * rewards[..., None]).sum(1) / np.maximum(hot.sum(1), 1)).argmax(1)


def _most_pulled(arms: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count)[arms].sum(1).argmax(1)


def _sorted_first(means: np.ndarray, habits: np.ndarray, luck: np.ndarray, noise: np.ndarray) -> tuple:
    return _write_logs(np.sort(means, 1)[:, ::-1], habits, luck, noise)


def _log_inputs(rng: np.random.Generator) -> tuple:
    return rng.random((40, 4)), rng.dirichlet(np.ones(4), 40), rng.random((40, 6)), 0.3 * rng.normal(size=(40, 6))


expect(
    "05.write_logs",
    _write_logs,
    inputs=_log_inputs,
    mistakes={
        "your label is the arm with the best average in the log; the truth is in `means`, and only you can see it":
            lambda m, h, u, e: (*_write_logs(m, h, u, e)[:2], _best_average(m, h, u, e)),
        "your label is the arm pulled most often: then the network learns to copy the player, not to judge":
            lambda m, h, u, e: (*_write_logs(m, h, u, e)[:2], _most_pulled(_write_logs(m, h, u, e)[0], m.shape[1])),
        "your label is the arm with the highest habit: that is what the player likes, not what is best":
            lambda m, h, u, e: (*_write_logs(m, h, u, e)[:2], h.argmax(1)),
        "your arms are sorted, so the best one is always number 0: the label's place gives it away before the first pull":
            _sorted_first,
        "every pull pays the best arm's mean; it must pay the mean of the arm that was pulled":
            lambda m, h, u, e: (_write_logs(m, h, u, e)[0], m.max(1, keepdims=True) + e, m.argmax(1)),
        "the noise is missing: add it to the mean of the arm that was pulled":
            lambda m, h, u, e: (_write_logs(m, h, u, e)[0], _write_logs(m, h, u, 0 * e)[1], m.argmax(1)),
        "the player always pulls the favourite arm; draw from the habits, with `luck` as the dice":
            lambda m, h, u, e: (np.tile(h.argmax(1)[:, None], (1, u.shape[1])),
                                np.take_along_axis(m, np.tile(h.argmax(1)[:, None], (1, u.shape[1])), 1) + e, m.argmax(1)),
    },
    praise="correct: only the rewards tell the arms apart",
)  # fmt: skip


# ---- 2: the exact posterior ----


def _chance_best(mass: np.ndarray) -> np.ndarray:
    below = mass.cumsum(1) - mass / 2
    chance = np.array([(mass[k] * np.delete(below, k, 0).prod(0)).sum() for k in range(len(mass))])
    return chance / chance.sum()


def _with_itself(mass: np.ndarray) -> np.ndarray:
    chance = (mass * (mass.cumsum(1) - mass / 2).prod(0)).sum(1)
    return chance / chance.sum()


def _worst(mass: np.ndarray) -> np.ndarray:
    return _chance_best(mass[:, ::-1])


def _point_masses(mass: np.ndarray) -> np.ndarray:
    chance = np.array([(mass[k] * np.delete(mass, k, 0).prod(0)).sum() for k in range(len(mass))])
    return chance / chance.sum()


def _centres(mass: np.ndarray) -> np.ndarray:
    return mass @ ((np.arange(mass.shape[1]) + 0.5) / mass.shape[1])


def _posterior_mass(rng: np.random.Generator) -> tuple:
    grid, pulls = (np.arange(400) + 0.5) / 400, rng.integers(1, 8, 3)
    average = 0.5 + 0.25 * rng.normal(size=3)
    mass = np.exp(-pulls[:, None] * (grid - average[:, None]) ** 2 / (2 * 0.3**2))
    return (mass / mass.sum(1, keepdims=True),)


expect(
    "05.chance_best",
    _chance_best,
    inputs=_posterior_mass,
    tolerance=0.01,
    mistakes={
        "arm k is compared with itself too: multiply over the *other* arms only": _with_itself,
        "you multiplied the chances that the others *are* there; needed is that they lie *below*: a running sum": _point_masses,
        "that is the chance of being the worst: the others must lie below, not above": _worst,
        "that is each arm's mean; wanted is the chance that it is the highest": _centres,
        "that is 1 for the arm with the highest mean, but a lower mean with more doubt may still be best":
            lambda mass: np.eye(len(mass))[_centres(mass).argmax()],
        "each arm's share of the means is not its chance of being best": lambda mass: _centres(mass) / _centres(mass).sum(),
    },
    praise="correct: whoever draws arms with these chances is Thompson",
)  # fmt: skip


# ---- 3: the loss over all prefixes ----


def _prefix_loss(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    return -_log_softmax(logits)[np.arange(len(label)), :, label].mean(0)


expect(
    "05.prefix_loss",
    _prefix_loss,
    inputs=lambda rng: (2 * rng.normal(size=(5, 7, 3)), rng.integers(0, 3, 5)),
    mistakes={
        "that is the loss after the last pull only; wanted is one number for every length of prefix":
            lambda z, y: _prefix_loss(z, y)[-1],
        "you averaged over the prefixes as well: keep one number for each length, [N]":
            lambda z, y: _prefix_loss(z, y).mean(),
        "you left out the position before the first pull; it is the one that must say ln K":
            lambda z, y: _prefix_loss(z, y)[1:],
        "these are logits: take the logarithm of the softmax first":
            lambda z, y: -z[np.arange(len(y)), :, y].mean(0),
        "you took the logarithm of the mean probability; wanted is the mean of the logarithms":
            lambda z, y: -np.log(np.exp(_log_softmax(z))[np.arange(len(y)), :, y].mean(0)),
        "that is the mean probability of the label: take its logarithm, with a minus":
            lambda z, y: np.exp(_log_softmax(z))[np.arange(len(y)), :, y].mean(0),
        "the sign is turned round: a loss is minus a log-probability": lambda z, y: -_prefix_loss(z, y),
        "the softmax runs over the wrong axis: probabilities of the K arms, the last axis, add up to 1":
            lambda z, y: -_log_softmax(z.swapaxes(1, 2)).swapaxes(1, 2)[np.arange(len(y)), :, y].mean(0),
    },
    praise="correct: one task gives as many lessons as it has prefixes",
)  # fmt: skip


# ---- 4: a shuffled log ----


def _share(good: float, bad: float, pulls: int) -> np.ndarray:
    """[pulls] the chance that pull t is of the good arm: stay after a win, switch after a loss."""
    share = [0.5]
    for _ in range(pulls - 1):
        share.append(share[-1] * good + (1 - share[-1]) * (1 - bad))
    return np.array(share)


def _given_loss(share: float, good: float, bad: float) -> float:
    return share * (1 - good) / (share * (1 - good) + (1 - share) * (1 - bad))


def _shuffled_row(good: float, bad: float, pulls: int) -> float:
    return _given_loss(_share(good, bad, pulls).mean(), good, bad)


def _given_win(good: float, bad: float, pulls: int) -> float:
    share = _share(good, bad, pulls).mean()
    return share * good / (share * good + (1 - share) * bad)


expect(
    "05.shuffled_row",
    _shuffled_row,
    inputs=lambda rng: (0.5 + 0.4 * rng.random(), 0.1 + 0.35 * rng.random(), int(rng.integers(3, 30))),
    mistakes={
        "that is right for the first row of a log in order, where either arm is as likely; a shuffled row may be from any time":
            lambda g, b, n: _given_loss(0.5, g, b),
        "that is for the last pull; a shuffled row is from any of them, so average the chance over all pulls":
            lambda g, b, n: _given_loss(_share(g, b, n)[-1], g, b),
        "that is the share of pulls of the good arm; the row also shows that it paid nothing: apply Bayes' rule":
            lambda g, b, n: _share(g, b, n).mean(),
        "that is for a row that paid 1; this one paid 0": _given_win,
        "that is where the player settles in the long run; the first pulls, where either arm is as likely, count as well":
            lambda g, b, n: _given_loss((1 - b) / (2 - g - b), g, b),
        "that is the chance that the arm is the bad one": lambda g, b, n: 1 - _shuffled_row(g, b, n),
    },
    praise="correct: in a shuffled log, that somebody pulled an arm is itself news",
)  # fmt: skip
