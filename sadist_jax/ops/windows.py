"""Square windows of a feature map, as ViTDet and SAM cut them."""

import jax.numpy as jnp

from sadist_jax.typing import Array, Float


def partition(x: Float[Array, "b h w c"], window: int) -> Float[Array, "n window window c"]:
    """Cut into non-overlapping windows, row by row within an image; zeros fill up the bottom and the right.

    n = b * ceil(h / window) * ceil(w / window).
    """
    b, h, w, c = x.shape
    rows, cols = -(-h // window), -(-w // window)
    x = jnp.pad(x, ((0, 0), (0, rows * window - h), (0, cols * window - w), (0, 0)))
    x = x.reshape(b, rows, window, cols * window, c).reshape(b, rows, window, cols, window, c)
    return x.swapaxes(2, 3).reshape(b * rows * cols, window, window, c)


def unpartition(windows: Float[Array, "n window window c"], size: tuple[int, int]) -> Float[Array, "b h w c"]:
    """Inverse of `partition` for maps of `size` = (h, w); the filling is cut off."""
    n, window, _, c = windows.shape
    rows, cols = -(-size[0] // window), -(-size[1] // window)
    x = windows.reshape(n // (rows * cols), rows, cols, window, window, c).swapaxes(2, 3)
    x = x.reshape(-1, rows * window, cols, window, c)  # an axis at a time: JAX follows the sharding of one
    return x.reshape(-1, rows * window, cols * window, c)[:, : size[0], : size[1]]
