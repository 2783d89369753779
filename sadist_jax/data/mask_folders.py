"""Folders of binary masks: one file per object, or one per picture."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sadist_jax.data import images
from sadist_jax.data.listed import ListedEntries
from sadist_jax.data.names import Blobs, first_five, pair, walk
from sadist_jax.data.sample import Masks, Sample, uncategorised
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class MaskFolders:
    """Pictures and their binary masks below `root`, in one of two layouts, told apart by whether root/images exists:

        root/images/a/1.jpg     root/masks/a/1.png                  one mask per picture, the same relative name
        root/1/images/1.png     root/1/masks/x.png, y.png, ...      one mask per object (as in DSB 2018)

    A mask is True above half of its file's largest value. Pictures without any mask file are left out.

    images, masks: other names of the two folders.
    suffix: of the mask's name, in the first layout: "_mask" finds masks/a/1_mask.png.
    """

    root: str
    images: str = "images"
    masks: str = "masks"
    suffix: str = ""

    def open(self) -> "MaskFoldersReader":
        if Path(self.root, self.images).is_dir():
            below = str(Path(self.root, self.images)), str(Path(self.root, self.masks))
            pictures, masks = pair(below[0], images.ENDINGS, below[1], images.ENDINGS, self.suffix)
            rows = [[f"{self.images}/{p}", [f"{self.masks}/{m}"]] for p, m in zip(pictures, masks, strict=True)]
        else:
            rows = list(self._by_object())
        return MaskFoldersReader(Blobs(json.dumps(row).encode() for row in rows), self.root)

    def _by_object(self) -> Iterator[list]:
        grouped: dict[str, tuple[list[str], list[str]]] = {}
        for name in walk(self.root, images.ENDINGS):
            parts = name.split("/")
            if len(parts) >= 3 and parts[-2] in (self.images, self.masks):
                group = grouped.setdefault("/".join(parts[:-2]), ([], []))
                group[parts[-2] == self.masks].append(name)
        wrong = [key for key, (pictures, _) in grouped.items() if len(pictures) != 1]
        if wrong:
            raise BadInput(
                f"{len(wrong)} folders in {self.root} do not have one picture in {self.images}/: {first_five(wrong)}"
            )
        rows = [[pictures[0], masks] for pictures, masks in grouped.values() if masks]
        if not rows:
            raise BadInput(
                f"no pictures with masks found in {self.root}: neither {self.images}/ and {self.masks}/ in it, "
                f"nor in folders below it"
            )
        yield from rows


@dataclass(frozen=True)
class MaskFoldersReader(ListedEntries):
    """An entry is [picture, [mask file, ...]]."""

    root: str

    def __getitem__(self, index: int) -> Sample:
        name, found = json.loads(self.entries[index])
        size = images.read_size(Path(self.root, found[0]))
        image = images.read_image(Path(self.root, name), size)

        def decode(i: int) -> np.ndarray:
            mask = images.read_mask(Path(self.root, found[i]))
            images.refuse_size(Path(self.root, found[i]), mask.shape, size)
            return mask

        return uncategorised(image, Masks(name, len(found), decode), name)
