import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.ops.similarity import similarity_to_mask

FEATURES = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
MASKS = np.random.default_rng(1).random((2, 2, 3, 4)).astype(np.float32)


def written_out(features, mask):
    """Cosine of every pixel with the covered mean of the unit features."""
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    mean = (unit * mask[..., None]).sum((0, 1))
    return unit @ (mean / np.linalg.norm(mean))


def test_it_is_the_cosine_to_the_mean_direction():
    found = similarity_to_mask(jnp.array(FEATURES), jnp.array(MASKS))
    expected = [[written_out(f, mask) for mask in masks] for f, masks in zip(FEATURES, MASKS, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-4)  # eps of 1e-6 beside squares of the order of 1


def test_by_hand():
    """Two covered pixels at right angles: each is at 45 degrees to their mean, however long it is."""
    features = jnp.array([[[4.0, 0.0], [0.0, 9.0], [-2.0, 0.0]]])
    found = similarity_to_mask(features, jnp.array([[[1, 1, 0]], [[1, 0, 0]]]))
    np.testing.assert_allclose(found[:, 0], [[0.5**0.5, 0.5**0.5, -(0.5**0.5)], [1, 0, -1]], atol=1e-4)


def test_a_half_covered_pixel_counts_half():
    features = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    found = similarity_to_mask(features, jnp.array([[[1.0, 0.5]]]))
    np.testing.assert_allclose(found[0, 0], np.array([1, 0.5]) / np.hypot(1, 0.5), atol=1e-4)


def test_an_empty_mask_and_features_of_zero_give_zero_and_finite_gradients():
    zero = jnp.zeros((1, 2, 3))
    assert not similarity_to_mask(jnp.ones((1, 2, 3)), jnp.zeros((1, 1, 2))).any()
    assert not similarity_to_mask(zero, jnp.ones((1, 1, 2))).any()
    assert np.isfinite(jax.grad(lambda x: similarity_to_mask(x, jnp.ones((1, 1, 2))).sum())(zero)).all()


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", "float32"), ("float32", "float32")])
def test_it_is_computed_in_float32(dtype, expected):
    assert similarity_to_mask(jnp.array(FEATURES, dtype), jnp.array(MASKS)).dtype == expected
