"""Checks of chapter 20, multi-turn tool-use RL on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from workbench.course.checks import expect


def _training_bytes(weights: int, adapters: int = 0) -> int:
    return 2 * weights + 16 * adapters if adapters else 16 * weights


def _sizes(rng: np.random.Generator) -> tuple:
    weights = int(rng.integers(10**8, 10**9))
    return weights, int(rng.choice([0, weights // 100]))


expect(
    "20.training_bytes",
    _training_bytes,
    inputs=_sizes,
    cases=8,
    mistakes={
        "Adam keeps *two* averages for every weight that is trained: 4 bytes each":
            lambda n, a: 2 * n + 12 * a if a else 12 * n,
        "the gradient is missing: 4 bytes for every weight that is trained": lambda n, a: 2 * n + 12 * a if a else 8 * n,
        "Adam's averages are missing: two more numbers of 4 bytes for every weight that is trained":
            lambda n, a: 2 * n + 8 * a if a else 8 * n,
        "a frozen weight has no gradient and no averages: 2 bytes in bfloat16, and that is all":
            lambda n, a: 16 * (n + a),
        "the frozen weights are kept in bfloat16: 2 bytes each, not 4": lambda n, a: 4 * n + 16 * a if a else 16 * n,
        "`adapters` is 0 where all weights are trained: then each of them takes 16 bytes": lambda n, a: 2 * n + 16 * a,
        "with adapters the frozen model is still there, 2 bytes for each of its weights":
            lambda n, a: 16 * a if a else 16 * n,
        "the adapters are trained in float32: 16 bytes for each of their numbers":
            lambda n, a: 2 * n + 8 * a if a else 16 * n,
        "those are numbers, not bytes: four for each weight that is trained, of 4 bytes each":
            lambda n, a: n + 4 * a if a else 4 * n,
    },
    praise="correct: what is frozen costs two bytes, what is trained sixteen",
)  # fmt: skip


def _cache_bytes(shape: Mapping[str, int], tokens: int, dialogues: int) -> int:
    return 2 * shape["layers"] * shape["kv_heads"] * shape["head_dim"] * tokens * dialogues * 2


def _shapes(rng: np.random.Generator) -> tuple:
    kv = int(rng.choice([2, 4, 8]))
    heads, dim = kv * int(rng.choice([2, 4])), int(rng.choice([64, 128]))
    shape = {"layers": int(rng.integers(12, 40)), "heads": heads, "kv_heads": kv, "head_dim": dim, "width": heads * dim * 5 // 8}
    return shape, int(rng.integers(500, 4000)), int(rng.integers(8, 64))


def _instead(name: str) -> Callable[[Mapping[str, int], int, int], int]:
    return lambda s, t, d: 4 * s["layers"] * s[name] * s["head_dim"] * t * d


expect(
    "20.cache_bytes",
    _cache_bytes,
    inputs=_shapes,
    mistakes={
        "a key *and* a value are kept: twice as much": lambda s, t, d: _cache_bytes(s, t, d) // 2,
        "bfloat16 takes 2 bytes a number; you counted numbers, and only keys or only values":
            lambda s, t, d: _cache_bytes(s, t, d) // 4,
        "several heads of queries share one head of keys and values: count kv_heads, not heads": _instead("heads"),
        "every layer has keys and values of its own": lambda s, t, d: _cache_bytes(s, t, d) // s["layers"],
        "the cache holds every dialogue that runs at the same time": lambda s, t, d: _cache_bytes(s, t, 1),
        "keys have kv_heads x head_dim numbers, whatever the model's width is":
            lambda s, t, d: 4 * s["layers"] * s["width"] * t * d,
        "4 bytes a number is float32; the cache is kept in bfloat16, 2 bytes": lambda s, t, d: 2 * _cache_bytes(s, t, d),
    },
    praise="correct: long dialogues, many of them at once, cost as much as the model",
)  # fmt: skip


def _operations(weights: int, prompt: int, said: int, dialogues: int) -> int:
    return 8 * weights * (prompt + said) * dialogues


def _run(rng: np.random.Generator) -> tuple:
    return tuple(int(rng.integers(low, high)) for low, high in ((10**8, 10**9), (50, 500), (100, 900), (100, 5000)))


expect(
    "20.operations",
    _operations,
    inputs=_run,
    mistakes={
        "the prompt is read as well, when sampling and when training": lambda n, p, s, d: 8 * n * s * d,
        "the prompt is read when training as well, though it is not trained on": lambda n, p, s, d: (8 * s + 2 * p) * n * d,
        "the prompt is read when sampling as well, before the first token is drawn": lambda n, p, s, d: (8 * s + 6 * p) * n * d,
        "that is 6 a weight and token; sampling goes forward once (2), training forward and backward (2 + 4)":
            lambda n, p, s, d: 6 * n * (p + s) * d,
        "that is 4 a weight and token: a multiplication and an addition are *two* operations, and the way back costs twice the "
        "way forward": lambda n, p, s, d: 4 * n * (p + s) * d,
        "that is one forward pass, the sampling; the training is missing": lambda n, p, s, d: 2 * n * (p + s) * d,
        "that is one dialogue; there are `dialogues` of them": lambda n, p, s, d: 8 * n * (p + s),
    },
    praise="correct: eight operations for each weight and token",
)  # fmt: skip
