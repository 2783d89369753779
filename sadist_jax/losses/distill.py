"""Distances between a student's and a teacher's features. Averaging over tokens and images is the caller's."""

import jax.numpy as jnp

from sadist_jax.losses.where import count, mean, select
from sadist_jax.typing import Array, Bool, Float


def feature_mse(
    student: Float[Array, "*tokens c"], teacher: Float[Array, "*tokens c"], *, where: Bool[Array, "..."] | None = None
) -> Float[Array, "*tokens"]:
    """Mean squared error over channels, the reconstruction loss of SAMI.

    sum_c (student_c - teacher_c)^2 / C. Source: EfficientSAM (arXiv 2312.00863) section 3.2, where it is averaged over
    all N tokens, masked and visible. The paper writes a squared norm; dividing by C is the "MSE" of its ablation.

    Args:
      student: (..., C) predicted features, any range.
      teacher: (..., C) target features of the same shape; no gradient is stopped here.
      where: bool, broadcastable to (..., C), True for the elements that count; (..., 1) leaves out whole tokens.
    Returns:
      (...) float32, >= 0.
    Raises:
      ValueError: the shapes differ.

    >>> feature_mse(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 1.0]])).tolist()
    [2.5]
    """
    _check_same_shape(student, teacher)
    s, t = select(where, student, teacher)
    return mean(jnp.square(s - t), where, axis=-1)


def feature_cosine(
    student: Float[Array, "*tokens c"], teacher: Float[Array, "*tokens c"], *, where: Bool[Array, "..."] | None = None
) -> Float[Array, "*tokens"]:
    """1 - cosine similarity over channels, the alternative in SAMI's loss ablation.

    1 - <s, t> / (|s| |t|). Source: EfficientSAM (arXiv 2312.00863) section 4.4, Table 6. A zero vector has no
    direction: its similarity counts as 0 and sends no gradient.

    Args:
      student: (..., C) predicted features, any range.
      teacher: (..., C) target features of the same shape; no gradient is stopped here.
      where: bool, broadcastable to (..., C), True for the elements that count; (..., 1) leaves out whole tokens.
    Returns:
      (...) float32 in [0, 2].
    Raises:
      ValueError: the shapes differ.

    >>> feature_cosine(jnp.array([[2.0, 0.0], [0.0, 3.0]]), jnp.array([[1.0, 0.0], [5.0, 0.0]])).tolist()
    [0.0, 1.0]
    """
    _check_same_shape(student, teacher)
    s, t = select(where, student, teacher)
    loss = 1.0 - jnp.sum(_unit(s) * _unit(t), axis=-1)
    return jnp.where(count(where, s, axis=-1) > 0, loss, 0.0)


def _unit(x: Array) -> Array:
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    known = square > 0
    # the inner `where` keeps the square root's infinite slope at 0 out of the gradient
    return jnp.where(known, x / jnp.sqrt(jnp.where(known, square, 1.0)), 0.0)


def _check_same_shape(student: Array, teacher: Array) -> None:
    # broadcasting one token over all others is a slip that trains without complaint
    if jnp.shape(student) != jnp.shape(teacher):
        raise ValueError(f"student {jnp.shape(student)} and teacher {jnp.shape(teacher)} must have the same shape")
