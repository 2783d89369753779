"""Simulated prompts against what can be worked out by hand, and files of prompts."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadist_jax.codecs.prompts import Prompt
from sadist_jax.data import weak_prompts
from sadist_jax.data.weak_prompts import BACKGROUND, BOTTOM_RIGHT, EMPTY, FOREGROUND, TOP_LEFT
from sadist_jax.errors import BadInput
from sadist_jax.models import prompts as codes
from tests.data.made import rectangle

HW = (60, 80)


def disc(hw, x, y, radius):
    rows, cols = np.mgrid[: hw[0], : hw[1]]
    return (cols - x) ** 2 + (rows - y) ** 2 <= radius**2


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_labels_are_those_of_the_models():
    ours = (EMPTY, BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT)
    assert ours == (codes.EMPTY, codes.BACKGROUND, codes.FOREGROUND, codes.BOX_TOP_LEFT, codes.BOX_BOTTOM_RIGHT)


def test_five_points_of_the_object_and_five_of_the_rest_uniformly():
    mask, rng = rectangle(HW, 10, 20, 14, 24), np.random.default_rng(0)
    counts = np.zeros(HW, int)
    for _ in range(1000):
        points, labels = weak_prompts.from_points(mask, rng)
        assert labels.tolist() == [1] * 5 + [0] * 5
        x, y = points.astype(int).T
        assert mask[y, x].tolist() == [True] * 5 + [False] * 5
        np.add.at(counts, (y, x), 1)
    inside, outside = counts[mask], counts[~mask]
    # 5000 draws over 16 pixels, and over 4784
    assert inside.sum() == outside.sum() == 5000
    assert np.abs(inside - 5000 / 16).max() < 5 * np.sqrt(5000 / 16)
    assert outside.std() == pytest.approx(np.sqrt(5000 / 4784), rel=0.1)


def test_points_of_a_mask_that_covers_everything_have_no_background():
    points, labels = weak_prompts.from_points(np.ones((4, 6), bool), np.random.default_rng(0))
    assert labels.tolist() == [1] * 5 + [EMPTY] * 5
    assert not points[5:].any()
    points, _ = weak_prompts.from_points(rectangle((4, 6), 5, 3, 6, 4), np.random.default_rng(0))
    assert points[:5].tolist() == [[5.0, 3.0]] * 5  # one pixel, five times


def test_a_rectangle_stays_one_and_a_staircase_becomes_a_slope():
    corners = weak_prompts.coarse_polygon(rectangle(HW, 10, 20, 50, 45))
    assert sorted(map(tuple, corners.tolist())) == [(10, 20), (10, 45), (50, 20), (50, 45)]
    rows, cols = np.mgrid[:60, :80]
    triangle = (cols <= rows) & (rows < 50)
    corners = weak_prompts.coarse_polygon(triangle)
    assert len(corners) <= 4
    assert iou(weak_prompts.coarse_mask(triangle), triangle) > 0.9


def test_the_tolerance_is_a_twentieth_of_the_outline():
    """A disc of radius 20: 0.05 * 2 pi 20 = 6.3 px, more than the 5.9 px between a square's sides and its circle."""
    corners = weak_prompts.coarse_polygon(disc(HW, 40, 30, 20))
    assert len(corners) == 4
    # half a hexagon's gap, 1.6 of 12 px, is below 3 px, which small objects are allowed
    assert len(weak_prompts.coarse_polygon(disc(HW, 40, 30, 9))) <= 5


def test_the_length_of_an_outline_is_that_of_the_border_and_not_of_its_stairs():
    square = np.array([[0, 0], [40, 0], [40, 40], [0, 40]])
    assert weak_prompts._length(square) == pytest.approx(160, abs=4)  # corners are cut by half a pixel
    stairs = np.array([[i // 2 + i % 2, i // 2] for i in range(80)])  # right, down, right, down
    closed = np.concatenate([stairs, [[40, 40], [0, 40]]])
    assert weak_prompts._length(closed) == pytest.approx(40 * (2 + np.sqrt(2)), rel=0.02)


def test_the_largest_part_counts_and_its_holes_do_not():
    mask = rectangle(HW, 5, 5, 45, 45) & ~rectangle(HW, 10, 10, 40, 40)
    mask |= rectangle(HW, 60, 10, 78, 40)  # 540 pixels against 700
    np.testing.assert_array_equal(weak_prompts.coarse_mask(mask), rectangle(HW, 5, 5, 45, 45))
    assert weak_prompts.coarse_box(mask).tolist() == [5, 5, 44, 44]


@pytest.mark.parametrize(
    "mask",
    [
        rectangle(HW, 7, 9, 8, 10),  # one pixel
        rectangle(HW, 0, 0, 80, 1),  # a line at the border
        rectangle(HW, 79, 0, 80, 60),
        np.eye(60, 80, dtype=bool),  # parts of one pixel
        np.ones(HW, bool),
    ],
    ids=["pixel", "line", "column", "diagonal", "everything"],
)
def test_odd_masks_have_a_coarse_one_within_the_image(mask):
    coarse = weak_prompts.coarse_mask(mask)
    x0, y0, x1, y1 = weak_prompts.coarse_box(mask)
    assert coarse.shape == HW
    assert (coarse & mask).any()
    assert 0 <= x0 <= x1 < 80
    assert 0 <= y0 <= y1 < 60
    if not (mask.sum() == 60 and mask[0, 0]):  # the diagonal
        np.testing.assert_array_equal(coarse, mask)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_any_mask_has_one(seed, size):
    mask = np.random.default_rng(seed).uniform(size=(size, size + 3)) < 0.5
    mask[size // 2, 0] = True
    corners = weak_prompts.coarse_polygon(mask)
    assert len(corners) >= 3
    assert (corners >= 0).all()
    assert (corners <= [size + 3, size]).all()
    assert weak_prompts.coarse_mask(mask).any()


def write(tmp_path, name, value):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_prompts_of_a_file(tmp_path):
    entries = [{"box": [1, 2, 30, 40]}, {"points": [[3, 4]]}, {"points": [[5, 6], [7, 8]], "labels": [1, 0]}]
    path = write(tmp_path, "p.json", {"a.jpg": entries, "b.jpg": []})
    box, point, points = weak_prompts.of_image(path, "a.jpg", HW)
    assert box.box.tolist() == [1, 2, 30, 40]
    assert (point.points.tolist(), point.labels.tolist()) == ([[3, 4]], [1])
    assert points.labels.tolist() == [1, 0]
    assert weak_prompts.of_image(path, "b.jpg", HW) == []


def test_slots_of_a_prompt_with_a_box_and_points():
    prompt = Prompt(np.array([[5, 6], [7, 8]], np.float32), np.array([1, 0]), np.array([1, 2, 30, 40], np.float32))
    points, labels = weak_prompts.from_prompt(prompt)
    assert labels.tolist() == [TOP_LEFT, BOTTOM_RIGHT, 1, 0] + [EMPTY] * 8
    assert points[:4].tolist() == [[1, 2], [30, 40], [5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "no file of prompts"),
        ([1], "no file of prompts"),
        ({"b.jpg": []}, "no list of prompts for a.jpg"),
        ({"a.jpg": {}}, "no list of prompts for a.jpg"),
        ({"a.jpg": [{}]}, "neither a box nor points"),
        ({"a.jpg": [3]}, "neither a box nor points"),
        ({"a.jpg": [{"box": [1, 2, 3, 99]}]}, "prompt 0 of a.jpg: .* lies outside"),
        ({"a.jpg": [{"box": [1, 2, 3]}]}, "4 numbers"),
        ({"a.jpg": [{"points": [[1, 2]], "labels": [1, 1]}]}, "one label"),
        ({"a.jpg": [{"points": [[1, 2]], "labels": [7]}]}, "0 or 1"),
        ({"a.jpg": [{"points": [[1, 2]], "labels": 1}]}, "one label"),
        ({"a.jpg": [{"points": [[1, 2]] * 11}]}, "10 points at most"),
    ],
)
def test_files_that_are_none(tmp_path, content, why):
    path = write(tmp_path, "p.json", content)
    with pytest.raises(BadInput, match=f"p.json.*{why}"):
        weak_prompts.of_image(path, "a.jpg", HW)


def test_a_missing_file():
    with pytest.raises(BadInput, match=r"nowhere\.json cannot be read"):
        weak_prompts.of_image("nowhere.json", "a.jpg", HW)
