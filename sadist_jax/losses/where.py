"""What `where=` means in every loss: left-out elements are replaced before the arithmetic, not zeroed after it."""

import jax.numpy as jnp

from sadist_jax.typing import Array, Bool


def select(where: Bool[Array, "..."] | None, *arrays: Array) -> tuple[Array, ...]:
    """float32 copies of `arrays` with 0 where `where` is False.

    Replacing first keeps NaN, inf and ignore labels of the left-out elements out of the gradient too: 0 * NaN is NaN.

    Args:
      where: bool (integers count as bool), broadcastable with the arrays; None keeps everything.
      arrays: any real dtype.
    Returns:
      As many arrays, each broadcast against `where`.
    Raises:
      TypeError: `where` is floating point; weights belong outside the loss.
    """
    arrays = tuple(jnp.asarray(a, jnp.float32) for a in arrays)
    if where is None:
        return arrays
    if jnp.issubdtype(jnp.result_type(where), jnp.inexact):
        raise TypeError("where= takes a bool mask; multiply the loss by weights instead")
    keep = jnp.asarray(where, bool)
    return tuple(jnp.where(keep, a, 0.0) for a in arrays)


def count(where: Bool[Array, "..."] | None, values: Array, axis: int | tuple[int, ...]) -> Array:
    """How many elements of each group that `axis` sums over are kept."""
    keep = True if where is None else jnp.asarray(where, bool)
    return jnp.sum(jnp.broadcast_to(keep, values.shape), axis)


def mean(values: Array, where: Bool[Array, "..."] | None, axis: int | tuple[int, ...]) -> Array:
    """Mean of `values` over the elements of `axis` that are kept; 0 where none is. `values` is as wide as `where`."""
    (values,) = select(where, values)
    return jnp.sum(values, axis) / jnp.maximum(count(where, values, axis), 1)
