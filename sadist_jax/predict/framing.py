"""Between a user's image and the square input of a model: SAM pads, EfficientSAM stretches."""

import functools
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax.codecs import geometry
from sadist_jax.ops.resize import matrix
from sadist_jax.typing import Array, Float


@dataclass(frozen=True)
class Framing:
    """How one image lies in the frame.

    image: (height, width) of the original. content: of what it becomes, at the top left of the frame.
    side: of the frame.
    """

    image: tuple[int, int]
    content: tuple[int, int]
    side: int
    fit: Literal["pad", "stretch"]

    @classmethod
    def of(cls, image: tuple[int, int], side: int, fit: Literal["pad", "stretch"]) -> "Framing":
        content = geometry.longest_side_shape(image, side) if fit == "pad" else (side, side)
        return cls(image, content, side, fit)

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """uint8 RGB (height, width, 3) -> (side, side, 3).

        Padded: Pillow's antialiased bilinear to the longest side, uint8. Stretched: bilinear without antialias, as
        EfficientSAM's released `forward` does, float32 in 0..255.
        """
        if self.fit == "pad":
            return geometry.pad_to_square(geometry.resize_image(image, self.content), self.side)
        return geometry.resize_without_antialias(image, self.content)

    def points(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) xy pixels of the original -> of the frame, float32."""
        return geometry.scale_points(xy, self.image, self.content)

    def masks(self, logits: Float[Array, "m h w"]) -> Float[Array, "m H W"]:
        """Low-resolution logits -> logits on the original's pixels."""
        return to_image(logits, *self.resampling((logits.shape[-2], logits.shape[-1])))

    def resampling(self, low: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """(H, h) and (W, w) float32: weights of the rows, and of the columns, of logits (h, w) for the original's."""
        rows, columns = (
            _resampling(self.fit, *sizes, self.side) for sizes in zip(low, self.content, self.image, strict=True)
        )
        return rows, columns


@functools.lru_cache(32)  # a folder's photos have few sizes
def _resampling(fit: str, low: int, content: int, whole: int, side: int) -> np.ndarray:
    if fit == "stretch":
        return matrix(low, whole, "bicubic").astype(np.float32)
    # twice, because segment-anything does so: to the frame, then, without the padding, to the image
    return (matrix(content, whole, "bilinear") @ matrix(low, side, "bilinear")[:content]).astype(np.float32)


@jax.jit
def to_image(
    logits: Float[Array, "*b h w"], rows: Float[Array, "H h"], columns: Float[Array, "W w"]
) -> Float[Array, "*b H W"]:
    """Both resamplings; see `Framing.resampling`."""
    tall = jnp.einsum("...hw,Hh->...Hw", logits, rows, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("...Hw,Ww->...HW", tall, columns, precision=jax.lax.Precision.HIGHEST)
