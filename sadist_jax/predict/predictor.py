"""Click on an image, get its masks: one interface for SAM and EfficientSAM, for one prompt and for many."""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from sadist_jax.codecs.images import to_rgb
from sadist_jax.codecs.prompts import Prediction, Prompt
from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.mask_decoder import MULTI, SINGLE
from sadist_jax.models.sam import Sam
from sadist_jax.predict.framing import Framing
from sadist_jax.predict.packing import BUCKETS, bucket, pack
from sadist_jax.typing import Array, Params

PROMPTS = BUCKETS[-1]  # of one image that are decoded at once
IMAGES = 4  # that are encoded at once


def wants_three(model: Sam | EfficientSam, prompt: Prompt) -> bool:
    """Whether the model was trained to answer such a prompt with three masks (mask tokens 1-3) or with one (token 0).

    SAM: three for a lone click, which is ambiguous, one for everything else (Kirillov et al. 2023, app. A; that a lone
    box gets one is SAM-2's configuration). EfficientSAM: always three, its token 0 is untrained.
    """
    points, box, mask = prompt.points, prompt.box, prompt.mask
    lone_click = points is not None and np.shape(points)[:1] == (1,) and box is None and mask is None
    return lone_click or not model.single_mask_trained


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
        multimask: bool | None = None,
    ) -> Prediction:
        """Masks for one prompt on the image that was set; arguments as in `Prompt`.

        multimask: True: three masks, False: one (untrained in EfficientSAMs); None: as trained, see `wants_three`.
        """
        return self.predict_many([Prompt(points, labels, box, mask)], multimask)[0]

    def predict_many(self, prompts: Sequence[Prompt], multimask: bool | None = None) -> list[Prediction]:
        """As `predict`, for many prompts of the image that was set."""
        framing, embedding = self._current()
        return self._decode([framing], embedding, [prompts], multimask)[0]

    def predict_images(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[Prompt]], multimask: bool | None = None
    ) -> list[list[Prediction]]:
        """As `predict`, for many images of any sizes, each with prompts of its own; the image that was set stays."""
        if len(images) != len(prompts):
            raise BadInput(f"there are {len(images)} images and prompts for {len(prompts)}; give a list for each image")
        found: list[list[Prediction]] = []
        for start in range(0, len(images), IMAGES):
            some = slice(start, start + IMAGES)
            count = min(bucket(len(images)), IMAGES)  # of the last few, too: another number would be compiled anew
            framings, embedding = self._encode(images[some], count)
            found += self._decode(framings, embedding, prompts[some], multimask)
        return found

    def _current(self) -> tuple[Framing, Array]:
        if self._image is None:
            raise BadInput("no image is set; call set_image(image) first")
        return self._image

    def _encode(self, images: Sequence[np.ndarray], count: int = 1) -> tuple[list[Framing], Array]:
        """Framings of the images and the embeddings of `count`, the last image repeated."""
        pictures = [to_rgb(np.asarray(image)) for image in images]
        framings = [Framing.of(p.shape[:2], self.model.image_size, self.model.fit) for p in pictures]
        frames = [f.pixels(p) for f, p in zip(framings, pictures, strict=True)]
        rows = np.minimum(np.arange(count), len(frames) - 1)
        sizes = np.array([f.content for f in framings], np.int32)[rows]
        return framings, _encode(self.model, self.params, np.stack(frames)[rows], sizes)

    def _decode(
        self,
        framings: Sequence[Framing],
        embedding: Array,
        prompts: Sequence[Sequence[Prompt]],
        multimask: bool | None,
    ) -> list[list[Prediction]]:
        """Predictions for the prompts of each image; `embedding` may have more rows than there are images."""
        three = [[wants_three(self.model, p) if multimask is None else multimask for p in some] for some in prompts]
        found: dict[tuple[int, int], Prediction] = {}
        for tokens, which in ((SINGLE, False), (MULTI, True)):
            chosen = [[j for j, wanted in enumerate(row) if wanted == which] for row in three]
            for start in range(0, max(map(len, chosen), default=0), PROMPTS):
                part = [numbers[start : start + PROMPTS] for numbers in chosen]
                asked = [[some[j] for j in numbers] for some, numbers in zip(prompts, part, strict=True)]
                answers = self._decode_part(framings, embedding, asked, tokens)
                for i, (numbers, row) in enumerate(zip(part, answers, strict=True)):
                    found |= {(i, j): answer for j, answer in zip(numbers, row, strict=True)}
        return [[found[i, j] for j in range(len(some))] for i, some in enumerate(prompts)]

    def _decode_part(
        self, framings: Sequence[Framing], embedding: Array, prompts: list[list[Prompt]], tokens: tuple[int, ...]
    ) -> list[list[Prediction]]:
        """As `_decode`, for so few prompts that they are decoded at once."""
        extra = len(embedding) - len(framings)
        filled = [*framings, *[framings[-1]] * extra], [*prompts, *[[]] * extra]
        _, height, width, _ = embedding.shape
        packed = pack(self.model, *filled, (height, width))
        logits, ious = _decode(self.model, tokens, self.params, embedding, packed)
        found: list[list[Prediction]] = []
        for framing, some, low, quality in zip(framings, prompts, logits, ious, strict=False):
            if not some:
                found.append([])
                continue
            masks = np.asarray(self.model.is_mask(framing.masks(low.reshape(-1, *low.shape[-2:]))))
            masks = masks.reshape(*low.shape[:2], *framing.image)
            low, quality = np.asarray(low), np.asarray(quality)
            found.append([Prediction(masks[k], quality[k], low[k]) for k in range(len(some))])
        return found


@functools.partial(jax.jit, static_argnums=0)
def _encode(model, params, image, size):
    return model.encode(params, image, size)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decode(model, tokens, params, embedding, prompts):
    return model.decode(params, embedding, prompts, tokens)
