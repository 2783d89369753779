"""Masks -> polygons that COCO's rule (`polygons.to_mask`) turns back into the same masks, to the pixel.

Outlines run along the edges of the pixels, with the object to their right. Only corners are listed: each has one edge
along x and one along y, and the corners on a grid line, in order, are joined in pairs. That gives every corner its
successor without a walk from pixel to pixel. Where two pixels touch only diagonally, two corners share a spot.

COCO's parts are a union, so a hole cannot be a part. Within one part, however, the rule toggles (even-odd), so a hole
is joined to the outline above it by a cut of no width: there and back, it toggles nothing.
"""

from typing import NamedTuple

import numpy as np


class _Corners(NamedTuple):
    """In reading order; of two on one spot, first the one whose edge along x lies to the left.

    x, y: int64 (n,), of the grid; (0, 0) is the upper left corner of the image. right, below: bool (n,), where its two
    edges lie, else left and above. along: bool (n,), the outline leaves by the edge along x.
    """

    x: np.ndarray
    y: np.ndarray
    right: np.ndarray
    below: np.ndarray
    along: np.ndarray


def to_polygons(mask: np.ndarray) -> list[list[int]]:
    """Mask -> its connected parts as COCO polygons.

    Args:
        mask: (h, w) bool, or a number where anything but 0 is inside. Pixels are connected by their sides.
    Returns:
        one flat [x0, y0, x1, y1, ...] a part, closed by itself, in reading order of the parts' first pixels; absolute
        pixels, pixel (0, 0) covers [0, 1) x [0, 1). Of an empty mask [], which COCO has no polygon for.

    >>> to_polygons(np.array([[0, 1, 1], [1, 0, 0]]))
    [[1, 0, 3, 0, 3, 1, 1, 1], [0, 1, 1, 1, 1, 2, 0, 2]]
    """
    mask = np.asarray(mask) != 0
    if mask.ndim != 2:
        raise ValueError(f"a mask must be (h, w), this one is {mask.shape}")
    framed = np.pad(mask, 1)
    corners = _corners(framed)
    if not corners.x.size:
        return []
    points, following = _cut_to_holes(framed, corners, _following(corners))
    first, place = _cycles(following)
    order = np.lexsort([place, first])
    starts = np.flatnonzero(np.diff(first[order]))
    return [part.ravel().tolist() for part in np.split(points[order], starts + 1)]


def _corners(framed: np.ndarray) -> _Corners:
    """Corners of all outlines. framed: bool (h + 2, w + 2), with a ring of background."""
    nw, ne, sw, se = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    left, right, above, below = nw != sw, ne != se, nw != ne, sw != se
    double = left & right & above & below
    y, x = np.nonzero(double | ((left != right) & (above != below)))
    copies = 1 + double[y, x]
    y, x = np.repeat(y, copies), np.repeat(x, copies)
    second = np.append(False, (y[1:] == y[:-1]) & (x[1:] == x[:-1]))
    on_right = np.where(double[y, x], second, right[y, x])
    on_below = np.where(double[y, x], second == se[y, x], below[y, x])
    object_below = np.where(on_right, se[y, x], sw[y, x])  # then the edge along x is walked to the right
    return _Corners(x, y, on_right, on_below, on_right == object_below)


def _following(corners: _Corners) -> np.ndarray:
    """(n,) int64: index of the corner that comes after each."""
    index = np.arange(corners.x.size)
    order = np.lexsort([corners.below, corners.y, corners.x])
    down = np.empty_like(index)
    down[order] = order[index ^ 1]  # first and second, third and fourth, ...
    return np.where(corners.along, index ^ 1, down)


def _cut_to_holes(framed: np.ndarray, corners: _Corners, following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points xy (m, 2) and their successors (m,), with every hole joined to an edge of what surrounds it.

    From a hole's first corner the cut goes up through the object to the next edge along x. It adds three points: where
    it meets the edge, the corner again after the hole, and the meeting again. Several may meet one edge.
    """
    x, y, width = corners.x, corners.y, framed.shape[1]
    roots = np.flatnonzero(_cycles(following)[0] == np.arange(x.size))
    holes = roots[~framed[y[roots] + 1, x[roots] + 1]]
    if not holes.size:
        return np.stack([x, y], 1), following
    rows = np.arange(framed.shape[0])[:, None]
    top = np.maximum.accumulate(np.where(framed, 0, rows), axis=0)[y[holes], x[holes] + 1]  # y of that edge
    lefts = np.flatnonzero(corners.right)
    edge = lefts[np.searchsorted((y * width + x)[lefts], top * width + x[holes], side="right") - 1]  # its left end
    order = np.lexsort([x[holes], edge])
    holes, top, edge = holes[order], top[order], edge[order]

    meeting, again, back = x.size + np.arange(3 * holes.size).reshape(3, -1)
    before = np.argsort(following)[holes]  # the corner that closes the hole
    following = np.concatenate([following, holes, back, back])
    following[before] = again
    opens = np.append(True, edge[1:] != edge[:-1])  # the first of the holes that hang on an edge
    following[back] = np.where(np.roll(opens, -1), following[edge], np.roll(meeting, -1))
    following[edge[opens]] = meeting[opens]
    added = [np.stack([x[holes], row], 1) for row in (top, y[holes], top)]
    return np.concatenate([np.stack([x, y], 1), *added]), following


def _cycles(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(least index on the cycle of each, a number that rises along the cycle from there), both int64 (n,).

    Jumps of doubled length: log2(n) rounds, whatever the cycles are.
    """
    index, rounds = np.arange(following.size), range(following.size.bit_length())
    least, jump = index, following
    for _ in rounds:
        least, jump = np.minimum(least, least[jump]), jump[jump]
    left = (least != index).astype(np.int64)  # steps to the least, which itself goes nowhere
    jump = np.where(least == index, index, following)
    for _ in rounds:
        left, jump = left + left[jump], jump[jump]
    return least, np.where(least == index, -following.size, -left)
