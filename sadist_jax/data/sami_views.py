"""The student's crop and what the teacher sees of the same picture: for teachers that see the whole of it, and caches.

Three transforms beside `SamiCrops`. `FrameCrops` gives the whole picture along with the crop, and how to crop features
of it; `CachedCrops` crops features that the sample brings; both draw the same crops. `FixedCrops` always takes the
middle, so that a teacher's features of it can be computed once.
"""

from dataclasses import dataclass

import numpy as np

from sadist_jax.codecs import crops
from sadist_jax.codecs.crops import Box
from sadist_jax.codecs.geometry import Hw, longest_side_shape, pad_to_square, resize_image
from sadist_jax.data.sample import Row, Sample
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class FrameCrops:
    """Sample -> image (size, size, 3), frame (side, side, 3), its content's size (2,), rows and columns (grid, cells).

    size, scale: of the crop, as SamiCrops.
    grid: the student's tokens along a side.
    side, patch: of the teacher; it makes side / patch cells a side.
    """

    size: int = 224
    grid: int = 14
    side: int = 1024
    patch: int = 16
    scale: tuple[float, float] = (0.2, 1.0)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Row:
        image, rows, columns = crop_with_cells(sample.image, rng, self)
        return {"image": image, **self.teacher_input(sample), "rows": rows, "columns": columns}

    def teacher_input(self, sample: Sample) -> Row:
        """What the teacher sees: the longest side resized to `side`, padded."""
        hw = longest_side_shape(sample.image.shape[:2], self.side)
        return {
            "frame": pad_to_square(resize_image(sample.image, hw), self.side),
            "size": np.array(hw, np.int32),
        }

    def view(self) -> str:
        return frame_view(self.side)

    @property
    def shown(self) -> tuple[str, ...]:
        """Names in `teacher_input`."""
        return "frame", "size"

    def filler(self) -> Row:
        cells = self.side // self.patch
        return {
            "image": np.zeros((self.size, self.size, 3), np.uint8),
            "frame": np.zeros((self.side, self.side, 3), np.uint8),
            "size": np.full(2, self.side, np.int32),
            "rows": np.zeros((self.grid, cells), np.float32),
            "columns": np.zeros((self.grid, cells), np.float32),
        }


@dataclass(frozen=True)
class CachedCrops:
    """Sample with features of the whole image -> image (size, size, 3), target (grid, grid, c): FrameCrops' crops.

    channels: of the features; the other fields as FrameCrops.
    """

    size: int = 224
    grid: int = 14
    side: int = 1024
    patch: int = 16
    scale: tuple[float, float] = (0.2, 1.0)
    channels: int = 256

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Row:
        cells = self.side // self.patch
        features = features_of(sample, (cells, cells, self.channels), frame_view(self.side))
        image, rows, columns = crop_with_cells(sample.image, rng, self)
        h, w, c = features.shape
        across = (rows @ features.astype(np.float32).reshape(h, w * c)).reshape(-1, w, c)
        return {"image": image, "target": columns @ across}

    def filler(self) -> Row:
        return {
            "image": np.zeros((self.size, self.size, 3), np.uint8),
            "target": np.zeros((self.grid, self.grid, self.channels), np.float32),
        }


@dataclass(frozen=True)
class FixedCrops:
    """Sample -> image (size, size, 3): the shorter side resized to `size`, the middle of the longer.

    cached: channels of the cached features that the sample brings, which become target (grid, grid, cached); 0: none,
    the teacher is in the step.
    """

    size: int = 224
    grid: int = 14
    cached: int = 0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Row:
        row = self.teacher_input(sample)
        if not self.cached:
            return row
        features = features_of(sample, (self.grid, self.grid, self.cached), self.view())
        return {**row, "target": features.astype(np.float32)}

    def teacher_input(self, sample: Sample) -> Row:
        """What the teacher sees: the student's crop."""
        height, width = sample.image.shape[:2]
        side = min(height, width)
        box = Box((height - side) // 2, (width - side) // 2, side, side)
        return {"image": crops.crop_resized(sample.image, box, self.size)}

    def view(self) -> str:
        return f"middle square, {self.size} px"

    @property
    def shown(self) -> tuple[str, ...]:
        """Names in `teacher_input`."""
        return ("image",)

    def filler(self) -> Row:
        row: Row = {"image": np.zeros((self.size, self.size, 3), np.uint8)}
        return {**row, "target": np.zeros((self.grid, self.grid, self.cached), np.float32)} if self.cached else row


def crop_with_cells(
    image: np.ndarray, rng: np.random.Generator, of: FrameCrops | CachedCrops
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the crop, and how the teacher's rows and columns of cells become those of the crop)."""
    box = crops.sample_crop(image.shape[:2], rng, of.scale)
    view = crops.crop_resized(image, box, of.size)
    rows, columns = cells_of_box(box, image.shape[:2], of)
    if rng.random() < 0.5:
        return crops.flip(view, axis=1), rows, crops.flip(columns, axis=0)
    return view, rows, columns


def cells_of_box(box: Box, hw: Hw, of: FrameCrops | CachedCrops) -> tuple[np.ndarray, np.ndarray]:
    """Two (grid, cells) matrices: resampling of the teacher's cells to the tokens of the crop, down and across."""
    cells, resized = of.side // of.patch, longest_side_shape(hw, of.side)
    matrices = []
    for start, length, whole, new in zip(box[:2], box[2:], hw, resized, strict=True):
        factor = new / whole / of.patch
        matrices.append(crops.cells_of(start * factor, (start + length) * factor, new / of.patch, cells, of.grid))
    return matrices[0], matrices[1]


def frame_view(side: int) -> str:
    return f"whole image, longest side {side} px, padded"


def features_of(sample: Sample, shape: tuple[int, ...], view: str) -> np.ndarray:
    """Raises BadInput where the sample brings no features, or others."""
    found = sample.features
    if found is None or (found.values.shape, found.view) != (shape, view):
        there = "none" if found is None else f"{found.values.shape} of the {found.view}"
        raise BadInput(
            f"this transform needs cached features {shape} of the {view}, and the source gives {there}; use "
            "WithFeatures over a cache that was made for the same view"
        )
    return found.values
