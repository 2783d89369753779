"""Pictures of one folder, and their binary masks in a folder that other pictures share."""

import json
from dataclasses import dataclass
from pathlib import Path

from sadist_jax.data import images
from sadist_jax.data.mask_folders import MaskFoldersReader
from sadist_jax.data.names import Blobs, first_five, stem, walk
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class SharedMasks:
    """root/images/1.jpg with root/masks/1.png, where root/masks has the masks of other pictures too, as in CAMO.

    A mask is True above half of its file's largest value. Pictures without a mask are left out, as are masks without a
    picture; where no masks but these are there, `mask_folders.MaskFolders` notices what is missing.

    images, masks: the two folders below root, e.g. "Images/Train" and "GT".
    """

    root: str
    images: str
    masks: str

    def open(self) -> MaskFoldersReader:
        pictures = walk(str(Path(self.root, self.images)), images.ENDINGS)
        masks: dict[str, str] = {}
        for name in walk(str(Path(self.root, self.masks)), images.ENDINGS):
            if stem(name) in masks:
                raise BadInput(f"{self.root}/{self.masks} has {masks[stem(name)]} and {name}; rename or remove one")
            masks[stem(name)] = name
        rows = [[f"{self.images}/{p}", [f"{self.masks}/{masks[stem(p)]}"]] for p in pictures if stem(p) in masks]
        if not rows:
            raise BadInput(
                f"none of {len(pictures)} pictures in {self.root}/{self.images} has a mask of its name in "
                f"{self.masks}: {first_five(pictures)}; check the two folders"
            )
        return MaskFoldersReader(Blobs(json.dumps(row).encode() for row in rows), self.root)
