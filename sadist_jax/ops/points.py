"""Prompts drawn on the device: clicks in a mask or in the error region, jittered boxes.

Each function takes one key and one sample; `jax.vmap` over keys and masks makes it batched, so that a sample's draw
depends on its own key only, whatever batch it sits in. Points are float32 xy pixel indices of the masks' frame.
"""

import jax
import jax.numpy as jnp

from sadist_jax.ops import boxes
from sadist_jax.typing import Array, Bool, Float, Int, Key

BOX_NOISE_SCALE = 0.1  # SAM (arXiv 2304.02643) appendix A: standard deviation of 10 % of the side ...
BOX_NOISE_CAP = 20.0  # ... to a maximum of 20 pixels (of its 1024 frame)
EMPTY = -2  # label of a prompt slot that holds no point


def sample_in_mask(key: Key, mask: Bool[Array, "h w"]) -> tuple[Float[Array, "2"], Bool[Array, ""]]:
    """One point, uniform over the set pixels.

    Draws a rank r and finds the r-th set pixel by counting rows, then the columns of its row: exactly uniform, and
    without a random number or a running sum for every pixel.

    Args:
      key: PRNG key.
      mask: (H, W), non-zero inside.
    Returns:
      xy: (2,) float32 pixel indices, x to the right; (0, 0) for an empty mask.
      found: () bool, whether the mask has a pixel.

    >>> xy, found = sample_in_mask(jax.random.key(0), jnp.zeros((4, 6)).at[3, 5].set(1))
    >>> xy.tolist(), bool(found)
    ([5.0, 3.0], True)
    """
    mask = jnp.asarray(mask, bool)
    rows = jnp.cumsum(jnp.sum(mask, axis=1))
    total = rows[-1]
    rank = jax.random.randint(key, (), 0, jnp.maximum(total, 1))
    y = jnp.sum(rows <= rank)  # the first row whose running count exceeds the rank
    row = mask[y]
    rank_in_row = rank - (rows[y] - jnp.sum(row))
    x = jnp.sum(jnp.cumsum(row) <= rank_in_row)
    found = total > 0
    return jnp.where(found, jnp.stack([x, y]), 0).astype(jnp.float32), found


def sample_error_click(
    key: Key,
    prediction: Bool[Array, "h w"],
    target: Bool[Array, "h w"],
    valid: Bool[Array, "h w"] | None = None,
) -> tuple[Float[Array, "2"], Int[Array, ""]]:
    """The click that corrects a prediction: one point, uniform over all wrong pixels.

    Foreground where the prediction misses the object, background where it overflows. Source: SAM (arXiv 2304.02643)
    appendix A. For a perfect prediction it is a background click outside the object, as in SAM-2's
    `sample_random_points_from_errors`; where the object leaves no outside, a foreground click inside.

    Args:
      key: PRNG key.
      prediction: (H, W), non-zero inside; threshold logits first.
      target: (H, W), non-zero inside.
      valid: (H, W), non-zero for image content; outside it nothing is wrong and nothing is clicked. None: everywhere.
    Returns:
      xy: (2,) float32 pixel indices, x to the right.
      label: () int32, 1 foreground, 0 background; EMPTY, with xy = (0, 0), where nothing is valid.

    >>> prediction, target = jnp.zeros((4, 4)), jnp.zeros((4, 4)).at[2, 1].set(1)
    >>> xy, label = sample_error_click(jax.random.key(0), prediction, target)
    >>> xy.tolist(), int(label)
    ([1.0, 2.0], 1)
    """
    prediction, target = jnp.asarray(prediction, bool), jnp.asarray(target, bool)
    valid = jnp.ones_like(target) if valid is None else jnp.asarray(valid, bool)
    wrong, outside = (prediction != target) & valid, ~target & valid
    region = jnp.where(jnp.any(wrong), wrong, jnp.where(jnp.any(outside), outside, valid))
    xy, found = sample_in_mask(key, region)
    x, y = xy.astype(jnp.int32)
    # in all four cases the right label is what the target says at that pixel
    return xy, jnp.where(found, target[y, x].astype(jnp.int32), EMPTY)


def jitter_box(
    key: Key,
    box: Float[Array, "4"],
    size: Int[Array, "2"],
    scale: float = BOX_NOISE_SCALE,
    cap: float = BOX_NOISE_CAP,
) -> Float[Array, "4"]:
    """A box as a person would draw it: Gaussian noise on every coordinate, kept inside the image.

    Source: SAM (arXiv 2304.02643) appendix A, "standard deviation equal to 10% of the box sidelength, to a maximum of
    20 pixels", read as a limit on the noise itself, as SAM-2's (uniform) noise is limited.

    Args:
      key: PRNG key.
      box: (4,) xyxy in pixel indices.
      size: (2,) height and width of the image content in pixels.
      scale: standard deviation as a fraction of the side; the width for x, the height for y.
      cap: pixels, the largest move; for a frame smaller than SAM's 1024 pass 20 * frame / 1024.
    Returns:
      (4,) float32 xyxy with x0 <= x1, y0 <= y1, x in [0, w - 1] and y in [0, h - 1].

    >>> jitter_box(jax.random.key(0), jnp.array([10, 10, 50, 30]), jnp.array([64, 64]), scale=0.0).tolist()
    [10.0, 10.0, 50.0, 30.0]
    """
    box = jnp.asarray(box, jnp.float32)
    side = jnp.abs(box[2:] - box[:2])
    noise = jax.random.normal(key, (4,)) * scale * jnp.concatenate([side, side])
    corners = (box + jnp.clip(noise, -cap, cap)).reshape(2, 2)
    # a large scale may carry one corner past the other
    ordered = jnp.concatenate([jnp.min(corners, axis=0), jnp.max(corners, axis=0)])
    return boxes.clip(ordered, size)
