"""Parts of a source: every so many samples in the order of their names, or those that a file lists."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
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
class Listed:
    """The samples of `source` that a file lists, in the file's order, such as an official list of training images.

    Each line of the file, of fields with commas between them, names a sample in one of the fields: in full
    ("test/1.jpg"), without its folder, without its ending, or without either. The first line may be a header; empty
    lines do not count.

    file: text in UTF-8: a CSV file, or one name a line.
    """

    source: Any
    file: str

    def open(self) -> "PartReader":
        reader = self.source.open()
        known: dict[str, set[int]] = {}
        for name, index in _by_name(reader).items():
            for spelling in _spellings(name):
                known.setdefault(spelling, set()).add(index)
        lines = _read_lines(self.file)
        found = [_named(line, known) for line in lines]
        if found and not found[0]:
            del lines[0], found[0]  # a header
        wrong = [line for line, indices in zip(lines, found, strict=True) if len(indices) != 1]
        if wrong:
            raise BadInput(
                f"{self.file} has {len(wrong)} of {len(lines)} lines that do not name one sample of the source: "
                f"{first_five(wrong)}; check that list and folder belong together"
            )
        kept = [index for (index,) in found]
        if not kept:
            raise BadInput(f"{self.file} names no sample of the source; check that list and folder belong together")
        if doubles := len(kept) - len(set(kept)):
            raise BadInput(f"{self.file} names a sample again in {doubles} lines; remove them")
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


def _read_lines(file: str) -> list[str]:
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror}); give a list of samples") from None
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not text in UTF-8; save the list as CSV or plain text") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _named(line: str, known: dict[str, set[int]]) -> set[int]:
    """Samples that the fields of a line name, each field by the fullest spelling that is known."""
    found: set[int] = set()
    for field in line.split(","):
        spellings = (s for s in _spellings(field.strip().strip('"')) if s in known)
        found |= known.get(next(spellings, ""), set())
    return found


def _spellings(name: str) -> list[str]:
    """In full, without the ending, without the folder, without both."""
    path = PurePosixPath(name)
    return [name, str(path.with_suffix("")) if path.suffix else name, path.name, path.stem]
