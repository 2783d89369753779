"""The fifteen corruptions against imagecorruptions 1.1.2 (frozen by freeze_corruptions.py) and closed forms."""

import colorsys
import itertools
import json

import numpy as np
import pytest

from sadist_jax.data import blurs, weather
from sadist_jax.data.corruptions import SEVERITIES, corrupt
from sadist_jax.errors import BadInput
from tests.data.freeze_corruptions import DRAWS, FROZEN, figures, photo

REFERENCE = json.loads(FROZEN.read_text())
FIXED = ["defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"]
OURS = 6  # draws


def grey(value, height=128, width=160):
    return np.full((height, width, 3), value, np.uint8)


def measure(kind, severity, draws):
    found = [figures(photo(), corrupt(photo(), kind, severity, np.random.default_rng(seed))) for seed in range(draws)]
    return np.mean(found, 0)


@pytest.mark.parametrize("kind", sorted(SEVERITIES))
def test_mean_spread_and_psnr_are_those_of_the_package(kind):
    """Within 4 standard errors of the difference of two means of draws, plus what rounding makes (0.05).

    Frost is drawn, not a photo: it has another texture, so its PSNR may be another by 1 dB.
    """
    assert list(REFERENCE) == list(SEVERITIES)
    for severity, expected in enumerate(REFERENCE[kind], 1):
        draws = 1 if kind in FIXED else OURS
        error = np.abs(measure(kind, severity, draws) - expected["mean"])
        room = 4 * np.array(expected["spread"]) * np.sqrt(1 / DRAWS + 1 / draws) + 0.05
        assert (error <= room + np.array([0, 0, 1 if kind == "frost" else 0])).all(), (severity, error, room)


@pytest.mark.parametrize("kind", sorted(SEVERITIES))
def test_more_severe_is_worse(kind):
    """Of the same draws, wherever it is in the package, whose glass is no worse at 2 than at 1, nor at 4 than at 3."""
    psnr = [measure(kind, severity, 3)[2] for severity in range(1, 6)]
    theirs = [expected["mean"][2] for expected in REFERENCE[kind]]
    falls = [before - after > 0.2 for before, after in itertools.pairwise(theirs)]
    assert sum(falls) >= (2 if kind == "glass_blur" else 3)
    assert all(after < before for (before, after), fall in zip(itertools.pairwise(psnr), falls, strict=True) if fall)
    assert psnr[4] < psnr[0]


@pytest.mark.parametrize("kind", sorted(SEVERITIES))
@pytest.mark.parametrize("hw", [(32, 32), (33, 300), (257, 37)])
def test_any_proportions_and_the_generator_decides(kind, hw):
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    image.flags.writeable = False
    for severity in (1, 5):
        one, same, other = (corrupt(image, kind, severity, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert (one.shape, one.dtype) == (image.shape, np.uint8)
        np.testing.assert_array_equal(one, same)
        assert np.array_equal(one, other) == (kind in FIXED)
        assert not np.array_equal(one, image)


@pytest.mark.parametrize("kind", sorted(SEVERITIES))
def test_black_white_and_grey_pictures(kind):
    for value in (0, 255):
        assert corrupt(grey(value, 40, 50), kind, 5, np.random.default_rng(0)).shape == (40, 50, 3)
    plane = photo()[..., 0]
    expected = corrupt(np.repeat(plane[..., None], 3, 2), kind, 3, np.random.default_rng(0))
    for image in (plane, plane[..., None]):
        np.testing.assert_array_equal(corrupt(image, kind, 3, np.random.default_rng(0)), expected)


@pytest.mark.parametrize(
    ("image", "kind", "severity", "why"),
    [
        (grey(0, 31, 50), "fog", 1, r"31 x 50 pixels \(h x w\) is too small for fog; it needs 32"),
        (grey(0), "smog", 1, "no corruption 'smog'; the kinds are gaussian_noise, shot_noise"),
        (grey(0), "fog", 0, r"severity of fog is 0; it must be 1 \(slight\) to 5"),
        (grey(0), "fog", 6, "severity of fog is 6"),
    ],
)
def test_mistakes_are_one_sentence(image, kind, severity, why):
    with pytest.raises(BadInput, match=why):
        corrupt(image, kind, severity, np.random.default_rng(0))


@pytest.mark.parametrize("severity", range(1, 6))
def test_noise_has_the_paper_s_strength(severity):
    """Gaussian: a standard deviation of 0.08, ...; shot: Poisson of 60, ... photons at white; impulse: a share."""
    rng, values = np.random.default_rng(0), grey(128)
    place = severity - 1
    found = corrupt(values, "gaussian_noise", severity, rng).astype(float)
    inside = (found > 0) & (found < 255)  # the median absolute deviation does not see what is cut off
    spread = np.median(np.abs(found - np.median(found))) / 0.6745
    assert spread == pytest.approx(255 * (0.08, 0.12, 0.18, 0.26, 0.38)[place], rel=0.02)
    assert inside.mean() > 0.8
    photons = (60, 25, 12, 5, 3)[place]
    found = corrupt(grey(51), "shot_noise", severity, rng).astype(float)
    assert (found == 0).mean() == pytest.approx(np.exp(-photons / 5), abs=0.01)
    assert len(np.unique(found)) <= photons + 1
    found = corrupt(values, "impulse_noise", severity, rng)
    for value in (0, 255):
        assert (found == value).mean() == pytest.approx((0.03, 0.06, 0.09, 0.17, 0.27)[place] / 2, rel=0.08)


@pytest.mark.parametrize("severity", range(1, 6))
def test_brightness_is_added_to_the_value_of_hsv(severity):
    image = photo()[::7, ::9].copy()
    image[0, :2] = [[0, 0, 0], [3, 0, 0]]
    image = np.tile(image, (3, 3, 1))
    found = corrupt(image, "brightness", severity, np.random.default_rng(0)).reshape(-1, 3)
    for before, after in zip(image.reshape(-1, 3) / 255, found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + severity / 10, 1)))
        assert np.abs(after + 0.5 - expected).max() < 0.51


def test_contrast_is_about_the_mean_of_each_channel():
    found = corrupt(photo(), "contrast", 5, np.random.default_rng(0))
    mean = photo().mean((0, 1))
    assert np.abs(found + 0.5 - (mean + 0.05 * (photo() - mean))).max() < 0.51


@pytest.mark.parametrize(("reach", "rounds"), [(1, 1), (2, 3), (4, 2)])
def test_glass_displaces_one_pixel_after_the_other(reach, rounds):
    """By the definition, in a loop; each pixel of the ramp is another, and sigma is too small to smooth."""
    height, width = 13, 17
    image = np.stack([np.arange(height * width).reshape(height, width)] * 3, 2).astype(np.uint8)
    rng, expected = np.random.default_rng(0), image.copy()
    for _ in range(rounds):
        rows, columns = range(reach + 1, height - reach + 1), range(reach + 1, width - reach + 1)
        dy, dx = rng.integers(-reach, reach, (2, len(rows), len(columns)))
        for y in reversed(rows):
            for x in reversed(columns):
                place = (y - reach - 1, x - reach - 1)
                expected[y, x] = expected[y + dy[place], x + dx[place]]
    found = blurs.glass(image, 1e-3, reach, rounds, np.random.default_rng(0))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("angle", "step"), [(0, (0, 1)), (90, (1, 0)), (-45, (-0.7071, 0.7071)), (-135, (-0.7071, -0.7071))]
)
def test_motion_leaves_half_a_gaussian_behind(angle, step):
    """A pixel at (30, 40) is seen from every place whose path of 7 steps meets it."""
    image = np.zeros((60, 80), np.uint8)
    image[30, 40] = 200
    expected = np.zeros(image.shape)
    weights = np.exp(-(np.arange(7) ** 2) / (2 * 2.0**2))
    for i, weight in enumerate(weights / weights.sum()):
        expected[30 - round(i * step[0]), 40 - round(i * step[1])] += 200 * weight
    np.testing.assert_allclose(blurs.motion(image, 3, 2.0, angle), expected, atol=1e-4)
    np.testing.assert_allclose(blurs.motion(grey(90, 32, 32), 20, 15.0, angle), 90, rtol=1e-5)  # no light is lost


@pytest.mark.parametrize("decay", [2.0, 1.4])
def test_plasma_adds_uniform_noise_that_shrinks_with_the_squares(decay):
    """What the middle of a square, and of each edge, has beyond the mean of its four neighbours on the torus."""
    field = weather.plasma(256, decay, np.random.default_rng(0)).astype(float)
    assert (field.min(), field.max()) == (0, 1)
    spreads = []
    for half in (1, 2, 4):
        grid = field[::half, ::half]
        around = sum(np.roll(grid, (y, x), (0, 1)) for y in (-1, 1) for x in (-1, 1)) / 4
        beside = sum(np.roll(grid, by, axis) for by in (-1, 1) for axis in (0, 1)) / 4
        noise = [(grid - around)[1::2, 1::2], (grid - beside)[::2, 1::2], (grid - beside)[1::2, ::2]]
        stds = [n.std() for n in noise]
        assert max(stds) < 1.15 * min(stds)
        assert np.abs(noise[0]).max() == pytest.approx(np.sqrt(3) * stds[0], rel=0.1)  # uniform
        spreads.append(np.mean(stds))
    np.testing.assert_allclose(np.divide(spreads[1:], spreads[:-1]), decay**2, rtol=0.06)


def test_fog_keeps_the_brightest():
    clear = weather.fog(grey(100), 3.0, 1.4, np.random.default_rng(0))
    assert clear.max() <= 100 + 1e-3
    assert clear.min() >= 100 * 100 / (100 + 3 * 255) - 1e-3


def test_frost_has_the_colours_of_the_photos():
    """Mean colours of the package's photos 1 to 5, of which the third is the second, as Pillow reads them."""
    photos = np.array([[78, 149, 166], [201, 205, 214], [138, 153, 165], [112, 123, 135]])
    counts = np.zeros(4)
    for seed in range(60):
        frost = weather.draw_frost((90, 120), np.random.default_rng(seed))
        distance = np.abs(frost.mean((0, 1)) - photos).max(1)
        assert distance.min() < 3  # white is cut off
        assert 12 < frost.std((0, 1)).mean() < 50
        counts[distance.argmin()] += 1
    assert np.abs(counts - [12, 24, 12, 12]).max() <= 12  # 4 standard deviations
