"""Labelled images as rows: the augmented crops of fine-tuning, and the centre crops of its evaluation."""

from dataclasses import dataclass

import numpy as np

from sadist_jax.codecs import augment, crops
from sadist_jax.codecs.geometry import resize_image
from sadist_jax.data.sample import Row, Sample
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class ClassCrops:
    """Sample -> {"image": uint8 (size, size, 3), "label": int32}: random resized crop, flip, RandAugment.

    EfficientSAM (Xiong et al. 2023, sec. 4.1) names RandAugment; scale and bicubic are those of MAE's fine-tuning, and
    RandAugment's numbers too, see codecs/augment.py.

    size: pixels.
    classes: of the model: a label must be 0..classes - 1, or its sample is BadInput.
    scale: the crop's share of the image's area, drawn uniformly.
    operations, magnitude, spread: of RandAugment; operations=0 turns it off.
    """

    size: int = 224
    classes: int = 1000
    scale: tuple[float, float] = (0.08, 1.0)
    operations: int = 2
    magnitude: float = 9.0
    spread: float = 0.5

    def __post_init__(self):
        _refuse_size(self.size)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise BadInput(f"the crop's scale is {self.scale}; it must be two shares of the area, 0 < low <= high <= 1")
        if self.operations < 0 or not 0 <= self.magnitude <= augment.HIGHEST or self.spread < 0:
            raise BadInput(
                f"RandAugment has operations {self.operations}, magnitude {self.magnitude}, spread {self.spread}; they "
                f"must be 0 or more, and the magnitude at most {augment.HIGHEST:g}"
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Row:
        label = _label(sample, self.classes)
        image = crops.random_resized_crop(sample.image, self.size, rng, self.scale)
        return {"image": augment.rand_augment(image, rng, self.operations, self.magnitude, self.spread), "label": label}

    def filler(self) -> Row:
        return _filler(self.size)


@dataclass(frozen=True)
class CentreCrops:
    """Sample -> {"image": uint8 (size, size, 3), "label": int32}: shorter side to `resize`, bicubic, then the middle.

    The usual evaluation on ImageNet: 224 of 256 (He et al. 2016, sec. 3.4, for the resizing).
    """

    size: int = 224
    resize: int = 256
    classes: int = 1000

    def __post_init__(self):
        _refuse_size(self.size)
        if self.resize < self.size:
            raise BadInput(f"images are resized to {self.resize} px, which has no crop of {self.size}; raise `resize`")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Row:
        return {"image": self.crop(sample.image), "label": _label(sample, self.classes)}

    def crop(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> its middle, (size, size, 3)."""
        height, width = image.shape[:2]
        shorter = min(height, width)
        height, width = self.resize * height // shorter, self.resize * width // shorter
        resized = resize_image(image, (height, width), bicubic=True)
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return resized[top : top + self.size, left : left + self.size]

    def filler(self) -> Row:
        return _filler(self.size)


def _label(sample: Sample, classes: int) -> np.int32:
    if not 0 <= sample.label < classes:
        what = "has no label" if sample.label == -1 else f"has the label {sample.label}"
        raise BadInput(
            f"{sample.name} {what}; of a model with {classes} classes it must be 0 to {classes - 1}: name a source "
            "with labels (ClassFolders, Tfds), or give the number of its classes to model and transform"
        )
    return np.int32(sample.label)


def _refuse_size(size: int) -> None:
    if size < 1:
        raise BadInput(f"the crop's size is {size}; it must be at least 1 pixel")


def _filler(size: int) -> Row:
    return {"image": np.zeros((size, size, 3), np.uint8), "label": np.int32(0)}
