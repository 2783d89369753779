"""The decoders of masked pretraining: what may depend on what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.models.sami_decoder import CrossDecoder, JointDecoder
from sadist_jax.nn import table
from tests.parity import draw

GRID, VISIBLE = 4, 5
SIZES = {"in_dim": 12, "out_dim": 6, "grid": GRID, "dim": 16, "depth": 2, "heads": 2}
CROSS, JOINT = CrossDecoder(**SIZES), JointDecoder(**SIZES)


@pytest.fixture(scope="module")
def params():
    return jax.device_put(table.from_reference(CROSS.table(), draw.state(CROSS.table())))


@pytest.fixture(scope="module")
def order():
    rng = np.random.default_rng(0)
    return jnp.array([rng.permutation(GRID**2) for _ in range(2)])


@pytest.fixture(scope="module")
def visible():
    return jnp.array(np.random.default_rng(1).standard_normal((2, VISIBLE, 12), np.float32))


def touched(decoder, params, visible, order) -> np.ndarray:
    """(tokens,) bool, in image order: what changes with the first visible token of the first image."""
    before = decoder.apply(params, visible, order)
    other = visible.at[0, 0, 0].add(3)  # one channel: the norm would undo a change of all alike
    after = decoder.apply(params, other, order)
    np.testing.assert_array_equal(before[1], after[1])
    return np.abs(before - after)[0].max(-1) > 1e-6


def test_visible_features_go_past_the_cross_attention_decoder(params, visible, order):
    changed = touched(CROSS, params, visible, order)
    seen = np.asarray(order[0, :VISIBLE])
    assert changed[seen].tolist() == [True] + [False] * (VISIBLE - 1)
    assert changed[np.asarray(order[0, VISIBLE:])].all()


def test_the_joint_decoder_mixes_all_tokens(params, visible, order):
    assert touched(JOINT, params, visible, order).all()


@pytest.mark.parametrize("decoder", [CROSS, JOINT])
def test_the_order_of_the_visible_and_of_the_masked_tokens_does_not_matter(params, visible, order, decoder):
    rng = np.random.default_rng(2)
    a, b = rng.permutation(VISIBLE), rng.permutation(GRID**2 - VISIBLE)
    other = jnp.concatenate([order[:, :VISIBLE][:, a], order[:, VISIBLE:][:, b]], 1)
    expected = decoder.apply(params, visible, order)
    assert expected.shape == (2, GRID**2, 6)
    np.testing.assert_allclose(decoder.apply(params, visible[:, a], other), expected, atol=1e-5)
