import pickle
from dataclasses import dataclass

import pytest

from sadist_jax.data.in_memory import InMemory

made = []


@dataclass(frozen=True)
class Numbers:
    """Sample i is i * factor; every time that one is made is written down."""

    factor: int
    count: int = 3

    def open(self):
        return self

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        made.append((self.factor, index))
        return index * self.factor

    def name(self, index):
        return f"number {index}"

    def digest(self):
        return f"numbers {self.factor}"


def test_each_sample_is_made_once_for_all_equal_sources():
    made.clear()
    first, equal, other = (InMemory(Numbers(factor)).open() for factor in (10, 10, 20))
    assert [first[1], equal[1], first[2], first[1], other[1]] == [10, 10, 20, 10, 20]
    assert made == [(10, 1), (10, 2), (20, 1)]
    assert (len(first), first.name(2), first.digest()) == (3, "number 2", "numbers 10")


def test_the_reader_travels_without_what_it_keeps():
    reader = InMemory(Numbers(30)).open()
    assert reader[2] == 60
    assert len(pickle.dumps(reader)) < 1000
    assert pickle.loads(pickle.dumps(reader))[2] == 60


def test_the_end_is_the_sources():
    with pytest.raises(IndexError):
        InMemory(Numbers(40)).open()[3]
