"""Boundaries of masks, and how well two of them agree: the contour accuracy F of DAVIS.

Source: Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation".
What the paper leaves open (which pixels are boundary, the disk, empty boundaries) is as in its authors' evaluation code
(davisvideochallenge/davis2017-evaluation, davis2017/metrics.py).
"""

import math
from typing import NamedTuple

import numpy as np

TOLERANCE = 0.008  # of the image's diagonal: two boundary pixels so far apart still match (DAVIS)


class Matches(NamedTuple):
    """Counts of boundary pixels. Those of several images may be added, field by field (`total`).

    predicted, true: of the two boundaries. predicted_hits, true_hits: of these, near enough to the other boundary.
    """

    predicted: int
    predicted_hits: int
    true: int
    true_hits: int

    @property
    def precision(self) -> float:
        """Share of the predicted boundary that is near the true one; 1 where nothing is predicted."""
        return self.predicted_hits / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        """Share of the true boundary that is near the predicted one; 1 where there is none."""
        return self.true_hits / self.true if self.true else 1.0

    @property
    def f(self) -> float:
        """Harmonic mean of both: 1 where both boundaries are empty, 0 where one is."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def total(parts: list[Matches]) -> Matches:
    """Sum, field by field.

    >>> total([Matches(4, 2, 4, 4), Matches(4, 2, 0, 0)]).precision
    0.5
    """
    return Matches(*(sum(field) for field in zip(*parts, strict=True))) if parts else Matches(0, 0, 0, 0)


def boundary_of(mask: np.ndarray) -> np.ndarray:
    """Boundary one pixel wide: what differs from its neighbour to the right, below, or right below.

    It lies half a pixel above and to the left of the true boundary, on pixels inside and outside. The border of the
    image is none: an object that leaves the image is open there.

    Args:
        mask: (h, w) bool.
    Returns:
        (h, w) bool.

    >>> boundary_of(np.array([[0, 0, 0], [0, 1, 1], [0, 1, 1]], bool)).astype(int)
    array([[1, 1, 1],
           [1, 0, 0],
           [1, 0, 0]])
    """
    mask = np.asarray(mask, bool)
    wider = np.pad(mask, ((0, 1), (0, 1)), "edge")
    edge = (mask ^ wider[:-1, 1:]) | (mask ^ wider[1:, :-1])
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def boundary_matches(prediction: np.ndarray, truth: np.ndarray, *, tolerance: float = TOLERANCE) -> Matches:
    """Which part of each boundary lies near the other; `.f` is DAVIS' F.

    Near is within a disk of radius ceil(tolerance * diagonal) pixels, centre to centre, the rim included.

    Args:
        prediction: (h, w) bool.
        truth: (h, w) bool.
        tolerance: share of the image's diagonal.
    """
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if prediction.shape != truth.shape:
        raise ValueError(f"the prediction has {prediction.shape} pixels, the truth {truth.shape}")
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    ours, theirs = boundary_of(prediction), boundary_of(truth)
    return Matches(
        predicted=int(np.count_nonzero(ours)),
        predicted_hits=_count_near(ours, theirs, radius),
        true=int(np.count_nonzero(theirs)),
        true_hits=_count_near(theirs, ours, radius),
    )


def _count_near(some: np.ndarray, others: np.ndarray, radius: int) -> int:
    """How many pixels of `some` (h, w) have one of `others` in the disk around them.

    A row of the disk is an interval, and running sums along the rows tell whether it is empty. Nearest rows first: who
    has found one need not look on.
    """
    height, width = others.shape
    before = np.zeros((height, width + 1), np.int32)
    np.cumsum(others, axis=1, out=before[:, 1:])
    y, x = np.nonzero(some)
    count = y.size
    for dy in sorted(range(-radius, radius + 1), key=abs):
        half = math.isqrt(radius**2 - dy**2)
        left, right = np.maximum(x - half, 0), np.minimum(x + half + 1, width)
        row = np.clip(y + dy, 0, height - 1)
        alone = (row != y + dy) | (before[row, right] == before[row, left])
        y, x = y[alone], x[alone]
    return count - y.size
