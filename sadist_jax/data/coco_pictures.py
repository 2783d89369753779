"""Pictures that a COCO file lists, to be labelled, and boxes that somebody has drawn in them; no masks are needed."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sadist_jax.data import coco_json, images
from sadist_jax.data.listed import ListedEntries
from sadist_jax.data.names import Blobs, refuse_missing
from sadist_jax.data.sample import Sample, unlabelled
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class CocoPictures:
    """All images of a COCO file, such as image_info_test-dev2017.json; annotations are not looked at.

    json: the file.
    images_root: folder that every file_name starts from.
    """

    json: str
    images_root: str

    def open(self) -> "CocoPicturesReader":
        return _reader(self.json, self.images_root, coco_json.image_rows(self.json, coco_json.read_json(self.json)))


@dataclass(frozen=True)
class CocoBoxes:
    """All images of a COCO file with its boxes, which become prompts; segmentations need not be there.

    Left out are crowds (iscrowd 1: a box around many objects is no prompt for one) and boxes without a pixel inside
    their image. A box that reaches out of its image is cut off at its edge.

    json: the annotation file. Its annotations have an id of their own and bbox [x, y, width, height].
    images_root: folder that every file_name starts from.
    """

    json: str
    images_root: str

    def open(self) -> "CocoPicturesReader":
        rows, annotations, categories = coco_json.read_tables(self.json)
        coco_json.refuse_unknown_categories(self.json, (a.get("category_id", -1) for a in annotations), categories)
        bare = [f"number {i}" for i, a in enumerate(annotations) if not isinstance(a.get("id"), int | str)]
        coco_json.refuse(self.json, bare, "annotations without an id")
        coco_json.refuse(self.json, _doubles([a["id"] for a in annotations]), "ids that several annotations have")
        odd = [a["id"] for a in annotations if not _is_box(a.get("bbox"))]
        coco_json.refuse(self.json, odd, "annotations whose bbox is not [x, y, width, height] in finite numbers")
        single = [a for a in annotations if not a.get("iscrowd", 0)]
        inside = [a for a in single if corners(a["bbox"], _size(rows[a["image_id"]])) is not None]
        if not inside:
            raise BadInput(f"{self.json} has only crowds and boxes outside their images; there is nothing to label")
        left_out = {"crowds": len(annotations) - len(single), "boxes outside their picture": len(single) - len(inside)}
        boxes: dict[Any, list[dict]] = {key: [] for key in rows}
        for a in inside:
            boxes[a["image_id"]].append({k: v for k, v in a.items() if k not in ("segmentation", "area", "image_id")})
        return _reader(self.json, self.images_root, rows, boxes, tuple(categories.values()), left_out)


@dataclass(frozen=True)
class CocoPicturesReader(ListedEntries):
    """An entry is [picture, row of the image, rows of its boxes].

    categories: of the boxes, as the file has them. left_out: how many annotations of what kind are none of the boxes.
    """

    images_root: str
    categories: tuple[Mapping[str, Any], ...]
    left_out: Mapping[str, int]

    def __getitem__(self, index: int) -> Sample:
        name, row, _ = json.loads(self.entries[index])
        return unlabelled(images.read_image(Path(self.images_root, name), _size(row)), name)

    def row(self, index: int) -> dict[str, Any]:
        """The image as the file has it: id, file_name, height, width, ..."""
        return json.loads(self.entries[index])[1]

    def boxes(self, index: int) -> list[dict[str, Any]]:
        """Annotations to be asked about: id, bbox, category_id and whatever else they have but area and mask."""
        return json.loads(self.entries[index])[2]


def corners(bbox: Any, hw: tuple[int, int]) -> np.ndarray | None:
    """COCO's [x, y, width, height] -> xyxy (4,) float32 in pixel indices, both ends inside; None: not in the image.

    COCO's boxes end behind the last pixel, SAM's at it: of a mask in columns 3 to 6, COCO has x = 3 and width = 4, SAM
    3 and 6 (detections are scored with boxes as they are: data/detections.py). A box without width is one column of
    pixels: SA-1B, which writes width = last - first, has such boxes.

    >>> corners([3, 0, 4, 9], (5, 20)).tolist()
    [3.0, 0.0, 6.0, 4.0]
    """
    x, y, width, height = map(float, bbox)
    x1, y1 = x + max(width - 1, 0), y + max(height - 1, 0)
    if x1 <= -1 or y1 <= -1 or x >= hw[1] or y >= hw[0]:
        return None
    right, bottom = hw[1] - 1, hw[0] - 1
    return np.clip([x, y, x1, y1], 0, [right, bottom, right, bottom]).astype(np.float32)


def _reader(
    path: str,
    root: str,
    rows: Mapping[Any, dict],
    boxes: Mapping[Any, list[dict]] | None = None,
    categories: tuple[Mapping[str, Any], ...] = (),
    left_out: Mapping[str, int] | None = None,
) -> CocoPicturesReader:
    """Checks the file names: labels are written under them."""
    names = [row["file_name"] for row in rows.values()]
    parts = [PurePosixPath(name).parts for name in names]
    stray = [name for name, p in zip(names, parts, strict=True) if not p or p[0].startswith("/") or ".." in p]
    coco_json.refuse(path, stray, "file names that lead out of the folder of the pictures")
    coco_json.refuse(path, _doubles(names), "file names that several images have")
    refuse_missing(root, names, path)
    listed = [[row["file_name"], row, boxes[key] if boxes else []] for key, row in rows.items()]
    entries = Blobs(json.dumps(entry, separators=(",", ":")).encode() for entry in listed)
    return CocoPicturesReader(entries, root, categories, left_out or {})


def _doubles(values: list) -> list:
    return [value for value, times in Counter(values).items() if times > 1]


def _size(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["height"], row["width"]


def _is_box(bbox: Any) -> bool:
    if not isinstance(bbox, list) or len(bbox) != 4:
        return False
    return all(isinstance(n, int | float) and math.isfinite(n) for n in bbox) and min(bbox[2:]) >= 0
