"""Edges against those that people drew: the boundary benchmark of BSDS500.

Source: Arbelaez et al. 2011, "Contour detection and hierarchical image segmentation", sec. 3.1, and the code of the
benchmark (`evaluation_bdry_image`, `collect_eval_bdry`), whose names are kept. R50 is that of Dollar and Zitnick 2015,
"Fast edge detection using structured forests". SAM has ODS .768, OIS .786, AP .794 and R50 .928 (Kirillov et al. 2023,
"Segment Anything", sec. 7.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.edge_matching import match
from sadist_jax.evals.thinning import thin

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 RGB (H, W, 3) -> strength of edges (H, W) in 0..1


class Record(NamedTuple):
    """Numbers of pixels in one image; the lists go with the thresholds, in rising order.

    sum_r: drawn by people, each counted for himself. count_r: of these, matched to a predicted pixel.
    sum_p: predicted. count_p: of these, matched to a pixel of somebody.
    """

    image: str
    sum_r: int
    count_r: list[int]
    sum_p: list[int]
    count_p: list[int]


@dataclass(frozen=True)
class Edges:
    """Precision and recall of thresholded edges, and what follows from them.

    A map is thresholded (>=), thinned, and matched to each person's drawing by itself (`edge_matching`). Recall is the
    share of all people's pixels that are matched, precision that of the predicted pixels that are matched to anybody.

    thresholds: how many, at k / (thresholds + 1).
    max_distance: of matched pixels, by the image's diagonal.

    Example:
      evaluation = Edges()
      records = [record for sample in samples for record in evaluation.update(sample, predict)]
      evaluation.finish(records)["ods"]
    """

    record: ClassVar = Record

    thresholds: int = 99
    max_distance: float = 0.0075

    def __post_init__(self):
        if self.thresholds < 1 or not self.max_distance >= 0:
            raise BadInput("thresholds must be 1 or more, and max_distance not negative")

    def update(self, sample: Sample, predict: Predict) -> tuple[Record, ...]:
        """The record of one image, () when nobody drew anything in it.

        sample: `masks` are the edges that people drew, one map each, as `data.bsds.BsdsBoundaries` gives them.
        """
        drawn = [np.asarray(mask, bool) for mask in sample.masks]
        if not drawn:
            return ()
        strength = np.asarray(predict(sample.image))
        if strength.shape != drawn[0].shape:
            raise ValueError(f"{sample.name}: edges have {strength.shape} pixels, people drew on {drawn[0].shape}")
        largest = self.max_distance * float(np.hypot(*strength.shape))
        counts: list[tuple[int, int, int]] = []
        before = None
        for threshold in self._thresholds():
            edges = thin(strength >= threshold)
            same = before is not None and np.array_equal(edges, before)
            counts.append(counts[-1] if same else _count(edges, drawn, largest))
            before = edges
        count_r, sum_p, count_p = (list(column) for column in zip(*counts, strict=True))
        return (Record(sample.name, int(np.sum(drawn)), count_r, sum_p, count_p),)

    def finish(self, records: Sequence[Record]) -> dict[str, float]:
        """Name -> number.

        images: how many. ods, ods_threshold, ods_precision, ods_recall: best F with one threshold for all images, on
        the curve of precision and recall, drawn straight from threshold to threshold. ois, ois_precision, ois_recall:
        F with the best threshold of each image (the lowest of equals), not interpolated. ap: `average_precision`.
        r50: `recall_at_half`. Pixels are summed over the images first. Without records there is only "images", 0.
        """
        if not records:
            return {"images": 0}
        counts = np.array([_columns(record) for record in records], np.float64)  # (images, 4, thresholds)
        recall, precision = _curve(counts.sum(0))
        threshold, r, p, f = best_f(self._thresholds(), recall, precision)
        best = [int(np.argmax(f_measure(*_curve(one)))) for one in counts]
        own = counts[np.arange(len(counts)), :, best].sum(0)
        ois_r, ois_p = (float(x) for x in _curve(own))
        ods = {"ods": f, "ods_threshold": threshold, "ods_precision": p, "ods_recall": r}
        ois = {"ois": float(f_measure(ois_r, ois_p)), "ois_precision": ois_p, "ois_recall": ois_r}
        ends = {"ap": average_precision(recall, precision), "r50": recall_at_half(recall, precision)}
        return {"images": len(records)} | ods | ois | ends

    def value(self, record: Record) -> float:
        """Best F of the image, at one of the thresholds."""
        return float(f_measure(*_curve(np.array(_columns(record), np.float64))).max())

    def _thresholds(self) -> np.ndarray:
        return np.arange(1, self.thresholds + 1) / (self.thresholds + 1)


def f_measure(recall: np.ndarray | float, precision: np.ndarray | float) -> np.ndarray:
    """Harmonic mean, 0 where both are 0."""
    both = np.add(recall, precision)
    return 2 * np.multiply(recall, precision) / np.where(both == 0, 1, both)


def best_f(thresholds: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> tuple[float, float, float, float]:
    """(threshold, recall, precision, F) where F is best, the first of equals.

    Between neighbouring thresholds recall and precision are interpolated at 100 places, as the benchmark does.
    """
    share = np.linspace(0, 1, 100)
    t, r, p = (
        np.append(x[0], (x[:-1, None] * (1 - share) + x[1:, None] * share).ravel())
        for x in (thresholds, recall, precision)
    )
    f = f_measure(r, p)
    best = int(np.argmax(f))
    return float(t[best]), float(r[best]), float(p[best]), float(f[best])


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the curve of precision over recall.

    As in the benchmark: a hundredth of the sum of the precisions at recalls 0, 0.01, ..., 1 (so up to 1.01), linearly
    interpolated; 0 outside the range of recalls, and in all when there is but one recall; of the thresholds of
    equal recall the lowest counts.
    """
    unique, first = np.unique(recall, return_index=True)
    if len(unique) == 1:
        return 0.0
    return 0.01 * float(np.interp(np.arange(101) / 100, unique, precision[first], left=0, right=0).sum())


def recall_at_half(recall: np.ndarray, precision: np.ndarray) -> float:
    """Recall where precision is 0.5, linearly interpolated over the precisions in rising order.

    Of the thresholds of equal precision the lowest counts. Where precision is always above 0.5: recall at the lowest
    precision, as in the structured forests' code; where it is always below: 0 (ours; their code gives NaN).
    """
    unique, first = np.unique(precision, return_index=True)
    if unique[-1] < 0.5:
        return 0.0
    return float(np.interp(0.5, unique, recall[first]))


def _count(edges: np.ndarray, drawn: Sequence[np.ndarray], largest: float) -> tuple[int, int, int]:
    """(count_r, sum_p, count_p) at one threshold."""
    anybody, count_r = np.zeros(edges.shape, bool), 0
    for person in drawn:
        right, recalled = match(edges, person, largest)
        anybody |= right
        count_r += int(np.count_nonzero(recalled))
    return count_r, int(np.count_nonzero(edges)), int(np.count_nonzero(anybody))


def _columns(record: Record) -> list[list[int]]:
    """count_r, sum_r, count_p, sum_p, each by threshold."""
    return [record.count_r, [record.sum_r] * len(record.count_r), record.count_p, record.sum_p]


def _curve(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recall, precision) of counts (4, ...); 0 where nothing was drawn, or predicted."""
    count_r, sum_r, count_p, sum_p = counts
    return count_r / np.where(sum_r == 0, 1, sum_r), count_p / np.where(sum_p == 0, 1, sum_p)
