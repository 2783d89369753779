"""Resize, pad and coordinates, against the formulae of the reference and Pillow."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sadist_jax.codecs import geometry

sides = st.integers(1, 60)


@pytest.mark.parametrize(
    ("hw", "target", "expected"),
    # int(side * scale + 0.5), by hand
    [
        ((480, 640), 1024, (768, 1024)),
        ((640, 427), 1024, (1024, 683)),  # 427 * 1.6 = 683.2
        ((375, 500), 1024, (768, 1024)),
        ((333, 500), 1024, (682, 1024)),  # 681.984
        ((100, 100), 256, (256, 256)),
        ((1, 5000), 256, (1, 256)),
    ],
)
def test_longest_side_shape(hw, target, expected):
    assert geometry.longest_side_shape(hw, target) == expected


def test_resize_image_is_pillow():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for bicubic, how in ((False, Image.Resampling.BILINEAR), (True, Image.Resampling.BICUBIC)):
        expected = np.asarray(Image.fromarray(image).resize((17, 11), how))
        np.testing.assert_array_equal(geometry.resize_image(image, (11, 17), bicubic), expected)
    assert geometry.resize_image(image, (30, 40)) is image


@pytest.mark.parametrize("hw", [(11, 17), (60, 41), (30, 7), (1, 1)])
def test_resize_without_antialias_blends_the_four_nearest_pixels(hw):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    found = geometry.resize_without_antialias(image, hw)
    assert (found.shape, found.dtype) == ((*hw, 3), np.float32)
    for i, j in np.ndindex(hw):
        y, x = (
            min(max((k + 0.5) * old / new - 0.5, 0), old - 1) for k, old, new in zip((i, j), (30, 40), hw, strict=True)
        )
        rows, columns = ({int(p): 1 - p % 1, int(p) + 1: p % 1} for p in (y, x))
        expected = sum(v * h * image[r, c] for r, v in rows.items() for c, h in columns.items() if v * h)
        np.testing.assert_allclose(found[i, j], expected, atol=1e-3)


def test_resize_without_antialias_to_a_quarter_sees_the_middle_two_of_four():
    columns = np.tile(np.array([0, 100, 200, 0], np.uint8), 5)
    image = np.broadcast_to(columns[None, :, None], (8, 20, 3))
    assert (geometry.resize_without_antialias(image, (8, 5)) == 150).all()  # their mean over all four is 75


@settings(max_examples=100, deadline=None)
@given(sides, sides, sides, sides)
def test_resize_mask_takes_the_nearest_centre(height, width, new_height, new_width):
    places = np.arange(height * width, dtype=np.int32).reshape(height, width)
    ours = geometry.resize_mask(places[None], (new_height, new_width))[0]
    rows = [Fraction(2 * i + 1, 2) * height / new_height for i in range(new_height)]
    columns = [Fraction(2 * i + 1, 2) * width / new_width for i in range(new_width)]
    np.testing.assert_array_equal(ours, places[np.ix_([int(r) for r in rows], [int(c) for c in columns])])
    # Pillow agrees wherever the place is not exactly between two pixels
    pillow = np.asarray(Image.fromarray(places).resize((new_width, new_height), Image.Resampling.NEAREST))
    clear = np.ix_([i for i, r in enumerate(rows) if r % 1], [i for i, c in enumerate(columns) if c % 1])
    np.testing.assert_array_equal(ours[clear], pillow[clear])


def test_pad_to_square():
    image = np.ones((2, 3, 3), np.uint8)
    padded = geometry.pad_to_square(image, 4)
    assert padded.shape == (4, 4, 3)
    assert padded[:2, :3].all()
    assert padded.sum() == image.sum()
    masks = geometry.pad_to_square(np.ones((5, 2, 3), bool), 4, axes=(-2, -1))
    assert masks.shape == (5, 4, 4)
    assert masks.sum() == 30
    with pytest.raises(ValueError, match="cannot pad"):
        geometry.pad_to_square(image, 2)


def test_points_scale_by_axis():
    points = geometry.scale_points(np.array([[10, 20], [0, 0]]), (427, 640), (683, 1024))
    np.testing.assert_allclose(points, [[16, 20 * 683 / 427], [0, 0]], rtol=1e-6)
    assert points.dtype == np.float32


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1))
def test_scaled_points_stay_inside_and_come_back(height, width, fx, fy):
    new = geometry.longest_side_shape((height, width), 256)
    point = np.array([fx * (width - 1), fy * (height - 1)])
    there = geometry.scale_points(point, (height, width), new)
    assert 0 <= there[0] < new[1]
    assert 0 <= there[1] < new[0]
    np.testing.assert_allclose(geometry.scale_points(there, new, (height, width)), point, atol=1e-3)
