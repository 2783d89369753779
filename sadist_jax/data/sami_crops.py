"""The only augmentation of MAE and SAMI: a random resized crop and a horizontal flip."""

from dataclasses import dataclass

import numpy as np

from sadist_jax.codecs import crops
from sadist_jax.data.sample import Row, Sample
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class SamiCrops:
    """Sample -> {"image": uint8 (size, size, 3)}.

    SAMI (Xiong et al. 2023, sec. 4.1) names "random resized crop 224, horizontal flip"; scale and bicubic are those of
    MAE's released code, which it follows.

    size: pixels.
    scale: the crop's share of the image's area, drawn uniformly.
    """

    size: int = 224
    scale: tuple[float, float] = (0.2, 1.0)

    def __post_init__(self):
        if self.size < 1:
            raise BadInput(f"the crop's size is {self.size}; it must be at least 1 pixel")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise BadInput(f"the crop's scale is {self.scale}; it must be two shares of the area, 0 < low <= high <= 1")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Row:
        return {"image": crops.random_resized_crop(sample.image, self.size, rng, self.scale)}

    def filler(self) -> Row:
        return {"image": np.zeros((self.size, self.size, 3), np.uint8)}
