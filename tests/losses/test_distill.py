"""Feature distances against closed forms and float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.losses import feature_cosine, feature_mse


def draw(seed=0, shape=(3, 5, 16)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(size=shape), rng.uniform(size=shape) < 0.6


def test_feature_mse_equals_float64():
    student, teacher, where = draw()
    square = (student - teacher) ** 2
    np.testing.assert_allclose(feature_mse(student, teacher), square.mean(-1), rtol=1e-5)
    expected = (square * where).sum(-1) / where.sum(-1)
    np.testing.assert_allclose(feature_mse(student, teacher, where=where), expected, rtol=1e-5)


def test_feature_mse_closed_form_and_gradient():
    """Off by d in every channel: d^2, slope 2 d / C."""
    teacher = jnp.arange(8.0)
    value, gradient = jax.value_and_grad(feature_mse)(teacher + 3, teacher)
    np.testing.assert_allclose(value, 9, rtol=1e-6)
    np.testing.assert_allclose(gradient, np.full(8, 6 / 8), rtol=1e-6)


def test_feature_cosine_equals_float64():
    student, teacher, where = draw()
    norms = np.linalg.norm(student, axis=-1) * np.linalg.norm(teacher, axis=-1)
    np.testing.assert_allclose(feature_cosine(student, teacher), 1 - (student * teacher).sum(-1) / norms, rtol=2e-5)
    a, b = student * where, teacher * where
    expected = 1 - (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    np.testing.assert_allclose(feature_cosine(student, teacher, where=where), expected, rtol=2e-5)


@pytest.mark.parametrize(("angle", "expected"), [(0, 0.0), (60, 0.5), (90, 1.0), (180, 2.0)])
def test_feature_cosine_closed_form(angle, expected):
    """1 - cos(angle), whatever the lengths."""
    radians = np.deg2rad(angle)
    student = 1e3 * np.array([np.cos(radians), np.sin(radians)])
    np.testing.assert_allclose(feature_cosine(student, np.array([1e-3, 0.0])), expected, atol=1e-6)


def test_feature_cosine_gradient_is_perpendicular_to_the_student():
    """Only the direction counts: d/ds (1 - cos) = -(t^ - cos s^) / |s|."""
    student, teacher, _ = (x.astype(np.float64) for x in draw(shape=(16,)))
    gradient = jax.grad(feature_cosine)(jnp.asarray(student, jnp.float32), jnp.asarray(teacher, jnp.float32))
    s, t = student / np.linalg.norm(student), teacher / np.linalg.norm(teacher)
    np.testing.assert_allclose(gradient, -(t - (s @ t) * s) / np.linalg.norm(student), rtol=1e-4, atol=1e-6)


def test_feature_cosine_of_a_zero_vector():
    """No direction: similarity 0, no gradient."""
    value, gradients = jax.value_and_grad(feature_cosine, argnums=(0, 1))(jnp.zeros(4), jnp.ones(4))
    assert value == 1
    np.testing.assert_array_equal(gradients[0], 0)
    np.testing.assert_array_equal(gradients[1], 0)


@pytest.mark.parametrize("loss", [feature_mse, feature_cosine])
def test_left_out_tokens_cost_nothing(loss):
    student, teacher, _ = draw()
    tokens = np.arange(5) < 2
    value = loss(student, teacher, where=tokens[:, None])
    np.testing.assert_array_equal(value[:, 2:], 0)
    np.testing.assert_allclose(value[:, :2], loss(student, teacher)[:, :2], rtol=1e-6)


@pytest.mark.parametrize("loss", [feature_mse, feature_cosine])
def test_shapes_must_agree(loss):
    with pytest.raises(ValueError, match="same shape"):
        loss(np.zeros((2, 5, 8)), np.zeros((2, 1, 8)))
