"""Holes and islands of a mask that are smaller than an area: filled, and removed."""

from typing import cast

import numpy as np
from scipy import ndimage

EIGHT = np.ones((3, 3), int)  # diagonal neighbours belong together, as in segment-anything


def fill_holes(mask: np.ndarray, area: float) -> tuple[np.ndarray, bool]:
    """(bool (h, w) whose holes of fewer pixels than `area` are mask, whether there was one).

    A hole may touch the edge of the image.
    """
    labels, sizes = _parts(~mask)
    small = sizes < area
    small[0] = False
    return mask | small[labels], bool(small.any())


def remove_islands(mask: np.ndarray, area: float) -> tuple[np.ndarray, bool]:
    """(bool (h, w) without parts of fewer pixels than `area`, whether there was one).

    When all are that small, the largest stays (segment-anything's code; the paper, app. B, drops such masks).
    """
    labels, sizes = _parts(mask)
    keep = sizes >= area
    keep[0] = False
    small = not keep[1:].all()
    if small and not keep.any():
        keep[1 + sizes[1:].argmax()] = True
    return keep[labels], small


def _parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(number of the part of each pixel, 0 outside; pixels of each part)."""
    labels, many = cast(tuple[np.ndarray, int], ndimage.label(mask, EIGHT))
    return labels, np.bincount(labels.ravel(), minlength=many + 1)
