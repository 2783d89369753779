"""COCO panoptic segmentation: one PNG of segment ids per image, and a JSON that lists the segments."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax.codecs.geometry import Hw
from sadist_jax.data import coco_json, images
from sadist_jax.data.listed import ListedEntries
from sadist_jax.data.names import Blobs, refuse_missing
from sadist_jax.data.sample import Masks, Sample
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class CocoPanoptic:
    """Segments of a COCO panoptic file, such as annotations/panoptic_train2017.json with its folder of PNGs.

    Each annotation has file_name (the PNG) and segments_info with id, category_id, iscrowd; a pixel belongs to segment
    R + 256 G + 65536 B. Things and stuff both become instances.

    json: the annotation file.
    png_root: folder of the PNGs.
    images_root: folder that the file_name of every image starts from.
    things_only: leave out the segments whose category has isthing 0.
    """

    json: str
    png_root: str
    images_root: str
    things_only: bool = False

    def open(self) -> "CocoPanopticReader":
        table, annotations, categories = coco_json.read_tables(self.json)
        broken = [a.get("image_id", "?") for a in annotations if not _is_annotation(a)]
        coco_json.refuse(self.json, broken, "annotations without file_name or segments_info")
        segments = [s for a in annotations for s in a["segments_info"]]
        coco_json.refuse_unknown_categories(self.json, (s.get("category_id", -1) for s in segments), categories)
        entries = Blobs(self._entries(table, annotations, categories))
        if not len(entries):
            raise BadInput(f"{self.json} has no segments that are not crowds; there is nothing to learn from it")
        reader = CocoPanopticReader(entries, self.json, self.png_root, self.images_root)
        refuse_missing(self.images_root, (name for name, _, _, _ in reader.rows()), self.json)
        refuse_missing(self.png_root, (png for _, png, _, _ in reader.rows()), self.json)
        return reader

    def _entries(self, table: dict[Any, dict], annotations: list[dict], categories: dict[Any, dict]) -> Iterator[bytes]:
        stuff = {key for key, row in categories.items() if not row.get("isthing", 1)} if self.things_only else set()
        for a in annotations:
            found = [[s["id"], bool(s.get("iscrowd", 0)), s.get("category_id", -1)] for s in a["segments_info"]]
            found = [row for row in found if row[2] not in stuff]
            if any(not crowd for _, crowd, _ in found):
                image = table[a["image_id"]]
                size = [image["height"], image["width"]]
                yield json.dumps([image["file_name"], a["file_name"], size, found], separators=(",", ":")).encode()


@dataclass(frozen=True)
class CocoPanopticReader(ListedEntries):
    """An entry is [picture, PNG, [h, w], [[segment id, iscrowd, category], ...]]."""

    json: str
    png_root: str
    images_root: str

    def __getitem__(self, index: int) -> Sample:
        name, png, size, found = json.loads(self.entries[index])
        image = images.read_image(Path(self.images_root, name), tuple(size))
        ids = _read_ids(Path(self.png_root, png), tuple(size))

        def decode(i: int) -> np.ndarray:
            mask = ids == found[i][0]
            if not mask.any():
                raise BadInput(
                    f"{Path(self.png_root, png)} has no pixel of segment {found[i][0]} that {self.json} lists"
                )
            return mask

        iscrowd = np.array([crowd for _, crowd, _ in found], bool)
        category = np.array([category for _, _, category in found], np.int64)
        return Sample(image, Masks(name, len(found), decode), iscrowd, category, name)

    def rows(self) -> Iterator[list]:
        return (json.loads(self.entries[i]) for i in range(len(self)))


def _read_ids(path: Path, size: Hw) -> np.ndarray:
    ids = images.read_panoptic(path)
    images.refuse_size(path, ids.shape, size)
    return ids


def _is_annotation(row: dict) -> bool:
    segments = row.get("segments_info")
    whole = isinstance(segments, list) and all(isinstance(s, dict) and isinstance(s.get("id"), int) for s in segments)
    return whole and isinstance(row.get("file_name"), str)
