"""What an evaluation is: records of one image at a time, put together, and numbers at the end.

Any share of a data set can be scored anywhere: the records of all shares, in the data set's order, give the same
numbers as one pass. Sums would not do for medians, bootstrap intervals or average precision, so records are kept.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

R = TypeVar("R")


class Evaluation(Protocol):
    """A frozen dataclass of plain values; it holds no model and no records.

    A record is a NamedTuple whose first field is `image`, the sample's name, and whose others are what JSON can hold
    (numbers, text, lists, dicts): it may be written down in one process and read in another.
    """

    @property
    def record(self) -> Any:
        """The NamedTuple's class: `record(*row)` makes a record of what JSON has kept of it."""
        ...

    def update(self, sample: Any, predict: Any, /) -> tuple[Any, ...]:
        """Records of one image, () when nothing in it counts.

        Args:
          sample: a `sadist_jax.data.sample.Sample` with its ground truth.
          predict: a function of the image alone; what it returns is the evaluation's business.
        """
        ...

    def finish(self, records: Sequence[Any], /) -> dict[str, float]:
        """Name -> number; what cannot be said without records is left out, counts are 0."""
        ...

    def value(self, record: Any, /) -> float:
        """How good one record is, higher is better: it ranks the cases that are shown as pictures."""
        ...


def merge(parts: Iterable[Sequence[R]]) -> tuple[R, ...]:
    """All records, in the order of the parts."""
    return tuple(record for part in parts for record in part)


def evenly_spaced(count: int, limit: int | None) -> list[int]:
    """At most `limit` of `count` indices, the first and the last among them."""
    return np.linspace(0, count - 1, min(limit or count, count)).round().astype(int).tolist()
