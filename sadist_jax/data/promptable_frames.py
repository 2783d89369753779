"""Images and instance masks in the frame of a promptable model."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sadist_jax.codecs import crops
from sadist_jax.codecs.crops import Jitter
from sadist_jax.codecs.geometry import longest_side_shape, resize_without_antialias
from sadist_jax.data.sample import Row, Sample
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class PromptableFrames:
    """Sample -> one row of a promptable batch, all in the padded frame of `size` pixels:

        image    uint8 (size, size, 3): longest side resized to `size`, content at the top left, zeros elsewhere
        size     int32 (2,): (h, w) of the content
        masks    uint8 {0, 1} (instances, size, size): zeros where `instance` is False
        instance bool (instances,): rows that are real, first
        weight   float32: 0 when no instance is left, so that the row does not count

    Targets are drawn at random, without repetition, among the instances that are not iscrowd and whose mask, in this
    frame, has at least `min_area` pixels and at most `max_cover` of the content (SAM, appendix A: "we discard masks
    that cover more than 90% of the image").

    size: S of the model.
    fit: 'pad' keeps the aspect ratio, antialiased, as SAM; 'stretch' fills the square, bilinear without antialias, as
        EfficientSAM, but rounded to whole grey levels. Jitter always pads.
    instances: K, rows for masks.
    jitter: large-scale jitter, the range of the factor on the longest side, e.g. (0.1, 2.0); None: no augmentation,
        as in SAM's last training and in EfficientSAM's.
    flip: left to right, half of the time.
    min_area: pixels of the padded frame; masks that vanish on resizing have none.
    max_cover: share of the content.
    """

    size: int = 1024
    fit: Literal["pad", "stretch"] = "pad"
    instances: int = 16
    jitter: tuple[float, float] | None = None
    flip: bool = False
    min_area: int = 16
    max_cover: float = 0.9

    def __post_init__(self):
        for name in ("size", "instances", "min_area"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.max_cover <= 1:
            raise BadInput(f"max_cover is {self.max_cover}; it must be a share of the image, above 0 and at most 1")
        if self.jitter is not None and not 0 < self.jitter[0] <= self.jitter[1]:
            raise BadInput(f"jitter is {self.jitter}; it must be two factors, 0 < low <= high")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Row:
        placed = self._place(sample.image.shape[:2], rng)
        mirror = self.flip and rng.random() < 0.5
        masks = np.zeros((self.instances, self.size, self.size), np.uint8)
        instance = np.zeros(self.instances, bool)
        found = 0
        for i in rng.permutation(np.flatnonzero(~np.asarray(sample.iscrowd, bool))):
            if found == self.instances:
                break
            mask = crops.jitter_masks(_turn(sample.masks[int(i)], mirror), placed, self.size)
            if self._usable(mask, placed.content):
                masks[found], instance[found] = mask, True
                found += 1
        return {
            "image": self._image(_turn(sample.image, mirror), placed),
            "size": np.array(placed.content, np.int32),
            "masks": masks,
            "instance": instance,
            "weight": np.float32(found > 0),
        }

    def filler(self) -> Row:
        """A row of nothing; its size is 1 x 1, so that no division by it fails."""
        return {
            "image": np.zeros((self.size, self.size, 3), np.uint8),
            "size": np.ones(2, np.int32),
            "masks": np.zeros((self.instances, self.size, self.size), np.uint8),
            "instance": np.zeros(self.instances, bool),
            "weight": np.float32(0),
        }

    def _place(self, hw: tuple[int, int], rng: np.random.Generator) -> Jitter:
        if self.jitter is not None:
            return crops.sample_jitter(hw, self.size, rng, self.jitter)
        content = longest_side_shape(hw, self.size) if self.fit == "pad" else (self.size, self.size)
        return Jitter(content, (0, 0), content)

    def _image(self, image: np.ndarray, placed: Jitter) -> np.ndarray:
        if self.fit == "stretch" and self.jitter is None:
            return np.rint(resize_without_antialias(image, placed.resized)).astype(np.uint8)
        return crops.jitter_image(image, placed, self.size)

    def _usable(self, mask: np.ndarray, content: tuple[int, int]) -> bool:
        area = int(np.count_nonzero(mask))
        return self.min_area <= area <= self.max_cover * content[0] * content[1]


def _turn(array: np.ndarray, mirror: bool) -> np.ndarray:
    return crops.flip(array, 1) if mirror else array
