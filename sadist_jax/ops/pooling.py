"""One feature for each mask of an image."""

import jax.numpy as jnp

from sadist_jax.ops.precision import widen
from sadist_jax.typing import Array, Bool, Float


def mean_direction(features: Float[Array, "*b h w c"], masks: Bool[Array, "*b k h w"]) -> Float[Array, "*b k c"]:
    """Mean of the features inside each mask, every one of them first scaled to length 1.

    Args:
      features: (..., h, w, c), unbounded; at least float32 inside. A zero vector has no direction and stays.
      masks: (..., k, h, w), non-zero inside.
    Returns:
      (..., k, c), of length at most 1; zeros for an empty mask.

    >>> features = jnp.array([[[2.0, 0.0], [0.0, 3.0]]])  # two pixels with orthogonal features
    >>> mean_direction(features, jnp.array([[[1, 0]], [[1, 1]], [[0, 0]]])).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]
    """
    x = widen(features)
    square = jnp.square(x).sum(-1, keepdims=True)
    unit = jnp.where(square > 0, x / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    inside = jnp.asarray(masks, bool).astype(unit.dtype)
    total = jnp.einsum("...khw,...hwc->...kc", inside, unit)
    return total / jnp.maximum(inside.sum((-2, -1)), 1)[..., None]
