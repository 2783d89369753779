"""Weighted F of Margolin, Zelnik-Manor and Tal 2014, "How to Evaluate Foreground Maps?"."""

import numpy as np
from scipy import ndimage

# The authors' constants, as PySODMetrics has them (py_sod_metrics/sod_metrics.py, WeightedFmeasure)
SIGMA = 5.0  # pixels, of the Gaussian by which an error depends on those around it
RADIUS = 3  # pixels: the Gaussian is cut off to 7 x 7
HALF_WAY = 5.0  # pixels from the object at which a wrong background pixel has half of its extra weight


def weighted_f(prediction: np.ndarray, truth: np.ndarray, *, beta2: float = 1.0) -> float:
    """F of precision and recall in which pixels depend on their neighbours and count by where they are.

    E = |prediction - truth|. On the object, an error counts at most as much as the mean of the errors around it
    (Gaussian, zeros beyond the image; a background pixel is given the error of the object's pixel nearest to it):
    a miss amid hits is small. On the background, an error at distance d from the object weighs 2 - 0.5^(d / 5).
    With these weighted errors Ew and n = |object|,
      TP = n - sum of Ew on the object, FP = sum of Ew on the background,
      R = TP / n, P = TP / (TP + FP), F = (1 + beta2) P R / (beta2 P + R).

    Where two pixels are equally near, SciPy's distance transform decides, so that the numbers are those of PySODMetrics
    (WeightedFmeasure, without its stretching of the prediction to 0 .. 1); MATLAB's bwdist may choose the other. An
    object at the border of the image is smoothed with the zeros beyond it: even an empty prediction scores more than 0
    there. That is the measure as published.

    Args:
        prediction: (h, w) bool or float in [0, 1].
        truth: (h, w) bool. Without an object the measure has no value; like PySODMetrics, 0.
        beta2: weight of recall against precision; the paper's 1.
    Returns:
        in [0, 1], higher is better.

    >>> square = np.pad(np.ones((4, 4), bool), 6)
    >>> weighted_f(square, square)
    1.0
    """
    truth, prediction = np.asarray(truth, bool), np.asarray(prediction, np.float64)
    if prediction.shape != truth.shape:
        raise ValueError(f"the prediction has {prediction.shape} pixels, the truth {truth.shape}")
    if not ((prediction >= 0) & (prediction <= 1)).all():  # also true for NaN
        raise ValueError("the prediction must lie in [0, 1]")
    if not truth.any():
        return 0.0
    box = _box_of((prediction > 0) | truth)
    prediction, truth = prediction[box], truth[box]
    weighted, area = _weighted_errors(np.abs(prediction - truth), truth), np.count_nonzero(truth)
    hits, wrong = area - weighted[truth].sum(), weighted[~truth].sum()
    if hits <= 0:
        return 0.0
    precision, recall = hits / (hits + wrong), hits / area
    return float((1 + beta2) * precision * recall / (beta2 * precision + recall))


def _box_of(mask: np.ndarray) -> tuple[slice, slice]:
    """Beyond it there are no errors, nor pixels that the Gaussian takes to the object: leaving them out is exact."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y, x = (slice(max(0, found[0] - RADIUS), found[-1] + RADIUS + 1) for found in (rows, columns))
    return y, x


def _weighted_errors(error: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(h, w) float64: Ew of the docstring above."""
    distance, nearest = np.empty(truth.shape), np.empty((2, *truth.shape), np.int32)
    ndimage.distance_transform_edt(~truth, return_indices=True, distances=distance, indices=nearest)
    around = ndimage.gaussian_filter(error[tuple(nearest)], SIGMA, mode="constant", radius=RADIUS)
    dependent = np.where(truth, np.minimum(error, around), error)
    return dependent * (2 - 0.5 ** (distance / HALF_WAY))  # on the object the distance is 0 and the weight 1
