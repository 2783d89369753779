"""Losses of self-training against closed forms and a float64 NumPy version with loops, written from the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.losses import instance_contrast, instance_contrast_pooled, mask_entropy

TAU = 0.3


def draw(seed=0, shape=(2, 4, 6)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(size=shape)


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def rows_float64(x, y, tau=TAU):
    """-log of the softmax's own entry, row by row."""
    found = []
    for i in range(len(x)):
        scores = [np.exp(cosine(x[i], y[j]) / tau) for j in range(len(y))]
        found.append(-np.log(scores[i] / sum(scores)))
    return np.array(found)


def pooled_float64(x, y, tau=TAU):
    pairs = [[np.exp(cosine(a, b) / tau) for b in y] for a in x]
    return -np.log(sum(pairs[i][i] for i in range(len(x))) / sum(map(sum, pairs)))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 0.07])
def test_contrast_equals_float64(temperature):
    x, y = draw()
    close = {"rtol": 2e-5, "atol": 3e-6}  # float32's rounding of scores up to 1 / 0.07, whose difference the loss is
    expected = [rows_float64(x[b], y[b], temperature) for b in range(2)]
    np.testing.assert_allclose(instance_contrast(x, y, temperature=temperature), expected, **close)
    expected = [pooled_float64(x[b], y[b], temperature) for b in range(2)]
    np.testing.assert_allclose(instance_contrast_pooled(x, y, temperature=temperature), expected, **close)


@pytest.mark.parametrize("k", [2, 3, 8])
def test_contrast_closed_forms(k):
    """Orthogonal instances on their anchors: log(1 + (k - 1) exp(-1 / tau)). All alike: log k."""
    best = np.log(1 + (k - 1) * np.exp(-1 / TAU))
    np.testing.assert_allclose(instance_contrast(jnp.eye(k), 5 * jnp.eye(k)), np.full(k, best), rtol=1e-5)
    np.testing.assert_allclose(instance_contrast_pooled(jnp.eye(k), 5 * jnp.eye(k)), best, rtol=1e-5)
    np.testing.assert_allclose(instance_contrast(jnp.ones((k, 3)), jnp.ones((k, 3))), np.log(k), rtol=1e-5)
    np.testing.assert_allclose(instance_contrast_pooled(jnp.ones((k, 3)), jnp.ones((k, 3))), np.log(k), rtol=1e-5)


def test_one_pair_carries_the_pooled_sum_and_not_the_rows():
    """Second instance opposite to its anchor: S = [[1, 0], [0, -1]] / tau."""
    x, y = jnp.eye(2), jnp.array([[1.0, 0.0], [0.0, -1.0]])
    e, one = np.exp(1 / TAU), 1.0
    np.testing.assert_allclose(instance_contrast(x, y), [np.log(1 + 1 / e), np.log(1 + e)], rtol=1e-5)
    np.testing.assert_allclose(instance_contrast_pooled(x, y), np.log((e + 1 / e + 2 * one) / (e + 1 / e)), rtol=1e-4)


def test_one_instance_costs_nothing_and_teaches_nothing():
    """Users' issues of the released code: with one object the loss stays at 0."""
    x, y = (a[0, :1] for a in draw())
    for loss in (instance_contrast, instance_contrast_pooled):
        value, gradient = jax.value_and_grad(lambda x, loss=loss: loss(x, y).sum())(jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(value, 0, atol=1e-6)
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_instances_left_out_are_in_no_sum():
    x, y = draw()
    keep = np.array([True, False, True, True])
    spoilt = np.where(keep[:, None], x, np.nan)
    found = instance_contrast(spoilt, y, where=keep[:, None])
    for b in range(2):
        np.testing.assert_allclose(np.asarray(found[b])[keep], rows_float64(x[b, keep], y[b, keep]), rtol=2e-5)
        assert float(found[b, 1]) == 0
    pooled = [pooled_float64(x[b, keep], y[b, keep]) for b in range(2)]
    np.testing.assert_allclose(instance_contrast_pooled(spoilt, y, where=keep[:, None]), pooled, rtol=2e-5)


def test_contrast_gradient_equals_finite_differences():
    x, y = (a[0] for a in draw(3))
    for loss, reference in ((instance_contrast, rows_float64), (instance_contrast_pooled, pooled_float64)):
        gradient = jax.grad(lambda x, loss=loss: loss(x, y).sum())(jnp.asarray(x, jnp.float32))
        expected = np.zeros_like(x)
        for place in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[place] = 1e-5
            expected[place] = (np.sum(reference(x + step, y)) - np.sum(reference(x - step, y))) / 2e-5
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_shapes_that_would_broadcast_are_refused():
    for loss in (instance_contrast, instance_contrast_pooled):
        with pytest.raises(ValueError, match="same shape"):
            loss(np.ones((3, 4)), np.ones((1, 4)))


def test_entropy_equals_float64():
    logits = np.random.default_rng(0).normal(0, 3, (3, 2, 5, 6))
    p = 1 / (1 + np.exp(-logits))
    pixels = -p * np.log(p) - (1 - p) * np.log(1 - p)
    np.testing.assert_allclose(mask_entropy(logits), pixels.mean((-2, -1)), rtol=2e-5)
    where = np.arange(6) < 4
    np.testing.assert_allclose(mask_entropy(logits, where=where), pixels[..., :4].mean((-2, -1)), rtol=2e-5)


def test_entropy_closed_forms():
    """log 2 where nothing is decided; x exp(-x) + exp(-x) far out, which 1 - p in float32 would lose."""
    np.testing.assert_allclose(mask_entropy(jnp.zeros((2, 2))), np.log(2), rtol=1e-6)
    for x in (20.0, -20.0):
        np.testing.assert_allclose(mask_entropy(jnp.full((2, 2), x)), 21 * np.exp(-20.0), rtol=1e-4)


def test_entropy_gradient_decides():
    """d/dx of the entropy is -x p (1 - p): a step downhill makes logits larger where they are positive."""
    x = jnp.array([[-2.0, -0.5, 0.5, 2.0]])
    p = 1 / (1 + np.exp(-np.asarray(x)))
    np.testing.assert_allclose(jax.grad(lambda x: mask_entropy(x))(x), -x * p * (1 - p) / 4, rtol=1e-5)
