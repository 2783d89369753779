"""Polygons of masks: COCO's own code fills them to the same masks, holes included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from sadist_jax.codecs.outlines import to_polygons
from sadist_jax.codecs.polygons import to_mask

coco = pytest.importorskip("pycocotools.mask")
# pycocotools itself is behind NumPy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TOUCHING = np.array([[1, 0], [0, 1]], bool)
RING = np.pad(np.zeros((1, 1), bool), 1, constant_values=True)
SMALL = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


@st.composite
def blobs(draw):
    """Smooth noise above a threshold: parts with holes, with parts in them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    field = ndimage.gaussian_filter(rng.normal(size=(height, width)), draw(st.floats(0.3, 3)))
    return field > np.quantile(field, draw(st.floats(0, 1)))


def filled(polygons, hw):
    """By pycocotools."""
    codes = coco.frPyObjects([[float(c) for c in part] for part in polygons], *hw)
    return coco.decode(coco.merge(codes)).astype(bool)


def labelled(mask):
    """(parts numbered from 1, how many): connected by their sides."""
    parts = np.zeros(mask.shape, np.int32)
    return parts, ndimage.label(mask, output=parts)


def shoelace(polygon):
    """Area within an outline, positive where it is walked with the inside to the right (y points down)."""
    x, y = np.array(polygon, float).reshape(-1, 2).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def check(mask):
    polygons = to_polygons(mask)
    parts, count = labelled(mask)
    assert len(polygons) == count
    for number, polygon in enumerate(polygons, 1):
        np.testing.assert_array_equal(filled([polygon], mask.shape), parts == number)
        assert shoelace(polygon) == np.count_nonzero(parts == number)  # cuts have no area, holes a negative one
    if count:
        np.testing.assert_array_equal(filled(polygons, mask.shape), mask)
        np.testing.assert_array_equal(to_mask(polygons, mask.shape), mask)


@settings(max_examples=200, deadline=None)
@given(SMALL)
def test_any_mask_comes_back_part_by_part(mask):
    check(mask)


@settings(max_examples=150, deadline=None)
@given(blobs())
def test_blobs_with_holes_come_back_part_by_part(mask):
    check(mask)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((1, 1), bool),
        np.ones((7, 5), bool),
        TOUCHING,
        TOUCHING[::-1],
        RING,
        np.pad(np.pad(RING, 1), 1, constant_values=True),  # a ring in a ring
        np.pad(np.tile(np.pad(np.zeros((1, 1), bool), ((1, 0), (1, 0)), constant_values=True), (3, 4)), 1),
        np.kron(np.tile(TOUCHING, (4, 4)), np.ones((2, 3), bool)),
        ~np.tile(TOUCHING, (4, 4)),
        ~np.kron(np.eye(5, dtype=bool), np.ones((1, 1), bool)),
    ],
    ids=["pixel", "full", "nw-se", "ne-sw", "ring", "rings", "grid", "chess", "checks", "diagonal"],
)
def test_odd_masks_come_back_part_by_part(mask):
    check(mask)
    check(np.pad(mask, 2))


def test_an_empty_mask_has_no_parts():
    assert to_polygons(np.zeros((4, 6), bool)) == []
    assert to_polygons(np.zeros((0, 6), bool)) == []


def test_corners_only_clockwise_from_the_first_in_reading_order():
    mask = np.zeros((5, 9))
    mask[1:4, 2:6] = 1
    assert to_polygons(mask) == [[2, 1, 6, 1, 6, 4, 2, 4]]
    mask[1, 5] = 0
    assert to_polygons(mask) == [[2, 1, 5, 1, 5, 2, 6, 2, 6, 4, 2, 4]]


def test_a_hole_hangs_on_the_edge_above_it():
    """Outer edge from (0, 0) to (3, 0), met above the hole's corner (1, 1): down, round the hole, and up again."""
    hole = [1, 0, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 0]
    assert to_polygons(RING) == [[0, 0, *hole, 3, 0, 3, 3, 0, 3]]
    other = [3, 0, 3, 1, 3, 2, 4, 2, 4, 1, 3, 1, 3, 0]
    two = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]])
    assert to_polygons(two) == [[0, 0, *hole, *other, 5, 0, 5, 3, 0, 3]]  # along the edge, not back and forth


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 5\)"):
        to_polygons(np.ones((3, 4, 5), bool))
