"""RandAugment's operations against hand-made values and scikit-image."""

import numpy as np
import pytest
import skimage.transform
from PIL import Image

from sadist_jax.codecs import augment
from sadist_jax.codecs.augment import FILL, OPERATIONS, rand_augment

LEVELS = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)  # every value once
S = 0.9


def apply(name, image, s=S, sign=1):
    return np.asarray(OPERATIONS[name](Image.fromarray(image), s, sign))


def two_levels(low, high):
    """Half of each: 510 pixels, two for every level, which Pillow's equalising wants."""
    image = np.full((30, 34, 3), high, np.uint8)
    image[:15] = low
    return image


@pytest.mark.parametrize(
    ("name", "s", "expected"),
    [
        ("invert", S, lambda x: 255 - x),
        ("posterize", 0.0, lambda x: x & 0b11110000),
        ("posterize", 0.6, lambda x: x & 0b11000000),
        ("posterize", 0.9, lambda x: x & 0b10000000),
        ("posterize", 1.0, lambda x: x & 0),
        ("solarize", 0.0, lambda x: x),
        ("solarize", 0.5, lambda x: np.where(x >= 128, 255 - x, x)),
        ("solarize", 0.9, lambda x: np.where(x >= 26, 255 - x, x)),  # 256 - floor(230.4)
        ("solarize", 1.0, lambda x: 255 - x),
        ("solarize_add", 0.9, lambda x: np.where(x < 128, np.minimum(x + 99, 255), x)),
        ("brightness", 1.0, lambda x: np.floor(np.minimum(1.9 * x, 255))),
        ("auto_contrast", S, lambda x: x),
        ("equalize", S, lambda x: x),
    ],
)
def test_values_are_mapped_one_by_one(name, s, expected):
    found = apply(name, LEVELS, s).astype(int)
    assert np.abs(found - expected(LEVELS.astype(int))).max() <= (1 if name in ("brightness", "equalize") else 0)


@pytest.mark.parametrize(("sign", "factor"), [(1, 1.81), (-1, 0.19)])
def test_enhancers_blend_with_their_opposite(sign, factor):
    """Factor 1 +- 0.9 * 0.9 of the picture, the rest of black, of the mean grey, or of its own grey."""
    image = two_levels(100, 120)
    assert np.unique(apply("brightness", image, S, sign)).tolist() == [int(100 * factor), int(120 * factor)]
    mean = 110
    expected = [mean - 10 * factor, mean + 10 * factor]
    np.testing.assert_allclose(np.unique(apply("contrast", image, S, sign)), expected, atol=1)
    colour = np.broadcast_to(np.array([140, 100, 60], np.uint8), (4, 4, 3))
    grey = 0.299 * 140 + 0.587 * 100 + 0.114 * 60
    np.testing.assert_allclose(apply("colour", colour, S, sign)[0, 0], grey + factor * (colour[0, 0] - grey), atol=1.5)
    spot = np.full((5, 5, 3), 100, np.uint8)
    spot[2, 2] = 126
    smooth = 100 + 26 * 5 / 13  # Pillow's kernel: 5 in the middle, eight ones
    np.testing.assert_allclose(apply("sharpness", spot, S, sign)[2, 2, 0], smooth + factor * (126 - smooth), atol=1.5)


def test_factors_stay_above_a_tenth():
    assert np.unique(apply("brightness", two_levels(100, 200), 1.0, -1)).tolist() == [10, 20]


@pytest.mark.parametrize("name", ["auto_contrast", "equalize"])
def test_two_levels_are_spread_over_the_range(name):
    assert np.unique(apply(name, two_levels(100, 120))).tolist() == [0, 255]


@pytest.mark.parametrize(("name", "axis"), [("translate_x", 1), ("translate_y", 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_translation_is_a_share_of_the_side(name, axis, sign):
    """0.45 * 0.5 * 40 = 9 pixels; the picture goes left, or up, for the sign +."""
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    image, found = np.moveaxis(image, axis, 0), np.moveaxis(apply(name, image, 0.5, sign), axis, 0)
    kept, filled = (slice(0, 31), slice(31, 40)) if sign == 1 else (slice(9, 40), slice(0, 9))
    source = slice(9, 40) if sign == 1 else slice(0, 31)
    np.testing.assert_array_equal(found[kept], image[source])
    assert (found[filled] == FILL).all()


def ramp():
    y, x = np.mgrid[0:48, 0:48] / 48.0
    return np.rint(np.stack([60 + 120 * x, 60 + 120 * y, 100 + 60 * np.sin(4 * x + 3 * y)], -1)).astype(np.uint8)


@pytest.mark.parametrize("sign", [1, -1])
def test_rotation_and_shear_agree_with_scikit_image(sign):
    image = ramp()
    slope = sign * 0.3 * S
    inner = slice(16, 32)
    pixel = 0.5  # Pillow's matrices act on corners of pixels, scikit-image's on centres
    matrices = {
        "shear_x": [[1, slope, pixel * slope], [0, 1, 0], [0, 0, 1]],
        "shear_y": [[1, 0, 0], [slope, 1, pixel * slope], [0, 0, 1]],
    }
    expected = {
        name: skimage.transform.warp(image, np.array(m), order=3, preserve_range=True) for name, m in matrices.items()
    }
    expected["rotate"] = skimage.transform.rotate(image, sign * 30 * S, order=3, preserve_range=True)
    for name, wanted in expected.items():
        found = apply(name, image, S, sign).astype(float)
        assert np.abs(found - image)[inner, inner].max() > 10, name
        # Pillow cuts fractions off; a place half a pixel wrong would be 1.2 off in two of three channels
        error = np.abs(found + 0.5 - wanted)[inner, inner]
        assert error.mean() < 0.5, name
        assert error.max() < 2, name


def test_the_generator_decides_everything():
    image = ramp()
    before = image.copy()
    outcomes = [rand_augment(image, np.random.default_rng(seed)) for seed in (*range(30), *range(30))]
    np.testing.assert_array_equal(outcomes[:30], outcomes[30:])
    np.testing.assert_array_equal(image, before)
    assert all(found.shape == image.shape and found.dtype == np.uint8 for found in outcomes)
    untouched = sum(np.array_equal(found, image) for found in outcomes[:30])
    assert 2 <= untouched <= 16  # a quarter carries out neither, and a few do nothing to this picture


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_changes_a_picture_and_keeps_its_size(name):
    image = np.random.default_rng(0).integers(30, 200, (20, 30, 3), np.uint8)
    found = apply(name, image)
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    assert not np.array_equal(found, image)


def test_all_operations_are_drawn_with_magnitudes_about_the_given_one(monkeypatch):
    seen = {}

    def spy(name):
        return lambda picture, s, sign: (seen.setdefault(name, []).append((s, sign)), picture)[1]

    monkeypatch.setattr(augment, "OPERATIONS", {name: spy(name) for name in OPERATIONS})
    rng = np.random.default_rng(0)
    for _ in range(1500):
        rand_augment(ramp(), rng, operations=2, magnitude=9.0, spread=0.5)
    assert seen.keys() == OPERATIONS.keys()
    assert len(OPERATIONS) == 15
    strengths, signs = np.array([draw for draws in seen.values() for draw in draws]).T
    assert len(strengths) == pytest.approx(1500, abs=110)  # 4 standard deviations of 3000 halves
    assert np.median(strengths) == pytest.approx(0.9, abs=0.01)
    assert strengths.max() == 1.0  # cut: noise above 10 is common
    assert np.std(strengths) == pytest.approx(0.05, rel=0.15)
    assert abs(signs.mean()) < 0.12


def test_no_operations_leave_the_picture():
    np.testing.assert_array_equal(rand_augment(ramp(), np.random.default_rng(0), operations=0), ramp())
