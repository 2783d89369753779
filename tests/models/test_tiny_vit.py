"""MobileSAM's encoder in parts, written out in NumPy; tests/parity compares the whole with timm's."""

import itertools

import jax
import numpy as np
import scipy.special

from sadist_jax.models.tiny_vit import Stage, TinyVit, _window_block, offsets
from sadist_jax.nn import table
from sadist_jax.nn.conv_norm import conv_norm, conv_norm_table
from tests.parity import draw

STAGES = (Stage(8, 1), Stage(8, 1, 2, 3), Stage(12, 1, 3, 2), Stage(16, 1, 2, 3))
ENCODER = TinyVit(STAGES, image_size=64, out_dim=8)


def drawn(rows):
    return table.from_reference(rows, draw.state(rows))


def norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-5) * p["weight"] + p["bias"]


def batch_norm(p, x):
    return (x - p["running_mean"]) / np.sqrt(p["running_var"] + 1e-5) * p["weight"] + p["bias"]


def depthwise(kernel, x):
    """3 x 3, one filter a channel, zeros around."""
    h, w, _ = x.shape
    around = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    return sum(around[r : r + h, c : c + w] * kernel[r, c, 0] for r, c in np.ndindex(3, 3))


def attend(p, x, stage):
    """(window, window, c) -> the same; one head at a time, bias found pair by pair."""
    side, _, c = x.shape
    d = c // stage.heads
    y = norm(p["norm"], x.reshape(-1, c)) @ p["qkv"]["weight"] + p["qkv"]["bias"]
    tokens = list(itertools.product(range(side), range(side)))
    column = {apart: i for i, apart in enumerate(tokens)}  # as (|rows|, |columns|) apart turn up, seen from (0, 0)
    out = []
    for head in range(stage.heads):
        q, k, v = np.split(y[:, head * 3 * d : (head + 1) * 3 * d], 3, -1)
        bias = [
            [p["attention_biases"][head, column[abs(a[0] - b[0]), abs(a[1] - b[1])]] for b in tokens] for a in tokens
        ]
        out.append(scipy.special.softmax(q @ k.T / np.sqrt(d) + np.array(bias), -1) @ v)
    return (np.concatenate(out, -1) @ p["proj"]["weight"] + p["proj"]["bias"]).reshape(x.shape)


def test_batch_norm_inside_the_convolution_is_batch_norm_after_it():
    params = drawn(conv_norm_table(6, 6, 3, groups=6))
    x = np.random.default_rng(0).standard_normal((5, 4, 6)).astype(np.float32)
    expected = batch_norm(params["bn"], depthwise(params["c"]["weight"], x))
    np.testing.assert_allclose(conv_norm(params, x[None], padding=1)[0], expected, atol=1e-5)


def test_a_window_block_is_attention_in_filled_windows_a_local_convolution_and_an_mlp():
    stage = STAGES[1]
    p = drawn(ENCODER.table())["layers"]["1"]["blocks"]["0"]
    x = np.random.default_rng(1).standard_normal((4, 5, stage.dim)).astype(np.float32)
    filled = np.pad(x, ((0, 2), (0, 1), (0, 0)))  # before the norm: what it holds is seen, as the norm's bias
    for row, col in np.ndindex(2, 2):
        cut = slice(3 * row, 3 * row + 3), slice(3 * col, 3 * col + 3)
        filled[cut] = attend(p["attn"], filled[cut], stage)
    y = x + filled[:4, :5]
    y = batch_norm(p["local_conv"]["bn"], depthwise(p["local_conv"]["c"]["weight"], y))
    hidden = norm(p["mlp"]["norm"], y) @ p["mlp"]["fc1"]["weight"] + p["mlp"]["fc1"]["bias"]
    expected = y + hidden * scipy.special.ndtr(hidden) @ p["mlp"]["fc2"]["weight"] + p["mlp"]["fc2"]["bias"]
    np.testing.assert_allclose(_window_block(p, x[None], stage)[0], expected, atol=1e-4)


def test_the_embedding_has_a_sixteenth_of_the_side_on_any_input():
    params = drawn(ENCODER.table())
    for h, w in ((64, 64), (32, 80)):
        embedding, aux = jax.jit(ENCODER.apply)(params, np.zeros((1, h, w, 3), np.float32))
        assert embedding.shape == (1, h // 16, w // 16, 8)
        assert aux["pre_neck"].shape == (1, h // 16, w // 16, 16)


def test_offsets_of_a_window():
    np.testing.assert_array_equal(offsets(2), [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])
