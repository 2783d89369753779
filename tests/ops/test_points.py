"""Clicks and boxes: where they may land, how often, and that each depends on its own key only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sadist_jax.ops.points import EMPTY, jitter_box, sample_error_click, sample_in_mask

DRAWS = 4000
KEYS = jax.random.split(jax.random.key(7), DRAWS)
ALPHA = 1e-4  # the draws are fixed by the key, so this is no flake rate, only how surprising a pass may be

points_in_mask = jax.jit(jax.vmap(sample_in_mask, in_axes=(0, None)))
clicks = jax.jit(jax.vmap(sample_error_click, in_axes=(0, None, None, None)))
jitters = jax.jit(jax.vmap(jitter_box, in_axes=(0, None, None, None, None)), static_argnums=(3, 4))


def counts(xy, shape):
    x, y = np.asarray(xy, int).T
    return np.histogram2d(y, x, bins=[np.arange(n + 1) for n in shape])[0]


def assert_uniform(xy, region):
    """Every draw inside, and the counts pass a chi-square test."""
    drawn = counts(xy, region.shape)
    assert drawn[~region].sum() == 0
    assert stats.chisquare(drawn[region]).pvalue > ALPHA


@pytest.fixture
def scene():
    """A target and a prediction with misses and overflow, in an image whose right and bottom are padding."""
    rng = np.random.default_rng(0)
    target, prediction = rng.uniform(size=(2, 7, 9)) < 0.4
    valid = np.zeros((7, 9), bool)
    valid[:5, :8] = True
    return prediction, target, valid


def test_sample_in_mask_is_uniform(scene):
    _, mask, _ = scene
    xy, found = points_in_mask(KEYS, mask)
    assert xy.dtype == jnp.float32
    assert found.all()
    assert_uniform(xy, mask)


@pytest.mark.parametrize("corner", [(0, 0), (0, 8), (6, 0), (6, 8), (3, 4)])
def test_sample_in_mask_finds_a_single_pixel(corner):
    mask = np.zeros((7, 9), bool)
    mask[corner] = True
    xy, found = points_in_mask(KEYS[:8], mask)
    assert found.all()
    np.testing.assert_array_equal(xy, np.tile(corner[::-1], (8, 1)))


def test_sample_in_mask_of_nothing():
    xy, found = points_in_mask(KEYS[:8], np.zeros((7, 9), bool))
    assert not found.any()
    np.testing.assert_array_equal(xy, 0)


def test_a_sample_depends_on_its_own_key_only(scene):
    """The draw is the same alone and in any batch: resuming and resharding must not change the data."""
    _, mask, _ = scene
    xy, _ = points_in_mask(KEYS[:16], mask)
    for i in (0, 5, 15):
        np.testing.assert_array_equal(sample_in_mask(KEYS[i], mask)[0], xy[i])


def test_error_click_is_uniform_over_the_errors(scene):
    prediction, target, valid = scene
    xy, label = clicks(KEYS, prediction, target, valid)
    assert label.dtype == jnp.int32
    assert_uniform(xy, (prediction != target) & valid)
    x, y = np.asarray(xy, int).T
    np.testing.assert_array_equal(label, (target & ~prediction)[y, x])
    np.testing.assert_array_equal(np.asarray(label) == 0, (prediction & ~target)[y, x])


def test_error_click_without_valid_sees_everything(scene):
    prediction, target, _ = scene
    xy, _ = clicks(KEYS, prediction, target, None)
    assert_uniform(xy, prediction != target)


def test_error_click_on_a_perfect_prediction_is_background(scene):
    """Perfect means perfect in the image: what the prediction does on the padding is no error."""
    _, target, valid = scene
    prediction = np.where(valid, target, ~target)
    xy, label = clicks(KEYS, prediction, target, valid)
    np.testing.assert_array_equal(label, 0)
    assert_uniform(xy, ~target & valid)


def test_error_click_when_the_object_fills_the_image(scene):
    _, _, valid = scene
    xy, label = clicks(KEYS, valid, valid, valid)
    np.testing.assert_array_equal(label, 1)
    assert_uniform(xy, valid)


def test_error_click_on_nothing_is_an_empty_slot(scene):
    prediction, target, valid = scene
    xy, label = clicks(KEYS[:8], prediction, target, np.zeros_like(valid))
    np.testing.assert_array_equal(label, EMPTY)
    np.testing.assert_array_equal(xy, 0)


def test_jitter_box_is_gaussian_with_a_tenth_of_the_side():
    """Far from the border and the cap: mean 0, std 10 % of the width in x and of the height in y, independent."""
    box, size = np.array([300.0, 400, 400, 440]), np.array([1024, 1024])
    noise = np.asarray(jitters(KEYS, box, size, 0.1, 1e9)) - box
    for values, std in zip(noise.T, (10, 4, 10, 4), strict=True):
        assert stats.kstest(values, stats.norm(0, std).cdf).pvalue > ALPHA
    correlation = np.corrcoef(noise.T) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(DRAWS)


def test_jitter_box_is_capped_and_stays_in_the_image():
    """A box of 900 px would move by 90: 20 is the most, as in SAM's appendix; then the image's last pixel."""
    box, size = np.array([5.0, 50, 905, 950]), np.array([960, 1024])
    move = np.asarray(jitters(KEYS, box, size, 0.1, 20.0)) - box
    np.testing.assert_allclose(move.min(axis=0), [-5, -20, -20, -20], atol=1e-4)
    np.testing.assert_allclose(move.max(axis=0), [20, 20, 20, 9], atol=1e-4)


def test_jitter_box_keeps_its_corners_in_order():
    jittered = np.asarray(jitters(KEYS, np.array([10.0, 10, 30, 14]), np.array([64, 48]), 3.0, 20.0))
    assert (jittered[:, :2] <= jittered[:, 2:]).all()
    assert jittered.min() >= 0
    assert (jittered.max(axis=0) <= [47, 63, 47, 63]).all()


def test_jitter_box_leaves_a_single_pixel_where_it_is():
    box = np.array([7.0, 3, 7, 3])
    np.testing.assert_array_equal(jitters(KEYS[:4], box, np.array([64, 48]), 0.1, 20.0), np.tile(box, (4, 1)))
