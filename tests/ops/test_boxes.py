"""Boxes against pycocotools and closed forms."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from pycocotools import mask as coco

from sadist_jax.ops import boxes


def draw(n, seed=0):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 50, (n, 2))
    return np.concatenate([corners, corners + rng.uniform(0.5, 60, (n, 2))], axis=-1).astype(np.float32)


def test_forms_of_one_box():
    """A box 6 wide and 4 high whose top-left corner is (10, 20)."""
    xyxy, xywh, cxcywh = [10, 20, 16, 24], [10, 20, 6, 4], [13, 22, 6, 4]
    np.testing.assert_array_equal(boxes.xyxy_to_xywh(np.array(xyxy)), xywh)
    np.testing.assert_array_equal(boxes.xywh_to_xyxy(np.array(xywh)), xyxy)
    np.testing.assert_array_equal(boxes.xyxy_to_cxcywh(np.array(xyxy)), cxcywh)
    np.testing.assert_array_equal(boxes.cxcywh_to_xyxy(np.array(cxcywh)), xyxy)
    assert boxes.area(np.array(xyxy)) == 24


@hypothesis.given(st.tuples(*[st.integers(0, 1024)] * 4))
@hypothesis.settings(max_examples=30)
def test_round_trips(box):
    """Pixel indices of SAM's frame survive exactly, corners in any order."""
    box = np.array(box)
    np.testing.assert_array_equal(boxes.xywh_to_xyxy(boxes.xyxy_to_xywh(box)), box)
    np.testing.assert_array_equal(boxes.cxcywh_to_xyxy(boxes.xyxy_to_cxcywh(box)), box)


def test_iou_equals_pycocotools():
    a, b = draw(6), draw(9, seed=1)
    expected = coco.iou(
        np.asarray(boxes.xyxy_to_xywh(a), np.float64), np.asarray(boxes.xyxy_to_xywh(b), np.float64), [False] * 9
    )
    assert (expected > 0).sum() > 10
    np.testing.assert_allclose(boxes.iou(a, b), expected, atol=1e-6)


def test_iou_keeps_leading_axes():
    a, b = draw(2 * 3 * 4).reshape(2, 3, 4, 4), draw(2 * 3 * 5, seed=1).reshape(2, 3, 5, 4)
    value = boxes.iou(a, b)
    assert value.shape == (2, 3, 4, 5)
    np.testing.assert_allclose(value[1, 2], boxes.iou(a[1, 2], b[1, 2]), rtol=1e-6)


def test_iou_of_boxes_without_area_is_zero():
    """A point against itself, and a box with swapped corners, are nothing rather than NaN or negative."""
    odd = np.array([[5, 5, 5, 5], [8, 8, 2, 2]])
    np.testing.assert_array_equal(boxes.area(odd), 0)
    np.testing.assert_array_equal(boxes.iou(odd, odd), 0)
    np.testing.assert_array_equal(boxes.iou(odd, np.array([[0, 0, 10, 10]])), 0)


@pytest.mark.parametrize(
    ("box", "expected"), [([-3, -3, 200, 200], [0, 0, 79, 59]), ([1.5, 2.5, 79, 59], [1.5, 2.5, 79, 59])]
)
def test_clip_ends_at_the_last_pixel(box, expected):
    np.testing.assert_array_equal(boxes.clip(np.array(box), np.array([60, 80])), expected)


def test_clip_takes_a_size_per_image():
    sizes = np.array([[10, 20], [30, 40]])
    clipped = boxes.clip(np.full((2, 3, 4), 100), sizes[:, None])
    np.testing.assert_array_equal(clipped[:, 0], [[19, 9, 19, 9], [39, 29, 39, 29]])


def greedy(corners, scores, threshold, there):
    """One box after another, as in the books."""
    kept, iou = [], np.asarray(boxes.iou(corners, corners))
    for i in np.argsort(-scores, kind="stable"):
        if there[i] and not any(iou[i, j] > threshold for j in kept):
            kept.append(i)
    return np.isin(np.arange(len(scores)), kept)


@pytest.mark.parametrize("seed", range(6))
def test_suppression_is_the_greedy_one(seed):
    """Boxes in clusters, so that chains of them remove each other; scores with ties; rows that are not there."""
    rng = np.random.default_rng(seed)
    corners = np.repeat(draw(20, seed), 15, 0) + rng.uniform(-6, 6, (300, 4)).astype(np.float32)
    scores, there = rng.integers(0, 40, 300).astype(np.float32), rng.random(300) < 0.9
    for threshold in (0.3, 0.7):
        expected = greedy(corners, scores, threshold, there)
        assert 20 < expected.sum() < 250
        np.testing.assert_array_equal(boxes.nms(corners, scores, threshold, where=there), expected)


def test_what_a_removed_box_would_have_removed_stays():
    chain = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)  # neighbours overlap, ends do not
    assert boxes.nms(chain, np.array([3.0, 2, 1]), 0.3).tolist() == [True, False, True]
    assert boxes.nms(chain, np.array([2.0, 3, 1]), 0.3).tolist() == [False, True, False]
