"""What a user points at: clicks, boxes and coarse masks, for many prompts of many images at once.

A box is two points with labels of their own, as in SAM's ONNX export and in EfficientSAM; so every prompt is a row of
slots, and ragged prompts are rows with EMPTY slots. An empty slot takes no part in any attention, hence the result is
the same as if it were not there.
"""

from typing import NamedTuple

import jax.numpy as jnp

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


def from_boxes(boxes: Float[Array, "b p 4"]) -> Prompts:
    """One box (x0, y0, x1, y1) for each prompt."""
    corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
    labels = jnp.broadcast_to(jnp.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], jnp.int32), corners.shape[:-1])
    return Prompts(corners, labels)


def join(a: Prompts, b: Prompts) -> Prompts:
    """The slots of both, `a`'s first; masks may come from one of them only."""
    if a.masks is not None and b.masks is not None:
        raise ValueError("both prompts have masks; a prompt can have one")
    chosen = a if a.masks is not None else b
    points = jnp.concatenate([a.points, b.points], -2)
    return Prompts(points, jnp.concatenate([a.labels, b.labels], -1), chosen.masks, chosen.has_mask)
