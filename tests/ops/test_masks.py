"""Masks against scipy, scikit-image, pycocotools and the formulas of segment-anything's utils/amg.py."""

import jax.numpy as jnp
import numpy as np
import pytest
from pycocotools import mask as coco
from scipy import ndimage
from skimage.measure import block_reduce

from sadist_jax.ops.masks import area_downsample, mask_iou, mask_to_box, stability_score


def draw(seed=0, shape=(3, 4, 11, 13), density=0.1):
    return np.random.default_rng(seed).uniform(size=shape) < density


def encode(mask):
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))


def test_mask_to_box_equals_scipy():
    masks = draw()
    value = mask_to_box(masks)
    for i in np.ndindex(3, 4):
        y, x = ndimage.find_objects(masks[i].astype(int))[0]
        np.testing.assert_array_equal(value[i], [x.start, y.start, x.stop - 1, y.stop - 1])


def test_mask_to_box_is_inclusive_and_empty_is_zero():
    """SAM's convention: four columns 2..5 give x1 - x0 = 3, where COCO's box has width 4."""
    mask = np.zeros((8, 9), np.uint8)
    np.testing.assert_array_equal(mask_to_box(mask), [0, 0, 0, 0])
    mask[4, 2:6] = 255
    np.testing.assert_array_equal(mask_to_box(mask), [2, 4, 5, 4])
    np.testing.assert_array_equal(coco.toBbox(encode(mask > 0)), [2, 4, 4, 1])
    mask[:] = 1
    np.testing.assert_array_equal(mask_to_box(mask), [0, 0, 8, 7])


def test_mask_iou_equals_pycocotools():
    a, b = draw(0, density=0.5), draw(1, density=0.3)
    value = mask_iou(a, b)
    for i in np.ndindex(3, 4):
        np.testing.assert_allclose(value[i], coco.iou([encode(a[i])], [encode(b[i])], [False])[0, 0], rtol=1e-6)


def test_mask_iou_of_valid_pixels():
    """The same as cutting the padding off; nothing in either mask is 0, not NaN."""
    a, b = draw(0, density=0.5), draw(1, density=0.3)
    valid = np.zeros((11, 13), bool)
    valid[:6, :9] = True
    np.testing.assert_allclose(mask_iou(a, b, where=valid), mask_iou(a[..., :6, :9], b[..., :6, :9]), rtol=1e-6)
    np.testing.assert_array_equal(mask_iou(a, b, where=np.zeros_like(valid)), 0)
    np.testing.assert_array_equal(mask_iou(np.zeros((4, 4)), np.zeros((4, 4))), 0)


@pytest.mark.parametrize(("offset", "threshold"), [(1.0, 0.0), (0.5, -0.25)])
def test_stability_score_formula(offset, threshold):
    logits = np.random.default_rng(0).normal(0, 2, (3, 4, 9, 9)).astype(np.float32)
    high, low = logits > threshold + offset, logits > threshold - offset
    expected = high.sum((-2, -1)) / low.sum((-2, -1))
    np.testing.assert_allclose(stability_score(logits, offset, threshold), expected, rtol=1e-6)
    part = stability_score(logits, offset, threshold, where=np.arange(9) < 5)
    np.testing.assert_allclose(part, high[..., :5].sum((-2, -1)) / low[..., :5].sum((-2, -1)), rtol=1e-6)


def test_stability_score_of_nothing_and_of_certainty():
    np.testing.assert_array_equal(stability_score(np.full((2, 5, 5), -9.0)), 0)
    np.testing.assert_array_equal(stability_score(np.full((2, 5, 5), 9.0)), 1)
    # the comparison is strict on both sides, also for low-precision logits
    np.testing.assert_allclose(stability_score(jnp.asarray([[1, -1, 0, 2]], jnp.bfloat16)), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_area_downsample_equals_skimage(factor):
    masks = draw(shape=(2, 3, 8, 12), density=0.5)
    expected = block_reduce(masks.astype(np.float64), (1, 1, factor, factor), np.mean)
    np.testing.assert_allclose(area_downsample(masks, factor), expected, atol=1e-7)


def test_area_downsample_refuses_a_remainder():
    for factor in (0, 3, 5):
        with pytest.raises(ValueError, match="must divide"):
            area_downsample(np.zeros((2, 8, 12)), factor)
