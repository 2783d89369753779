"""Axis-aligned boxes: xyxy corners in pixels, x to the right, y down; (..., 4) arrays of any leading axes.

Widths are plain differences, x1 - x0, as SAM has them: a mask whose columns 3..6 are set has x0 = 3, x1 = 6 and w = 3,
where COCO would say 4. Integers become float32; float16 and bfloat16 too, since neither holds every pixel of 1024.
"""

import jax
import jax.numpy as jnp

from sadist_jax.typing import Array, Bool, Float, Int


def xyxy_to_xywh(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Corners to top-left corner and size.

    >>> xyxy_to_xywh(jnp.array([1, 2, 4, 6])).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    x0, y0, x1, y1 = _coordinates(boxes)
    return jnp.stack([x0, y0, x1 - x0, y1 - y0], axis=-1)


def xywh_to_xyxy(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Top-left corner and size to corners.

    >>> xywh_to_xyxy(jnp.array([1, 2, 3, 4])).tolist()
    [1.0, 2.0, 4.0, 6.0]
    """
    x, y, w, h = _coordinates(boxes)
    return jnp.stack([x, y, x + w, y + h], axis=-1)


def xyxy_to_cxcywh(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Corners to centre and size.

    >>> xyxy_to_cxcywh(jnp.array([1, 2, 4, 6])).tolist()
    [2.5, 4.0, 3.0, 4.0]
    """
    x0, y0, x1, y1 = _coordinates(boxes)
    return jnp.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=-1)


def cxcywh_to_xyxy(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Centre and size to corners.

    >>> cxcywh_to_xyxy(jnp.array([2.5, 4, 3, 4])).tolist()
    [1.0, 2.0, 4.0, 6.0]
    """
    cx, cy, w, h = _coordinates(boxes)
    return jnp.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=-1)


def area(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    """Width times height of xyxy boxes in square pixels; 0 for a box whose corners are swapped.

    >>> float(area(jnp.array([1, 2, 4, 6])))
    12.0
    """
    x0, y0, x1, y1 = _coordinates(boxes)
    return jnp.maximum(x1 - x0, 0) * jnp.maximum(y1 - y0, 0)


def iou(a: Float[Array, "*batch n 4"], b: Float[Array, "*batch m 4"]) -> Float[Array, "*batch n m"]:
    """Intersection over union of every box of `a` with every box of `b`.

    Args:
      a: (..., N, 4) xyxy.
      b: (..., M, 4) xyxy in the same frame.
    Returns:
      (..., N, M) float32 in [0, 1]; 0 where both boxes are without area.

    >>> iou(jnp.array([[0, 0, 2, 2]]), jnp.array([[0, 0, 2, 2], [1, 0, 3, 2]])).round(4).tolist()
    [[1.0, 0.33329999446868896]]
    """
    ax0, ay0, ax1, ay1 = _coordinates(jnp.asarray(a)[..., :, None, :])
    bx0, by0, bx1, by1 = _coordinates(jnp.asarray(b)[..., None, :, :])
    width = jnp.maximum(jnp.minimum(ax1, bx1) - jnp.maximum(ax0, bx0), 0)
    height = jnp.maximum(jnp.minimum(ay1, by1) - jnp.maximum(ay0, by0), 0)
    overlap = width * height
    union = area(a)[..., :, None] + area(b)[..., None, :] - overlap
    return jnp.where(union > 0, overlap / jnp.where(union > 0, union, 1), 0)


def clip(boxes: Float[Array, "*batch 4"], size: Int[Array, "*batch 2"]) -> Float[Array, "*batch 4"]:
    """Move every corner to the nearest pixel of the image.

    Args:
      boxes: (..., 4) xyxy in pixel indices.
      size: (..., 2) height and width of the image content in pixels, broadcastable with the boxes' leading axes.
    Returns:
      (..., 4) float32, x in [0, w - 1] and y in [0, h - 1]; the last pixel's index, as in SAM-2's `sample_box_points`.

    >>> clip(jnp.array([-5, 2, 90, 70]), jnp.array([60, 80])).tolist()
    [0.0, 2.0, 79.0, 59.0]
    """
    size = jnp.asarray(size, jnp.float32)
    last = jnp.stack([size[..., 1], size[..., 0], size[..., 1], size[..., 0]], axis=-1) - 1
    return jnp.clip(jnp.asarray(boxes, jnp.float32), 0, jnp.maximum(last, 0))


def nms(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, " n"],
    threshold: float | Array,
    *,
    where: Bool[Array, " n"] | None = None,
) -> Bool[Array, " n"]:
    """Greedy non-maximum suppression: which boxes stay when each removes the worse ones that it overlaps.

    The greedy set is the only one in which a box stays exactly if no better box that stays overlaps it; it is iterated
    to from all boxes, and a handful of rounds reach it. Takes memory for n x n numbers.

    Args:
      boxes: (n, 4) xyxy. scores: (n,), of equal ones the first is the better.
      threshold: boxes overlap when their IoU is above it.
      where: (n,) bool, which rows there are.
    Returns:
      (n,) bool.

    >>> nms(jnp.array([[0, 0, 4, 4], [0, 0, 4, 3], [5, 5, 6, 6]]), jnp.array([0.5, 0.9, 0.1]), 0.7).tolist()
    [False, True, True]
    """
    order = jnp.argsort(-jnp.asarray(scores), stable=True)
    ordered = jnp.asarray(boxes)[order]
    there = jnp.ones(len(order), bool) if where is None else jnp.asarray(where)[order]
    better = jnp.tril(iou(ordered, ordered) > threshold, -1)  # [i, j]: j overlaps i and comes before it

    def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
        keep, _ = state
        return there & ~(better & keep).any(1), keep

    keep, _ = jax.lax.while_loop(lambda state: (state[0] != state[1]).any(), again, again((there, there)))
    return jnp.zeros_like(there).at[order].set(keep)


def _coordinates(boxes: Array) -> tuple[Array, Array, Array, Array]:
    boxes = jnp.asarray(boxes, jnp.float32)
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]
