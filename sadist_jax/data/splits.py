"""Parts of a source: every so many samples in the order of their names."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sadist_jax.data.names import first_five
from sadist_jax.data.sample import Reader, Sample
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class Interleaved:
    """One part of `source`: of its samples sorted by name, `train` go to "train", the next `test` to "test", and so on.

    The split of most sets in WeSAM (Zhang et al. 2024), e.g. 6 and 1 of 2913 pictures: 2497 and 416.

    counted: a source with more samples, among which the places are counted; those that `source` lacks fall out of
        their part. WeSAM counts all 5000 images of COCO val2017 and drops those without annotations afterwards.
        None: counted among those of `source`.
    """

    source: Any
    train: int = 6
    test: int = 1
    part: Literal["train", "test"] = "train"
    counted: Any = None

    def open(self) -> "PartReader":
        if min(self.train, self.test) < 1:
            raise BadInput(f"the split is {self.train} to {self.test}; both must be at least 1")
        if self.part not in ("train", "test"):
            raise BadInput(f"there is no part {self.part!r}; it must be train or test")
        reader = self.source.open()
        indices = _by_name(reader)
        counted = indices if self.counted is None else _by_name(self.counted.open())
        lacking = [name for name in indices if name not in counted]
        if lacking:
            raise BadInput(f"{len(lacking)} samples are not among those that are counted: {first_five(lacking)}")
        in_test = {name: rank % (self.train + self.test) >= self.train for rank, name in enumerate(counted)}
        kept = [index for name, index in indices.items() if in_test[name] == (self.part == "test")]
        if not kept:
            raise BadInput(f"none of {len(indices)} samples is in the part {self.part}; check the folder")
        return PartReader(reader, np.array(kept))


@dataclass(frozen=True)
class PartReader:
    """Samples number indices[0], indices[1], ... of `whole`."""

    whole: Reader
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.whole[self._inside(index)]

    def name(self, index: int) -> str:
        return self.whole.name(self._inside(index))

    def digest(self) -> str:
        return hashlib.sha256(self.whole.digest().encode() + self.indices.astype(np.int64).tobytes()).hexdigest()

    def _inside(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return int(self.indices[index])


def _by_name(reader: Reader) -> dict[str, int]:
    """{name: index}, sorted by the bytes of the name."""
    names = [reader.name(i) for i in range(len(reader))]
    indices = {names[i]: i for i in sorted(range(len(names)), key=lambda i: os.fsencode(names[i]))}
    if len(indices) < len(names):
        raise BadInput(f"{len(names) - len(indices)} samples have the name of another, so no part can be told by name")
    return indices
