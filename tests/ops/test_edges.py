import numpy as np
import pytest
from scipy import ndimage

from sadist_jax.ops.edges import crests, outer_boundary, sobel

RNG = np.random.default_rng(0)


def test_sobel_is_scipys():
    x = RNG.normal(size=(2, 7, 9)).astype(np.float32)
    for found, axis in zip(sobel(x), (-1, -2), strict=True):
        expected = [ndimage.sobel(one, axis, mode="nearest") for one in x]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_half_plane_has_its_edge_in_the_two_columns_beside_it_and_none_at_the_image():
    """Probability 0.1 and 0.9: a step of 0.8, times 1 + 2 + 1, seen from the last column of one and the first of the
    other side."""
    right, down = sobel(np.where(np.arange(8) < 5, 0.1, 0.9)[None].repeat(6, 0))
    np.testing.assert_allclose(right, np.isin(np.arange(8), (4, 5))[None].repeat(6, 0) * 3.2, atol=1e-6)
    np.testing.assert_allclose(down, np.zeros((6, 8)), atol=1e-6)


def test_the_outer_boundary_is_the_dilation_without_the_mask():
    masks = RNG.random((3, 12, 15)) < np.array([0.05, 0.3, 0.8])[:, None, None]
    eight = np.ones((3, 3), bool)
    expected = [ndimage.binary_dilation(mask, eight) & ~mask for mask in masks]
    np.testing.assert_array_equal(outer_boundary(masks), expected)


@pytest.mark.parametrize("degrees", [0, 17, 40, 70, 100, 135, 205, 290])
def test_the_crest_of_a_straight_tent_is_its_middle(degrees):
    """Strength 20 - |d| at the distance d from a line with the normal n.

    The neighbours before and after a pixel lie where the normal meets the ring of the eight: d changes by
    1 / max(|n_x|, |n_y|) each way, and d is linear on the ring. So a pixel stays when |d| is less than half of that.
    """
    angle = np.deg2rad(degrees)
    normal = np.array([np.cos(angle), np.sin(angle)])
    y, x = np.mgrid[:31, :33]
    d = (x - 16.13) * normal[0] + (y - 15.21) * normal[1]
    strength = np.maximum(20 - np.abs(d), 0).astype(np.float32)
    across = [np.full(d.shape, 3 * c, np.float32) for c in normal]
    expected = np.abs(d) < 0.5 / np.abs(normal).max()
    inner = np.s_[1:-1, 1:-1]  # beyond the image the strength is 0
    for sign in (1, -1):
        found = np.asarray(crests(strength, *(sign * c for c in across)))
        np.testing.assert_array_equal(found[inner], expected[inner])


def test_of_two_equal_neighbours_the_first_stays_whatever_the_signs():
    """Two masks that share a border: each one's ring lies on the other, and their gradients point at each other."""
    strength = np.zeros((5, 6), np.float32)
    strength[:, 2:4] = 4
    towards = np.zeros((5, 6), np.float32)
    towards[:, 2], towards[:, 3] = 4, -4
    first = np.zeros((5, 6), bool)
    first[:, 2] = True
    none = np.zeros((5, 6), np.float32)
    for right in (towards, -towards, np.abs(towards)):
        np.testing.assert_array_equal(crests(strength, right, none), first)
        np.testing.assert_array_equal(crests(strength.T, none.T, right.T), first.T)


def test_nothing_stays_without_a_direction():
    assert not np.asarray(crests(np.ones((4, 4)), np.zeros((4, 4)), np.zeros((4, 4)))).any()
