"""Photos that come inside scikit-image and scikit-learn: real pictures without a download."""

import functools
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sadist_jax.data import images
from sadist_jax.data.sample import Sample, unlabelled
from sadist_jax.errors import BadInput

# All in the public domain, CC0, or (scikit-learn's) CC BY; see the docstrings of skimage.data and sklearn.datasets.
_SKIMAGE = ("skimage", "scikit-image", "data")
_SKLEARN = ("sklearn", "scikit-learn", "datasets/images")
_TRAIN = {
    "brick.png": _SKIMAGE,
    "camera.png": _SKIMAGE,
    "china.jpg": _SKLEARN,
    "coins.png": _SKIMAGE,
    "flower.jpg": _SKLEARN,
    "grass.png": _SKIMAGE,
    "gravel.png": _SKIMAGE,
    "hubble_deep_field.jpg": _SKIMAGE,
    "ihc.png": _SKIMAGE,
    "moon.png": _SKIMAGE,
}
_HELD_OUT = dict.fromkeys(("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"), _SKIMAGE)
_PARTS = {"all": _TRAIN | _HELD_OUT, "train": _TRAIN, "held_out": _HELD_OUT}


@dataclass(frozen=True)
class PackagePhotos:
    """A dozen photos without masks, sorted by name. Needs the extra `demo`.

    part: 'train' (ten, with surfaces as brick and grass among them), 'held_out' (an astronaut, a cat, a cup of coffee,
        a rocket), or 'all'.
    """

    part: Literal["all", "train", "held_out"] = "all"

    def open(self) -> "PackagePhotosReader":
        return PackagePhotosReader(tuple(_find(name, *place) for name, place in sorted(_PARTS[self.part].items())))


@dataclass(frozen=True)
class PackagePhotosReader:
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        return unlabelled(_read(self.files[index]), self.name(index))

    def name(self, index: int) -> str:
        return self.files[index].name

    def digest(self) -> str:
        return hashlib.sha256("\n".join(file.name for file in self.files).encode()).hexdigest()


def _find(name: str, module: str, distribution: str, folder: str) -> Path:
    """The file of a photo; the package that has it is found without importing it, which would take seconds."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise BadInput(f"{name} comes with {distribution}, which is missing; `pip install sadist_jax[demo]`")
    file = Path(spec.origin).parent / folder / name
    if not file.is_file():
        raise BadInput(f"this {distribution} comes without {folder}/{name}; install the one of sadist_jax[demo]")
    return file


@functools.cache
def _read(file: Path) -> np.ndarray:
    """Kept: a few megabytes in all, gone through again and again."""
    image = images.read_image(file)
    image.flags.writeable = False
    return image
