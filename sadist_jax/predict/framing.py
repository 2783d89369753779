"""Between a user's image and the square input of a model: SAM pads, EfficientSAM stretches."""

import functools
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np

from sadist_jax.codecs import geometry
from sadist_jax.ops.resize import resize
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
        return _to_image(logits, self)


@functools.partial(jax.jit, static_argnums=1)
def _to_image(logits: Array, framing: Framing) -> Array:
    x = logits[..., None]
    if framing.fit == "stretch":
        return resize(x, framing.image, "bicubic")[..., 0]
    # twice, because segment-anything does so: to the frame, then, without the padding, to the image
    x = resize(x, (framing.side, framing.side))[..., : framing.content[0], : framing.content[1], :]
    return resize(x, framing.image)[..., 0]
