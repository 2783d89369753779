"""Polygons -> masks by COCO's rule, so that areas agree with the annotations to the pixel.

The rule (cocodataset/cocoapi, common/maskApi.c, rleFrPoly) is a definition, not an approximation of one: vertices are
rounded on a grid five times finer than the pixels; every edge becomes a chain of grid points, one per step along its
longer axis; wherever the chain passes the middle of a pixel column, the mask toggles from the first pixel centre at or
below the upper end of that step, down the columns (column-major) until the next toggle.
"""

from collections.abc import Sequence

import numpy as np

from sadist_jax.errors import BadInput

_FINER = 5  # grid steps a pixel
_FARTHEST = 1e6  # pixels; beyond it a coordinate is damage, and the chain below would not fit into memory
_LONGEST = 2**26  # grid points of one outline


def to_mask(
    parts: Sequence[Sequence[float] | np.ndarray], size: tuple[int, int], source: str = "the polygon"
) -> np.ndarray:
    """Union of the parts as a mask uint8 {0, 1} (h, w).

    Args:
        parts: list of flat [x0, y0, x1, y1, ...], absolute pixels, pixel (0, 0) covers [0, 1) x [0, 1); closed by
            itself, may leave the image.
        size: (h, w) of the mask.
        source: what to call it in errors.
    Raises:
        BadInput: no part, fewer than 3 points, an odd number of coordinates, NaN or absurd coordinates.
    """
    if len(parts) == 0:
        raise BadInput(f"{source} has no parts; remove the annotation or give it an outline")
    height, width = size
    mask = np.zeros((height, width), np.uint8)
    for part in parts:
        toggles = _toggles(_read(part, source), height, width, source)
        if toggles.size:
            _fill(mask, toggles)
    return mask


def _read(part: Sequence[float] | np.ndarray, source: str) -> np.ndarray:
    """Checked (n, 2) float64."""
    try:
        flat = np.asarray(part, np.float64)
    except (TypeError, ValueError):
        flat = np.empty((0, 0))
    if flat.ndim != 1:
        raise BadInput(f"{source} must have parts that are flat lists of numbers [x0, y0, x1, y1, ...]")
    if flat.size % 2:
        raise BadInput(f"{source} has a part with an odd number of coordinates ({flat.size})")
    if flat.size < 6:
        raise BadInput(f"{source} has a part of {flat.size // 2} points; a polygon needs at least 3")
    if not (np.abs(flat) <= _FARTHEST).all():  # also false for NaN
        raise BadInput(f"{source} has a coordinate that is not a number or farther than {_FARTHEST:g} pixels away")
    return flat.reshape(-1, 2)


def _toggles(points: np.ndarray, height: int, width: int, source: str) -> np.ndarray:
    """Sorted column-major pixel indices at which one outline toggles the mask; height * width is past the end."""
    u, v = _chain(np.trunc(_FINER * points + 0.5).astype(np.int64), source)
    step = np.flatnonzero(u[1:] != u[:-1])
    column = np.minimum(u[step], u[step + 1])
    # grid point 5c + 2 to 5c + 3 is the step that passes the middle of pixel column c
    passes = (column % _FINER == 2) & (column >= 0) & (column < _FINER * width)
    step, column = step[passes], column[passes] // _FINER
    upper = (np.minimum(v[step], v[step + 1]) + 0.5) / _FINER - 0.5
    row = np.ceil(np.clip(upper, 0, height)).astype(np.int64)
    return np.sort(column * height + row)


def _fill(mask: np.ndarray, toggles: np.ndarray) -> None:
    """Set what one outline covers; only the columns between its first and last toggle are touched."""
    height = mask.shape[0]
    first, last = toggles[0] // height, -(-toggles[-1] // height)
    edges = np.concatenate([[first * height], toggles, [last * height]])
    runs = np.repeat((np.arange(edges.size - 1) & 1).astype(np.uint8), np.diff(edges))
    mask[:, first:last] |= runs.reshape(last - first, height).T


def _chain(corners: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Grid points along the closed outline through `corners` (n, 2) int64: x and y, each (m,) int64."""
    start, end = corners, np.roll(corners, -1, axis=0)
    reach = np.abs(end - start)
    flat = reach[:, 0] >= reach[:, 1]  # the longer axis is x
    steps = reach.max(axis=1)
    if steps.sum() > _LONGEST:
        raise BadInput(f"{source} has an outline of {steps.sum() // _FINER} pixels; the annotation is damaged")
    long, short = np.where(flat, 0, 1), np.where(flat, 1, 0)
    edge = np.arange(len(corners))
    # edges are walked towards growing coordinates, so that the rounding is the same in both directions
    flip = start[edge, long] > end[edge, long]
    low, high = np.where(flip[:, None], end, start), np.where(flip[:, None], start, end)
    slope = (high[edge, short] - low[edge, short]) / np.maximum(steps, 1)
    owner = np.repeat(edge, steps + 1)
    first = np.cumsum(steps + 1) - (steps + 1)
    t = np.arange(owner.size) - first[owner]
    t = np.where(flip[owner], steps[owner] - t, t)
    along = low[edge, long][owner] + t
    across = np.trunc(low[edge, short][owner] + slope[owner] * t + 0.5).astype(np.int64)
    return np.where(flat[owner], along, across), np.where(flat[owner], across, along)
