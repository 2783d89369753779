"""Polygons: equal to pycocotools to the pixel, and strict about damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadist_jax.codecs import polygons
from sadist_jax.errors import BadInput

coco = pytest.importorskip("pycocotools.mask")
# pycocotools itself is behind NumPy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def reference(parts, height, width):
    codes = coco.frPyObjects([np.asarray(p, float).tolist() for p in parts], height, width)
    return coco.decode(coco.merge(codes))


coordinates = st.one_of(st.floats(-20, 80), st.integers(-80, 320).map(lambda i: i / 4), st.integers(-10, 60))
outlines = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12).map(
    lambda points: [float(c) for p in points for c in p]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(outlines, min_size=1, max_size=3), st.integers(1, 50), st.integers(1, 50))
def test_masks_equal_pycocotools(parts, height, width):
    ours = polygons.to_mask(parts, (height, width))
    assert ours.dtype == np.uint8
    assert ours.shape == (height, width)
    np.testing.assert_array_equal(ours, reference(parts, height, width))


def test_big_smooth_outlines_equal_pycocotools():
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    for _ in range(20):
        radius = 150 + 60 * np.sin(rng.integers(2, 9) * angle + rng.uniform(0, 6))
        points = np.stack([320 + radius * np.cos(angle), 240 + radius * np.sin(angle)], 1) + rng.normal(0, 30, 2)
        parts = [np.round(points, 2).ravel().tolist(), [1.5, 2, 100.25, 3, 50, 90]]
        np.testing.assert_array_equal(polygons.to_mask(parts, (480, 640)), reference(parts, 480, 640))


def test_whole_pixel_rectangle_covers_its_pixels():
    mask = polygons.to_mask([[2, 1, 6, 1, 6, 4, 2, 4]], (6, 8))
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 2:6] = 1
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "no parts"),
        ([[0, 0, 4, 4]], "2 points"),
        ([[]], "0 points"),
        ([[0, 0, 4, 4, 2]], "odd"),
        ([[0, 0, 4, 4, np.nan, 2]], "not a number"),
        ([[0, 0, 4, 4, np.inf, 2]], "not a number"),
        ([[0, 0, 4, 4, 1e12, 2]], "farther"),
        ([[0, 0, 4, 4, None, "x"]], "flat lists"),
        ([[[0, 0], [4, 4], [0, 4]]], "flat lists"),
        ([[-1e6, -1e6, 1e6, 1e6] * 10], "damaged"),
        ([[0, 0, 4, 0, 4, 4], [0, 1]], "1 points"),
    ],
)
def test_damage_is_one_sentence_that_names_the_source(parts, says):
    with pytest.raises(BadInput, match=says) as error:
        polygons.to_mask(parts, (8, 8), source="annotation 7")
    assert str(error.value).startswith("annotation 7")
