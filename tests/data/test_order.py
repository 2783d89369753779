import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from sadist_jax.data import order
from sadist_jax.errors import BadInput

SEEDS = st.integers(0, 2**64 - 1)


@given(length=st.integers(1, 300), seed=SEEDS, epoch=st.integers(0, 10**6))
def test_permute_is_a_permutation(length, seed, epoch):
    assert sorted(order.permute(i, length, seed, epoch) for i in range(length)) == list(range(length))


def test_all_permutations_are_equally_likely():
    counts = Counter(tuple(order.permute(i, 4, 11, epoch) for i in range(4)) for epoch in range(2400))
    assert len(counts) == 24
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_every_place_of_a_large_source_is_equally_likely():
    length = 11_000_000
    found = [order.permute(i, length, 5, 0) for i in range(4000)]
    assert len(set(found)) == 4000
    assert chisquare(np.histogram(found, 20, (0, length))[0]).pvalue > 0.001


def test_epochs_and_seeds_shuffle_differently():
    orders = [tuple(order.permute(i, 50, seed, epoch) for i in range(50)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


@given(length=st.integers(1, 40), seed=SEEDS)
def test_an_epoch_shows_every_sample_once(length, seed):
    for shuffle, epoch in itertools.product((True, False), (0, 1, 7)):
        place = epoch * length
        seen = [order.sample_index(p, length, seed, shuffle) for p in range(place, place + length)]
        assert sorted(seen) == list(range(length))
        assert shuffle or seen == list(range(length))


def test_random_numbers_depend_on_seed_position_and_attempt_only():
    draws = {k: order.generator(*k).integers(2**63) for k in itertools.product((0, 1), (0, 1, 2**40), (0, 1))}
    assert len(set(draws.values())) == len(draws)
    assert all(order.generator(*k).integers(2**63) == v for k, v in draws.items())


def test_attempts_do_not_share_their_numbers():
    one, two = (order.generator(3, 4, attempt).integers(2**63, size=10_000) for attempt in (0, 1))
    assert not set(one.tolist()) & set(two.tolist())


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_an_impossible_seed_is_refused(seed):
    with pytest.raises(BadInput, match=f"seed is {seed}"):
        order.generator(seed, 0)
