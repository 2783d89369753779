"""The domains of wesam_domains.py: research-only pictures, none of which sam_mini was trained on."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.photo_sets import coco200
from sadist_jax.data import images
from sadist_jax.data.corrupted import Corrupted
from sadist_jax.data.in_memory import InMemory
from sadist_jax.data.listed import ListedNames
from sadist_jax.data.mask_folders import MaskFolders
from sadist_jax.data.names import Names, pair
from sadist_jax.data.sample import Sample, Unreadable, uncategorised
from sadist_jax.data.splits import Interleaved, PartReader
from sadist_jax.errors import BadInput

NUCLEI, POLYPS, THERMAL, COCO = "nuclei", "polyps", "thermal", "coco-"
CORRUPTIONS = (
    "gaussian_noise",
    "motion_blur",
    "fog",
    "contrast",
    "jpeg_compression",
)  # noise, blur, weather, 2 digital
DOMAINS = (NUCLEI, POLYPS, THERMAL, *(COCO + kind for kind in CORRUPTIONS))
Part = Literal["train", "test", "fit", "validation"]


def domain(folder: Path, name: str, part: Part) -> InMemory:
    """One part of a domain; `folder` is that of the data sets.

    name: of DOMAINS, or any other corruption, "coco-snow"; severity 5 of 5.
    part: of nuclei every fifth file by name is for "test" and the others to "train". Polyps are frames of videos, and
      udders were filmed on some days: a fifth by name would test on neighbours of what was trained on, and on eight
      images, so of these the later half is the test. COCO: val2017, and train2017 without sam_mini's own photos. Of the
      files to train, every fifth is for "validation" and the others to "fit", while hyper-parameters are chosen.
    """
    if part in ("fit", "validation"):
        return InMemory(_fifths(_whole(folder, name, "train"), "train" if part == "fit" else "test"))
    return InMemory(_whole(folder, name, part))


def _whole(folder: Path, name: str, part: Literal["train", "test"]) -> Any:
    if name.startswith(COCO):
        photos = coco200(folder / "coco200", {"train": "train2017", "test": "val2017"}[part])
        others = Chosen(dataclasses.replace(photos, things_only=True), functools.partial(_without, trained_on(folder)))
        return Corrupted(others, name.removeprefix(COCO))
    if name == NUCLEI:
        return _fifths(MaskFolders(str(folder / "dsb2018_nuclei/stage1_train")), part)
    sources = {
        POLYPS: ClinicDb(str(folder / "cvc_clinicdb")),
        THERMAL: MaskFolders(str(folder / "thermal_udder"), "images/test", "masks/test"),
    }
    if name not in sources:
        raise BadInput(f"there is no domain {name}; known are {', '.join(DOMAINS)}, and {COCO}KIND")
    return Chosen(sources[name], functools.partial(_half, part))


def trained_on(folder: Path) -> frozenset[str]:
    """Names of the photos of coco200 that sam_mini was trained on: all of train2017 that may be given away."""
    listed = json.loads((folder / "coco200/permissive_licence_images.json").read_text())
    return frozenset(name for split, name, *_ in listed if split == "train2017")


def _without(names: frozenset[str], mine: list[str]) -> list[int]:
    return [i for i, name in enumerate(mine) if Path(name).name not in names]


def _half(part: Literal["train", "test"], names: list[str]) -> list[int]:
    """The earlier or the later half in the order of capture, of each camera's own."""
    ranked = sorted(range(len(names)), key=lambda i: _capture(names[i]))
    kept = []
    for camera in dict.fromkeys(_capture(names[i])[0] for i in ranked):
        own = [i for i in ranked if _capture(names[i])[0] == camera]
        kept += own[: len(own) // 2] if part == "train" else own[len(own) // 2 :]
    return kept


def _capture(name: str) -> tuple[str, int, str]:
    """(camera, number, name) of "images/61.tif", a frame of a video; "<hash>-0_img_<date>_..." or "<hash>-Snap-..."."""
    stem = Path(name).stem
    if stem.isdigit():
        return "", int(stem), stem
    taken = stem.partition("-")[2]
    return taken[:4], 0, taken


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The samples of `source` whose positions `choose` gives for the list of all names, in that order."""

    source: Any
    choose: Callable[[list[str]], list[int]]

    def open(self) -> PartReader:
        reader = self.source.open()
        kept = self.choose([reader.name(i) for i in range(len(reader))])
        return PartReader(reader, np.array(kept))


def _fifths(source: Any, part: Literal["train", "test"]) -> Interleaved:
    return Interleaved(source, 4, 1, part)


@dataclasses.dataclass(frozen=True)
class ClinicDb:
    """CVC-ClinicDB: root/images/1.tif and root/masks/1.tif, of 288 x 384 pixels, with one mask a frame."""

    root: str

    def open(self) -> "ClinicDbReader":
        folders = [str(Path(self.root, name)) for name in ("images", "masks")]
        pictures, _ = pair(folders[0], (".tif",), folders[1], (".tif",), "")
        return ClinicDbReader(Names(f"images/{name}" for name in pictures), self.root)


@dataclasses.dataclass(frozen=True)
class ClinicDbReader(ListedNames):
    root: str

    def __getitem__(self, index: int) -> Sample:
        name, hw = self.name(index), (288, 384)
        path = Path(self.root, name)
        try:  # the pixels lie behind the first 8 bytes; Pillow refuses the tag that says what their colours mean
            image = np.frombuffer(path.read_bytes(), np.uint8, hw[0] * hw[1] * 3, 8).reshape(*hw, 3)
        except (OSError, ValueError) as error:
            raise Unreadable(str(path), f"{path} cannot be read ({error}); fetch it again") from None
        mask = images.read_mask(Path(self.root, "masks", path.name))
        images.refuse_size(path, mask.shape, hw)
        return uncategorised(image, mask[None], name)
