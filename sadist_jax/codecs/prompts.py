"""Prompts and what comes back for them; clicks and boxes from masks; checks of those that users give.

Coordinates are xy pixel indices (float32) of the frame that the mask has; label 1 is foreground, 0 background. All
randomness comes from the numpy Generator that is passed in. An empty mask has no point and no box: BadInput. A
prediction without error has no next click: None.
"""

from typing import NamedTuple

import numpy as np

from sadist_jax.codecs.distance import distance_to_boundary
from sadist_jax.errors import BadInput

Hw = tuple[int, int]  # (height, width)


class Prompt(NamedTuple):
    """What a user gives for one object; any combination, at least one of them.

    points: (n, 2) xy pixels of the original image. labels: (n,), 1 the object, 0 not the object; None: all 1.
    box: (4,) x0, y0, x1, y1 pixels of the original image.
    mask: (1, h, w) logits, as an earlier prediction's `low_res_logits`; not for EfficientSAM.
    """

    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    box: np.ndarray | None = None
    mask: np.ndarray | None = None


class Prediction(NamedTuple):
    """Masks for one prompt, in the model's order.

    masks: (c, H, W) bool on the original's pixels. ious: (c,) predicted quality. low_res_logits: (c, h, w) float32.
    """

    masks: np.ndarray
    ious: np.ndarray
    low_res_logits: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """(H, W) bool: the mask of highest predicted IoU."""
        return self.masks[int(self.ious.argmax())]


def sample_point(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniformly drawn pixel of the mask (h, w): xy (2,) float32. Raises BadInput when the mask is empty."""
    inside = np.flatnonzero(_plane(mask))
    if inside.size == 0:
        raise BadInput("the mask is empty, so no point can be drawn from it")
    return _to_xy(inside[rng.integers(inside.size)], mask.shape)


def farthest_point(mask: np.ndarray) -> np.ndarray:
    """SAM's first evaluation click: the pixel farthest from the object's boundary, xy (2,) float32.

    Outside of the image counts as outside of the object. Of equals, the first in reading order. Raises BadInput when
    the mask is empty.
    """
    distance = distance_to_boundary(_plane(mask))
    if not distance.any():
        raise BadInput("the mask is empty, so it has no innermost point")
    return _to_xy(int(distance.argmax()), mask.shape)


def box_of(mask: np.ndarray) -> np.ndarray:
    """Smallest box around the mask (h, w): xyxy (4,) float32, inclusive pixel indices [min, min, max, max] (SAM).

    A mask 4 pixels wide has x1 - x0 = 3. Raises BadInput when the mask is empty.
    """
    plane = _plane(mask)
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if rows.size == 0:
        raise BadInput("the mask is empty, so it has no box")
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)


def error_click(pred: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int] | None:
    """SAM's next training click: uniform over the wrong pixels, (xy (2,) float32, label).

    Label 1 where the object was missed, 0 where background was taken; None when nothing is wrong.
    """
    wrong = np.flatnonzero(_plane(pred) != _plane(target))
    if wrong.size == 0:
        return None
    pixel = wrong[rng.integers(wrong.size)]
    return _to_xy(pixel, target.shape), int(target.flat[pixel] != 0)


def farthest_error_click(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, int] | None:
    """SAM's next evaluation click: the wrong pixel farthest from the boundary of its error region, (xy, label).

    Missed and wrongly taken regions are separate regions even where they touch; a tie goes to the missed one. None
    when nothing is wrong.
    """
    pred, target = _plane(pred), _plane(target)
    missed, taken = distance_to_boundary(target & ~pred), distance_to_boundary(pred & ~target)
    if not (missed.any() or taken.any()):
        return None
    label = int(missed.max() >= taken.max())
    return _to_xy(int((missed if label else taken).argmax()), target.shape), label


def check_points(points: np.ndarray, hw: Hw) -> np.ndarray:
    """Points that a user gave -> float32 (n, 2) xy.

    Raises:
        BadInput: not (n, 2), not finite, or outside of the image (0 <= x < w and 0 <= y < h).
    """
    array = _numbers(points, "points")
    if array.ndim != 2 or array.shape[1] != 2:
        raise BadInput(f"points must be (n, 2) xy pixels, these are {array.shape}")
    for x, y in array:
        if not (0 <= x < hw[1] and 0 <= y < hw[0]):
            raise BadInput(f"point ({x:g}, {y:g}) lies outside the image, which is {hw[1]} wide and {hw[0]} high")
    return array


def check_box(box: np.ndarray, hw: Hw) -> np.ndarray:
    """Box that a user gave -> float32 (4,) xyxy. The right and lower edge may be w and h (exclusive ends).

    Raises:
        BadInput: not (4,), not finite, turned inside out, or outside of the image.
    """
    array = _numbers(box, "a box")
    if array.shape != (4,):
        raise BadInput(f"a box must be 4 numbers x0, y0, x1, y1, this one is {array.shape}")
    x0, y0, x1, y1 = array
    if x1 < x0 or y1 < y0:
        raise BadInput(f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) must be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1")
    if not (x0 >= 0 and y0 >= 0 and x1 <= hw[1] and y1 <= hw[0]):
        raise BadInput(
            f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) lies outside the image, which is {hw[1]} wide and {hw[0]} high"
        )
    return array


def _numbers(values: np.ndarray, what: str) -> np.ndarray:
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise BadInput(f"{what} must be numbers, in pixels") from None
    if not np.isfinite(array).all():
        raise BadInput(f"{what} must be finite numbers, in pixels")
    return array


def _plane(mask: np.ndarray) -> np.ndarray:
    return np.asarray(mask) != 0


def _to_xy(index: int, hw: Hw) -> np.ndarray:
    y, x = divmod(int(index), hw[1])
    return np.array([x, y], np.float32)
