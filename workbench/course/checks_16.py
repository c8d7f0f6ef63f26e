"""Checks of chapter 16, many turns."""

from __future__ import annotations

import numpy as np

from workbench.course.checks import expect


def _turn_returns(rewards: np.ndarray, gamma: float) -> np.ndarray:
    returns = np.zeros(len(rewards))
    running = 0.0
    for j in reversed(range(len(rewards))):
        running = rewards[j] + gamma * running
        returns[j] = running
    return returns


def _rewards(rng: np.random.Generator) -> tuple:
    turns = int(rng.integers(3, 6))
    bad = -0.1 * (rng.random(turns) < 0.4)
    bad[-1] = float(rng.integers(0, 2)) + 0.05
    return bad, float(rng.choice([0.5, 0.9]))


expect(
    "16.turn_returns",
    _turn_returns,
    inputs=_rewards,
    cases=6,
    mistakes={
        "you look back, not ahead: a turn is credited with what came *after* it, not before":
            lambda r, g: np.array([sum(r[m] * g ** (j - m) for m in range(j + 1)) for j in range(len(r))]),
        "you did not discount: what comes k turns later counts gamma^k": lambda r, g: _turn_returns(r, 1.0),
        "the turn's own reward is discounted too: it counts in full, the next one gamma, the one after it gamma^2":
            lambda r, g: g * _turn_returns(r, g),
        "you discount by the turn's place in the dialogue (gamma^m); what counts is the distance, gamma^(m - j)":
            lambda r, g: np.array([sum(r[m] * g**m for m in range(j, len(r))) for j in range(len(r))]),
        "every turn gets the sum of the whole dialogue: that is GRPO's credit, one number for all turns":
            lambda r, g: np.full(len(r), r.sum()),
        "only the next turn is added; R_{j+1} is itself a return, so go from the last turn to the first":
            lambda r, g: r + g * np.append(r[1:], 0.0),
    },
    praise="correct: R_j = r_j + gamma R_{j+1}",
)  # fmt: skip


def _on_tokens(value: np.ndarray, turn: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask, value[np.maximum(turn, 0)], 0.0)


def _last_only(value: np.ndarray, turn: np.ndarray, mask: np.ndarray) -> np.ndarray:
    out = np.zeros(len(turn))
    for j in range(len(value)):
        out[np.flatnonzero(mask & (turn == j))[-1]] = value[j]
    return out


def _per_token(value: np.ndarray, turn: np.ndarray, mask: np.ndarray) -> np.ndarray:
    out = np.zeros(len(turn))
    for j in range(len(value)):
        at = np.flatnonzero(mask & (turn == j))
        out[at] = value[j] * 0.9 ** np.arange(len(at))[::-1]
    return out


def _shared(value: np.ndarray, turn: np.ndarray, mask: np.ndarray) -> np.ndarray:
    out = _on_tokens(value, turn, mask)
    return np.array([v / (mask & (turn == j)).sum() if m else 0.0 for v, j, m in zip(out, turn, mask, strict=True)])


def _dialogue(rng: np.random.Generator) -> tuple:
    turn, mask = [-1] * 3, [False] * 3
    turns = int(rng.integers(2, 4))
    for j in range(turns):
        said, replied = int(rng.integers(2, 5)), int(rng.integers(1, 4)) if j < turns - 1 else 0
        turn += [j] * (said + replied)
        mask += [True] * said + [False] * replied
    return rng.normal(size=turns), np.array(turn), np.array(mask)


expect(
    "16.on_tokens",
    _on_tokens,
    inputs=_dialogue,
    mistakes={
        "the tool's tokens are credited as well: the policy did not choose them; their credit is 0, where mask is False":
            lambda v, t, m: np.where(t >= 0, v[np.maximum(t, 0)], 0.0),
        "the prompt is credited: turn -1 means the prompt, and v[-1] is the *last* turn's value":
            lambda v, t, m: v[t],
        "the prompt is credited with the last turn's value: its turn is -1, and v[-1] is the last entry":
            lambda v, t, m: np.where(m | (t < 0), v[t], 0.0),
        "only the last token of each turn is credited; every token of the turn was part of the same action":
            _last_only,
        "you discount from token to token inside a turn: gamma is per *turn*, all tokens of a turn are worth the same":
            _per_token,
        "you share the turn's credit out over its tokens; each token carries all of it (averaging comes in the loss)":
            _shared,
    },
    praise="correct: the whole turn is one action",
)  # fmt: skip


def _moments(values: np.ndarray, ddof: int = 0) -> tuple[float, float]:
    return values.mean(), values.std(ddof=ddof)


def _same_turn(returns: np.ndarray, eps: float = 1e-6, ddof: int = 0, alone: bool = False) -> np.ndarray:
    out = np.zeros_like(returns)
    for j in range(returns.shape[1]):
        there = ~np.isnan(returns[:, j])
        if there.sum() > 1 or alone:
            mean, std = _moments(returns[there, j], ddof)
            out[there, j] = (returns[there, j] - mean) / (std + eps)
    return out


def _pooled(returns: np.ndarray, pool: np.ndarray) -> np.ndarray:
    mean, std = _moments(pool)
    return np.where(np.isnan(returns), 0.0, (returns - mean) / (std + 1e-6))


def _within(returns: np.ndarray) -> np.ndarray:
    mean, std = np.nanmean(returns, 1, keepdims=True), np.nanstd(returns, 1, keepdims=True)
    return np.where(np.isnan(returns), 0.0, (returns - mean) / (std + 1e-6))


def _counting_missing(returns: np.ndarray) -> np.ndarray:
    full = np.nan_to_num(returns)
    return np.where(np.isnan(returns), 0.0, (full - full.mean(0)) / (full.std(0) + 1e-6))


def _undivided(returns: np.ndarray) -> np.ndarray:
    out = np.zeros_like(returns)
    for j in range(returns.shape[1]):
        there = ~np.isnan(returns[:, j])
        if there.sum() > 1:
            out[there, j] = returns[there, j] - returns[there, j].mean()
    return out


def _group(rng: np.random.Generator) -> tuple:
    """Five dialogues of two to five turns; only one reaches the fifth."""
    lengths = [2, 3, 3, 4, 5]
    out = np.full((5, 5), np.nan)
    for i, length in enumerate(rng.permutation(lengths)):
        out[i, :length] = rng.normal(size=length)
    return (out,)


expect(
    "16.same_turn",
    _same_turn,
    inputs=_group,
    mistakes={
        "you pooled turns of different numbers (the flat reading): compare a second turn with second turns only":
            lambda r: _pooled(r, r[~np.isnan(r)]),
        "mean and standard deviation are those of the first turns; each turn number has its own":
            lambda r: _pooled(r, r[:, 0]),
        "you compared a dialogue's turns with one another: the wrong axis. Compare turn j with the others' turn j":
            _within,
        "a dialogue without a turn j takes part as a 0 in its mean: leave the nan out": _counting_missing,
        "your variance divides by n - 1; here we divide by n (np.std's default)": lambda r: _same_turn(r, ddof=1),
        "you did not divide by the standard deviation": _undivided,
    },
    praise="correct: like is compared with like",
)  # fmt: skip


def _blown_up(bad: int, size: int, penalty: float, floor: float) -> float:
    share = bad / size
    std = penalty * np.sqrt(share * (1 - share))
    return float(-penalty * (1 - share) / max(std, floor))


def _all_fail(rng: np.random.Generator) -> tuple:
    size = int(rng.integers(6, 17))
    return int(rng.integers(1, size)), size, float(rng.uniform(0.05, 0.3)), float(rng.choice([0.0, 0.05, 0.3]))


expect(
    "16.blown_up",
    _blown_up,
    inputs=_all_fail,
    cases=8,
    mistakes={
        "the floor is a least value, max(std, floor); you added it": lambda k, g, p, f: (
            -p * (1 - k / g) / (p * np.sqrt(k / g * (1 - k / g)) + f)
        ),
        "you left out the floor": lambda k, g, p, f: _blown_up(k, g, p, 0.0),
        "you forgot to subtract the mean: the mean reward is -penalty * bad / size, not 0": lambda k, g, p, f: (
            -p / max(p * np.sqrt(k / g * (1 - k / g)), f)
        ),
        "the sign: a bad turn lies *below* the mean": lambda k, g, p, f: -_blown_up(k, g, p, f),
        "that is the credit of the turns that were fine": lambda k, g, p, f: (
            p * k / g / max(p * np.sqrt(k / g * (1 - k / g)), f)
        ),
        "you took the variance for the standard deviation: take its square root": lambda k, g, p, f: (
            -p * (1 - k / g) / max(p**2 * k / g * (1 - k / g), f)
        ),
    },
    praise="correct: without a floor the size of the penalty does not matter at all",
)  # fmt: skip


# A tokenizer with two merges: digits, and the pairs 12 and 21 as tokens of their own.

TEXTS = ["1", "2", "12", "21", "+", "=", "<E>"]
MERGES = [("1", "2"), ("2", "1")]


def toy_encode(text: str) -> list[int]:
    """Byte-pair encoding with MERGES: the first merge is done wherever it can be, then the second."""
    pieces: list[str] = []
    while text:
        piece = "<E>" if text.startswith("<E>") else text[0]
        pieces.append(piece)
        text = text[len(piece) :]
    for a, b in MERGES:
        merged: list[str] = []
        for piece in pieces:
            if merged and (merged[-1], piece) == (a, b):
                merged[-1] = a + b
            else:
                merged.append(piece)
        pieces = merged
    return [TEXTS.index(piece) for piece in pieces]


def toy_decode(ids: list[int]) -> str:
    """The text of some ids."""
    return "".join(TEXTS[i] for i in ids)


def _next_prompt(prompt: list[int], sampled: list[int], reply: str) -> list[int]:
    return [*prompt, *sampled, *toy_encode(reply)]


def _toy_turn(rng: np.random.Generator) -> tuple:
    """A turn whose text has several encodings, and not the tokenizer's own."""
    while True:
        prompt = toy_encode("12+21=")
        sampled = [int(i) for i in rng.integers(0, 5, 5)]
        if toy_encode(toy_decode(sampled)) != sampled and sampled[-1] != 4:
            reply = "=" + "".join(rng.choice(["1", "2"], 2))
            return prompt, [*sampled, 6], reply


expect(
    "16.next_prompt",
    _next_prompt,
    inputs=_toy_turn,
    mistakes={
        "you decoded and encoded again: the text is the same, the ids are not those that were sampled":
            lambda p, s, r: toy_encode(toy_decode(p) + toy_decode(s) + r),
        "you encoded the sampled turn's text anew; append the sampled ids themselves":
            lambda p, s, r: [*p, *toy_encode(toy_decode(s)), *toy_encode(r)],
        "the reply is missing": lambda p, s, r: [*p, *s],
        "the prompt is missing: ids are only ever appended": lambda p, s, r: [*s, *toy_encode(r)],
        "you put characters where ids belong: encode the reply": lambda p, s, r: [*p, *s, *r],
        "you dropped the end token of the turn; the model chose it, so it stays":
            lambda p, s, r: [*p, *s[:-1], *toy_encode(r)],
    },
    praise="correct: append, never go back",
)  # fmt: skip
