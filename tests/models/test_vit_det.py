"""SAM's encoder block against the same written out in NumPy, float64; tests/parity compares whole encoders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from sadist_jax.models.vit_det import VitDet, relative_table
from sadist_jax.nn import table
from sadist_jax.ops.resize import resize_axis
from tests.parity import draw

HEADS, WINDOW = 2, 3
ENCODER = VitDet(dim=16, depth=2, heads=HEADS, global_blocks=(1,), window=WINDOW, patch=8, image_size=40, out_dim=8)


@pytest.fixture(scope="module")
def params():
    return table.from_reference(ENCODER.table(), draw.state(ENCODER.table()))


def norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-6) * p["weight"] + p["bias"]


def dense(p, x):
    return x @ p["weight"] + p["bias"]


def attend(p, x):
    """(h, w, c) -> (h, w, c), one query and one head at a time."""
    h, w, c = x.shape
    d = c // HEADS
    q, k, v = (y.reshape(h, w, HEADS, d) for y in np.split(dense(p["qkv"], x), 3, -1))
    out = np.zeros((h, w, HEADS, d))
    for row, col, head in np.ndindex(h, w, HEADS):
        query = q[row, col, head]
        scores = k[:, :, head] @ query / np.sqrt(d)
        scores += (p["rel_pos_h"][row - np.arange(h) + h - 1] @ query)[:, None]
        scores += (p["rel_pos_w"][col - np.arange(w) + w - 1] @ query)[None]
        out[row, col, head] = np.tensordot(scipy.special.softmax(scores), v[:, :, head], 2)
    return dense(p["proj"], out.reshape(h, w, c))


def block(p, x, window):
    y, (h, w, _) = norm(p["norm1"], x), x.shape
    if window:
        rows, cols = -(-h // window), -(-w // window)
        y = np.pad(y, ((0, rows * window - h), (0, cols * window - w), (0, 0)))
        for row, col in np.ndindex(rows, cols):
            cut = slice(row * window, (row + 1) * window), slice(col * window, (col + 1) * window)
            y[cut] = attend(p["attn"], y[cut])
        y = y[:h, :w]
    else:
        y = attend(p["attn"], y)
    x = x + y
    hidden = dense(p["mlp"]["lin1"], norm(p["norm2"], x))
    return x + dense(p["mlp"]["lin2"], hidden * scipy.special.ndtr(hidden))


@pytest.mark.parametrize(("index", "window"), [(0, WINDOW), (1, 0)], ids=["windowed", "global"])
def test_a_block_is_what_the_paper_says(params, index, window):
    """5 x 5 tokens in windows of 3: the filling takes part in attention as keys and values made of the bias."""
    x = np.random.default_rng(0).standard_normal((5, 5, 16))
    p = params["blocks"][str(index)]
    y = jax.jit(ENCODER._block, static_argnums=2)(p, jnp.array(x, jnp.float32)[None], window)
    np.testing.assert_allclose(y[0], block(jax.tree.map(np.float64, p), x, window), atol=1e-5)


def test_relative_positions_are_indexed_by_query_minus_key():
    rel_pos = jnp.arange(9.0)[:, None]  # offsets -4..4
    table_of_5 = relative_table(rel_pos, 5)[..., 0]
    for q, k in np.ndindex(5, 5):
        assert table_of_5[q, k] == q - k + 4


@pytest.mark.parametrize("size", [3, 8])
def test_relative_positions_of_another_size_are_resized_first(size):
    rel_pos = jnp.array(np.random.default_rng(0).standard_normal((9, 2), np.float32))
    resized = resize_axis(rel_pos, 2 * size - 1)
    made = relative_table(rel_pos, size)
    for q, k in np.ndindex(size, size):
        np.testing.assert_array_equal(made[q, k], resized[q - k + size - 1])


def test_the_named_stages(params):
    out, aux = ENCODER.apply(params, jnp.zeros((2, 40, 40, 3)))
    assert out.shape == (2, 5, 5, 8)
    assert {name: x.shape for name, x in aux.items()} == dict.fromkeys(
        ("patch", "block0", "block1", "pre_neck"), (2, 5, 5, 16)
    )
    np.testing.assert_array_equal(aux["pre_neck"], aux["block1"])


def test_patches_start_as_a_linear_layer():
    """Uniform up to sqrt(6 / (inputs + outputs)) of the flattened patches, as MAE's."""
    value = ENCODER.init(jax.random.key(0))["patch_embed"]["proj"]["weight"]
    assert np.abs(value).max() == pytest.approx(np.sqrt(6 / (8 * 8 * 3 + 16)), rel=0.01)
