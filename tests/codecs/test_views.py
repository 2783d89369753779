"""WeSAM's two views against values worked out by hand, colorsys and SciPy."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from sadist_jax.codecs import views
from sadist_jax.codecs.prompts import box_of
from sadist_jax.codecs.views import adjust, equalize, flip_boxes, flip_points, flip_view, shade, sharpen, strong_view

LEVELS = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)  # every value once
WHOLE = np.array([[[0, 0], [16, 0], [16, 16], [0, 16], [0, 0]]])
OPERATIONS = ["_posterize", "_equalize", "_sharpen", "_solarize", "_brighten", "_shade"]


def picture(height=20, width=31, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("view", "expected"), [(0, "abcdef"), (1, "cbafed"), (2, "defabc"), (3, "fedcba")])
def test_four_views(view, expected):
    array = np.array(list("abcdef")).reshape(2, 3)
    assert flip_view(array, view).ravel().tolist() == list(expected)
    assert flip_view(array[None], view, (-2, -1)).ravel().tolist() == list(expected)
    np.testing.assert_array_equal(flip_view(flip_view(array, view), view), array)


@given(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_masks_boxes_and_points_go_along(view, height, width, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.3
    mask[rng.integers(height), rng.integers(width)] = True
    turned = flip_view(mask, view)
    np.testing.assert_array_equal(flip_boxes(box_of(mask), view, mask.shape), box_of(turned))
    points = np.argwhere(mask)[:, ::-1].astype(np.float32)
    x, y = flip_points(points, view, mask.shape).astype(int).T
    assert turned[y, x].all()
    assert len(set(zip(x, y, strict=True))) == turned.sum()


def test_views_are_drawn_evenly():
    rng = np.random.default_rng(0)
    counts = np.bincount([views.draw_view(rng) for _ in range(4000)], minlength=4)
    assert len(counts) == 4
    assert np.abs(counts - 1000).max() < 110  # 4 standard deviations


def test_posterize_and_solarize_have_the_defaults_of_the_package():
    none = np.random.default_rng(0)
    np.testing.assert_array_equal(views._posterize(LEVELS, none), LEVELS & 0b11110000)
    np.testing.assert_array_equal(views._solarize(LEVELS, none), np.where(LEVELS >= 128, 255 - LEVELS, LEVELS))


def test_equalize_spreads_by_opencvs_rule():
    """Levels 10, 20, 30 with 4, 1 and 3 pixels: 255 (C - 4) / (8 - 4) is 0, 63.75 and 255."""
    image = np.zeros((2, 4, 3), np.uint8)
    image[..., 0] = [[10, 10, 10, 10], [20, 30, 30, 30]]
    image[..., 1] = 77  # of one level
    image[..., 2] = [[0, 255, 0, 255], [0, 255, 0, 255]]
    found = equalize(image)
    assert found[..., 0].ravel().tolist() == [0, 0, 0, 0, 64, 255, 255, 255]
    np.testing.assert_array_equal(found[..., 1:], image[..., 1:])


@pytest.mark.parametrize(("amount", "lightness"), [(0.2, 0.5), (0.37, 0.81), (0.5, 1.0)])
@pytest.mark.parametrize("hw", [(20, 31), (1, 6), (1, 1), (2, 2)])
def test_sharpen_is_a_convolution(amount, lightness, hw):
    kernel = np.full((3, 3), -amount)
    kernel[1, 1] = 1 - amount + amount * (8 + lightness)
    image = picture(*hw)
    expected = np.stack([ndimage.convolve(image[..., c].astype(float), kernel, mode="mirror") for c in range(3)], 2)
    np.testing.assert_allclose(sharpen(image, amount, lightness), np.clip(expected, 0, 255), atol=0.501)


@pytest.mark.parametrize(("contrast", "brightness"), [(0.8, -0.2), (1.2, 0.2), (1.0, 0.0), (1.13, -0.07)])
def test_adjust_scales_and_shifts(contrast, brightness):
    expected = np.clip(LEVELS * contrast + 255 * brightness, 0, 255)
    assert np.abs(adjust(LEVELS, contrast, brightness) + 0.5 - expected).max() < 0.51


def test_a_shadow_halves_the_lightness_of_hls():
    image = picture(16, 16)
    image[0, :4] = [[255, 255, 255], [0, 0, 0], [255, 255, 250], [7, 7, 7]]
    found = shade(image, WHOLE)
    for before, after in zip(image.reshape(-1, 3) / 255, found.reshape(-1, 3), strict=True):
        hue, light, saturation = colorsys.rgb_to_hls(*before)
        expected = np.array(colorsys.hls_to_rgb(hue, light / 2, saturation)) * 255
        np.testing.assert_allclose(after, expected, atol=0.501)


def test_shadows_cover_their_polygons_by_the_even_odd_rule():
    """A pentagram's middle lies in the dark only where its tips are: its arms, not the pentagon between them."""
    angles = np.deg2rad(90 + 144 * np.arange(5))
    star = np.rint(50 + 40 * np.stack([np.cos(angles), -np.sin(angles)], -1)).astype(int)
    dark = shade(np.full((101, 101, 3), 200, np.uint8), star[None])[..., 0] == 100
    assert not dark[50, 50]
    assert dark[20, 50]  # in the upper arm
    assert not dark[:, :8].any()
    two = np.stack([WHOLE[0], WHOLE[0] + 40])
    dark = shade(np.full((101, 101, 3), 200, np.uint8), two)[..., 0] == 100
    assert np.array_equal(np.argwhere(dark)[[0, -1]], [[0, 0], [56, 56]])
    assert dark.sum() == 2 * 17**2


def test_drawn_shadows_stay_in_the_lower_half():
    white, covered = np.full((40, 60, 3), 200, np.uint8), 0
    for seed in range(40):
        dark = views._shade(white, np.random.default_rng(seed))[..., 0] != 200
        assert not dark[:20].any()
        covered = covered + dark
    assert (covered[20:] > 0).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "function", "ranges"),
    [
        ("_sharpen", "sharpen", [(0.2, 0.5), (0.5, 1.0)]),
        ("_brighten", "adjust", [(0.8, 1.2), (-0.2, 0.2)]),
    ],
)
def test_strengths_fill_their_ranges(monkeypatch, name, function, ranges):
    drawn = []
    monkeypatch.setattr(views, function, lambda image, *numbers: drawn.append(numbers))
    rng = np.random.default_rng(0)
    for _ in range(500):
        getattr(views, name)(LEVELS, rng)
    for numbers, (low, high) in zip(np.array(drawn).T, ranges, strict=True):
        assert low <= numbers.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < numbers.max() <= high


def test_each_operation_comes_half_of_the_time_and_in_order(monkeypatch):
    runs = []
    for name in OPERATIONS:
        monkeypatch.setattr(views, name, lambda image, rng, name=name: (runs[-1].append(name), image)[1])
    rng = np.random.default_rng(0)
    for _ in range(1000):
        runs.append([])
        strong_view(LEVELS, rng)
    assert all(run == sorted(run, key=OPERATIONS.index) for run in runs)
    for name in OPERATIONS:
        assert sum(name in run for run in runs) == pytest.approx(500, abs=64)  # 4 standard deviations


@pytest.mark.parametrize("hw", [(1, 1), (1, 5), (3, 2), (20, 31)])
def test_the_generator_decides_everything(hw):
    image = picture(*hw)
    image.flags.writeable = False  # as those of a source
    outcomes = [strong_view(image, np.random.default_rng(seed)) for seed in (*range(20), *range(20))]
    np.testing.assert_array_equal(outcomes[:20], outcomes[20:])
    assert all(found.shape == image.shape and found.dtype == np.uint8 for found in outcomes)
    assert sum(not np.array_equal(found, image) for found in outcomes[:20]) > 10
