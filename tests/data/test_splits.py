import pickle
from dataclasses import dataclass

import pytest

from sadist_jax.data.splits import Interleaved
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class Words:
    """Source of these names, whose sample is the name."""

    names: tuple[str, ...]

    def open(self):
        return self

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return self.names[index]

    def name(self, index):
        return self.names[index]

    def digest(self):
        return "/".join(self.names)


def parts(source, *args, **options):
    found = {}
    for part in ("train", "test"):
        reader = Interleaved(source, *args, part=part, **options).open()
        found[part] = [reader[i] for i in range(len(reader))]
        assert found[part] == [reader.name(i) for i in range(len(reader))]
    return found["train"], found["test"]


@pytest.mark.parametrize(
    ("pictures", "train", "test", "counts"),
    [
        (5000, 6, 1, (4286, 714)),  # COCO val2017
        (2913, 6, 1, (2497, 416)),  # Pascal VOC 2012
        (1000, 5, 1, (834, 166)),  # Kvasir-SEG
        (2026, 4, 1, (1621, 405)),  # COD10K
        (2390, 6, 1, (2049, 341)),  # OCID
        (111, 6, 1, (96, 15)),  # OSD
    ],
)
def test_counts_are_those_of_wesam(pictures, train, test, counts):
    found = parts(Words(tuple(f"{i:06d}" for i in range(pictures))), train, test)
    assert tuple(map(len, found)) == counts
    assert sorted(found[0] + found[1]) == [f"{i:06d}" for i in range(pictures)]


def test_places_count_in_the_order_of_names():
    train, test = parts(Words(tuple("hbfcagde")), 2, 1)
    assert train == list("abdegh")
    assert test == list("cf")
    assert parts(Words(tuple("abcdefg")), 2, 2) == (list("abef"), list("cdg"))


def test_places_can_be_counted_among_more_samples_than_there_are():
    train, test = parts(Words(tuple("acfg")), 2, 1, counted=Words(tuple("gfedcba")))
    assert (train, test) == (list("ag"), list("cf"))
    with pytest.raises(BadInput, match=r"1 samples are not among those that are counted: x"):
        Interleaved(Words(("a", "x")), counted=Words(("a",))).open()


def test_parts_are_told_apart_and_travel():
    words = Words(tuple("abcdefgh"))
    readers = [Interleaved(words, 2, 1, part).open() for part in ("train", "test")] + [Interleaved(words).open()]
    assert len({reader.digest() for reader in readers} | {words.digest()}) == 4
    assert readers[0].digest() == Interleaved(words, 2, 1, "train").open().digest()
    other = Interleaved(Words(tuple("abcdefgi")), 2, 1, "train").open()
    assert other.digest() != readers[0].digest()
    again = pickle.loads(pickle.dumps(readers[1]))
    assert [again[i] for i in range(len(again))] == ["c", "f"]
    for index in (-1, 2):
        with pytest.raises(IndexError):
            again[index]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (Interleaved(Words(("a",)), 0, 1), "the split is 0 to 1; both must be at least 1"),
        (Interleaved(Words(("a",)), 6, 1, "val"), "no part 'val'; it must be train or test"),
        (Interleaved(Words(("a",)), 6, 1, "test"), "none of 1 samples is in the part test"),
        (Interleaved(Words(("a", "a")), 6, 1), "1 samples have the name of another"),
    ],
)
def test_impossible_splits_are_refused(source, why):
    with pytest.raises(BadInput, match=why):
        source.open()
