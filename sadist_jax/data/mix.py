"""Several sources as one, in given proportions."""

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from sadist_jax.data.sample import Reader, Sample
from sadist_jax.errors import BadInput

_FINEST = 1000  # slots of a block: the resolution of the weights


@dataclass(frozen=True)
class Mix:
    """Samples of several sources, e.g. Mix(((Folder("photos"), 3.0), (Scenes(), 1.0))): three quarters are photos.

    Index i belongs to a source by a fixed pattern with the exact proportions (rounded to thousandths), and every
    source is gone through in its own order, again and again. One epoch of the mixture is the shortest that shows every
    sample of every source.

    parts: (source, weight) pairs; weights are relative.
    """

    parts: tuple[tuple[Any, float], ...]

    def open(self) -> "MixReader":
        if not self.parts:
            raise BadInput("the mix has no parts; give at least one (source, weight)")
        weights = [weight for _, weight in self.parts]
        if not all(math.isfinite(w) and w > 0 for w in weights):
            raise BadInput(f"the mix has weights {weights}; they must be above 0; leave out what must not be drawn")
        counts = apportion(weights)
        return MixReader(tuple(source.open() for source, _ in self.parts), interleave(counts))


def apportion(weights: list[float]) -> list[int]:
    """Whole numbers in the proportion of the weights, at most 1000 in sum, without a common divisor."""
    total = sum(Fraction(w) for w in weights)
    exact = [Fraction(w) / total * _FINEST for w in weights]
    counts = [int(e) for e in exact]
    by_remainder = sorted(range(len(counts)), key=lambda k: counts[k] - exact[k])
    for k in by_remainder[: _FINEST - sum(counts)]:
        counts[k] += 1
    if not all(counts):
        raise BadInput(f"the mix has weights {weights}; the smallest is below a thousandth of their sum")
    divisor = math.gcd(*counts)
    return [c // divisor for c in counts]


def interleave(counts: list[int]) -> np.ndarray:
    """(sum of counts,) int64: source of each slot of a block, every source spread evenly."""
    places = np.concatenate([(np.arange(c) + 0.5) / c for c in counts])
    return np.repeat(np.arange(len(counts)), counts)[np.argsort(places, kind="stable")]


@dataclass(frozen=True)
class MixReader:
    readers: tuple[Reader, ...]
    pattern: np.ndarray  # source of each slot of a block

    def __len__(self) -> int:
        counts = np.bincount(self.pattern)
        return len(self.pattern) * max(-(-len(r) // int(c)) for r, c in zip(self.readers, counts, strict=True))

    def __getitem__(self, index: int) -> Sample:
        reader, inside = self._find(index)
        return reader[inside]

    def name(self, index: int) -> str:
        reader, inside = self._find(index)
        return reader.name(inside)

    def digest(self) -> str:
        parts = "/".join(reader.digest() for reader in self.readers)
        return hashlib.sha256(parts.encode() + self.pattern.tobytes()).hexdigest()

    def _find(self, index: int) -> tuple[Reader, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        block, slot = divmod(index, len(self.pattern))
        source = int(self.pattern[slot])
        same = self.pattern == source
        inside = block * int(same.sum()) + int(same[:slot].sum())
        reader = self.readers[source]
        return reader, inside % len(reader)
