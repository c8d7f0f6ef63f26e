"""Random streams that never collide.

Every stream is a leaf of one tree: `numpy.random.SeedSequence(seed, spawn_key=...)` with a key made of words and
numbers, e.g. `("sample", step, row)`. Nothing is derived as `seed + i`, because then run 0's second stream is run 1's
first one. A stream depends on its seed and its key alone: not on which worker draws it, nor on what was drawn before.
"""

from __future__ import annotations

import hashlib

import numpy as np


def _word(part: str | int) -> int:
    """One 32-bit word of a spawn key. Words and numbers live in different halves, so "3" and 3 are different keys."""
    if isinstance(part, str):
        return 0x80000000 | int.from_bytes(hashlib.blake2s(part.encode(), digest_size=4).digest(), "big")
    number = int(part)
    if not 0 <= number < 0x80000000:
        raise ValueError(f"a stream's key must be a word or a number from 0 to {0x80000000 - 1}, not {part!r}")
    return number


def sequence(seed: int, *key: str | int) -> np.random.SeedSequence:
    """The seed sequence of stream `key` under `seed` (a non-negative integer)."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer, not {seed!r}")
    return np.random.SeedSequence(int(seed), spawn_key=tuple(_word(part) for part in key))


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """A NumPy generator for stream `key` under `seed`."""
    return np.random.default_rng(sequence(seed, *key))


def integer(seed: int, *key: str | int) -> int:
    """A 63-bit integer for libraries that take a number as their seed (torch, transformers)."""
    return int(sequence(seed, *key).generate_state(1, np.uint64)[0] >> np.uint64(1))
