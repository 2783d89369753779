import numpy as np
import pytest
from skimage import measure

from sadist_jax.codecs.simplify import simplify


def test_corners_are_scikit_images():
    """scikit-image's Douglas-Peucker on the two halves between the same pair of points gives the same corners."""
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = 30 + 6 * np.sin(5 * angle) + np.random.default_rng(0).normal(0, 0.5, 200)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    start = np.linalg.norm(ring - ring[0], axis=1).argmax()
    stop = np.linalg.norm(ring - ring[start], axis=1).argmax()
    low, high = sorted((start, stop))
    for tolerance in (0.5, 2.0, 7.0):
        halves = [ring[low : high + 1], np.concatenate([ring[high:], ring[: low + 1]])]
        expected = np.concatenate([measure.approximate_polygon(half, tolerance)[:-1] for half in halves])
        found = simplify(ring, tolerance)
        assert {tuple(p) for p in found} == {tuple(p) for p in expected}
        assert len(found) < 200
    assert simplify(ring, 100.0).tolist() == ring[[low, high]].tolist()


@pytest.mark.parametrize("start", [0, 3, 11])
def test_a_square_keeps_its_corners_wherever_the_outline_begins(start):
    side = np.arange(4)
    square = np.concatenate(
        [
            np.stack([side, 0 * side], 1),
            np.stack([4 + 0 * side, side], 1),
            np.stack([4 - side, 4 + 0 * side], 1),
            np.stack([0 * side, 4 - side], 1),
        ]
    )
    found = simplify(np.roll(square, start, 0), 0.5)
    assert {tuple(p) for p in found.tolist()} == {(0, 0), (4, 0), (4, 4), (0, 4)}


def test_one_point_and_a_line_there_and_back():
    assert simplify(np.array([[3, 4]]), 1.0).tolist() == [[3, 4]]
    assert simplify(np.array([[0, 0], [5, 0], [9, 0], [5, 0]]), 1.0).tolist() == [[0, 0], [9, 0]]
    assert len(simplify(np.array([[0, 0], [5, 2], [9, 0], [5, -2]]), 1.0)) == 4
