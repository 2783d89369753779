"""COCO instance segmentation: polygons of several parts, RLE of both kinds, crowds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sadist_jax.codecs import polygons, rle
from sadist_jax.data import coco_json, images
from sadist_jax.data.listed import ListedEntries
from sadist_jax.data.names import Blobs, refuse_missing
from sadist_jax.data.sample import Masks, Sample
from sadist_jax.errors import BadInput


@dataclass(frozen=True)
class CocoInstances:
    """Instances of a COCO file, such as annotations/instances_train2017.json with the folder train2017.

    "segmentation" is a list of polygons [x0, y0, x1, y1, ...] (all parts of one object) or an RLE object, compressed
    or not. A crowd (iscrowd 1) stays one instance and is marked as such. LVIS and YOLO exports in COCO's format work.

    json: the annotation file.
    images_root: folder that every file_name starts from.
    keep_empty: also give images without a single object that is not a crowd (for evaluation); training skips them.
    """

    json: str
    images_root: str
    keep_empty: bool = False

    def open(self) -> "CocoInstancesReader":
        table, annotations, categories = coco_json.read_tables(self.json)
        coco_json.refuse_unknown_categories(self.json, (a.get("category_id", -1) for a in annotations), categories)
        bare = [a.get("id", "?") for a in annotations if not a.get("segmentation")]
        coco_json.refuse(self.json, bare, "annotations without a segmentation")
        grouped: dict[Any, list] = {i: [] for i in table}
        for number, a in enumerate(annotations):
            category, key = a.get("category_id", -1), a.get("id", f"number {number}")
            grouped[a["image_id"]].append([a["segmentation"], bool(a.get("iscrowd", 0)), category, key])
        entries = Blobs(self._entries(table, grouped))
        if not len(entries):
            raise BadInput(f"{self.json} has only crowds; there is nothing to learn from it")
        reader = CocoInstancesReader(entries, self.json, self.images_root)
        refuse_missing(self.images_root, map(reader.name, range(len(reader))), self.json)
        return reader

    def _entries(self, table: dict[Any, dict], grouped: dict[Any, list]) -> Iterator[bytes]:
        for key, image in table.items():
            if self.keep_empty or any(not crowd for _, crowd, _, _ in grouped[key]):
                entry = [image["file_name"], [image["height"], image["width"]], grouped[key]]
                yield json.dumps(entry, separators=(",", ":")).encode()


@dataclass(frozen=True)
class CocoInstancesReader(ListedEntries):
    """An entry is [picture, [h, w], [[segmentation, iscrowd, category, id], ...]]."""

    json: str
    images_root: str

    def __getitem__(self, index: int) -> Sample:
        name, size, found = json.loads(self.entries[index])
        image = images.read_image(Path(self.images_root, name), tuple(size))

        def decode(i: int) -> np.ndarray:
            segmentation, _, _, key = found[i]
            source = f"annotation {key} of {self.json}"
            if isinstance(segmentation, dict):
                return rle.decode(segmentation, size, source)
            return polygons.to_mask(segmentation, tuple(size), source)

        iscrowd = np.array([crowd for _, crowd, _, _ in found], bool)
        category = np.array([category for _, _, category, _ in found], np.int64)
        return Sample(image, Masks(name, len(found), decode), iscrowd, category, name)
