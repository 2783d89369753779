import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.ops.resize import resize
from tests.parity import draw

SMALL = Vit(dim=32, depth=2, heads=2, patch=8, image_size=32)


@pytest.fixture(scope="module")
def params():
    return jax.device_put(table.from_reference(SMALL.table(), draw.state(SMALL.table())))


def test_tokens_are_a_set(params):
    """Masked pretraining encodes any subset in any order: the blocks know positions only from the embedding."""
    x = jnp.array(np.random.default_rng(0).standard_normal((2, 16, 32), np.float32))
    order = np.random.default_rng(1).permutation(16)
    out, aux = SMALL.encode(params, x)
    np.testing.assert_allclose(SMALL.encode(params, x[:, order])[0], out[:, order], atol=1e-5)
    np.testing.assert_array_equal(aux["block1"], out)
    fewer = SMALL.encode(params, x[:, :4])[0]
    assert fewer.shape == (2, 4, 32)
    assert not np.allclose(fewer, out[:, :4], atol=1e-3)


def test_the_class_tokens_row_of_the_positions_is_not_used(params):
    x = jnp.ones((1, 32, 32, 3))
    other = dict(params) | {"pos_embed": params["pos_embed"].at[:, 0].set(1e6)}
    np.testing.assert_array_equal(SMALL.apply(params, x)[0], SMALL.apply(other, x)[0])


def test_positions_follow_the_size_of_the_input(params):
    grid = params["pos_embed"][:, 1:].reshape(1, 4, 4, 32)
    blank = dict(params) | {"patch_embed": jax.tree.map(jnp.zeros_like, params["patch_embed"])}
    np.testing.assert_array_equal(SMALL.embed(blank, jnp.zeros((1, 32, 32, 3))), grid)
    np.testing.assert_array_equal(SMALL.embed(blank, jnp.zeros((1, 48, 64, 3))), resize(grid, (6, 8), "bicubic"))


def test_recomputing_blocks_gives_the_same_gradients(params):
    x = jnp.array(np.random.default_rng(0).standard_normal((1, 32, 32, 3), np.float32))

    def gradient(remat):
        vit = dataclasses.replace(SMALL, remat=remat)
        return tree.flatten(jax.jit(jax.grad(lambda p: jnp.sin(vit.apply(p, x)[0]).sum()))(params))

    saved, recomputed = gradient(False), gradient(True)
    for name, expected in saved.items():
        np.testing.assert_allclose(recomputed[name], expected, atol=1e-4 * np.abs(expected).max() + 1e-6, err_msg=name)


def test_bfloat16_stays_bfloat16_and_near(params):
    x = jnp.array(np.random.default_rng(0).standard_normal((1, 32, 32, 3), np.float32))
    expected, _ = SMALL.apply(params, x)
    low, _ = dataclasses.replace(SMALL, dtype="bfloat16").apply(params, x)
    assert low.dtype == jnp.bfloat16
    assert float(jnp.sqrt(jnp.square(low - expected).mean()) / expected.std()) < 0.02


def test_it_starts_as_mae():
    """Xavier's rule for every linear layer, also for the patches: uniform up to sqrt(6 / (inputs + outputs))."""
    start = SMALL.init(jax.random.key(0))
    matrices = {n: v for n, v in tree.flatten(start).items() if n.endswith("weight") and v.ndim > 1}
    assert len(matrices) == 1 + 2 * 4
    for name, value in matrices.items():
        inputs, outputs = value.size // value.shape[-1], value.shape[-1]
        bound = np.sqrt(6 / (inputs + outputs))
        assert np.abs(value).max() == pytest.approx(bound, rel=0.02), name
        assert value.std() == pytest.approx(bound / np.sqrt(3), rel=0.05), name
