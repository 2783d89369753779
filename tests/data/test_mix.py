from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadist_jax.data.folder import Folder
from sadist_jax.data.mix import Mix, apportion, interleave
from sadist_jax.errors import BadInput
from tests.data.made import grey_folder


@dataclass(frozen=True)
class Numbers:
    """Source of names: base + "0", base + "1", ..."""

    base: str
    count: int

    def open(self):
        return self

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.name(index)

    def name(self, index):
        return f"{self.base}{index}"

    def digest(self):
        return f"{self.base}{self.count}"


def test_proportions_hold_and_every_sample_comes():
    reader = Mix(((Numbers("a", 10), 3.0), (Numbers("b", 2), 1.0))).open()
    names = [reader[i] for i in range(len(reader))]
    assert len(names) == 16  # four blocks of aaab show all ten of a
    assert [n for n in names if n[0] == "a"] == [f"a{i % 10}" for i in range(12)]
    assert [n for n in names if n[0] == "b"] == ["b0", "b1", "b0", "b1"]
    assert all([n[0] for n in names[k : k + 4]].count("b") == 1 for k in range(0, 16, 4))
    assert [reader.name(i) for i in range(16)] == names
    with pytest.raises(IndexError):
        reader[16]


@given(st.lists(st.floats(0.1, 5), min_size=1, max_size=6))
def test_whole_shares_are_within_a_thousandth(weights):
    counts = np.array(apportion(weights))
    assert np.abs(counts / counts.sum() - np.array(weights) / sum(weights)).max() <= 1e-3 + 1e-12
    assert np.array_equal(np.bincount(interleave(counts.tolist())), counts)


def test_equal_weights_alternate():
    assert apportion([0.5, 0.5]) == [1, 1]
    assert interleave([2, 4]).tolist().count(0) == 2


def test_real_sources_and_the_digest(tmp_path):
    one, two = (Folder(str(grey_folder(tmp_path / n, c))) for n, c in (("a", 2), ("b", 3)))
    reader = Mix(((one, 1.0), (two, 1.0))).open()
    assert {(reader[i].name, int(reader[i].image[0, 0, 0])) for i in range(len(reader))} == {
        ("00.png", 0),
        ("01.png", 10),
        ("02.png", 20),
    }
    digests = {
        Mix(parts).open().digest() for parts in [((one, 1.0), (two, 1.0)), ((one, 2.0), (two, 1.0)), ((one, 1.0),)]
    }
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("weights", "why"),
    [([], "no parts"), ([1.0, 0.0], "must be above 0"), ([float("nan")], "must be above 0"), ([1, 1e-4], "thousandth")],
)
def test_impossible_weights_are_refused(weights, why):
    with pytest.raises(BadInput, match=why):
        Mix(tuple((Numbers("a", 1), w) for w in weights)).open()
