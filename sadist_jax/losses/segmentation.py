"""Losses between predicted mask logits and binary masks, as SAM trains with: focal, dice and the IoU head's.

Leading axes broadcast: logits (B, P, 3, H, W) against targets (B, P, 1, H, W) compares three masks with one target.
"""

import jax
import jax.numpy as jnp

from sadist_jax.losses.where import count, mean, select
from sadist_jax.ops.masks import mask_iou
from sadist_jax.typing import Array, Bool, Float

FOCAL_ALPHA = 0.25  # RetinaNet (arXiv 1708.02002) section 4.1; SAM-2 training/loss_fns.py
FOCAL_GAMMA = 2.0  # same places
DICE_SMOOTH = 1.0  # SAM-2 training/loss_fns.py; V-Net has none
_PIXELS = (-2, -1)


def sigmoid_focal(
    logits: Float[Array, "*batch h w"],
    targets: Float[Array, "*batch h w"],
    *,
    alpha: float | None = FOCAL_ALPHA,
    gamma: float = FOCAL_GAMMA,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*batch h w"]:
    """Focal loss of every pixel, unreduced.

    alpha_t (1 - p_t)^gamma (-log p_t) with p = sigmoid(logits). Source: RetinaNet (arXiv 1708.02002), equation 5.
    alpha=None leaves out alpha_t (equation 4); with gamma=0 as well it is the binary cross-entropy.

    Args:
      logits: (..., H, W) unbounded.
      targets: (..., H, W) in [0, 1], any dtype; for values in between, p_t = p t + (1 - p)(1 - t) and -log p_t is the
        cross-entropy, as the published codes have it.
      alpha: weight of the foreground in [0, 1]; the background has 1 - alpha.
      gamma: focusing exponent >= 0.
      where: bool, broadcastable to (..., H, W), True for the pixels that count.
    Returns:
      (..., H, W) float32, >= 0; 0 at pixels left out.
    Raises:
      ValueError: logits and targets differ in (H, W).

    >>> round(float(sigmoid_focal(jnp.zeros((1, 1)), jnp.ones((1, 1)))[0, 0]), 6)  # 0.25 * 0.25 * log 2
    0.043322
    """
    _check_same_pixels(logits, targets)
    x, t = select(where, logits, targets)
    # each tail from its own softplus or sigmoid: 1 - p would lose everything beyond |x| = 17
    cross_entropy = t * jax.nn.softplus(-x) + (1 - t) * jax.nn.softplus(x)
    miss = (1 - t) * jax.nn.sigmoid(x) + t * jax.nn.sigmoid(-x)  # 1 - p_t
    # the floor changes no value that float32 can hold, and keeps the slope of miss^gamma finite for gamma < 1
    loss = cross_entropy * jnp.maximum(miss, jnp.finfo(jnp.float32).tiny) ** gamma
    if alpha is not None:
        loss = loss * (alpha * t + (1 - alpha) * (1 - t))
    return select(where, loss)[0]


def focal_mask(
    logits: Float[Array, "*batch h w"],
    targets: Float[Array, "*batch h w"],
    *,
    alpha: float | None = FOCAL_ALPHA,
    gamma: float = FOCAL_GAMMA,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Focal loss of a mask: the mean of `sigmoid_focal` over its valid pixels.

    Source: SAM (arXiv 2304.02643) appendix A names the loss; mean over pixels, alpha and gamma are SAM-2's.

    Args:
      logits: (..., H, W) unbounded.
      targets: (..., H, W) in [0, 1], any dtype.
      alpha: see `sigmoid_focal`.
      gamma: see `sigmoid_focal`.
      where: bool, broadcastable to (..., H, W), True for the pixels that count (image content, not padding).
    Returns:
      (...) float32, >= 0.
    Raises:
      ValueError: logits and targets differ in (H, W).

    >>> focal_mask(jnp.zeros((5, 3, 4, 4)), jnp.ones((5, 1, 4, 4))).shape
    (5, 3)
    """
    return mean(sigmoid_focal(logits, targets, alpha=alpha, gamma=gamma, where=where), where, _PIXELS)


def dice(
    logits: Float[Array, "*batch h w"],
    targets: Float[Array, "*batch h w"],
    *,
    smooth: float = DICE_SMOOTH,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Dice loss of a mask.

    1 - (2 sum p t + smooth) / (sum p + sum t + smooth) with p = sigmoid(logits), sums over pixels. Source: SAM (arXiv
    2304.02643) appendix A names the loss and cites V-Net; this form with smooth = 1 is SAM-2's (V-Net squares the
    summands of the denominator). Meant for targets of 0 and 1: between them it is not least at p = t.

    Args:
      logits: (..., H, W) unbounded.
      targets: (..., H, W) in {0, 1}, any dtype.
      smooth: pixels added above and below the line, >= 0; makes an empty target a target.
      where: bool, broadcastable to (..., H, W), True for the pixels that count (image content, not padding).
    Returns:
      (...) float32 in [0, 1].
    Raises:
      ValueError: logits and targets differ in (H, W).

    >>> logits, target = jnp.zeros((4, 4)), jnp.zeros((4, 4)).at[:2].set(1)
    >>> round(float(dice(logits, target)), 6)  # 1 - (8 + 1) / (8 + 8 + 1)
    0.470588
    """
    _check_same_pixels(logits, targets)
    x, t = select(where, logits, targets)
    (p,) = select(where, jax.nn.sigmoid(x))
    overlap = 2 * jnp.sum(p * t, _PIXELS) + smooth
    total = jnp.sum(p, _PIXELS) + jnp.sum(t, _PIXELS) + smooth
    # total is 0 only without smoothing and where nothing is there to disagree about
    return jnp.where(total > 0, 1 - overlap / jnp.where(total > 0, total, 1.0), 0.0)


def iou_regression(
    predicted_iou: Float[Array, "*batch"],
    logits: Float[Array, "*batch h w"],
    targets: Float[Array, "*batch h w"],
    *,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Squared error of the predicted IoU against the IoU that the mask really has.

    (predicted_iou - IoU(logits > 0, targets))^2. Source: SAM (arXiv 2304.02643) appendix A; the threshold and IoU = 0
    where both masks are empty are SAM-2's. The true IoU is a target: no gradient reaches the logits.

    Args:
      predicted_iou: (...) output of the IoU head, unbounded (SAM's has no sigmoid).
      logits: (..., H, W) unbounded.
      targets: (..., H, W) in {0, 1}, any dtype.
      where: bool, broadcastable to (..., H, W), True for the pixels that count (image content, not padding).
    Returns:
      (...) float32, >= 0; 0 for a mask without any valid pixel.
    Raises:
      ValueError: logits and targets differ in (H, W).

    >>> logits, target = jnp.ones((2, 2)), jnp.array([[1, 0], [0, 0]])
    >>> float(iou_regression(jnp.array(0.75), logits, target))  # the true IoU is 1/4
    0.25
    """
    _check_same_pixels(logits, targets)
    x, t = select(where, jax.lax.stop_gradient(logits), targets)
    # left-out pixels are 0 in x and t, so they lie in neither mask
    error = jnp.asarray(predicted_iou, jnp.float32) - mask_iou(x > 0, t > 0.5)
    return jnp.where(count(where, x, _PIXELS) > 0, jnp.square(error), 0.0)


def _check_same_pixels(logits: Array, targets: Array) -> None:
    # leading axes may broadcast, pixels must not: a 1-pixel target would fit everything
    if jnp.shape(logits)[-2:] != jnp.shape(targets)[-2:]:
        raise ValueError(f"logits {jnp.shape(logits)} and targets {jnp.shape(targets)} must have the same (H, W)")
