"""What holds a self-training model together without labels: contrast between instances, and entropy of masks."""

import jax
import jax.numpy as jnp

from sadist_jax.losses.where import count, mean, select
from sadist_jax.typing import Array, Bool, Float

TEMPERATURE = 0.3  # WeSAM (arXiv 2312.03502), released code
_LEAST = -1e30  # a logit whose exponential is 0 and which, unlike -inf, leaves no NaN behind


def instance_contrast(
    instances: Float[Array, "*batch k c"],
    anchors: Float[Array, "*batch k c"],
    *,
    temperature: float = TEMPERATURE,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*batch k"]:
    """InfoNCE of every instance: its feature shall be like its own anchor, and unlike those of the others.

    -log(exp S_ii / sum_j exp S_ij), S_ij = cos(instances_i, anchors_j) / temperature. Source: InfoNCE, van den Oord et
    al. 2018 (arXiv 1807.03748), equation 4; features and temperature as in WeSAM (arXiv 2312.03502), whose released
    code has `instance_contrast_pooled` instead.

    Args:
      instances: (..., K, C) one feature an instance, any scale; a zero vector is like nothing (cosine 0).
      anchors: (..., K, C) of the same shape; no gradient is stopped here.
      temperature: > 0.
      where: bool, broadcastable to (..., K, C); (..., K, 1) leaves out whole instances, from the sums too.
    Returns:
      (..., K) float32, >= 0; 0 for an instance without any other, whatever its features.
    Raises:
      ValueError: the shapes differ.

    >>> [round(float(x), 4) for x in instance_contrast(jnp.eye(2), jnp.eye(2))]  # log(1 + exp(-1 / 0.3))
    [0.0351, 0.0351]
    """
    similarity, pair = _similarity(instances, anchors, temperature, where)
    own = jnp.diagonal(similarity, axis1=-2, axis2=-1)
    loss = jax.nn.logsumexp(jnp.where(pair, similarity, _LEAST), axis=-1) - own
    return jnp.where(jnp.diagonal(pair, axis1=-2, axis2=-1), loss, 0.0)


def instance_contrast_pooled(
    instances: Float[Array, "*batch k c"],
    anchors: Float[Array, "*batch k c"],
    *,
    temperature: float = TEMPERATURE,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """Contrast of all instances of an image at once, as WeSAM's released code has it.

    -log(sum_i exp S_ii / sum_ij exp S_ij), S_ij = cos(instances_i, anchors_j) / temperature. Source: WeSAM's released
    losses. Not the mean of `instance_contrast`: one pair that fits well may carry the sum for all.

    Args:
      instances: (..., K, C) one feature an instance, any scale; a zero vector is like nothing (cosine 0).
      anchors: (..., K, C) of the same shape; no gradient is stopped here.
      temperature: > 0.
      where: bool, broadcastable to (..., K, C); (..., K, 1) leaves out whole instances, from the sums too.
    Returns:
      (...) float32, >= 0; 0 for one instance alone, whatever its features.
    Raises:
      ValueError: the shapes differ.

    >>> round(float(instance_contrast_pooled(jnp.eye(2), jnp.ones((2, 2)))), 4)  # all pairs alike: log 2
    0.6931
    """
    similarity, pair = _similarity(instances, anchors, temperature, where)
    own = pair & jnp.eye(pair.shape[-1], dtype=bool)
    every = jax.nn.logsumexp(jnp.where(pair, similarity, _LEAST), axis=(-2, -1))
    fitting = jax.nn.logsumexp(jnp.where(own, similarity, _LEAST), axis=(-2, -1))
    return jnp.where(pair.any((-2, -1)), every - fitting, 0.0)


def mask_entropy(
    logits: Float[Array, "*batch h w"], *, where: Bool[Array, "..."] | None = None
) -> Float[Array, "*batch"]:
    """How undecided a mask is: the entropy of its pixels, averaged.

    -p log p - (1 - p) log(1 - p), p = sigmoid(logits), in nats. Source: TENT (Wang et al. 2021, arXiv 2006.10726),
    equation 1, for two classes a pixel; ours: the mean over the pixels of a mask.

    Args:
      logits: (..., H, W) unbounded.
      where: bool, broadcastable to (..., H, W), True for the pixels that count (image content, not padding).
    Returns:
      (...) float32 in [0, log 2].

    >>> round(float(mask_entropy(jnp.zeros((4, 4)))), 4)  # log 2
    0.6931
    """
    (x,) = select(where, logits)
    # each tail from its own sigmoid: 1 - p would lose everything beyond |x| = 17
    entropy = jax.nn.sigmoid(x) * jax.nn.softplus(-x) + jax.nn.sigmoid(-x) * jax.nn.softplus(x)
    return mean(entropy, where, (-2, -1))


def _similarity(
    instances: Array, anchors: Array, temperature: float, where: Array | None
) -> tuple[Float[Array, "*batch k k"], Bool[Array, "*batch k k"]]:
    """(S, which pairs are of instances that count)."""
    if jnp.shape(instances) != jnp.shape(anchors):
        raise ValueError(f"instances {jnp.shape(instances)} and anchors {jnp.shape(anchors)} must have the same shape")
    x, y = select(where, instances, anchors)
    kept = count(where, x, axis=-1) > 0
    cosine = jnp.einsum("...ic,...jc->...ij", _unit(x), _unit(y), precision=jax.lax.Precision.HIGHEST)
    return cosine / temperature, kept[..., :, None] & kept[..., None, :]


def _unit(x: Array) -> Array:
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    known = square > 0
    # the inner `where` keeps the square root's infinite slope at 0 out of the gradient
    return jnp.where(known, x / jnp.sqrt(jnp.where(known, square, 1.0)), 0.0)
