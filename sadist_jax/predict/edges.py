"""Edges of an image, zero-shot: where the masks of a grid of clicks end.

Source: Kirillov et al. 2023, "Segment Anything", app. D.2. Three masks for each of 16 x 16 clicks, without thresholds;
doubles go by the IoU of their boxes; Sobel's gradient of each mask's probability on the pixels just outside the mask;
the strongest of all masks, scaled to 0..1; Canny's non-maximum suppression. An author adds (segment-anything's issue
226): the probability is the sigmoid of the logits, the IoU 0.7, and there are no crops.

What they leave open, and is ours: a pixel just outside is one of the eight neighbours of a mask's pixel. The direction
across an edge is the gradient of the mask that is strongest there; the map of the strongest itself has lines of a pixel
or two, on whose top its own gradient says nothing.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax.codecs.images import to_rgb
from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.mask_decoder import MULTI
from sadist_jax.models.prompts import EMPTY, FOREGROUND, Prompts
from sadist_jax.models.sam import Sam
from sadist_jax.ops import boxes, edges
from sadist_jax.ops.masks import mask_to_box
from sadist_jax.predict.everything import STEP
from sadist_jax.predict.framing import Framing, to_image
from sadist_jax.predict.grid import point_grid
from sadist_jax.predict.packing import bucket
from sadist_jax.predict.predictor import Predictor
from sadist_jax.typing import Array, Bool, Float, Int, Params


class EdgeDetector:
    """Finds edges in images with one model.

    On the device there is one chunk of clicks at a time, and a few maps of the image's size. On the host there are the
    low-resolution logits of all masks: 200 MB for 16 x 16 clicks of SAM.

    points_per_side: of the grid of clicks. points_per_batch: clicks that are decoded at once.
    box_nms_thresh: IoU of boxes above which the less sure mask goes.

    Example:
      >>> model = Sam.mini()
      >>> detector = EdgeDetector(model, model.init(jax.random.key(0)), points_per_side=2)
      >>> detector.detect(np.zeros((120, 160, 3), np.uint8)).shape
      (120, 160)
    """

    def __init__(
        self,
        model: Sam | EfficientSam,
        params: Params,
        points_per_side: int = 16,
        points_per_batch: int = 64,
        box_nms_thresh: float = 0.7,
    ):
        if points_per_side < 1 or points_per_batch < 1:
            raise BadInput("points_per_side and points_per_batch must be 1 or more")
        self.predictor = Predictor(model, params)
        self.points_per_side, self.points_per_batch = points_per_side, points_per_batch
        self.box_nms_thresh = box_nms_thresh

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Image (H, W, 3) uint8, RGB (grey and RGBA are converted) -> strength of edges (H, W) float32 in 0..1.

        Lines are thin; 0 elsewhere. The strongest edge before the thinning is 1.
        """
        picture = to_rgb(np.asarray(image))
        model, (height, width) = self.predictor.model, picture.shape[:2]
        framing = Framing.of((height, width), model.image_size, model.fit)
        self.predictor.set_image(picture)
        _, rows, columns, _ = self.predictor.image_embedding.shape
        view = _view(framing, (4 * rows, 4 * columns))
        chunks = list(self._chunks(framing, view))
        low, box, iou, there = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        kept = low[np.asarray(_nms(box, iou, self.box_nms_thresh, there))]
        strongest = Gradient(*(jnp.zeros((len(view.rows), len(view.columns))) for _ in Gradient._fields))
        many = len(chunks[0].there)
        for start in range(0, len(kept), many):
            some = kept[start : start + many]
            filled = np.pad(some, ((0, many - len(some)), (0, 0), (0, 0)))
            strongest = _with_masks(model, strongest, filled, np.arange(many) < len(some), view)
        return np.asarray(_thinned(strongest, view.size))[:height, :width]

    def _chunks(self, framing: Framing, view: "View") -> "Iterator[Proposals]":
        """All masks, on the host."""
        model, params, embedding = self.predictor.model, self.predictor.params, self.predictor.image_embedding
        height, width = framing.image
        points = framing.points(point_grid(self.points_per_side) * (width, height))
        many = min(self.points_per_batch, bucket(len(points)))
        for start in range(0, len(points), many):
            some = points[start : start + many]
            filled = np.zeros((many, 2), np.float32)
            filled[: len(some)] = some
            yield jax.device_get(_proposals(model, params, embedding, filled, np.arange(many) < len(some), view))


class View(NamedTuple):
    """How the image lies in the decoder's logits.

    rows (H, h), columns (W, w): resampling to the image's pixels, the last one repeated up to a size that many images
    share; so beyond the image nothing begins or ends. size: (2,) height and width of the image.
    """

    rows: Float[Array, "H h"]
    columns: Float[Array, "W w"]
    size: Int[Array, "2"]


class Proposals(NamedTuple):
    """Masks of clicks. there: with a click and not empty. box: xyxy in the image, ends included."""

    low: Float[Array, "m h w"]
    box: Float[Array, "m 4"]
    iou: Float[Array, " m"]
    there: Bool[Array, " m"]


class Gradient(NamedTuple):
    """strength: length of the gradient (right, down), which is that of the mask that is strongest at a pixel."""

    strength: Float[Array, "H W"]
    right: Float[Array, "H W"]
    down: Float[Array, "H W"]


def _view(framing: Framing, low: tuple[int, int]) -> View:
    rows, columns = (np.pad(x, ((0, -len(x) % STEP), (0, 0)), "edge") for x in framing.resampling(low))
    return View(jnp.asarray(rows), jnp.asarray(columns), jnp.asarray(framing.image, jnp.int32))


@functools.partial(jax.jit, static_argnums=0)
def _proposals(
    model: Sam | EfficientSam, params: Params, embedding: Array, points: Array, there: Array, view: View
) -> Proposals:
    """Three masks for each click at `points`, (p, 2) xy in the model's frame, as far as they are `there`."""
    labels = jnp.where(there, FOREGROUND, EMPTY).astype(jnp.int32)
    low, iou = model.decode(params, embedding, Prompts(points[None, :, None], labels[None, :, None]), MULTI)
    low = low.reshape(-1, *low.shape[-2:])
    inside = _inside((len(view.rows), len(view.columns)), view.size)

    def extent(one: Array) -> tuple[Array, Array]:
        mask = model.is_mask(to_image(one, view.rows, view.columns)) & inside
        return mask_to_box(mask), mask.any()

    box, some = jax.lax.map(extent, low)
    return Proposals(low, box, iou.reshape(-1), some & jnp.repeat(there, len(MULTI)))


@jax.jit
def _nms(box: Array, iou: Array, threshold: Array, there: Array) -> Array:
    return boxes.nms(box, iou, threshold, where=there)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _with_masks(model: Sam | EfficientSam, strongest: Gradient, low: Array, there: Array, view: View) -> Gradient:
    """The strongest gradient of these masks, as far as they are `there`, and of those before."""

    def add(strongest: Gradient, mask: tuple[Array, Array]) -> tuple[Gradient, None]:
        logits = to_image(mask[0], view.rows, view.columns)
        right, down = edges.sobel(jax.nn.sigmoid(logits))
        ring = edges.outer_boundary(model.is_mask(logits)) & mask[1]
        own = Gradient(jnp.where(ring, jnp.hypot(right, down), 0), right, down)
        stronger = own.strength > strongest.strength
        return Gradient(*(jnp.where(stronger, a, b) for a, b in zip(own, strongest, strict=True))), None

    return jax.lax.scan(add, strongest, (low, there))[0]


@jax.jit
def _thinned(strongest: Gradient, size: Array) -> Array:
    """(H, W) in 0..1."""
    inside = _inside(strongest.strength.shape, size)
    strength = jnp.where(inside, strongest.strength, 0)
    least, most = jnp.min(strength, where=inside, initial=jnp.inf), strength.max()
    scaled = (strength - least) / jnp.where(most > least, most - least, 1)
    scaled = jnp.where(inside, scaled, 0)
    return jnp.where(edges.crests(scaled, strongest.right, strongest.down), scaled, 0)


def _inside(shape: tuple[int, ...], size: Array) -> Array:
    """(H, W) bool: which pixels are the image's."""
    return (jnp.arange(shape[0]) < size[0])[:, None] & (jnp.arange(shape[1]) < size[1])
