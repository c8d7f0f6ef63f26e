"""Streams: the same key gives the same bits, different keys never share them."""

import itertools

import pytest

from workbench import seeding


def draw(seed, *key):
    return tuple(seeding.generator(seed, *key).integers(0, 2**63, 4))


def test_same_key_same_bits():
    assert draw(3, "sample", 7) == draw(3, "sample", 7)


def test_neighbouring_seeds_and_steps_are_different_streams():
    keys = [(seed, purpose, step) for seed in range(20) for purpose in ("train", "test") for step in range(20)]
    assert len({draw(*key) for key in keys}) == len(keys)


def test_words_numbers_and_nesting_do_not_collide():
    keys = [("1",), (1,), ("1", "1"), (1, 1), ("11",), (11,), (1, "1"), ("1", 1), ()]
    assert len({draw(0, *key) for key in keys}) == len(keys)


def test_seed_plus_one_is_not_the_next_index():
    for seed, index in itertools.product(range(5), range(5)):
        assert draw(seed, index + 1) != draw(seed + 1, index)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None, "0"])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed must be a non-negative integer"):
        seeding.generator(seed, "x")


@pytest.mark.parametrize("number", [-1, 2**31])
def test_bad_keys_are_refused(number):
    with pytest.raises(ValueError, match="a stream's key"):
        seeding.generator(0, number)


def test_integer_fits_torch():
    assert all(0 <= seeding.integer(seed, "torch") < 2**63 for seed in range(100))
