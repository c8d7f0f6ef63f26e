"""Checks of chapter 10: a tiny language model."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workbench.course import expect

TAGS = ["<P>", "<U>", "<A>", "<E>", "<T>", "</T>", "<R>", "</R>"]


def _encode(text: str, vocabulary: dict[str, int]) -> list[int]:
    ids = []
    while text:
        token = next((tag for tag in TAGS if text.startswith(tag)), text[0])
        ids.append(vocabulary[token])
        text = text[len(token) :]
    return ids


def _dialogue(rng: np.random.Generator) -> tuple[str, dict[str, int]]:
    """A dialogue with a tool call, and a vocabulary in an order of its own."""
    a, b, c = (int(n) for n in rng.integers(0, 100, 3))
    text = f"<U>{a}*{b}=<A><T>{a}*{b}</T><E><R>{a * b}</R><A>{c}<E>"
    tokens = [*TAGS, *"0123456789+-*=<>/ABEPRTU"]
    return text, {tokens[n]: number for number, n in enumerate(rng.permutation(len(tokens)))}


def _without_tags(text: str, vocabulary: dict[str, int]) -> list[int]:
    for tag in TAGS:
        text = text.replace(tag, "")
    return [vocabulary[character] for character in text]


expect(
    "10.encode",
    _encode,
    inputs=_dialogue,
    mistakes={
        "you split the tags into characters: <A> is one token, not three": lambda text, vocabulary: [
            vocabulary[character] for character in text
        ],
        "you dropped the tags; they are tokens too": _without_tags,
        "you took the place of each token in the text, not its id in the vocabulary": lambda text, vocabulary: list(
            range(len(_encode(text, vocabulary)))
        ),
    },
    praise="correct: every tag is one token",
)


def _rotate(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    half = x.shape[-1] // 2
    angle = positions[:, None] * theta ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def _neighbours(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    half = x.shape[-1] // 2
    angle = positions[:, None] * theta ** (-torch.arange(half) / half)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1).flatten(-2)


def _whole(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    half = x.shape[-1] // 2
    angle = positions[:, None] * theta ** (-torch.arange(half) / x.shape[-1])
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def _vectors(rng: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    heads, tokens, size = int(rng.integers(1, 4)), int(rng.integers(2, 7)), 2 * int(rng.integers(2, 9))
    x = torch.from_numpy(rng.standard_normal((heads, tokens, size)).astype(np.float32))
    return x, torch.from_numpy(rng.integers(0, 50, tokens)), float(rng.integers(50, 20000))


expect(
    "10.rotate",
    _rotate,
    inputs=_vectors,
    mistakes={
        "you turn the other way: the sign of the sines is wrong": lambda x, p, theta: _rotate(x, -p, theta),
        "you paired neighbours; in Qwen3 dimension i goes with i + D/2": _neighbours,
        "your exponent is i / D: it is i / (D/2), so that the clocks span the whole range from 1 to 1/theta": _whole,
        "your clocks get faster with i instead of slower: the exponent lacks its minus sign": lambda x, p, theta: _rotate(
            x, p, 1 / theta
        ),
        "your angles do not depend on the position: multiply the speeds by positions[:, None]": lambda x, p, theta: _rotate(
            x, torch.ones_like(p), theta
        ),
    },
    tolerance=1e-4,
    praise="correct: a query and a key now feel their distance",
)


def _square(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool)


expect(
    "10.causal_mask",
    lambda length: _square(length).tril(),
    inputs=lambda rng: (int(rng.integers(3, 9)),),
    mistakes={
        "off by one: a token may also look at itself (and the first one has nothing else to look at)": lambda n: _square(
            n
        ).tril(-1),
        "off by one: your tokens look one step ahead, at the very token they are to predict": lambda n: _square(n).tril(1),
        "the wrong way round: your tokens look ahead. Row t is who looks, column s what it looks at": lambda n: _square(
            n
        ).triu(),
        "every token may look everywhere: leave out what comes later": _square,
        "that is True where looking is forbidden; we want True where it is allowed": lambda n: _square(n).triu(1),
    },
    praise="correct: itself and the past",
)


def _next_token_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    chosen = logits.log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
    return -chosen[mask[1:]].mean()


def _unshifted(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return -logits.log_softmax(-1).gather(1, ids[:, None])[:, 0][mask].mean()


def _backwards(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return -logits.log_softmax(-1)[1:].gather(1, ids[:-1, None])[:, 0][mask[:-1]].mean()


def _mask_left_behind(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return -logits.log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0][mask[:-1]].mean()


def _over_all(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    chosen = logits.log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
    return -(chosen * mask[1:]).mean()


def _scored(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    tokens, vocabulary = int(rng.integers(6, 12)), 9
    logits = torch.from_numpy(2 * rng.standard_normal((tokens, vocabulary)).astype(np.float32))
    ids = torch.from_numpy(rng.integers(0, vocabulary, tokens))
    return logits, ids, torch.arange(tokens) >= int(rng.integers(2, tokens - 2))


expect(
    "10.next_token_loss",
    _next_token_loss,
    inputs=_scored,
    mistakes={
        "labels not shifted: row t has already seen token t; it predicts token t+1": _unshifted,
        "shifted the wrong way: row t-1 judges token t, so drop the last row of the logits and the first id": _backwards,
        "mask off by one: it belongs to the token that is judged, so shift it with the ids (mask[1:])": _mask_left_behind,
        "you divide by all tokens; divide by the number of tokens in the mask": _over_all,
        "you also train on the question: use the mask": lambda logits, ids, mask: _next_token_loss(
            logits, ids, torch.ones_like(mask)
        ),
        "the sign: the loss is the mean of minus log p": lambda logits, ids, mask: -_next_token_loss(logits, ids, mask),
        "you added up; take the mean": lambda logits, ids, mask: _next_token_loss(logits, ids, mask) * mask[1:].sum(),
        "you gathered the logits themselves; take log_softmax first": lambda logits, ids, mask: (
            -logits[:-1].gather(1, ids[1:, None])[:, 0][mask[1:]].mean()
        ),
    },
    praise="correct: shifted, masked, averaged",
)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(-1)


expect(
    "10.tempered",
    _tempered,
    inputs=lambda rng: (
        torch.from_numpy(2 * rng.standard_normal(7).astype(np.float32)),
        float(rng.choice([0.25, 0.5, 1.5, 3.0])),
    ),
    mistakes={
        "the temperature has no effect: divided probabilities, normalised again, are what they were": lambda x, t: x.softmax(-1),
        "temperature after the softmax: divided log-probabilities no longer make a sum of 1; divide the logits": lambda x, t: (
            (x.log_softmax(-1) / t).exp()
        ),
        "you divided the probabilities: they no longer add up to 1; divide the logits": lambda x, t: x.softmax(-1) / t,
        "you multiplied: a high temperature must make the distribution flatter, so divide": lambda x, t: (x * t).softmax(-1),
        "these are log-probabilities; probabilities are wanted": lambda x, t: (x / t).log_softmax(-1),
    },
    praise="correct: divide first, then softmax",
)
