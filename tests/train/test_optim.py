import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.train import optim
from sadist_jax.train.optim import Optim

PARAMS = tree.unflatten(
    {
        "image_encoder.patch_embed.proj.weight": jnp.full((2, 3), 0.5),
        "image_encoder.pos_embed": jnp.full((1, 3), 0.25),
        "image_encoder.blocks.0.attn.qkv.weight": jnp.full((3, 9), -0.5),
        "image_encoder.blocks.0.norm1.weight": jnp.ones(3),
        "image_encoder.blocks.1.attn.qkv.weight": jnp.full((3, 9), 2.0),
        "image_encoder.neck.0.weight": jnp.full((3, 3), 1.0),
        "mask_decoder.iou_token.weight": jnp.full((1, 3), -1.0),
        "mask_decoder.head.bias": jnp.ones(2),
    }
)


def one_step(spec, grads, params=PARAMS, steps=10, step=0):
    """Parameters after one update, and the optimiser's state."""
    tx = optim.build(spec, steps, params)

    @jax.jit
    def step_(grads):
        updates, opt_state = tx.update(grads, tx.init(params), params, step=jnp.int32(step))
        return jax.tree.map(jnp.add, params, updates), opt_state

    new, opt_state = step_(grads)
    return tree.flatten(new), opt_state


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Optim(lr=2.0, warmup=4, schedule="constant"), {0: 0.5, 1: 1.0, 3: 2.0, 4: 2.0, 19: 2.0}),
        (Optim(lr=2.0, warmup=4), {3: 2.0, 4: 2.0, 12: 1.0, 16: 1 + math.cos(math.pi * 0.75), 20: 0.0}),
        (Optim(lr=2.0, final=0.1), {0: 2.0, 10: 2.0 * 0.55, 20: 0.2}),
        (Optim(lr=2.0, schedule="linear", warmup=10, final=0.5), {4: 1.0, 10: 2.0, 15: 1.5, 20: 1.0}),
        (Optim(lr=2.0, schedule="steps", milestones=(8, 12), warmup=2), {0: 1.0, 7: 2.0, 9: 0.2, 13: 0.02}),
        (Optim(lr=2.0, schedule="steps", milestones=(2, 4), warmup=4), {0: 0.5, 1: 1.0, 2: 0.15, 3: 0.2, 4: 0.02}),
    ],
)
def test_schedules(spec, expected):
    at = optim.rate(spec, 20)
    np.testing.assert_allclose(
        [at(jnp.int32(step)) for step in expected], list(expected.values()), rtol=1e-5, atol=1e-7
    )


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(BadInput, match=r"warmup = 50 .* 40 steps; give --optim\.warmup below 40, or --steps above 50"):
        optim.rate(Optim(warmup=50), 40)
    with pytest.raises(BadInput, match=r"warmup = 20 "):
        optim.rate(Optim(warmup=20), 20)
    optim.rate(Optim(warmup=19), 20)


def test_first_update_is_adamw():
    """Adam's first step is lr * sign(g) as eps -> 0 (Kingma and Ba 2015, sec. 2.1); decay adds lr * wd * p."""
    grads = jax.tree.map(lambda p: jnp.where(p > 0, 0.3, -7.0), PARAMS)
    new, _ = one_step(
        Optim(lr=0.01, weight_decay=0.1, schedule="constant", no_decay=(r".*pos_embed", r".*iou_token.*")), grads
    )
    for name, old in tree.flatten(PARAMS).items():
        spared = "pos_embed" in name or "iou_token" in name or old.ndim == 1
        expected = old - 0.01 * (np.sign(old) + (0 if spared else 0.1 * old))
        np.testing.assert_allclose(new[name], expected, rtol=1e-5, err_msg=name)


def test_second_moments_and_bias_correction():
    """Two gradients g1, g2: m = (b1 (1-b1) g1 + (1-b1) g2) / (1 - b1^2), v likewise with b2."""
    params, g1, g2 = {"w": jnp.zeros((1, 1))}, 1.0, 3.0
    spec = Optim(lr=0.5, b1=0.8, b2=0.9, eps=1e-12, schedule="constant")
    tx = optim.build(spec, 10, params)
    opt_state = tx.init(params)
    for step, g in enumerate([g1, g2]):
        updates, opt_state = tx.update({"w": jnp.full((1, 1), g)}, opt_state, params, step=jnp.int32(step))
    m = (0.8 * 0.2 * g1 + 0.2 * g2) / (1 - 0.8**2)
    v = (0.9 * 0.1 * g1**2 + 0.1 * g2**2) / (1 - 0.9**2)
    np.testing.assert_allclose(updates["w"], -0.5 * m / math.sqrt(v), rtol=1e-5)


def test_depths_follow_mae():
    """MAE's util/lr_decay.py get_layer_id_for_vit: embeddings 0, blocks.i i + 1, the rest num_layers = blocks + 1."""
    layer, top = optim.depths(tree.flatten(PARAMS))
    assert top == 3
    assert list(layer.values()) == [0, 0, 1, 1, 2, 3, 3, 3]


def test_layer_decay_scales_the_whole_update():
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    new, _ = one_step(Optim(lr=0.1, layer_decay=0.5, schedule="constant", multipliers=((r".*head\..*", 10.0),)), grads)
    moved = [float((old - new[name]).max()) for name, old in tree.flatten(PARAMS).items()]
    np.testing.assert_allclose(moved, np.array([1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 2, 1, 1, 10]) * 0.1, rtol=1e-4)


def test_depths_count_frozen_blocks_too():
    trained = {n: v for n, v in tree.flatten(PARAMS).items() if "blocks.1" not in n and "neck" not in n}
    factor = optim.multipliers(Optim(layer_decay=0.5), tree.unflatten(trained), names=tree.flatten(PARAMS))
    assert factor["image_encoder.blocks.0.norm1.weight"] == 1 / 4


def test_several_stacks_need_a_prefix():
    names = ["encoder.pos_embed", "encoder.blocks.0.w", "decoder.blocks.0.w", "decoder.pos_embed"]
    with pytest.raises(BadInput, match=r"several: 'decoder\.', 'encoder\.'"):
        optim.depths(names)
    layer, top = optim.depths(names, "encoder.")
    assert (list(layer.values()), top) == ([0, 1, 2, 2], 2)
    with pytest.raises(BadInput, match="found none"):
        optim.depths(["head.w"])


@pytest.mark.parametrize(
    "spec",
    [Optim(no_decay=("pos_embed",)), Optim(multipliers=(("head.*", 2.0),)), Optim(layer_decay=0.5, no_decay=("x",))],
)
def test_a_pattern_that_matches_nothing_is_refused(spec):
    with pytest.raises(BadInput, match="matches no parameter"):
        optim.build(spec, 10, PARAMS)


def test_clipping_is_by_the_global_norm():
    """Adam divides the scale of the first gradient away, so look at its first moment: (1 - b1) * clipped."""
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    count = sum(leaf.size for leaf in jax.tree.leaves(PARAMS))
    _, opt_state = one_step(Optim(clip_norm=2.0, b1=0.75), grads)
    for leaf in jax.tree.leaves(opt_state[1].mu):
        np.testing.assert_allclose(leaf, 0.25 * 2.0 / math.sqrt(count), rtol=1e-5)


def test_the_average_follows_the_updated_parameters():
    params, spec = {"w": jnp.full((2, 2), 3.0)}, Optim(lr=0.5, ema=0.75, schedule="constant")
    tx = optim.build(spec, 10, params)
    opt_state = tx.init(params)
    assert optim.average(opt_state)["w"] is not params["w"]
    _, opt_state = tx.update({"w": jnp.ones((2, 2))}, opt_state, params, step=jnp.int32(0))
    np.testing.assert_allclose(optim.average(opt_state)["w"], 0.75 * 3.0 + 0.25 * 2.5, rtol=1e-6)
    assert optim.average(optim.build(Optim(), 10, params).init(params)) is None


def test_muon_moves_a_matrix_along_its_polar_factor_with_adams_size_and_leaves_the_rest_to_adam():
    rng, name = np.random.default_rng(0), "image_encoder.blocks.0.attn.qkv.weight"
    grads = tree.map_named(lambda _, p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), PARAMS)
    plain = Optim(lr=0.1, schedule="constant")
    before = tree.flatten(PARAMS)
    adam, muon = (one_step(s, grads)[0] for s in (plain, dataclasses.replace(plain, muon=(r".*qkv\.weight",))))
    step = np.asarray(muon[name] - before[name])
    left, _, right = np.linalg.svd(np.asarray(tree.flatten(grads)[name]), full_matrices=False)
    # Liu et al. 2025, eq. 4: 0.2 sqrt(max(rows, columns)) times the polar factor, so its mean square is Adam's
    expected = -0.1 * 0.2 * 3 * left @ right
    # five Newton-Schulz iterations bring singular values near 1, not to it
    assert np.corrcoef(step.ravel(), expected.ravel())[0, 1] > 0.97
    assert 0.7 < np.linalg.norm(step) / np.linalg.norm(expected) < 1.2
    for other in before:
        if not other.endswith("qkv.weight"):
            np.testing.assert_array_equal(muon[other], adam[other])


def test_muon_is_for_matrices():
    with pytest.raises(BadInput, match=r"no matrices.*\n.*norm1\.weight"):
        optim.build(Optim(muon=(r".*norm1\.weight",)), 10, PARAMS)
