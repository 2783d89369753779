"""Boundary F of DAVIS: against its recipe in scikit-image, loops over pixels, and squares worked out by hand."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sadist_jax.codecs.boundary import Matches, boundary_matches, boundary_of, total

morphology = pytest.importorskip("skimage.morphology")

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)


def square(hw, y, x, side):
    mask = np.zeros(hw, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def looped_boundary(mask):
    """Any of the neighbours to the right, below and right below, where there is one, is of the other kind; the last
    row looks to the right only, the last column down only."""
    h, w = mask.shape
    return np.array(
        [
            [any(mask[y, x] != mask[v, u] for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1)) if v < h and u < w)
             for x in range(w)]
            for y in range(h)
        ]
    )  # fmt: skip


def reference(prediction, truth, tolerance):
    """The recipe: dilate each boundary with a disk, count what of the other one is covered."""
    ours, theirs = looped_boundary(prediction), looped_boundary(truth)
    disk = morphology.disk(math.ceil(tolerance * np.linalg.norm(truth.shape)))
    return Matches(
        ours.sum(),
        (ours & morphology.dilation(theirs, disk)).sum(),
        theirs.sum(),
        (theirs & morphology.dilation(ours, disk)).sum(),
    )


@settings(max_examples=150)
@given(st.data(), SHAPES, st.floats(0, 0.4))
def test_counts_equal_dilation_with_a_disk(data, shape, tolerance):
    prediction, truth = (data.draw(hnp.arrays(bool, shape)) for _ in range(2))
    np.testing.assert_array_equal(boundary_of(truth), looped_boundary(truth))
    assert boundary_matches(prediction, truth, tolerance=tolerance) == reference(prediction, truth, tolerance)


def test_squares_by_hand():
    """A square of side 10 has a boundary of 11 x 11 less 9 x 9, 40 pixels (a row above it and a column to its left are
    background). On 60 x 80 pixels the diagonal is 100 and DAVIS' tolerance ceil(0.8) = 1.

    The same square 2 to the right: the upper and lower sides still meet where columns overlap, 9 of 11 pixels each,
    and one more at each end is 1 away, so 10 of 11; of the left and right sides' 9 inner pixels those in rows next to
    the other's upper and lower side are 1 away from it: the side of ours at x + 2 lies under the other's upper side
    (inside its columns), 2 of 9; its far side, 2 columns past the other's, reaches nothing. So 10 + 10 + 2 = 22 of 40,
    and by symmetry as many of the truth: P = R = F = 0.55.
    """
    truth, moved = square((60, 80), 20, 20, 10), square((60, 80), 20, 22, 10)
    assert boundary_of(truth).sum() == 40
    assert boundary_matches(moved, truth) == Matches(40, 22, 40, 22)
    assert boundary_matches(moved, truth).f == pytest.approx(0.55)
    assert boundary_matches(square((60, 80), 20, 21, 10), truth).f == 1  # all within 1


def test_the_rim_of_the_disk_counts_and_the_corner_beyond_it_does_not():
    """Radius 5: (3, 4) is at 5, (4, 4) at 5.66. One pixel's boundary is its 2 x 2 block, upper left of it included."""
    hw = (300, 400)  # diagonal 500, 0.01 of it 5
    one = square(hw, 100, 100, 1)
    for (dy, dx), hits in [((4, 5), 1), ((5, 5), 0)]:  # one less between the blocks
        assert boundary_matches(square(hw, 100 + dy, 100 + dx, 1), one, tolerance=0.01) == Matches(4, hits, 4, hits)


def test_empty_boundaries():
    none, full, some = np.zeros((20, 20), bool), np.ones((20, 20), bool), square((20, 20), 5, 5, 6)
    for prediction, truth, wanted in [
        (none, none, (1, 1, 1)),
        (full, full, (1, 1, 1)),  # the border of the image is no boundary
        (none, full, (1, 1, 1)),
        (none, some, (1, 0, 0)),
        (some, none, (0, 1, 0)),
    ]:
        matches = boundary_matches(prediction, truth)
        assert (matches.precision, matches.recall, matches.f) == wanted


def test_counts_add_up():
    """(2 + 4) / (4 + 8) = 1/2 and (4 + 0) / (4 + 12) = 1/4: F = 2 * 1/8 / (3/4) = 1/3."""
    both = total([Matches(4, 2, 4, 4), Matches(8, 4, 12, 0)])
    assert both.f == pytest.approx(1 / 3)
    assert total([]).f == 1


def test_a_large_picture_is_quick():
    y, x = np.mgrid[:1024, :1024]
    prediction, truth = (np.hypot(y - c, x - c) < 300 for c in (500, 510))
    start = time.perf_counter()
    boundary_matches(prediction, truth)
    assert time.perf_counter() - start < 1  # takes 0.03 s


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"\(3, 4\) pixels, the truth \(4, 3\)"):
        boundary_matches(np.ones((3, 4), bool), np.ones((4, 3), bool))
