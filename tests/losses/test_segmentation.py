"""Mask losses against closed forms and an independent float64 NumPy version written from the papers' formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sadist_jax.losses import dice, focal_mask, iou_regression, sigmoid_focal


def draw(seed=0, shape=(3, 2, 7, 6), scale=6.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, shape)
    targets = rng.integers(0, 2, shape)
    where = rng.uniform(size=shape) < 0.6
    return logits, targets, where


def focal_float64(logits, targets, alpha, gamma):
    """RetinaNet equation 5, literally: -alpha_t (1 - p_t)^gamma log p_t."""
    p = 1 / (1 + np.exp(-logits))
    p_t = np.where(targets == 1, p, 1 - p)
    alpha_t = np.where(targets == 1, alpha, 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * np.log(p_t)


def dice_float64(logits, targets, smooth, where):
    p = 1 / (1 + np.exp(-logits))
    loss = np.empty(logits.shape[:-2])
    for i in np.ndindex(loss.shape):
        a, b = p[i][where[i]], targets[i][where[i]].astype(np.float64)
        loss[i] = 1 - (2 * (a * b).sum() + smooth) / (a.sum() + b.sum() + smooth)
    return loss


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.25, 0.5), (0.9, 0.0), (0.5, 3.5)])
def test_sigmoid_focal_equals_float64(alpha, gamma):
    logits, targets, _ = draw()
    value = sigmoid_focal(logits, targets, alpha=alpha, gamma=gamma)
    np.testing.assert_allclose(value, focal_float64(logits, targets, alpha, gamma), rtol=2e-5)


def test_sigmoid_focal_closed_form_at_zero():
    """p = 1/2 everywhere: alpha_t 2^-gamma log 2."""
    value = sigmoid_focal(jnp.zeros((1, 2)), jnp.array([[1, 0]]))
    np.testing.assert_allclose(value, [[0.25 / 4 * np.log(2), 0.75 / 4 * np.log(2)]], rtol=1e-6)


def test_sigmoid_focal_without_alpha_and_gamma_is_cross_entropy():
    logits, targets, _ = draw()
    soft = np.random.default_rng(3).uniform(size=logits.shape)
    for t in (targets, soft):
        expected = np.logaddexp(0, logits) - logits * t
        np.testing.assert_allclose(sigmoid_focal(logits, t, alpha=None, gamma=0.0), expected, rtol=1e-5)


def test_sigmoid_focal_keeps_tails():
    """Far on the right side the loss is alpha exp(-|x|)^3, which 1 - p in float32 would round to 0 from |x| = 17 on."""
    x = np.array([[20.0, -20.0]])
    expected = np.array([[0.25, 0.75]]) * np.exp(-20.0) ** 3
    np.testing.assert_allclose(sigmoid_focal(x, np.array([[1, 0]])), expected, rtol=1e-5)
    # on the wrong side it is the cross-entropy, |x|
    np.testing.assert_allclose(sigmoid_focal(100 * x, np.array([[0, 1]])), [[0.75 * 2000, 0.25 * 2000]], rtol=1e-6)


def test_sigmoid_focal_gradient_equals_finite_differences():
    logits, targets, _ = draw(shape=(1, 4, 4), scale=2.0)
    gradient = jax.grad(lambda x: jnp.sum(sigmoid_focal(x, targets)))(jnp.asarray(logits, jnp.float32))
    step = 1e-6
    up, down = (focal_float64(logits + s, targets, 0.25, 2.0) for s in (step, -step))
    np.testing.assert_allclose(gradient, (up - down) / (2 * step), rtol=1e-4, atol=1e-7)


def test_sigmoid_focal_equals_optax_for_soft_targets():
    """Between 0 and 1 there is no paper; the published codes agree with each other, so this must too."""
    logits, _, _ = draw(scale=2.0)
    soft = np.random.default_rng(3).uniform(size=logits.shape)
    expected = optax.losses.sigmoid_focal_loss(jnp.asarray(logits), jnp.asarray(soft), alpha=0.25, gamma=2.0)
    np.testing.assert_allclose(sigmoid_focal(logits, soft), expected, rtol=2e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_sigmoid_focal_gradient_is_finite_for_every_gamma(gamma):
    logits = jnp.array([[1e4, -1e4, 0.0, 120.0]])
    for target in (0.0, 1.0):
        gradient = jax.grad(lambda x, t=target: jnp.sum(sigmoid_focal(x, jnp.full_like(x, t), gamma=gamma)))(logits)
        assert np.isfinite(gradient).all()


def test_focal_mask_is_mean_over_valid_pixels():
    logits, targets, where = draw()
    pixels = focal_float64(logits, targets, 0.25, 2.0)
    np.testing.assert_allclose(focal_mask(logits, targets), pixels.mean((-2, -1)), rtol=2e-5)
    expected = [[pixels[i, j][where[i, j]].mean() for j in range(2)] for i in range(3)]
    np.testing.assert_allclose(focal_mask(logits, targets, where=where), expected, rtol=2e-5)


@pytest.mark.parametrize("smooth", [0.0, 1.0, 5.0])
def test_dice_equals_float64(smooth):
    logits, targets, where = draw()
    everywhere = np.ones_like(where)
    np.testing.assert_allclose(
        dice(logits, targets, smooth=smooth), dice_float64(logits, targets, smooth, everywhere), rtol=1e-5
    )
    np.testing.assert_allclose(
        dice(logits, targets, smooth=smooth, where=where), dice_float64(logits, targets, smooth, where), rtol=1e-5
    )


def test_dice_closed_forms():
    """A perfect mask costs 0; the exact opposite of an n-pixel target in an N-pixel image costs 1 - 1 / (N + 1)."""
    target = np.zeros((8, 8))
    target[:3] = 1
    certain = 200 * target - 100
    np.testing.assert_allclose(dice(certain, target), 0, atol=1e-6)
    np.testing.assert_allclose(dice(-certain, target), 1 - 1 / 65, rtol=1e-6)
    # nothing there and nothing predicted: right, with and without smoothing
    empty = np.zeros((8, 8))
    np.testing.assert_allclose(dice(empty - 200, empty), 0, atol=1e-6)
    np.testing.assert_array_equal(dice(empty - 200, empty, smooth=0.0), 0)
    assert np.isfinite(jax.grad(lambda x: dice(x, empty, smooth=0.0))(jnp.full((8, 8), -200.0))).all()


def test_iou_regression_closed_form():
    """A predicted mask of 6 pixels, a target of 8, 4 in common: IoU 4/10."""
    logits = np.full((4, 5), -1.0)
    logits[0, :], logits[1, 0] = 2.0, 0.5
    target = np.zeros((4, 5), bool)
    target[0, :4], target[3, :4] = True, True
    np.testing.assert_allclose(iou_regression(np.float32(0.9), logits, target), 0.25, rtol=1e-6)
    np.testing.assert_allclose(iou_regression(np.float32(0.4), logits, target), 0, atol=1e-12)
    # only the first row counts: 4 of 5
    where = np.arange(4)[:, None] == 0
    np.testing.assert_allclose(iou_regression(np.float32(1.0), logits, target, where=where), 0.04, rtol=1e-5)


def test_iou_regression_threshold_and_empty_masks():
    """A logit of exactly 0 is outside; with both masks empty the true IoU is 0, as in SAM-2."""
    nothing, everything, guess = np.zeros((3, 3)), np.ones((3, 3)), np.float32(0.25)
    np.testing.assert_allclose(iou_regression(guess, nothing, nothing), 0.25**2, rtol=1e-6)
    np.testing.assert_allclose(iou_regression(guess, nothing, everything), 0.25**2, rtol=1e-6)
    np.testing.assert_allclose(iou_regression(guess, nothing + 1e-6, everything), 0.75**2, rtol=1e-6)


def test_iou_regression_trains_the_iou_head_only():
    logits, targets, _ = draw()
    predicted = jnp.full(logits.shape[:-2], 0.5)
    to_iou, to_logits = jax.grad(lambda *a: jnp.sum(iou_regression(*a, targets)), argnums=(0, 1))(
        predicted, jnp.asarray(logits, jnp.float32)
    )
    inside, target = logits > 0, targets.astype(bool)
    true_iou = (inside & target).sum((-2, -1)) / (inside | target).sum((-2, -1))
    np.testing.assert_allclose(to_iou, 2 * (0.5 - true_iou), rtol=1e-5)
    np.testing.assert_array_equal(to_logits, 0)


@pytest.mark.parametrize("loss", [focal_mask, dice])
def test_three_masks_against_one_target(loss):
    """Leading axes broadcast, so best of three needs no copy of the target; `where` broadcasts from the image."""
    logits, _, _ = draw(shape=(2, 4, 3, 5, 5))
    _, targets, _ = draw(shape=(2, 4, 1, 5, 5))
    where = np.random.default_rng(5).uniform(size=(2, 1, 1, 5, 5)) < 0.7
    value = loss(logits, targets, where=where)
    repeated = loss(logits, np.repeat(targets, 3, axis=2), where=np.broadcast_to(where, logits.shape))
    assert value.shape == (2, 4, 3)
    np.testing.assert_allclose(value, repeated, rtol=1e-6)


def test_different_pixel_grids_are_refused():
    logits, target = np.zeros((2, 4, 4)), np.zeros((2, 1, 1))
    for loss in (sigmoid_focal, focal_mask, dice):
        with pytest.raises(ValueError, match="same \\(H, W\\)"):
            loss(logits, target)
    with pytest.raises(ValueError, match="same \\(H, W\\)"):
        iou_regression(np.zeros(2), logits, target)


def test_weights_are_refused_as_where():
    with pytest.raises(TypeError, match="bool mask"):
        dice(np.zeros((4, 4)), np.zeros((4, 4)), where=np.full((4, 4), 0.5))
