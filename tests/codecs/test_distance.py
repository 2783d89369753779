"""The distance transform is exact: equal to scipy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from sadist_jax.codecs.distance import distance_to_boundary

ndimage = pytest.importorskip("scipy.ndimage")


def reference(mask):
    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30)))
def test_any_mask_equals_scipy(mask):
    np.testing.assert_allclose(distance_to_boundary(mask), reference(mask), rtol=1e-6)


@pytest.mark.parametrize("density", [0.9, 0.99, 0.9999, 1.0])
def test_wide_objects_equal_scipy(density):
    mask = np.random.default_rng(0).random((90, 257)) < density
    np.testing.assert_allclose(distance_to_boundary(mask), reference(mask), rtol=1e-6)


def test_the_edge_of_the_image_is_a_boundary():
    assert distance_to_boundary(np.ones((5, 5), bool)).tolist()[2] == [1, 2, 3, 2, 1]
