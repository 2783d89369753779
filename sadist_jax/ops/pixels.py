"""Pixel values as SAM and EfficientSAM want them."""

import jax.numpy as jnp

from sadist_jax.ops.precision import widen
from sadist_jax.typing import Array, Float, Int

MEAN = (123.675, 116.28, 103.53)  # ImageNet, RGB, 0..255: segment-anything modeling/sam.py
STD = (58.395, 57.12, 57.375)


def normalize(image: Array, size: Int[Array, "b 2"] | None = None) -> Float[Array, "b h w 3"]:
    """RGB in 0..255, uint8 or float (b, h, w, 3) -> normalised, at least float32.

    size: (height, width) of each image's content, which lies at the top left; the rest becomes 0 *after* the
    normalisation, so padding is the mean colour. None: no padding.
    """
    x = widen(image)
    x = (x - jnp.array(MEAN, x.dtype)) / jnp.array(STD, x.dtype)
    if size is None:
        return x
    _, h, w, _ = image.shape
    return jnp.where(content((h, w), size)[..., None], x, 0)


def content(frame: tuple[int, int], size: Int[Array, "b 2"]) -> Array:
    """(b, h, w) bool: True on the pixels of a padded `frame` that belong to the image."""
    rows = jnp.arange(frame[0])[None, :, None] < size[:, 0, None, None]
    return rows & (jnp.arange(frame[1])[None, None, :] < size[:, 1, None, None])
