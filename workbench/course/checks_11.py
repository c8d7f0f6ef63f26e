"""Checks of chapter 11, GRPO on verifiable rewards."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workbench.course.checks import expect


def _as_number(text: str) -> float:
    try:
        return float(int(text))
    except ValueError:
        return float("nan")


_TEXTS = ("82", "82", "83", "182", "821", "", "8", "082", "082", "2", "8 2", "82.", "7282", "it is 82")


def _verdicts(rng: np.random.Generator) -> tuple:
    return str(rng.choice(_TEXTS)), "82"


expect(
    "11.verify",
    lambda text, answer: float(text == answer),
    inputs=_verdicts,
    cases=60,
    mistakes={
        "an answer that merely contains the right digits passes; a model will learn to write long ones":
            lambda text, answer: float(answer in text),
        "an answer that goes on after the right digits passes": lambda text, answer: float(text.startswith(answer)),
        "an answer that ends with the right digits passes": lambda text, answer: float(text.endswith(answer)),
        "a piece of the right answer passes, even an empty one": lambda text, answer: float(text in answer),
        "you compare numbers, so 082 passes; the answer is a text, and int() would stop at a word":
            lambda text, answer: float(_as_number(text) == _as_number(answer)),
        "the verdict is turned round": lambda text, answer: float(text != answer),
        "you only compare lengths": lambda text, answer: float(len(text) == len(answer)),
    },
    praise="correct: nothing but the answer itself will do",
)  # fmt: skip


def _standardise(rewards: Tensor, axis: int | tuple = 1, *, correction: int = 1, eps: float = 1e-4) -> Tensor:
    mean = rewards.mean(axis, keepdim=True)
    return (rewards - mean) / (rewards.std(axis, keepdim=True, correction=correction) + eps)


def _rewards(rng: np.random.Generator) -> tuple:
    """Graded rewards, one question of them without any difference between its answers."""
    rewards = rng.integers(0, 2, (4, 5)) + 0.2 * rng.integers(0, 3, (4, 5))
    rewards[2] = 1.0
    return (torch.tensor(rewards, dtype=torch.float64),)


expect(
    "11.advantages",
    lambda rewards: _standardise(rewards),
    inputs=_rewards,
    mistakes={
        "you normalised over the wrong axis: compare the answers to *one question*, along each row":
            lambda r: _standardise(r, 0),
        "you normalised over the whole table: a right answer to an easy question then looks like a feat":
            lambda r: _standardise(r, (0, 1)),
        "the mean is the row's, but the standard deviation is that of the whole table (that is Lite PPO)":
            lambda r: (r - r.mean(1, keepdim=True)) / (r.std() + 1e-4),
        "you did not divide by the standard deviation (that is Dr. GRPO)": lambda r: r - r.mean(1, keepdim=True),
        "you divided by the variance; take its square root":
            lambda r: (r - r.mean(1, keepdim=True)) / (r.var(1, keepdim=True) + 1e-4),
        "your variance divides by G; here, as in most code, it divides by G - 1": lambda r: _standardise(r, correction=0),
        "in a group whose rewards are all equal you divide 0 by 0: add 1e-4 to the standard deviation":
            lambda r: _standardise(r, eps=0.0),
        "you only divided by the standard deviation; subtract the mean first":
            lambda r: r / (r.std(1, keepdim=True) + 1e-4),
    },
    praise="correct: every question is its own yardstick",
)  # fmt: skip


def _mask(tokens: Tensor, prompt_length: int, end: int) -> Tensor:
    answer = torch.arange(tokens.shape[1]) >= prompt_length
    ends = ((tokens == end) & answer).long()
    return answer & (ends.cumsum(1) - ends == 0)


def _rows(rng: np.random.Generator) -> tuple:
    """Five rows: prompt (with an end token inside it), an answer of some length, its end token, padding; one row cut off."""
    tokens = rng.integers(10, 20, (5, 12))
    tokens[:, 1] = 3
    for row, length in enumerate(rng.permutation(5)):
        if length:
            tokens[row, 5 + length] = 3
            tokens[row, 6 + length :] = 0
    tokens[2, 10:] = 3  # padding that is the end token
    return torch.tensor(tokens), 5, 3


expect(
    "11.sampled_mask",
    _mask,
    inputs=_rows,
    mistakes={
        "you count the prompt's tokens: the model did not choose them":
            lambda t, n, end: _mask(t, n, end) | (torch.arange(t.shape[1]) < n),
        "you left out the end token: the model is then never told when to stop":
            lambda t, n, end: _mask(t, n, end) & (t != end),
        "you count everything after the prompt, padding included":
            lambda t, n, end: (torch.arange(t.shape[1]) >= n).expand(t.shape),
        "you found padding by its id; here it can also be the end token, of which only the first is an answer's":
            lambda t, n, end: (torch.arange(t.shape[1]) >= n) & (t != 0),
        "the first token of the answer is missing: it stands at position prompt_length":
            lambda t, n, end: _mask(t, n, end) & (torch.arange(t.shape[1]) > n),
        "the prompt's last token is in it: the answer starts at position prompt_length":
            lambda t, n, end: _mask(t, n, end) | (torch.arange(t.shape[1]) == n - 1),
        "an end token inside the prompt ends your answer: look for it after the prompt only":
            lambda t, n, end: _mask(t, 0, end) & (torch.arange(t.shape[1]) >= n),
    },
    praise="correct: what the model chose, its end token included",
)  # fmt: skip


def _average(objective: Tensor, mask: Tensor) -> Tensor:
    return ((objective * mask).sum(1) / mask.sum(1)).mean()


def _objectives(rng: np.random.Generator) -> tuple:
    lengths = torch.tensor(rng.permutation([1, 2, 4, 5]))
    position = torch.arange(9)
    mask = (position >= 3) & (position < 3 + lengths[:, None])
    return torch.tensor(rng.normal(size=(4, 9)) + 0.5), mask


expect(
    "11.grpo_average",
    _average,
    inputs=_objectives,
    mistakes={
        "you averaged over all tokens of the batch: long answers count for more (that is DAPO's choice)":
            lambda o, m: (o * m).sum() / m.sum(),
        "you summed over the tokens of an answer: this rewards length, long answers are pushed harder":
            lambda o, m: (o * m).sum(1).mean(),
        "you divided by the width of the table: prompt and padding count as tokens, and short answers are hardly pushed":
            lambda o, m: (o * m).mean(),
        "you forgot the mask: prompt and padding are in your mean": lambda o, m: o.mean(),
        "that is minus the average; the loss takes care of the sign": lambda o, m: -_average(o, m),
        "that is one number for each answer; take their mean": lambda o, m: (o * m).sum(1) / m.sum(1),
        "you averaged each position over the answers first; average each answer over its tokens first":
            lambda o, m: ((o * m).sum(0) / m.sum(0).clamp(min=1)).sum() / m.any(0).sum(),
    },
    praise="correct: every answer counts the same, whatever its length",
)  # fmt: skip


expect(
    "11.dead_share",
    lambda p, size: p**size + (1 - p) ** size,
    inputs=lambda rng: (float(rng.uniform(0.05, 0.95)), int(rng.integers(2, 9))),
    mistakes={
        "all wrong is only half of it: a group that is all right is dead as well": lambda p, size: (1 - p) ** size,
        "all right is only half of it: a group that is all wrong is dead as well": lambda p, size: p**size,
        "that is the share of groups that are alive": lambda p, size: 1 - p**size - (1 - p) ** size,
        "you added where the chances of independent answers multiply: p to the power of G, not G times p":
            lambda p, size: size * p + size * (1 - p),
        "all right *and* all wrong at once cannot happen: add the two chances, do not multiply them":
            lambda p, size: p**size * (1 - p) ** size,
        "one G too few: all G answers must agree": lambda p, size: p ** (size - 1) + (1 - p) ** (size - 1),
    },
    praise="correct: and at p = 0.5 with groups of eight, one group in 128",
)  # fmt: skip
