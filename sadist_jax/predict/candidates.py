"""Candidate masks of one chunk of clicks: decoded, scored and packed on the device.

Only what passes the thresholds is made at full size, one mask at a time: a prompt whose predicted IoUs are all too low
is never upscaled (the IoU comes from a token), and of the others only the masks that pass are resampled to the image.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.mask_decoder import MULTI
from sadist_jax.models.prompts import EMPTY, FOREGROUND, Prompts
from sadist_jax.models.sam import Sam
from sadist_jax.ops.masks import mask_to_box, stability_score
from sadist_jax.predict.framing import to_image
from sadist_jax.typing import Array, Bool, Float, Int, Params, UInt8

NEAR_EDGE = 20  # pixels, segment-anything's


class Thresholds(NamedTuple):
    """iou: predicted; stability, offset: as of ops.masks.stability_score."""

    iou: Float[Array, ""]
    stability: Float[Array, ""]
    offset: Float[Array, ""]


class View(NamedTuple):
    """How a crop lies in its image and in the decoder's logits.

    rows (H, h), columns (W, w): resampling to the crop's pixels, filled up with zeros to a size that few crops share.
    size: (2,) height and width of the crop. box, image: (4,) xyxy of the crop and of the whole image.
    """

    rows: Float[Array, "H h"]
    columns: Float[Array, "W w"]
    size: Int[Array, "2"]
    box: Float[Array, "4"]
    image: Float[Array, "4"]


class Candidates(NamedTuple):
    """Three masks of each click. passed: above all thresholds, not empty (segment-anything drops empty masks by their
    stability, which is NaN, unless that threshold is 0), and not cut off by the crop; the rest is 0 elsewhere.

    box: xyxy in the crop, ends included. bits: (p, 3, H, W / 8), rows packed, the highest bit first.
    """

    passed: Bool[Array, "p 3"]
    iou: Float[Array, "p 3"]
    stability: Float[Array, "p 3"]
    box: Float[Array, "p 3 4"]
    bits: UInt8[Array, "p 3 H W8"]


@functools.partial(jax.jit, static_argnums=0)
def candidates(
    model: Sam | EfficientSam,
    params: Params,
    embedding: Float[Array, "1 h w c"],
    points: Float[Array, "p 2"],
    there: Bool[Array, " p"],
    thresholds: Thresholds,
    view: View,
) -> Candidates:
    """Masks for clicks at `points` (xy in the model's frame), as far as they are `there`."""
    decoder, weights = model.mask_decoder, params["mask_decoder"]
    prompts = Prompts(points[None, :, None], jnp.where(there, FOREGROUND, EMPTY)[None, :, None].astype(jnp.int32))
    sequence, pixels = decoder.attend(weights, *model.prompted(params, embedding, prompts))
    iou = decoder.iou(weights, sequence, MULTI)[0]
    # 0 is no threshold, as in segment-anything: predictions may be negative
    promising = ((thresholds.iou <= 0) | (iou > thresholds.iou)) & there[:, None]
    order = jnp.argsort(~promising.any(1), stable=True)  # prompts with something to make first
    height, width = view.rows.shape[0], view.columns.shape[0]
    blank = Candidates(
        jnp.zeros_like(promising),
        iou,
        jnp.zeros_like(iou),
        jnp.zeros((*iou.shape, 4)),
        jnp.zeros((*iou.shape, height, width // 8), jnp.uint8),
    )

    def prompt(i: Array, found: Candidates) -> Candidates:
        p = order[i]
        low = decoder.masks(weights, sequence[:, p, None], pixels[:, p, None], MULTI)[0, 0]
        parts = jax.lax.map(lambda args: jax.lax.cond(args[1], finish, skip, args[0]), (low, promising[p]))
        return Candidates(*(x.at[p].set(y) for x, y in zip(found, (parts[0], iou[p], *parts[1:]), strict=True)))

    def finish(low: Array) -> tuple[Array, ...]:
        return _finish(model, low, thresholds, view)

    def skip(low: Array) -> tuple[Array, ...]:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(finish, low))

    return jax.lax.fori_loop(0, promising.any(1).sum(), prompt, blank)


def _finish(model: Sam | EfficientSam, low: Array, thresholds: Thresholds, view: View) -> tuple[Array, ...]:
    """Low-resolution logits (h, w) -> (passed, stability, box, bits)."""
    logits = to_image(low, view.rows, view.columns)
    height, width = logits.shape
    inside = (jnp.arange(height) < view.size[0])[:, None] & (jnp.arange(width) < view.size[1])
    stability = stability_score(logits, thresholds.offset, where=inside)
    mask = model.is_mask(logits) & inside
    box = mask_to_box(mask)
    passed = (stability >= thresholds.stability) & mask.any() & ~_cut_off(box, view)
    return passed, stability, box, jnp.packbits(mask, -1)


def _cut_off(box: Float[Array, "4"], view: View) -> Bool[Array, ""]:
    """Whether the box ends near an edge of the crop that is none of the image: another crop has the whole object."""
    moved = box + jnp.tile(view.box[:2], 2)
    near_crop, near_image = (jnp.abs(moved - edge) <= NEAR_EDGE for edge in (view.box, view.image))
    return (near_crop & ~near_image).any()
