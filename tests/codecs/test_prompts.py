"""Clicks and boxes: inside, uniform, exact; and the checks of what users give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sadist_jax.codecs import prompts
from sadist_jax.errors import BadInput

ndimage = pytest.importorskip("scipy.ndimage")

masks = hnp.arrays(bool, (9, 13))


@settings(max_examples=100, deadline=None)
@given(masks, st.integers(0, 5))
def test_points_and_boxes_hold_the_mask(mask, seed):
    rng = np.random.default_rng(seed)
    if not mask.any():
        for fn in (lambda m: prompts.sample_point(m, rng), prompts.farthest_point, prompts.box_of):
            with pytest.raises(BadInput, match="empty"):
                fn(mask)
        return
    x, y = prompts.sample_point(mask, rng).astype(int)
    assert mask[y, x]
    x0, y0, x1, y1 = prompts.box_of(mask).astype(int)
    assert mask[y0 : y1 + 1, x0 : x1 + 1].sum() == mask.sum()
    assert mask[y0].any()
    assert mask[y1].any()
    assert mask[:, x0].any()
    assert mask[:, x1].any()
    edt = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    x, y = prompts.farthest_point(mask).astype(int)
    assert edt[y, x] == edt.max()


def test_points_are_uniform():
    mask = np.zeros((6, 7), np.uint8)
    mask[1, 2] = mask[4, 5] = mask[5, 0] = mask[0, 6] = 1
    rng = np.random.default_rng(0)
    drawn = [tuple(prompts.sample_point(mask, rng)) for _ in range(4000)]
    counts = {p: drawn.count(p) for p in set(drawn)}
    assert set(counts) == {(2, 1), (5, 4), (0, 5), (6, 0)}
    assert all(abs(c - 1000) < 120 for c in counts.values())


def test_farthest_point_of_a_disc_is_its_centre():
    y, x = np.mgrid[:41, :61]
    np.testing.assert_array_equal(prompts.farthest_point((x - 33) ** 2 + (y - 20) ** 2 < 150), [33, 20])
    # cut by the border, the object's boundary is there
    assert prompts.farthest_point(np.ones((21, 41), bool))[1] == 10


def test_a_mask_four_wide_has_a_box_three_wide():
    mask = np.zeros((8, 9))
    mask[2:5, 3:7] = 1
    assert prompts.box_of(mask).tolist() == [3, 2, 6, 4]


@settings(max_examples=100, deadline=None)
@given(masks, masks, st.integers(0, 5))
def test_error_clicks_are_wrong_pixels_with_the_right_label(pred, target, seed):
    click = prompts.error_click(pred, target, np.random.default_rng(seed))
    far = prompts.farthest_error_click(pred, target)
    if (pred == target).all():
        assert click is None
        assert far is None
        return
    for (x, y), label in (click, far):
        assert pred[int(y), int(x)] != target[int(y), int(x)]
        assert label == int(target[int(y), int(x)])
    depth = {
        1: ndimage.distance_transform_edt(np.pad(target & ~pred, 1))[1:-1, 1:-1],
        0: ndimage.distance_transform_edt(np.pad(pred & ~target, 1))[1:-1, 1:-1],
    }
    (x, y), label = far
    assert depth[label][int(y), int(x)] == max(depth[0].max(), depth[1].max())


def test_error_clicks_are_uniform_over_both_kinds():
    target, pred = np.zeros((4, 10), bool), np.zeros((4, 10), bool)
    target[0, :3] = True  # 3 missed
    pred[3, :] = True  # 10 wrongly taken, and one of each
    rng = np.random.default_rng(0)
    labels = [prompts.error_click(pred, target, rng)[1] for _ in range(3000)]
    assert abs(np.mean(labels) - 3 / 13) < 0.03


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([[1, 2, 3]], r"\(n, 2\)"),
        ([1, 2], r"\(n, 2\)"),
        ([[1, np.nan]], "finite"),
        ([["a", "b"]], "numbers"),
        ([[3, 3], [20, 3]], r"point \(20, 3\) lies outside the image, which is 20 wide and 10 high"),
        ([[3, 10]], "outside"),
        ([[-0.5, 3]], "outside"),
    ],
)
def test_wrong_points_are_bad_input(points, says):
    with pytest.raises(BadInput, match=says):
        prompts.check_points(points, (10, 20))


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ([1, 2, 3], "4 numbers"),
        ([[1, 2, 3, 4]], "4 numbers"),
        ([1, 2, np.inf, 4], "finite"),
        ([5, 2, 3, 4], "x0 <= x1"),
        ([1, 2, 21, 4], "outside the image, which is 20 wide and 10 high"),
        ([-1, 2, 3, 4], "outside"),
    ],
)
def test_wrong_boxes_are_bad_input(box, says):
    with pytest.raises(BadInput, match=says):
        prompts.check_box(box, (10, 20))


def test_right_points_and_boxes_pass():
    points = prompts.check_points([[0, 0], [19.5, 9]], (10, 20))
    assert points.dtype == np.float32
    assert points.tolist() == [[0, 0], [19.5, 9]]
    assert prompts.check_box([0, 0, 20, 10], (10, 20)).tolist() == [0, 0, 20, 10]
    assert prompts.check_points(np.zeros((0, 2)), (10, 20)).shape == (0, 2)
