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


DROPPING = dataclasses.replace(SMALL, depth=5, drop_path=0.4)


def keys_of(count):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(count))


def test_branches_are_dropped_more_often_the_later_and_keep_their_mean():
    """Rates 0, 0.1, 0.2, 0.3, 0.4 of the five blocks; 4000 samples: standard errors below 0.008 and 0.013."""
    scales = np.asarray(DROPPING.draw_paths(keys_of(4000)))
    rates = np.array([0, 0.1, 0.2, 0.3, 0.4])
    assert scales.shape == (5, 2, 4000)
    np.testing.assert_allclose((scales == 0).mean(2), np.tile(rates[:, None], 2), atol=0.03)
    np.testing.assert_allclose(scales.mean(2), 1, atol=0.05)
    for scale, rate in zip(scales, rates, strict=True):
        np.testing.assert_allclose(scale[scale > 0], 1 / (1 - rate), rtol=1e-6)
    last = scales[-1] == 0
    assert abs(np.corrcoef(last)[0, 1]) < 0.06  # attention and MLP are drawn apart


def test_a_samples_draw_comes_from_its_own_key():
    together = DROPPING.draw_paths(keys_of(20))
    np.testing.assert_array_equal(DROPPING.draw_paths(keys_of(20)[7:8]), together[..., 7:8])


@pytest.mark.parametrize("remat", [False, True])
def test_the_blocks_take_what_was_drawn(remat):
    """By hand, block by block: x + scale * branch, where the whole block without its scale gives the branch."""
    vit = dataclasses.replace(DROPPING, remat=remat)
    params = jax.device_put(table.from_reference(vit.table(), draw.state(vit.table())))
    x = jnp.array(np.random.default_rng(0).standard_normal((6, 16, 32), np.float32))
    scales = vit.draw_paths(keys_of(6))
    assert 0 < int((scales == 0).sum()) < scales.size
    expected = x
    for i in range(vit.depth):
        for branch, silent in enumerate(("mlp.fc2", "attn.proj")):  # a branch alone: the other gives nothing
            weights = tree.flatten(params["blocks"][str(i)])
            weights |= {f"{silent}.{name}": jnp.zeros_like(weights[f"{silent}.{name}"]) for name in ("weight", "bias")}
            alone = vit._block(tree.unflatten(weights), expected, None) - expected
            expected = expected + scales[i, branch][:, None, None] * alone
    found, _ = jax.jit(vit.encode)(params, x, keys=keys_of(6))
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())
    assert not np.allclose(found, vit.encode(params, x)[0], atol=1e-2)


def test_without_a_rate_or_keys_it_is_the_same_program(params):
    x = jnp.array(np.random.default_rng(0).standard_normal((2, 16, 32), np.float32))
    with_rate = dataclasses.replace(SMALL, drop_path=0.4)
    texts = {
        jax.jit(lambda p, x, k=keys, v=vit: v.encode(p, x, keys=k)).lower(params, x).as_text()
        for vit, keys in [(SMALL, None), (with_rate, None), (SMALL, keys_of(2))]
    }
    assert len(texts) == 1
