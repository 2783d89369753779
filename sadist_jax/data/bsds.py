"""BSDS500: photos whose regions several people drew, as .mat files that SciPy reads: the regions, or their edges."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sadist_jax.data import images
from sadist_jax.data.listed import ListedNames
from sadist_jax.data.names import Names, pair
from sadist_jax.data.sample import Masks, Sample, Unreadable, uncategorised
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class Bsds:
    """Regions of the Berkeley Segmentation Data Set, e.g. Bsds("images/test", "groundTruth/test").

    Source: Arbelaez et al. 2011. NAME.mat holds the maps of several people for NAME.jpg; a map's region ids, 1 and up,
    tile the picture, and every region becomes one mask without a category (-1). Small regions are kept.

    images, ground_truth: folders; pictures without a .mat are left out.
    annotator: whose regions. "median": of the person with the median number of regions, the lower one of an even
        number of people, the first one of equals. A number: of that person, counted from 0. "all": of everybody, one
        after the other; their regions overlap.
    """

    images: str
    ground_truth: str
    annotator: int | Literal["median", "all"] = "median"

    def open(self) -> "BsdsReader":
        is_number = isinstance(self.annotator, int) and self.annotator >= 0
        if not is_number and self.annotator not in ("median", "all"):
            raise BadInput(f'annotator is {self.annotator!r}; it must be "median", "all" or a number from 0')
        pictures, maps = _pictures(self)
        return BsdsReader(pictures, self, maps)


@dataclass(frozen=True)
class BsdsBoundaries:
    """Edges of the Berkeley Segmentation Data Set, e.g. BsdsBoundaries("images/test", "groundTruth/test").

    Every person gives one mask without a category (-1): the lines between his regions, groundTruth{k}.Boundaries, as
    they are; they are one pixel wide.

    images, ground_truth: folders; pictures without a .mat are left out.
    """

    images: str
    ground_truth: str

    def open(self) -> "BsdsBoundariesReader":
        pictures, maps = _pictures(self)
        return BsdsBoundariesReader(pictures, self, maps)


@dataclass(frozen=True)
class BsdsBoundariesReader(ListedNames):
    config: BsdsBoundaries
    maps: Names

    def __getitem__(self, index: int) -> Sample:
        name, path = self.pictures[index], Path(self.config.ground_truth, self.maps[index])
        maps = _read_maps(path, "Boundaries")
        image = images.read_image(Path(self.config.images, name), maps[0].shape)
        return uncategorised(image, np.stack(maps) != 0, name)

    def digest(self) -> str:
        return f"{super().digest()}-{self.maps.digest()}-boundaries"


@dataclass(frozen=True)
class BsdsReader(ListedNames):
    config: Bsds
    maps: Names

    def __getitem__(self, index: int) -> Sample:
        name, path = self.pictures[index], Path(self.config.ground_truth, self.maps[index])
        maps = self._choose(_read_maps(path, "Segmentation"), path)
        image = images.read_image(Path(self.config.images, name), maps[0].shape)
        regions = [(ids, region) for ids in maps for region in _regions(ids)]

        def decode(i: int) -> np.ndarray:
            ids, region = regions[i]
            return ids == region

        return uncategorised(image, Masks(name, len(regions), decode), name)

    def digest(self) -> str:
        return f"{super().digest()}-{self.maps.digest()}-{self.config.annotator}"

    def _choose(self, maps: list[np.ndarray], path: Path) -> list[np.ndarray]:
        annotator = self.config.annotator
        if annotator == "all":
            return maps
        if annotator == "median":
            order = np.argsort([len(_regions(ids)) for ids in maps], kind="stable")
            annotator = int(order[(len(maps) - 1) // 2])
        if annotator >= len(maps):
            message = f"{path} has the maps of {len(maps)} people, so there is no annotator {annotator}"
            raise Unreadable(str(path), f'{message}; "median" exists for every picture')
        return [maps[annotator]]


def _pictures(config: Bsds | BsdsBoundaries) -> tuple[Names, Names]:
    """Names of the pictures and of their .mat files."""
    _loadmat(config.ground_truth)
    pictures, maps = pair(config.images, images.ENDINGS, config.ground_truth, (".mat",), "")
    return Names(pictures), Names(maps)


def _regions(ids: np.ndarray) -> np.ndarray:
    return np.setdiff1d(ids, [0])


def _read_maps(path: Path, field: str) -> list[np.ndarray]:
    """Everybody's map (H, W), groundTruth{k}.`field`: region ids, or 1 on boundaries."""
    loadmat = _loadmat(str(path))
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Unreadable(str(path), f"{path} cannot be read ({error.strerror})") from None
    try:
        cells = loadmat(io.BytesIO(raw))["groundTruth"].ravel()
        maps = [np.asarray(cell[field][0, 0]) for cell in cells]
    except Exception as error:  # SciPy raises half a dozen types on damaged files
        message = f"{path} is damaged, or no .mat of BSDS with groundTruth and {field} in it ({error})"
        raise Unreadable(str(path), message) from None
    if not maps or any(m.ndim != 2 or m.dtype.kind not in "ui" or m.shape != maps[0].shape for m in maps):
        found = ", ".join(f"{m.dtype} {m.shape}" for m in maps) or "nothing"
        raise Unreadable(str(path), f"{path} must hold maps of whole numbers, all of one size; it holds {found}")
    return maps


def _loadmat(what: str) -> Callable[..., dict[str, Any]]:
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError:
        raise BadInput(f"reading the .mat files of {what} needs SciPy; pip install sadist_jax[eval]") from None
    return loadmat
