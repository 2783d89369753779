"""Random Fourier features of positions (Tancik et al. 2020), SAM's code for points and for the image grid."""

import jax
import jax.numpy as jnp

from sadist_jax.nn.table import Leaf, Table
from sadist_jax.ops.precision import wide
from sadist_jax.typing import Array, Float, Params


def fourier_table(dim: int) -> Table:
    normal = jax.nn.initializers.normal(1.0)
    return {"positional_encoding_gaussian_matrix": Leaf((2, dim // 2), normal, role="buffer")}


def encode(params: Params, xy: Float[Array, "... 2"]) -> Float[Array, "... c"]:
    """xy in 0..1 of the frame -> [sin, cos] of 2 pi (2 xy - 1) @ matrix; at least float32, full precision."""
    matrix = params["positional_encoding_gaussian_matrix"]
    dtype = wide(xy, matrix)
    xy, matrix = xy.astype(dtype), matrix.astype(dtype)
    angle = 2 * jnp.pi * jnp.matmul(2 * xy - 1, matrix, precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def encode_grid(params: Params, size: tuple[int, int]) -> Float[Array, "h w c"]:
    """The code of each cell's centre, ((column + 0.5) / w, (row + 0.5) / h)."""
    dtype = wide(params["positional_encoding_gaussian_matrix"])
    rows, cols = ((jnp.arange(n, dtype=dtype) + 0.5) / n for n in size)
    xy = jnp.stack(jnp.broadcast_arrays(cols[None, :], rows[:, None]), -1)
    return encode(params, xy)


def encode_pixels(params: Params, xy: Float[Array, "... 2"], frame: tuple[int, int]) -> Float[Array, "... c"]:
    """xy pixel indices of a frame of (height, width); 0.5 is added to reach pixel centres."""
    return encode(params, (xy + 0.5) / jnp.array([frame[1], frame[0]], wide(xy)))
