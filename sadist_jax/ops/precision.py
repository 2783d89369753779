"""The precision that sums, norms and outputs are computed in: at least float32, float64 where the operands have it."""

import jax.numpy as jnp

from sadist_jax.typing import Array


def wide(*operands: Array) -> jnp.dtype:
    """float32, or float64 if an operand is float64: what low-precision operands are accumulated in."""
    return jnp.result_type(jnp.float32, *(x.dtype for x in operands))


def widen(x: Array) -> Array:
    """`x` (floating or integer) in at least float32."""
    return x.astype(wide(x))
