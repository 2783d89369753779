"""Binary masks and mask logits: (..., H, W) arrays of any leading axes."""

import jax.numpy as jnp

from sadist_jax.typing import Array, Bool, Float

_PIXELS = (-2, -1)


def mask_to_box(masks: Bool[Array, "*batch h w"]) -> Float[Array, "*batch 4"]:
    """Tightest box around the set pixels, in pixel indices, both ends included.

    Source: `batched_mask_to_box` of segment-anything (utils/amg.py); a mask four pixels wide gives x1 - x0 = 3.

    Args:
      masks: (..., H, W), non-zero inside.
    Returns:
      (..., 4) float32 [min x, min y, max x, max y]; zeros for an empty mask.

    >>> mask_to_box(jnp.zeros((6, 8)).at[1:3, 2:6].set(1)).tolist()
    [2.0, 1.0, 5.0, 2.0]
    """
    masks = jnp.asarray(masks, bool)
    x0, x1 = _extent(jnp.any(masks, axis=-2))
    y0, y1 = _extent(jnp.any(masks, axis=-1))
    return jnp.stack([x0, y0, x1, y1], axis=-1).astype(jnp.float32)


def mask_iou(
    a: Bool[Array, "*batch h w"], b: Bool[Array, "*batch h w"], *, where: Bool[Array, "..."] | None = None
) -> Float[Array, "*batch"]:
    """Intersection over union of masks, pair by pair.

    Args:
      a: (..., H, W), non-zero inside; threshold logits first.
      b: (..., H, W), non-zero inside; leading axes broadcast with those of `a`.
      where: bool, broadcastable to (..., H, W), True for the pixels that count (image content, not padding).
    Returns:
      (...) float32 in [0, 1]; 0 where both masks are empty, as in SAM-2's iou_loss.

    >>> float(mask_iou(jnp.array([[1, 1, 0, 0]]), jnp.array([[0, 1, 1, 1]])))
    0.25
    """
    a, b = jnp.asarray(a, bool), jnp.asarray(b, bool)
    both, either = a & b, a | b
    if where is not None:
        keep = jnp.asarray(where, bool)
        both, either = both & keep, either & keep
    return _ratio(both, either)


def stability_score(
    logits: Float[Array, "*batch h w"],
    offset: float | Array = 1.0,
    threshold: float = 0.0,
    *,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """IoU of the masks thresholded a little higher and a little lower: how sharp the edge is.

    |logits > threshold + offset| / |logits > threshold - offset|. Source: `calculate_stability_score` of
    segment-anything (utils/amg.py); the defaults are its automatic mask generator's.

    Args:
      logits: (..., H, W) unbounded.
      offset: logits, > 0.
      threshold: logits; what counts as mask.
      where: bool, broadcastable to (..., H, W), True for the pixels that count.
    Returns:
      (...) float32 in [0, 1]; 0 where even the larger mask is empty (the reference gives NaN; both are filtered out).

    >>> float(stability_score(jnp.array([[-3.0, -0.5, 0.5, 3.0]])))  # 1 pixel of 3
    0.3333333432674408
    """
    logits = jnp.asarray(logits)
    # float16 and bfloat16 are compared in float32, or threshold + offset would be rounded with them
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return mask_iou(logits > threshold + offset, logits > threshold - offset, where=where)


def area_downsample(masks: Array, factor: int) -> Float[Array, "*batch h w"]:
    """Mean of every `factor` x `factor` tile: how much of the larger pixel is covered.

    Args:
      masks: (..., H, W), bool or numbers.
      factor: pixels, a divisor of H and W.
    Returns:
      (..., H / factor, W / factor) float32, in [0, 1] for masks of 0 and 1.
    Raises:
      ValueError: factor does not divide H and W.

    >>> area_downsample(jnp.array([[1, 1, 0, 1], [1, 1, 0, 0]]), 2).tolist()
    [[1.0, 0.25]]
    """
    *batch, h, w = jnp.shape(masks)
    if factor < 1 or h % factor or w % factor:
        raise ValueError(f"factor {factor} must divide the height and the width of {h} x {w} masks")
    rows = jnp.asarray(masks, jnp.float32).reshape(*batch, h // factor, factor, w)  # an axis at a time: JAX follows
    tiles = rows.reshape(*batch, h // factor, factor, w // factor, factor)  # the sharding of one
    return jnp.mean(tiles, axis=(-3, -1))


def _extent(line: Array) -> tuple[Array, Array]:
    """(..., N) bool -> first and last True index; 0 and 0 where there is none."""
    n = line.shape[-1]
    index = jnp.arange(n)
    first = jnp.min(jnp.where(line, index, n), axis=-1)
    last = jnp.max(jnp.where(line, index, 0), axis=-1)
    return jnp.where(first < n, first, 0), last


def _ratio(part: Array, whole: Array) -> Array:
    part, whole = jnp.sum(part, _PIXELS), jnp.sum(whole, _PIXELS)  # of bools: int32, exact
    return part.astype(jnp.float32) / jnp.maximum(whole, 1).astype(jnp.float32)
