"""Tiles of the photos that come inside packages, with the photo as class: labelled pictures without a download."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sadist_jax.codecs.geometry import resize_image
from sadist_jax.data.package_photos import PackagePhotos, PackagePhotosReader
from sadist_jax.data.sample import Sample, unlabelled
from sadist_jax.errors import BadInput

ROWS, COLUMNS, HELD_OUT = 5, 8, 2  # tiles of a photo; those of the last columns are held out


@dataclass(frozen=True)
class PhotoTiles:
    """Which of ten photos is this a part of? Needs the extra `demo`.

    Each photo of PackagePhotos("train") is resized to 5 x 8 tiles. The tiles of the left six columns are for training
    (300 in all), those of the right two for measuring (100): as many of each photo, so chance is one tenth.

    size: side of a tile in pixels.
    """

    part: Literal["train", "held_out"] = "train"
    size: int = 64

    def open(self) -> "PhotoTilesReader":
        if self.size < 1:
            raise BadInput(f"the tiles' size is {self.size}; it must be at least 1 pixel")
        return PhotoTilesReader(PackagePhotos("train").open(), self.part, self.size)


@dataclass(frozen=True)
class PhotoTilesReader:
    photos: PackagePhotosReader
    part: str
    size: int

    def __len__(self) -> int:
        return len(self.photos) * ROWS * len(self._columns)

    def __getitem__(self, index: int) -> Sample:
        photo, row, column = self._place(index)
        whole = resize_image(self.photos[photo].image, (ROWS * self.size, COLUMNS * self.size))
        top, left = row * self.size, column * self.size
        tile = np.ascontiguousarray(whole[top : top + self.size, left : left + self.size])
        return unlabelled(tile, self.name(index), photo)

    def name(self, index: int) -> str:
        photo, row, column = self._place(index)
        return f"{self.photos.name(photo)}/{row}-{column}"

    def digest(self) -> str:
        return hashlib.sha256(f"{self.photos.digest()}/{self.part}/{self.size}".encode()).hexdigest()

    @property
    def _columns(self) -> range:
        first = COLUMNS - HELD_OUT
        return range(first) if self.part == "train" else range(first, COLUMNS)

    def _place(self, index: int) -> tuple[int, int, int]:
        """(photo, row, column) of a tile."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        photo, inside = divmod(index, ROWS * len(self._columns))
        row, column = divmod(inside, len(self._columns))
        return photo, row, self._columns[column]
