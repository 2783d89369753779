"""Generated scenes as a source of plain values, for configs, with surfaces and outlines borrowed from photos."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sadist_jax.data.sample import Sample
from sadist_jax.data.scenes import Scenes

_MOST_PHOTOS = 256  # they travel to every worker ...
_LONGEST = 640  # ... so they are made small, in pixels
_CUTOUT_AREA = (0.01, 0.5)  # share of the photo: smaller is a speck, larger is a background


@dataclass(frozen=True)
class SceneSource:
    """Scenes with exact masks, drawn as they are needed (`scenes.Scenes`).

    size, seed, count, objects, min_pixels: as in `Scenes`.
    photos: any source of images, the first 256 of it. Crops of them become surfaces; the outlines and contents of their
        instances, where they have masks, become things in the scenes. None: drawn surfaces only.
    """

    size: int = 256
    seed: int = 0
    count: int = 1000
    objects: tuple[int, int] = (3, 12)
    min_pixels: int = 20
    photos: Any = None

    def open(self) -> Scenes:
        reader = self.photos.open() if self.photos is not None else ()
        samples = [reader[i] for i in range(min(len(reader), _MOST_PHOTOS))]
        textures = tuple(_shrink(s.image) for s in samples)
        cutouts = tuple(cutout for s in samples for cutout in _cutouts(s))
        return Scenes(self.size, self.seed, self.count, textures, cutouts, self.objects, self.min_pixels)


def _cutouts(sample: Sample) -> list[tuple[np.ndarray, np.ndarray]]:
    """(photo, mask) around each instance of a sensible size, cut to the instance's box."""
    found = []
    for i in np.flatnonzero(~np.asarray(sample.iscrowd, bool)):
        mask = np.asarray(sample.masks[int(i)], bool)
        if not _CUTOUT_AREA[0] <= mask.mean() <= _CUTOUT_AREA[1]:
            continue
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
        small = _shrink(mask[box].astype(np.uint8), Image.Resampling.NEAREST).astype(bool)
        if small.any():
            found.append((_shrink(sample.image[box]), small))
    return found


def _shrink(image: np.ndarray, resample: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
    picture = Image.fromarray(image)
    picture.thumbnail((_LONGEST, _LONGEST), resample)
    return np.asarray(picture)
