"""Edges of maps and masks: Sobel's derivatives, the ring around a mask, and what of a map of edges is a crest."""

import jax
import jax.numpy as jnp

from sadist_jax.typing import Array, Bool, Float


def sobel(x: Float[Array, "*batch h w"]) -> tuple[Float[Array, "*batch h w"], Float[Array, "*batch h w"]]:
    """Derivatives (to the right, down) by Sobel's kernels: [-1 0 1] along, [1 2 1] across, not normalised.

    A slope of 1 a pixel gives 8, a step of 1 gives 4 on both its sides. Beyond the image its edge is repeated (ours),
    so that the edge of the image is none of the map.

    >>> [d.tolist() for d in sobel(jnp.array([[0.0, 1.0, 2.0, 3.0]]))]
    [[[4.0, 8.0, 8.0, 4.0]], [[0.0, 0.0, 0.0, 0.0]]]
    """
    padded = jnp.asarray(x)
    for axis in (-2, -1):
        first, last = (jax.lax.slice_in_dim(padded, *at, axis=axis) for at in ((0, 1), (-1, None)))
        padded = jnp.concatenate([first, padded, last], axis)
    smooth_down = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    smooth_right = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    right = smooth_down[..., 2:] - smooth_down[..., :-2]
    down = smooth_right[..., 2:, :] - smooth_right[..., :-2, :]
    return right, down


def outer_boundary(masks: Bool[Array, "*batch h w"]) -> Bool[Array, "*batch h w"]:
    """Pixels outside a mask that touch it, corners included.

    >>> outer_boundary(jnp.array([[1, 1, 0, 0], [1, 0, 0, 0]])).astype(int).tolist()
    [[0, 0, 1, 0], [0, 1, 1, 0]]
    """
    masks = jnp.asarray(masks, bool)
    padded = _padded(masks)
    tall = padded[..., :-2, :] | padded[..., 1:-1, :] | padded[..., 2:, :]
    return (tall[..., :-2] | tall[..., 1:-1] | tall[..., 2:]) & ~masks


def crests(strength: Float[Array, "h w"], right: Float[Array, "h w"], down: Float[Array, "h w"]) -> Bool[Array, "h w"]:
    """Which pixels are maxima of `strength` across the edge: Canny's non-maximum suppression.

    Source: Canny 1986, sec. V: a pixel stays when its neighbours before and after it, along the gradient, are not
    stronger; between pixels the strength is interpolated linearly on the ring of the eight neighbours. Of two equals
    only the left one stays, or the upper one of a column (ours), so that no line is two pixels wide; beyond the image
    the strength is 0.

    Args:
      strength: 0 or more.
      right, down: direction of the gradient, of any length and either sign; where both are 0 nothing stays.

    >>> wide = jnp.array([[0.0, 1.0, 3.0, 3.0, 2.0, 0.0]])
    >>> crests(wide, jnp.ones((1, 6)), jnp.zeros((1, 6))).astype(int).tolist()
    [[0, 0, 1, 0, 0, 0]]
    """
    back = (right < 0) | ((right == 0) & (down < 0))
    right, down = (jnp.where(back, -x, x) for x in (right, down))
    flat = jnp.abs(right) >= jnp.abs(down)
    long, short = jnp.where(flat, right, down), jnp.where(flat, down, right)
    share = jnp.abs(short) / jnp.maximum(jnp.abs(long), jnp.finfo(jnp.float32).tiny)
    step_x, step_y = (jnp.sign(x).astype(jnp.int32) for x in (right, down))
    y, x = jnp.indices(strength.shape)
    padded = _padded(strength)

    def beside(side: int) -> Array:
        straight_x, straight_y = jnp.where(flat, step_x, 0), jnp.where(flat, 0, step_y)
        straight = padded[y + 1 + side * straight_y, x + 1 + side * straight_x]
        corner = padded[y + 1 + side * step_y, x + 1 + side * step_x]
        return (1 - share) * straight + share * corner

    return (strength >= beside(1)) & (strength > beside(-1))


def _padded(x: Array) -> Array:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
