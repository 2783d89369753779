"""Cross-entropy against closed forms, float64 NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from sadist_jax.losses import softmax_cross_entropy


def draw(shape=(3, 5, 7)):
    rng = np.random.default_rng(0)
    return rng.normal(0, 3, shape), rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def test_it_equals_float64():
    logits, probabilities = draw()
    expected = -(probabilities * scipy.special.log_softmax(logits, -1)).sum(-1)
    np.testing.assert_allclose(softmax_cross_entropy(logits, probabilities), expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_has_a_closed_form(smoothing):
    """Two classes, margin m for the right one: log(1 + e^-m) + m e / 2, since the wrong one has half of e."""
    margin = 1.7
    target = jnp.array([1 - smoothing / 2, smoothing / 2])
    expected = np.log1p(np.exp(-margin)) + margin * smoothing / 2
    assert float(softmax_cross_entropy(jnp.array([margin, 0.0]), target)) == pytest.approx(expected, rel=1e-6)


def test_the_gradient_is_softmax_minus_target():
    logits, probabilities = draw((7,))
    gradient = jax.grad(softmax_cross_entropy)(jnp.asarray(logits, jnp.float32), jnp.asarray(probabilities))
    np.testing.assert_allclose(gradient, scipy.special.softmax(logits) - probabilities, rtol=1e-4, atol=1e-6)


def test_classes_that_are_left_out_are_in_neither_sum():
    logits, probabilities = draw((4,))
    kept = np.array([True, False, True, False])
    expected = -(probabilities[kept] * scipy.special.log_softmax(logits[kept])).sum()
    assert float(softmax_cross_entropy(logits, probabilities, where=kept)) == pytest.approx(expected, rel=1e-5)


def test_numbers_of_classes_are_refused_as_targets():
    with pytest.raises(ValueError, match=r"\(3, 5, 7\) and probabilities \(3, 5\) must have the same"):
        softmax_cross_entropy(draw()[0], np.zeros((3, 5), np.int32))
