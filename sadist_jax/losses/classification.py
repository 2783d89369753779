"""The distance of class scores from a distribution over classes."""

import jax
import jax.numpy as jnp

from sadist_jax.losses.where import select
from sadist_jax.typing import Array, Bool, Float

_LEAST = -1e30  # a logit whose exponential is 0 and which, unlike -inf, leaves no NaN behind


def softmax_cross_entropy(
    class_logits: Float[Array, "*rows c"],
    probabilities: Float[Array, "*rows c"],
    *,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*rows"]:
    """Cross-entropy of a softmax against any distribution: one class, smoothed labels, mixtures of two images' labels.

    -sum_c p_c log(exp(z_c) / sum_k exp(z_k)). Source: Szegedy et al. 2016, arXiv:1512.00567, section 7, for targets
    that are no single class.

    Args:
      class_logits: (..., C) scores z, any range.
      probabilities: (..., C) of the same shape, >= 0 and of sum 1; no gradient is stopped here.
      where: bool, broadcastable to (..., C): classes that do not exist for a row are in neither sum.
    Returns:
      (...) float32, >= 0.
    Raises:
      ValueError: the shapes differ.

    >>> print(f"{softmax_cross_entropy(jnp.zeros(4), jnp.array([0.5, 0.5, 0.0, 0.0])):.4f}")  # log 4
    1.3863
    """
    if jnp.shape(class_logits) != jnp.shape(probabilities):
        # indices of classes, or one distribution for all rows, would broadcast without complaint
        raise ValueError(
            f"class_logits {jnp.shape(class_logits)} and probabilities {jnp.shape(probabilities)} must have the same "
            "shape"
        )
    z, p = select(where, class_logits, probabilities)
    z = z if where is None else jnp.where(where, z, _LEAST)
    return -jnp.sum(p * jax.nn.log_softmax(z, axis=-1), axis=-1)
