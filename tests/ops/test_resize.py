"""Expected values were printed by torch.nn.functional.interpolate of torch 2.13 (tests/parity compares live)."""

import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.ops.resize import matrix, resize, resize_axis

MAP = [[0, 1, 4, 9, 16], [1, 0, -1, 3, 2], [5, -2, 0.5, 0.25, 7]]
TORCH = {
    ("bilinear", (2, 3)): [[0.416667, 2.75, 10.833332], [2.166667, 0.125, 4.145833]],
    ("bilinear", (4, 7)): [
        [0.0, 0.571429, 1.857143, 4.0, 7.571429, 12.0, 16.0],
        [0.625, 0.482143, 0.517857, 0.875, 4.0, 6.107142, 7.25],
        [2.5, 0.642857, -0.660714, -0.4375, 1.28125, 2.785714, 3.875],
        [5.0, 1.0, -1.285714, 0.5, 0.321429, 3.142857, 7.0],
    ],
    ("bicubic", (2, 3)): [[0.215025, 2.814453, 11.378506], [2.243996, -0.015625, 3.928963]],
    ("bicubic", (4, 7)): [
        [-0.161795, 0.246682, 1.842304, 4.358887, 7.40815, 13.142822, 17.60111],
        [0.170292, 0.414623, 0.425515, 0.636963, 4.080294, 6.40388, 6.576795],
        [2.81748, 0.607918, -1.350472, -1.008789, 0.619828, 1.981051, 2.335606],
        [5.872034, 0.687265, -2.205766, 0.607666, -0.479413, 3.061711, 7.93402],
    ],
}
TABLE = [0, 1, 4, 9, 16, 25, 36]
TORCH_LINEAR = {
    11: [0.0, 0.454545, 1.272727, 3.181818, 5.818181, 9.0, 13.454544, 18.454544, 24.18182, 31.0, 36.0],
    5: [0.2, 2.8, 9.0, 19.6, 33.799995],
}


@pytest.mark.parametrize(("method", "size"), TORCH)
def test_a_map_is_resized_as_by_torch(method, size):
    x = jnp.array(MAP)[:, :, None]
    np.testing.assert_allclose(resize(x, size, method)[..., 0], TORCH[method, size], atol=5e-6)


@pytest.mark.parametrize("size", TORCH_LINEAR)
def test_a_table_is_resized_as_by_torch(size):
    table = jnp.array(TABLE, jnp.float32)[:, None] * jnp.array([1, -2])
    expected = np.array(TORCH_LINEAR[size])[:, None] * [1, -2]
    np.testing.assert_allclose(resize_axis(table, size), expected, atol=2e-5)


def test_leading_axes_and_channels_are_independent():
    x = jnp.array(np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6), np.float32))
    y = resize(x, (7, 3), "bicubic")
    assert y.shape == (2, 3, 7, 3, 6)
    np.testing.assert_allclose(y[1, 2, ..., 4], resize(x[1, 2, ..., 4:5], (7, 3), "bicubic")[..., 0], atol=1e-6)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_the_same_size_changes_nothing(method):
    np.testing.assert_array_equal(matrix(9, 9, method), np.eye(9))


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), [(14, 64), (64, 14), (1, 5), (5, 1), (127, 27)])
def test_a_constant_stays_a_constant(method, old, new):
    weights = matrix(old, new, method)
    assert weights.shape == (new, old)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)


def test_low_precision_is_interpolated_in_float32():
    x = jnp.array([256.0, 257.0], jnp.bfloat16)[None, :, None]  # 257 is not a bfloat16: it is 256 or 258
    exact = resize(x.astype(jnp.float32), (1, 4))
    y = resize(x, (1, 4))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
