"""Outlines with fewer corners, after Ramer (1972), Douglas and Peucker (1973)."""

import numpy as np


def simplify(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Closed outline (n, 2) -> some of its points (m, 2), in order: every other lies at most `tolerance` from its side.

    Cut in two at a pair of points far apart, as OpenCV's approxPolyDP does: the point farthest from the first, and the
    point farthest from that. Each half then keeps the point farthest from its chord, if farther than `tolerance`, and
    so on with its halves.

    >>> simplify(np.array([[0, 0], [4, 1], [8, 0], [8, 8], [0, 8]]), 2).tolist()
    [[0, 0], [8, 0], [8, 8], [0, 8]]
    """
    points = np.asarray(points)
    start = _farthest(points, 0)
    stop = _farthest(points, start)
    kept = {start, stop}
    ring = np.arange(len(points))
    low, high = sorted((start, stop))
    chains = [ring[low : high + 1], np.append(ring[high:], ring[: low + 1])]
    while chains:
        chain = chains.pop()
        far = _from_segment(points[chain], points[chain[0]], points[chain[-1]])
        split = int(far.argmax())
        if far[split] > tolerance:
            kept.add(int(chain[split]))
            chains += [chain[: split + 1], chain[split:]]
    return points[sorted(kept)]


def _farthest(points: np.ndarray, i: int) -> int:
    return int(np.square(points - points[i]).sum(1).argmax())


def _from_segment(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of each point (n, 2) from the segment between a and b, which may be one spot."""
    along = (b - a).astype(np.float64)
    length = np.square(along).sum()
    place = np.clip((points - a) @ along / length, 0, 1) if length else np.zeros(len(points))
    return np.linalg.norm(points - a - place[:, None] * along, axis=1)
