"""Semantic segmentation: a class for every pixel, compared with the true one.

Sources: Everingham et al. 2015 (Pascal VOC: IoU from the pixels of the whole set, 255 ignored); Long et al. 2015 (the
four numbers: pixel accuracy, mean accuracy, mean IoU, frequency-weighted IoU); for boundaries `codecs/boundary.py`, for
weighted F `weighted_f.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sadist_jax.codecs.boundary import Matches, boundary_matches, total
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.weighted_f import weighted_f

VOID = -1  # in maps of positions: no class is known here

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 RGB (H, W, 3) -> class ids, whole numbers (H, W)


class Record(NamedTuple):
    """Counts of one image.

    image: name of the sample.
    pixels: [true class, predicted class, number of pixels], classes by their position in `SemanticMaps.classes`; one
      past the last: predicted to be none.
    boundary: name of a class -> `Matches`, for those in the truth or the prediction.
    weighted_f: name of a class -> F, for those in the truth.
    """

    image: str
    pixels: list[list[int]]
    boundary: dict[str, list[int]]
    weighted_f: dict[str, float]


@dataclass(frozen=True)
class SemanticMaps:
    """IoU of classes, accuracy of boundaries, weighted F.

    The true map is made from the sample's masks and their categories, crowds included: where masks overlap the later
    one counts; where there is none, or its category is in `ignore`, the pixel is void. A source of label maps should
    keep its background, if that is a class: `LabelMaps(..., ignore=(255,))`.

    Void pixels count nowhere; for boundaries and weighted F they belong to no class in either map (as in DAVIS 2017).

    Attributes:
      classes: ids in the data set, as the prediction has them.
      names: of the classes, in the same order, for the numbers' names; (): the ids.
      ignore: ids that are void in the truth. A prediction may have them too, for "none of the classes": always wrong.
      background: classes without boundary and weighted F of their own (HFPL leaves out the background).
      boundary: whether to compare boundaries.
      weighted_f: whether to compute weighted F, the slowest part.

    Example:
      evaluation = SemanticMaps(classes=tuple(range(21)), background=(0,))
      records = merge(evaluation.update(sample, predict) for sample in samples)
      evaluation.finish(records)["miou"]
    """

    classes: tuple[int, ...]
    names: tuple[str, ...] = ()
    ignore: tuple[int, ...] = (255,)
    background: tuple[int, ...] = ()
    boundary: bool = True
    weighted_f: bool = True

    def __post_init__(self):
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise BadInput(f"classes must be different ids, at least one, these are {list(self.classes)}")
        if both := sorted(set(self.classes) & set(self.ignore)):
            raise BadInput(f"id {both[0]} is in classes and in ignore; it can be one of them only")
        if strange := sorted(set(self.background) - set(self.classes)):
            raise BadInput(f"background has id {strange[0]}, which is not in classes; add it there")
        if self.names and (len(self.names) != len(self.classes) or len(set(self.names)) < len(self.names)):
            raise BadInput(f"names must be {len(self.classes)} different names, one for each of classes")

    @property
    def record(self) -> type[Record]:
        return Record

    def update(self, sample: Sample, predict: Predict) -> tuple[Record, ...]:
        """The record of one image, () when all its pixels are void.

        Raises BadInput: a category or a predicted id that is neither in classes nor in ignore, a map of another size or
        not of whole numbers.
        """
        truth = self._truth(sample)
        known = truth != VOID
        if not known.any():
            return ()
        guess = self._guess(np.asarray(predict(sample.image)), truth.shape, sample.name)
        columns = len(self.classes) + 1
        cells, counts = np.unique(truth[known] * columns + guess[known], return_counts=True)
        pixels = [[*divmod(cell, columns), count] for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)]
        record = Record(sample.name, pixels, {}, {})
        for position in sorted({i for row in pixels for i in row[:2]} - self._unmeasured):
            self._measure(record, self._names[position], guess == position, truth == position, known)
        return (record,)

    def finish(self, records: Sequence[Record]) -> dict[str, float]:
        """Name -> number, all but "images" and "pixels" (those not void) in [0, 1].

        miou: mean over classes of IoU, from the pixels of all images; a class that neither occurs nor is predicted is
          left out, one that is only predicted has 0. iou_NAME: of one class.
        pixel_accuracy, mean_accuracy (over the classes that occur, of the share of their pixels that is found), fw_iou:
          IoU weighted by how often a class occurs.
        boundary_f: F of one class from the boundary pixels of all images, then the mean over classes, as HFPL
          averages (its code takes void for background in the truth and does not take it out of the prediction).
        boundary_f_image, weighted_f: mean over the classes that occur in an image, then over images. Ours: DAVIS has
          one object a score, and papers that report weighted F for classes (SATIR) do not say how they average.
        """
        counts = self.confusion(records)
        numbers: dict[str, float] = {"images": len(records), "pixels": int(counts.sum())}
        if not records:
            return numbers
        true, right, ious = counts.sum(1), np.diagonal(counts), _ious(counts)
        occurs = true > 0
        numbers |= {
            "miou": float(np.nanmean(ious)),
            "pixel_accuracy": float(right.sum() / true.sum()),
            "mean_accuracy": float(np.mean(right[occurs] / true[occurs])),
            "fw_iou": float(np.sum(true[occurs] * ious[occurs]) / true.sum()),
        }
        numbers |= self._f_numbers(records)
        return numbers | {
            f"iou_{name}": float(iou) for name, iou in zip(self._names, ious, strict=True) if not np.isnan(iou)
        }

    def value(self, record: Record) -> float:
        """Mean IoU of the image alone."""
        return float(np.nanmean(_ious(self.confusion([record]))))

    def confusion(self, records: Sequence[Record]) -> np.ndarray:
        """(n, n + 1) int64: pixels by true class and predicted class, in the order of `classes`; last column: none."""
        counts = np.zeros((len(self.classes), len(self.classes) + 1), np.int64)
        for record in records:
            rows, columns, pixels = np.array(record.pixels, np.int64).T
            counts[rows, columns] += pixels
        return counts

    def _f_numbers(self, records: Sequence[Record]) -> dict[str, float]:
        numbers, matches = {}, [{name: Matches(*m) for name, m in record.boundary.items()} for record in records]
        if names := sorted({name for image in matches for name in image}):
            totals = [total([image[name] for image in matches if name in image]) for name in names]
            numbers["boundary_f"] = float(np.mean([each.f for each in totals]))
        occurring = [{self._names[row] for row, _, _ in record.pixels} for record in records]
        by_image = {
            "boundary_f_image": [
                [m.f for name, m in image.items() if name in here]
                for image, here in zip(matches, occurring, strict=True)
            ],
            "weighted_f": [list(record.weighted_f.values()) for record in records],
        }
        for number, images in by_image.items():
            if means := [np.mean(image) for image in images if image]:
                numbers[number] = float(np.mean(means))
        return numbers

    def _measure(self, record: Record, name: str, guess: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """Boundary and weighted F of one class: masks (H, W) of the predicted and the true one."""
        guess = guess & known
        if self.boundary:
            record.boundary[name] = list(boundary_matches(guess, truth))
        if self.weighted_f and truth.any():
            record.weighted_f[name] = weighted_f(guess, truth)

    def _truth(self, sample: Sample) -> np.ndarray:
        """(H, W) int64: positions in `classes`, or VOID."""
        truth = np.full(sample.image.shape[:2], VOID, np.int64)
        for category, mask in zip(np.asarray(sample.category).tolist(), sample.masks, strict=True):
            position = self._positions.get(category)
            if position is None:
                raise BadInput(
                    f"{sample.name} has a mask without a category; semantic maps need a source with categories"
                    if category == -1
                    else f"{sample.name} has category {category}; name it in classes or in ignore"
                )
            truth[np.asarray(mask, bool)] = VOID if position == len(self.classes) else position
        return truth

    def _guess(self, ids: np.ndarray, hw: tuple[int, ...], name: str) -> np.ndarray:
        """(H, W) int64: positions in `classes`, one past the last for none."""
        if ids.dtype.kind not in "iub":
            raise BadInput(f"{name}: the predicted map must hold class ids, whole numbers, this one is of {ids.dtype}")
        if ids.shape != hw:
            raise BadInput(f"{name}: the predicted map is {ids.shape}, the image {hw} (h, w); predict at its full size")
        found, where = np.unique(ids, return_inverse=True)
        if strange := [i for i in found.tolist() if i not in self._positions]:
            raise BadInput(f"{name}: the predicted map has id {strange[0]}, which is neither in classes nor in ignore")
        return np.array([self._positions[i] for i in found.tolist()], np.int64)[where.reshape(hw)]

    @cached_property
    def _positions(self) -> dict[int, int]:
        """Id -> position; those in ignore are one past the last."""
        return {i: position for position, i in enumerate(self.classes)} | dict.fromkeys(self.ignore, len(self.classes))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return self.names or tuple(str(i) for i in self.classes)

    @cached_property
    def _unmeasured(self) -> set[int]:
        """Positions without boundary and weighted F."""
        return {self.classes.index(i) for i in self.background} | {len(self.classes)}


def _ious(counts: np.ndarray) -> np.ndarray:
    """(n,) from a confusion matrix (n, n + 1); NaN where a class neither occurs nor is predicted."""
    right = np.diagonal(counts)
    union = counts.sum(1) + counts[:, :-1].sum(0) - right
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)
