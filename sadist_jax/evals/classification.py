"""Classification of whole images: is the class of the image among the k that the model finds likeliest?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 RGB (H, W, 3) -> logits (C,)


class Record(NamedTuple):
    """image: name of the sample. label: its class. rank: of that class among the logits, from 0; None: one is NaN."""

    image: str
    label: int
    rank: int | None


@dataclass(frozen=True)
class TopK:
    """Top-k accuracy, as on ImageNet (Russakovsky et al. 2015) with k = 1 and 5.

    Of classes with equal logits the one with the lower index comes first. A row with a NaN is a wrong answer for every
    k. Both are ours.

    Resizing and cropping is the business of `predict`, or of the source whose images it sees.

    ks: how many guesses a model has.

    Example:
      evaluation = TopK()
      records = merge(evaluation.update(sample, predict) for sample in samples)
      evaluation.finish(records)["top_1"]
    """

    ks: tuple[int, ...] = (1, 5)

    @property
    def record(self) -> type[Record]:
        return Record

    def update(self, sample: Sample, predict: Predict) -> tuple[Record, ...]:
        """The record of one image. Raises BadInput: no label, not one row of logits, too few classes."""
        label = int(sample.label)
        if label < 0:
            raise BadInput(f"{sample.name} has no class; accuracy needs a source that gives every image a label")
        logits = np.asarray(predict(sample.image), np.float64)
        self._check(logits.shape, label, sample.name)
        return (Record(sample.name, label, rank_of(logits, label)),)

    def finish(self, records: Sequence[Record]) -> dict[str, float]:
        """Number of "images", and "top_k" for each k: the share of right answers, in [0, 1]."""
        numbers: dict[str, float] = {"images": len(records)}
        if not records:
            return numbers
        ranks = np.array([np.inf if record.rank is None else record.rank for record in records])
        return numbers | {f"top_{k}": float(np.mean(ranks < k)) for k in self.ks}

    def value(self, record: Record) -> float:
        """1 / (1 + rank): 1 for a right answer, 0 for none."""
        return 0.0 if record.rank is None else 1 / (1 + record.rank)

    def _check(self, shape: tuple[int, ...], label: int, name: str) -> None:
        if len(shape) != 1:
            raise BadInput(f"{name}: a classifier must answer with one row of logits (C,), this one gave {shape}")
        if label >= shape[0]:
            raise BadInput(
                f"{name} is of class {label}, but the model knows {shape[0]} classes; use one trained on this data set"
            )
        if self.ks and max(self.ks) >= shape[0]:
            raise BadInput(
                f"top-{max(self.ks)} is always right with {shape[0]} classes; ask for fewer, such as ks=(1,)"
            )


def rank_of(logits: np.ndarray, label: int) -> int | None:
    """How many classes come before `label`: larger logits, and equal ones of lower index. None: there is a NaN.

    >>> rank_of(np.array([0.5, 2.0, 0.5]), 2)
    2
    """
    if np.isnan(logits).any():
        return None
    return int(np.count_nonzero(logits > logits[label]) + np.count_nonzero(logits[:label] == logits[label]))
