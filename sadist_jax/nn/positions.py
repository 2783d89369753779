"""Tables of absolute positions: MAE's fixed sine-cosine code, and how a table is made to fit another grid."""

import jax.numpy as jnp

from sadist_jax.ops.resize import resize
from sadist_jax.typing import Array, Float, Key


def resize_positions(pos_embed: Float[Array, "1 s s c"], size: tuple[int, int]) -> Float[Array, "1 h w c"]:
    """Bicubic, as EfficientSAM resizes its own; SAM's released code knows its native size only."""
    return pos_embed if pos_embed.shape[1:3] == tuple(size) else resize(pos_embed, size, "bicubic")


def sincos_init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Fixed sine-cosine table of a square grid, (1, 1 + g * g, c), first row 0 (He et al. 2022, MAE, models_mae.py)."""
    del key
    return sincos(round((shape[1] - 1) ** 0.5), shape[2], first=True).astype(dtype)


def sincos(grid: int, dim: int, *, first: bool) -> Float[Array, "1 t c"]:
    """Half of the channels code the column, half the row; `first` puts a row of zeros for a class token before."""
    frequency = 10000.0 ** (-jnp.arange(dim // 4) / (dim / 4))
    angle = jnp.arange(grid, dtype=jnp.float32)[:, None] * frequency
    code = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)  # (grid, dim / 2)
    rows = jnp.broadcast_to(code[:, None], (grid, grid, dim // 2))
    cols = jnp.broadcast_to(code[None, :], (grid, grid, dim // 2))
    positions = jnp.concatenate([cols, rows], -1).reshape(grid * grid, dim)
    return jnp.concatenate([jnp.zeros((int(first), dim)), positions])[None]
