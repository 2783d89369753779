"""Label maps: per picture a second one whose pixel values are ids."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sadist_jax.data import images
from sadist_jax.data.listed import ListedNames
from sadist_jax.data.names import Names, pair
from sadist_jax.data.sample import Masks, Sample

MAP_ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm")


@dataclass(frozen=True)
class LabelMaps:
    """Maps below `maps`, each with the picture of the same relative name (but for the ending) below `images`.

    E.g. images/a/1.jpg and maps/a/1.png; with suffix "_labelIds", maps/a/1_labelIds.png. Every id of a map that is not
    ignored becomes one mask, connected or not, and the id is its category: instance maps give instances, semantic maps
    give one region per class. Pictures without a map are left out. Maps have one channel of 8 or 16 bits, or a
    palette whose index is the id.

    ignore: ids that are no region: background and "void".
    """

    images: str
    maps: str
    suffix: str = ""
    ignore: tuple[int, ...] = (0, 255)

    def open(self) -> "LabelMapsReader":
        pictures, maps = pair(self.images, images.ENDINGS, self.maps, MAP_ENDINGS, self.suffix)
        return LabelMapsReader(Names(pictures), self, Names(maps))


@dataclass(frozen=True)
class LabelMapsReader(ListedNames):
    config: LabelMaps
    maps: Names

    def __getitem__(self, index: int) -> Sample:
        name = self.pictures[index]
        ids = images.read_ids(Path(self.config.maps, self.maps[index]))
        image = images.read_image(Path(self.config.images, name), ids.shape)
        masks, category = split_ids(ids, self.config.ignore, name)
        return Sample(image, masks, np.zeros(len(category), bool), category, name)

    def digest(self) -> str:
        return f"{super().digest()}-{self.maps.digest()}-{self.config.ignore}"


def split_ids(ids: np.ndarray, ignore: tuple[int, ...], name: str) -> tuple[Masks, np.ndarray]:
    """Map (H, W) -> (masks of the n ids in it that are not ignored, those ids int64 (n,) in rising order)."""
    kept = np.setdiff1d(np.unique(ids), ignore).astype(np.int64)
    return Masks(name, len(kept), lambda i: ids == kept[i]), kept
