"""Draws from a symmetric beta distribution without a loop whose end depends on the data.

`jax.random.beta` rejects candidates until all rows have one; over rows that are cut across devices, every turn of its
loops waits for all of them.
"""

import jax.numpy as jnp
import numpy as np

from sadist_jax.typing import Array, Float

_CELLS = 4096


def beta_quantile(share: Float[Array, "..."], a: float) -> Float[Array, "..."]:
    """x with P(X <= x) = share for X ~ Beta(a, a): of uniform shares, draws of X.

    The density is x^(a - 1) (1 - x)^(a - 1) up to a factor. With t = x^a it has no pole at 0, so the lower half of the
    distribution is summed up over t and inverted by interpolation; the upper half mirrors it. Within 1e-3 of the exact
    quantile for a from 0.1 to 4.

    Args:
      share: in 0..1.
      a: above 0, known when the program is compiled.
    Returns:
      As many, float32 in 0..1.
    """
    t = np.linspace(0, 0.5**a, _CELLS + 1)
    middle = (t[1:] + t[:-1]) / 2
    below = np.concatenate([[0], np.cumsum((1 - middle ** (1 / a)) ** (a - 1))])
    below *= 0.5 / below[-1]
    folded = jnp.minimum(share, 1 - share)
    x = jnp.interp(folded, jnp.asarray(below, jnp.float32), jnp.asarray(t, jnp.float32)) ** (1 / a)
    return jnp.where(share < 0.5, x, 1 - x)
