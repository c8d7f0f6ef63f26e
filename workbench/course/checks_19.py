"""Checks of chapter 19, real models."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.course.checks import expect


def _adapted(x: Tensor, weight: Tensor, down: Tensor, up: Tensor, alpha: float) -> Tensor:
    return x @ weight.T + alpha / len(down) * (x @ down.T @ up.T)


def _layer(rng: np.random.Generator) -> tuple:
    """Five inputs of width 6, a square layer (so that a product the wrong way round still runs), adapters of rank 3."""
    shapes = (5, 6), (6, 6), (3, 6), (6, 3)
    return (*(torch.from_numpy(rng.normal(size=shape)) for shape in shapes), float(rng.choice([6.0, 12.0])))


expect(
    "19.adapted",
    _adapted,
    inputs=_layer,
    mistakes={
        "the adapter is scaled by alpha alone; LoRA scales it by alpha / r, r being the number of rows of `down`":
            lambda x, w, a, b, alpha: x @ w.T + alpha * (x @ a.T @ b.T),
        "the adapter is not scaled: it counts alpha / r times": lambda x, w, a, b, alpha: x @ w.T + x @ a.T @ b.T,
        "you divide by a width of the layer, not by the rank: r is the number of rows of `down`":
            lambda x, w, a, b, alpha: x @ w.T + alpha / a.shape[1] * (x @ a.T @ b.T),
        "the frozen layer is missing: the adapter is *added* to what the layer says":
            lambda x, w, a, b, alpha: alpha / len(a) * (x @ a.T @ b.T),
        "the adapter is missing: this is the frozen layer alone": lambda x, w, a, b, alpha: x @ w.T,
        "you scaled the frozen layer as well": lambda x, w, a, b, alpha: alpha / len(a) * (x @ w.T + x @ a.T @ b.T),
        "the layer is used the wrong way round: `weight` has a row for each *output*, so it is x @ weight.T":
            lambda x, w, a, b, alpha: x @ w + alpha / len(a) * (x @ a.T @ b.T),
        "the adapter reads what the layer said; it reads the layer's *input* x":
            lambda x, w, a, b, alpha: x @ w.T + alpha / len(a) * (x @ w.T @ a.T @ b.T),
    },
    praise="correct: the old layer, and a small correction beside it",
)  # fmt: skip


PAD = 0


def _padded(rows: Sequence[Sequence[int]], pad: int = PAD) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _on_the_right(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([list(row) + [pad] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def _by_id_in(ids: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    return ids, (ids != pad).long()


def _dialogues(rng: np.random.Generator) -> tuple:
    """Three rows of different lengths in which the id of the padding also ends turns."""
    pad = 3
    rows = [rng.integers(4, 30, int(n)).tolist() for n in rng.permutation([5, 8, 11])]
    for row in rows:
        row[2] = row[-1] = pad
    return rows, pad


expect(
    "19.padded",
    _padded,
    inputs=_dialogues,
    mistakes={
        "you look for padding by its id; here the same id ends every turn, and those ends are hidden from the model":
            lambda rows, pad: _by_id_in(_padded(rows, pad)[0], pad),
        "padding is on the right; to be continued, all rows must *end* at the same place": _on_the_right,
        "padding is on the right, and you look for it by its id": lambda rows, pad: _by_id_in(_on_the_right(rows, pad)[0], pad),
        "fill up with the id that is given as `pad`": lambda rows, pad: (_padded(rows, PAD)[0], _padded(rows, pad)[1]),
        "the ids come first, then the mask": lambda rows, pad: _padded(rows, pad)[::-1],
        "the mask is turned round: 1 where there is a token, 0 on padding":
            lambda rows, pad: (_padded(rows, pad)[0], 1 - _padded(rows, pad)[1]),
        "the mask counts everything: padding has to be 0": lambda rows, pad: (
            _padded(rows, pad)[0], torch.ones_like(_padded(rows, pad)[1])
        ),
        "the ids are right; return the mask with them: ids, mask": lambda rows, pad: _padded(rows, pad)[0],
    },
    praise="correct: a length cannot be mistaken for a token",
)  # fmt: skip


Render = Callable[[Sequence[str]], str]


def _keeps_history(render: Render, messages: Sequence[str]) -> bool:
    whole = render(messages)
    return all(whole.startswith(render(messages[:k])) for k in range(1, len(messages)))


def _told(messages: Sequence[str]) -> str:
    return "".join(f"<{text}>" for text in messages)


# Templates as functions of the list of messages, which may be empty. Each of the bad ones rewrites in a way that some careless
# test lets through.
TEMPLATES: dict[str, Render] = {
    "plain": _told,
    "tagged": lambda m: "".join(f"[{'UA'[i % 2]}]{text};" for i, text in enumerate(m)),
    "counts": lambda m: f"({len(m)})" + _told(m),
    "shouts the last": lambda m: _told(m[:-1]) + _told(m[-1:]).upper(),
    "drops old thoughts": lambda m: _told(m[:-1]).replace("hm ", "") + _told(m[-1:]),
    "in a frame": lambda m: "<" + ",".join(m) + ">",
    "greets once": lambda m: ("" if len(m) > 2 else "hello ") + _told(m),
    "titled": lambda m: ("long: " if len(m) > 2 else "") + _told(m),
    "asks the user": lambda m: _told(m) + "?" * (len(m) % 2),
    "warns before the fifth": lambda m: _told(m) + "!" * (len(m) == 4),
    "forgets all but two": lambda m: _told(m[-2:]),
}


def _conversation(rng: np.random.Generator) -> tuple:
    name = list(TEMPLATES)[int(rng.integers(len(TEMPLATES)))]
    words = [str(rng.choice(["add", "look", "call", "note", "stop"])) for _ in range(5)]
    return TEMPLATES[name], [("hm " if i % 2 else "") + word for i, word in enumerate(words)]


expect(
    "19.keeps_history",
    _keeps_history,
    inputs=_conversation,
    cases=40,
    mistakes={
        "you look at the last message only; a template may rewrite early and then leave it alone: try every k":
            lambda render, m: render(m).startswith(render(m[:-1])),
        "you leave out the last k: the text before the last message counts, too": lambda render, m: all(
            render(m).startswith(render(m[:k])) for k in range(1, len(m) - 1)
        ),
        "you look after the model's turns only; k is any number of messages": lambda render, m: all(
            render(m).startswith(render(m[:k])) for k in range(2, len(m), 2)
        ),
        "you look at the first message only: try every k": lambda render, m: render(m).startswith(render(m[:1])),
        "the part must be the *beginning* of the whole, not just occur in it: use startswith":
            lambda render, m: all(render(m[:k]) in render(m) for k in range(1, len(m))),
        "you compare lengths; a text can be rewritten and keep its length":
            lambda render, m: all(len(render(m[:k])) <= len(render(m)) for k in range(1, len(m))),
        "it is turned round: the *whole* begins with the rendered part": lambda render, m: all(
            render(m[:k]).startswith(render(m)) for k in range(1, len(m))
        ),
        "one prefix that survives is not enough: all of them must": lambda render, m: any(
            render(m).startswith(render(m[:k])) for k in range(1, len(m))
        ),
        "you answer the opposite question: True where the history is kept": lambda render, m: not _keeps_history(render, m),
    },
    praise="correct: what was said once is never said differently",
)  # fmt: skip


def _truncated(trainer: Tensor, sampler: Tensor, cap: float) -> Tensor:
    return (trainer - sampler).exp().clamp(max=cap)


def _two_engines(rng: np.random.Generator) -> tuple:
    sampler = -torch.from_numpy(rng.exponential(size=8))
    return sampler + torch.from_numpy(rng.normal(0, 1, 8)), sampler, float(rng.choice([1.5, 2.0]))


expect(
    "19.truncated",
    _truncated,
    inputs=_two_engines,
    mistakes={
        "the ratio is upside down: the *trainer's* probability over that of the engine that sampled":
            lambda p, q, c: (q - p).exp().clamp(max=c),
        "the cap is the *largest* weight; you made it the smallest": lambda p, q, c: (p - q).exp().clamp(min=c),
        "you did not cap it: one token that the sampler thought impossible can then drown all the others":
            lambda p, q, c: (p - q).exp(),
        "the difference of logs is capped, not the ratio: exp first": lambda p, q, c: (p - q).clamp(max=c).exp(),
        "you capped from below as well; small ratios are harmless": lambda p, q, c: (p - q).exp().clamp(1 / c, c),
        "these are log-probabilities: a ratio of probabilities is exp(difference), not a ratio of logs":
            lambda p, q, c: (p / q).clamp(max=c),
        "that is the log of the weight: take exp": lambda p, q, c: (p - q).clamp(max=float(np.log(c))),
        "tokens over the cap keep the weight `cap`; you dropped them (that is the *masked* variant)":
            lambda p, q, c: torch.where((p - q).exp() <= c, (p - q).exp(), 0.0),
    },
    praise="correct: unbiased up to the cap, and no single token can run away",
)  # fmt: skip


def _slots(lengths: Sequence[int], slots: int) -> list[int]:
    free = [0] * slots
    for length in lengths:
        heapq.heapreplace(free, free[0] + int(length))
    return free


def _continuous(lengths: Sequence[int], slots: int) -> int:
    return max(_slots(lengths, slots))


def _static(lengths: Sequence[int], slots: int) -> int:
    return sum(int(max(lengths[i : i + slots])) for i in range(0, len(lengths), slots))


def _dealt(lengths: Sequence[int], slots: int) -> int:
    return max(int(sum(lengths[i::slots])) for i in range(slots))


def _requests(rng: np.random.Generator) -> tuple:
    return [int(n) for n in 1 + rng.geometric(0.12, int(rng.integers(9, 17)))], int(rng.integers(2, 5))


expect(
    "19.continuous",
    _continuous,
    inputs=_requests,
    cases=12,
    mistakes={
        "that is the static batch: everybody waits for the longest of each batch": _static,
        "the requests were dealt out beforehand, one to each slot in turn; the next one goes to the slot that is free *first*":
            _dealt,
        "that is the work divided by the slots, as if a request could be cut up": lambda n, s: -(-sum(n) // s),
        "the work divided by the slots is no more than a lower bound: a request cannot be cut up": lambda n, s: sum(n) / s,
        "the work divided by the slots, rounded down, is too little: a request cannot be cut up": lambda n, s: sum(n) // s,
        "that is when the first slot has nothing left to do; wait for the last": lambda n, s: min(_slots(n, s)),
        "that is one slot's time: there are `slots` of them, side by side": lambda n, s: sum(n),
        "the longest request alone; it is a lower bound": lambda n, s: max(n),
        "you sorted the requests first; they are served in the order in which they come":
            lambda n, s: _continuous(sorted(n, reverse=True), s),
        "you sorted the requests, the shortest first; they are served in the order in which they come":
            lambda n, s: _continuous(sorted(n), s),
    },
    praise="correct: a slot that is free takes the next in line",
)  # fmt: skip
