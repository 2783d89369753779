"""How like each pixel's feature is to what a mask covers."""

import jax
import jax.numpy as jnp

from sadist_jax.typing import Array, Float

_EPS = 1e-6


def similarity_to_mask(features: Float[Array, "*b h w c"], masks: Float[Array, "*b k h w"]) -> Float[Array, "*b k h w"]:
    """Cosine between every pixel's feature and the mean of the unit features that a mask covers.

    Args:
      features: (..., h, w, c), unbounded; at least float32 inside.
      masks: (..., k, h, w), how much of each pixel is covered, in [0, 1].
    Returns:
      (..., k, h, w) in [-1, 1]; 0 for an empty mask.

    >>> features = jnp.array([[[2.0, 0.0], [0.0, 3.0]]])  # two pixels with orthogonal features
    >>> similarity_to_mask(features, jnp.array([[[1.0, 0.0]]])).round(3).tolist()
    [[[1.0, 0.0]]]
    """
    unit = _unit(features.astype(jnp.promote_types(features.dtype, jnp.float32)))
    mean = _unit(jnp.einsum("...khw,...hwc->...kc", masks.astype(unit.dtype), unit))
    return jnp.einsum("...hwc,...kc->...khw", unit, mean)


def _unit(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + _EPS)
