"""Click on an image, get its masks: one interface for SAM and EfficientSAM, for one prompt and for many."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax.codecs.images import to_rgb
from sadist_jax.codecs.prompts import check_box, check_points
from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.mask_decoder import MULTI, SINGLE
from sadist_jax.models.prompts import BACKGROUND, BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY, FOREGROUND, Prompts
from sadist_jax.models.sam import Sam
from sadist_jax.predict.framing import Framing
from sadist_jax.typing import Array, Params

BUCKETS = (1, 2, 4, 8, 16, 32, 64)  # prompts and slots are filled up to these, so that few shapes are compiled
CHUNK = BUCKETS[-1]  # prompts of one image that are decoded at once


class Prompt(NamedTuple):
    """What a user gives for one object; any combination, at least one of them.

    points: (n, 2) xy pixels of the original image. labels: (n,), 1 the object, 0 not the object; None: all 1.
    box: (4,) x0, y0, x1, y1 pixels of the original image.
    mask: (1, h, w) logits, as an earlier prediction's `low_res_logits`; SAM only.
    """

    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    box: np.ndarray | None = None
    mask: np.ndarray | None = None


class Prediction(NamedTuple):
    """Masks for one prompt, in the model's order.

    masks: (c, H, W) bool on the original's pixels. ious: (c,) predicted quality. low_res_logits: (c, h, w) float32.
    """

    masks: np.ndarray
    ious: np.ndarray
    low_res_logits: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """(H, W) bool: the mask of highest predicted IoU."""
        return self.masks[int(self.ious.argmax())]


class Predictor:
    """Holds a model, its parameters and the embedding of one image.

    Example:
      >>> model = Sam.mini()
      >>> predictor = Predictor(model, model.init(jax.random.key(0)))
      >>> predictor.set_image(np.zeros((120, 160, 3), np.uint8))
      >>> masks, ious, logits = predictor.predict(points=np.array([[80, 60]]))
      >>> masks.shape, logits.shape
      ((3, 120, 160), (3, 128, 128))
    """

    def __init__(self, model: Sam | EfficientSam, params: Params):
        self.model, self.params = model, jax.device_put(params)
        self._image: tuple[Framing, Array] | None = None

    def set_image(self, image: np.ndarray) -> None:
        """Encode an RGB image (H, W, 3) uint8; grey and RGBA are converted."""
        framings, embedding = self._encode([image])
        self._image = framings[0], embedding

    @property
    def image_embedding(self) -> Array:
        """(1, h, w, c) float32 of the image that was set."""
        return self._current()[1]

    def predict(
        self,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        multimask: bool = True,
    ) -> Prediction:
        """Masks for one prompt on the image that was set; arguments as in `Prompt`.

        multimask: three masks for an ambiguous prompt, else the single one (untrained in released EfficientSAMs).
        """
        return self.predict_many([Prompt(points, labels, box, mask)], multimask)[0]

    def predict_many(self, prompts: Sequence[Prompt], multimask: bool = True) -> list[Prediction]:
        """As `predict`, for many prompts of the image that was set."""
        framing, embedding = self._current()
        return self._decode([framing], embedding, [prompts], multimask)[0]

    def predict_images(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[Prompt]], multimask: bool = True
    ) -> list[list[Prediction]]:
        """As `predict`, for many images at once, each with prompts of its own; the image that was set stays."""
        if len(images) != len(prompts):
            raise BadInput(f"there are {len(images)} images and prompts for {len(prompts)}; give a list for each image")
        if not images:
            return []
        framings, embedding = self._encode(images)
        return self._decode(framings, embedding, prompts, multimask)

    def _current(self) -> tuple[Framing, Array]:
        if self._image is None:
            raise BadInput("no image is set; call set_image(image) first")
        return self._image

    def _encode(self, images: Sequence[np.ndarray]) -> tuple[list[Framing], Array]:
        pictures = [to_rgb(np.asarray(image)) for image in images]
        framings = [Framing.of(p.shape[:2], self.model.image_size, self.model.fit) for p in pictures]
        frames = np.stack([f.pixels(p) for f, p in zip(framings, pictures, strict=True)])
        return framings, _encode(self.model, self.params, frames, np.array([f.content for f in framings], np.int32))

    def _decode(self, framings, embedding, prompts, multimask) -> list[list[Prediction]]:
        found: list[list[Prediction]] = [[] for _ in framings]
        longest = max(len(p) for p in prompts)
        for start in range(0, longest, CHUNK):
            some = [p[start : start + CHUNK] for p in prompts]
            packed = pack(self.model, framings, some, embedding.shape[1:3])
            logits, ious = _decode(self.model, MULTI if multimask else SINGLE, self.params, embedding, packed)
            for i, framing in enumerate(framings):
                n = len(some[i])
                if n == 0:
                    continue
                flat = logits[i].reshape(-1, *logits.shape[-2:])
                masks = np.asarray(self.model.is_mask(framing.masks(flat)))
                masks = masks.reshape(*logits.shape[1:3], *framing.image)
                low, quality = np.asarray(logits[i]), np.asarray(ious[i])
                found[i] += [Prediction(masks[k], quality[k], low[k]) for k in range(n)]
        return found


@functools.partial(jax.jit, static_argnums=0)
def _encode(model, params, image, size):
    return model.encode(params, image, size)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decode(model, tokens, params, embedding, prompts):
    return model.decode(params, embedding, prompts, tokens)


def pack(
    model: Sam | EfficientSam, framings: Sequence[Framing], prompts: Sequence[Sequence[Prompt]], grid: tuple[int, int]
) -> Prompts:
    """Ragged prompts of several images -> arrays of a few fixed shapes; what is not there is EMPTY."""
    rows = [[_slots(p, f) for p in some] for some, f in zip(prompts, framings, strict=True)]
    slots = _bucket(max((len(labels) for row in rows for _, labels in row), default=1))
    count = _bucket(max(len(row) for row in rows))
    points = np.zeros((len(rows), count, slots, 2), np.float32)
    labels = np.full((len(rows), count, slots), EMPTY, np.int32)
    for i, row in enumerate(rows):
        for j, (xy, kinds) in enumerate(row):
            points[i, j, : len(kinds)], labels[i, j, : len(kinds)] = xy, kinds
    masks, has_mask = _masks(model, prompts, count, grid)
    if masks is None or has_mask is None:
        return Prompts(jnp.asarray(points), jnp.asarray(labels))
    return Prompts(jnp.asarray(points), jnp.asarray(labels), jnp.asarray(masks), jnp.asarray(has_mask))


def _slots(prompt: Prompt, framing: Framing) -> tuple[np.ndarray, np.ndarray]:
    """Points and corners of one prompt in the frame, and their labels."""
    xy, kinds = np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
    if prompt.points is None and prompt.box is None and prompt.mask is None:
        raise BadInput("the prompt is empty; give points, a box or a mask")
    if prompt.points is not None:
        xy = check_points(prompt.points, framing.image)
        kinds = np.full(len(xy), FOREGROUND) if prompt.labels is None else np.asarray(prompt.labels)
        if kinds.shape != (len(xy),) or not np.isin(kinds, (BACKGROUND, FOREGROUND)).all():
            raise BadInput(
                f"labels must be {len(xy)} numbers, 1 (the object) or 0 (not the object), one for each point"
            )
    elif prompt.labels is not None:
        raise BadInput("there are labels without points; give points of the same number")
    if prompt.box is not None:
        xy = np.concatenate([xy, check_box(prompt.box, framing.image).reshape(2, 2)])
        kinds = np.concatenate([kinds, [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]])
    return framing.points(xy), kinds.astype(np.int32)


def _masks(model, prompts, count, grid) -> tuple[np.ndarray | None, np.ndarray | None]:
    given = [
        (i, j, np.asarray(p.mask)) for i, row in enumerate(prompts) for j, p in enumerate(row) if p.mask is not None
    ]
    if not given:
        return None, None
    if not model.takes_masks:
        raise BadInput("EfficientSAM takes no mask prompts; give points or a box")
    size = (4 * grid[0], 4 * grid[1])
    masks = np.zeros((len(prompts), count, *size), np.float32)
    has_mask = np.zeros((len(prompts), count), bool)
    for i, j, mask in given:
        if mask.shape not in (size, (1, *size)):
            raise BadInput(f"a mask prompt must be (1, {size[0]}, {size[1]}) logits, this one is {mask.shape}")
        masks[i, j], has_mask[i, j] = mask.reshape(size), True
    return masks, has_mask


def _bucket(n: int) -> int:
    """The smallest bucket that holds n; beyond the largest, multiples of it."""
    return next((b for b in BUCKETS if b >= n), -(-n // BUCKETS[-1]) * BUCKETS[-1])
