"""What a user points at: clicks, boxes and coarse masks, for many prompts of many images at once.

A box is two points with labels of their own, as in SAM's ONNX export and in EfficientSAM; so every prompt is a row of
slots, and ragged prompts are rows with EMPTY slots. An empty slot takes no part in any attention, hence the result is
the same as if it were not there.
"""

from typing import NamedTuple

from sadist_jax.ops.points import EMPTY as EMPTY  # a slot without a point
from sadist_jax.typing import Array, Bool, Float, Int

NOT_A_POINT = -1  # SAM's padding point; it does take part in attention
BACKGROUND, FOREGROUND = 0, 1
BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = 2, 3


class Prompts(NamedTuple):
    """Prompts for a batch of images.

    points: (images, prompts, slots, 2) float32 xy pixels of the model's input frame (longest side resized, padded);
      pixel indices: the models add 0.5 to reach pixel centres.
    labels: (images, prompts, slots) int32, the constants of this file.
    masks: (images, prompts, h, w) float32 logits at four times the embedding's resolution, or None.
    has_mask: (images, prompts) bool, which rows of `masks` are real; None means all of them.
    """

    points: Float[Array, "b p n 2"]
    labels: Int[Array, "b p n"]
    masks: Float[Array, "b p h w"] | None = None
    has_mask: Bool[Array, "b p"] | None = None
