"""Kvasir-SEG: polyps in the gut, one mask a picture and a box around each polyp."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax.data import coco_json, images
from sadist_jax.data.listed import ListedEntries
from sadist_jax.data.names import Blobs, refuse_missing
from sadist_jax.data.sample import Masks, Sample, uncategorised
from sadist_jax.errors import BadInput

BOXES = "kavsir_bboxes.json"  # spelled so by the data set
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class KvasirSeg:
    """root/images/NAME.jpg, root/masks/NAME.jpg, and root/kavsir_bboxes.json with the boxes of each NAME.

    Source: Jha et al. 2020, "Kvasir-SEG", arXiv:1911.07069. The mask has all polyps of a picture in it. As in WeSAM
    (Zhang et al. 2024), an instance is what of it lies in one box, the last of several; what lies in none is dropped.
    The masks are JPEGs: True is above half of the largest value, where the release takes all above 0, with their noise.
    """

    root: str

    def open(self) -> "KvasirSegReader":
        path = Path(self.root, BOXES)
        table = coco_json.read_json(path)
        odd = [name for name, row in table.items() if not _is_row(row)]
        coco_json.refuse(path, odd, 'names without a list "bbox" of xmin, ymin, xmax and ymax in whole numbers')
        rows = [
            [f"images/{name}.jpg", f"masks/{name}.jpg", [[box[side] for side in _SIDES] for box in table[name]["bbox"]]]
            for name in sorted(table)
        ]
        if not rows:
            raise BadInput(f"{path} lists no pictures; fetch it again")
        refuse_missing(self.root, (name for row in rows for name in row[:2]), str(path))
        return KvasirSegReader(Blobs(json.dumps(row).encode() for row in rows), self.root)


@dataclass(frozen=True)
class KvasirSegReader(ListedEntries):
    """An entry is [picture, mask, [[x0, y0, x1, y1], ...]]."""

    root: str

    def __getitem__(self, index: int) -> Sample:
        name, mask_name, boxes = json.loads(self.entries[index])
        mask = images.read_mask(Path(self.root, mask_name))
        image = images.read_image(Path(self.root, name), mask.shape)
        owner = np.zeros(mask.shape, np.int32)
        for number, (x0, y0, x1, y1) in enumerate(boxes, 1):
            x, y = np.arange(mask.shape[1]), np.arange(mask.shape[0])[:, None]
            owner[(x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)] = number  # ends included, so no edge is lost (ours)
        polyps = np.where(mask, owner, 0)
        return uncategorised(image, Masks(name, len(boxes), lambda i: polyps == i + 1), name)


def _is_row(row: Any) -> bool:
    boxes = row.get("bbox") if isinstance(row, dict) else None
    return (
        bool(boxes)
        and isinstance(boxes, list)
        and all(isinstance(box, dict) and all(isinstance(box.get(side), int) for side in _SIDES) for box in boxes)
    )
