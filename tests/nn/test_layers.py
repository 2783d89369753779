"""Layers against their formulas, written out in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.nn import layers, table


def draw(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def parameters(made: table.Table) -> dict[str, np.ndarray]:
    """Every leaf drawn, also those that start at zero or one."""
    return {name: draw(*leaf.shape, seed=i) for i, (name, leaf) in enumerate(made.items())}


def test_gelu_is_the_exact_one():
    x = np.linspace(-6, 6, 49, dtype=np.float32)
    expected = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.tolist()]
    np.testing.assert_allclose(layers.gelu(jnp.array(x)), expected, atol=1e-6)


def test_dense():
    p, x = parameters(layers.dense_table(3, 4)), draw(2, 5, 3)
    np.testing.assert_allclose(layers.dense(p, x), x @ p["weight"] + p["bias"], atol=1e-5)
    del p["bias"]
    np.testing.assert_allclose(layers.dense(p, x), x @ p["weight"], atol=1e-5)


def test_layer_norm_is_over_channels():
    p, x = parameters(layers.norm_table(6)), 3 + 2 * draw(2, 4, 5, 6)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 0.1) * p["weight"] + p["bias"]
    np.testing.assert_allclose(layers.layer_norm(p, x, 0.1), expected, atol=1e-5)


def test_group_norm_is_over_the_whole_map():
    p, x = parameters(layers.norm_table(6)), 3 + 2 * draw(4, 5, 6)
    expected = (x - x.mean()) / np.sqrt(x.var() + 0.1) * p["weight"] + p["bias"]
    np.testing.assert_allclose(layers.group_norm(p, x, 0.1), expected, atol=1e-5)


def test_norms_of_bfloat16_are_computed_in_float32():
    p = {"weight": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)}
    x = jnp.array([[1000.0, 1004.0]], jnp.bfloat16)  # their mean, 1002, is not a bfloat16
    y = layers.layer_norm(p, x, 1e-6)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, [[-1, 1]])


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 0, (3, 4)), (1, 1, (5, 6)), (2, 1, (3, 3))])
def test_conv(stride, padding, size):
    p, x = parameters(layers.conv_table(2, 4, 3)), draw(2, 5, 6, 2)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    expected = np.zeros((2, *size, 4), np.float32)
    for row, col in np.ndindex(*size):
        patch = padded[:, row * stride : row * stride + 3, col * stride : col * stride + 3]
        expected[:, row, col] = np.einsum("bpqi,pqio->bo", patch, p["weight"]) + p["bias"]
    y = layers.conv(p, x, stride=stride, padding=padding)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_array_equal(layers.conv(p, x[0], stride=stride, padding=padding).shape, expected.shape[1:])


def test_patch_conv_is_the_convolution_with_stride_and_kernel_equal():
    p, x = parameters(layers.conv_table(3, 5, 4)), draw(2, 8, 12, 3)
    np.testing.assert_allclose(layers.patch_conv(p, x), layers.conv(p, x, stride=4), atol=1e-5)


def test_patches_are_row_column_channel():
    x = jnp.arange(2 * 4 * 4).reshape(2, 4, 4, 1)
    y = layers.patchify(x, 2)
    assert y.shape == (2, 2, 2, 4)
    np.testing.assert_array_equal(y[0, 1, 0], [8, 9, 12, 13])


def test_up_makes_two_by_two_pixels_of_each():
    p, x = parameters(layers.up_table(3, 5)), draw(4, 6, 3)
    y = layers.up(p, x)
    assert y.shape == (8, 12, 5)
    for row, col in np.ndindex(8, 12):
        expected = x[row // 2, col // 2] @ p["weight"][row % 2, col % 2] + p["bias"]
        np.testing.assert_allclose(y[row, col], expected, atol=1e-5)


def test_mlp_has_its_activation_between_the_layers_only():
    mlp = layers.Mlp((3, 4, 4, 2), ("a", "b.0", "c"), jax.nn.relu)
    made = mlp.table()
    assert made["b"]["0"]["weight"].shape == (4, 4)
    p = table.init(made, jax.random.key(0))
    x = draw(7, 3)
    hidden = np.maximum(x @ p["a"]["weight"], 0)
    hidden = np.maximum(hidden @ p["b"]["0"]["weight"], 0)
    y = mlp.apply(p, x)
    assert (y < 0).any()
    np.testing.assert_allclose(y, hidden @ p["c"]["weight"], atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_layers_compute_in_the_dtype_of_their_input(dtype):
    x = jnp.ones((2, 4, 4, 2), dtype)
    for made, apply in (
        (layers.dense_table(2, 3), layers.dense),
        (layers.conv_table(2, 3, 2), layers.conv),
        (layers.conv_table(2, 3, 2), layers.patch_conv),
        (layers.norm_table(2), lambda p, x: layers.layer_norm(p, x, 1e-6)),
        (layers.up_table(2, 3), lambda p, x: layers.up(p, x[0])),
    ):
        assert apply(table.init(made, jax.random.key(0)), x).dtype == dtype
