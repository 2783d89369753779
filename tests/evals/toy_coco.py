"""A small data set in COCO's and LVIS's formats, with a detector's boxes; drawn the same everywhere, forever.

(`random.Random.random` is promised to stay as it is; numpy's streams are not.)
"""

import random

import numpy as np
from pycocotools import mask as reference

from tests.data.made import corners, rectangle

IDS = (250, 3, 17, 40, 9, 5, 80, 81)  # not in order, as COCO's are not
CATEGORIES = (1, 7, 9, 20, 90)
NO_OBJECTS, NO_BOXES, ONLY_CROWD = 40, 9, 80
CROWDED = 3  # more boxes than count
SIDES = (20, 60, 130, 25, 70, 120, 12)  # pixels, at most, of the objects of an image


def code(mask: np.ndarray) -> dict:
    """RLE by pycocotools."""
    found = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def runs(mask: np.ndarray) -> dict:
    """Uncompressed RLE."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


class Toy:
    """annotations, detections: what the files hold."""

    def __init__(self, seed: int = 0):
        self.random = random.Random(seed)
        self.images = [
            {"id": i, "file_name": f"{i}.png", "height": self._below(40) + 140, "width": self._below(60) + 160}
            for i in IDS
        ]
        self.objects: list[dict] = []
        self.detections: list[dict] = []
        for image in self.images:
            self._fill(image)
        self.detections.sort(key=lambda _: self.random.random())
        categories = [{"id": i, "name": f"c{i}", "frequency": f} for i, f in zip(CATEGORIES, "rcfcf", strict=True)]
        self.annotations = {"images": self.images, "annotations": self.objects, "categories": categories}

    def lvis(self) -> dict:
        """With what LVIS adds, and without what it leaves out."""
        images = []
        for image in self.images:
            there = {o["category_id"] for o in self.objects if o["image_id"] == image["id"]}
            absent = [c for c in CATEGORIES if c not in there and self._below(2)]
            partly = [c for c in sorted(there) if self._below(3) == 0]
            url = "http://images.cocodataset.org/val2017/" + image["file_name"]
            row = {k: image[k] for k in ("id", "height", "width")} | {"coco_url": url}
            images.append(row | {"neg_category_ids": absent, "not_exhaustive_category_ids": partly})
        objects = [{k: v for k, v in o.items() if k != "iscrowd"} for o in self.objects if not o["iscrowd"]]
        return self.annotations | {"images": images, "annotations": objects}

    def _below(self, n: int) -> int:
        return int(self.random.random() * n)

    def _fill(self, image: dict) -> None:
        sides = SIDES if image["id"] not in (NO_OBJECTS, ONLY_CROWD) else ()
        boxes = [self._box(image, side - self._below(side // 3)) for side in sides]
        known = [(box, self._object(image, box, number)) for number, box in enumerate(boxes)]
        if image["id"] in (ONLY_CROWD, 17, 81):
            self._crowd(image)
        if image["id"] == NO_BOXES:
            return
        for box, category in known:
            self._detection(image, box, category if self._below(8) else self._category(), 6)
        for _ in range(330 if image["id"] == CROWDED else 4):
            self._detection(image, self._box(image, 5 + self._below(60)), self._category(), 0)

    def _box(self, image: dict, side: int) -> tuple[int, int, int, int]:
        wide, tall = min(image["width"], side + self._below(9)), min(image["height"], side + self._below(9))
        x, y = self._below(image["width"] - wide), self._below(image["height"] - tall)
        return x, y, x + wide, y + tall

    def _object(self, image: dict, box: tuple[int, int, int, int], number: int) -> int:
        """Its category."""
        x0, y0, x1, y1 = box
        area, size = float((x1 - x0) * (y1 - y0)), (image["height"], image["width"])
        if number % 3 == 0:
            return self._add(image, code(rectangle(size, *box)), area, 0)
        if number % 3 == 1:
            return self._add(image, [corners(*box)], area, 0)
        middle, low = (x0 + x1) / 2, y1 - 0.37  # two parts, off the pixel grid; COCO's areas are of outlines
        parts = [[x0 + 0.21, y0, middle, y0, middle, y1, x0, low], [middle, y0, x1, y0, x1, y1 - 0.5]]
        return self._add(image, parts, area - 0.25, 0)

    def _crowd(self, image: dict) -> None:
        mask = rectangle((image["height"], image["width"]), 10, 20, 90, 70)
        self._add(image, runs(mask), float(mask.sum()), 1)

    def _add(self, image: dict, segmentation, area: float, crowd: int) -> int:
        row = {"id": len(self.objects) + 1, "image_id": image["id"], "category_id": self._category()}
        self.objects.append(row | {"iscrowd": crowd, "area": area, "segmentation": segmentation, "bbox": [0, 0, 1, 1]})
        return row["category_id"]

    def _category(self) -> int:
        return CATEGORIES[self._below(len(CATEGORIES))]

    def _detection(self, image: dict, box: tuple[int, int, int, int], category: int, least: int) -> None:
        """A little off; many scores are equal."""
        x0, y0, x1, y1 = (v + self._below(3) / 2 for v in box)
        x1, y1 = min(x1, image["width"]), min(y1, image["height"])
        row = {"image_id": image["id"], "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        self.detections.append(row | {"score": (least + self._below(10)) / 16})


def answer(box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What the toy model answers to a box xyxy: three masks (3, h, w) around it, and how sure it is of each (3,)."""
    x0, y0, x1, y1 = (int(v) for v in box)
    inset = max(0, (x1 - x0) // 8)
    masks = [(x0, y0, x1, y1), (x0 + inset, y0, x1 - inset, y1), (x0, y0, x1, y1 - (y1 - y0) // 4)]
    return np.stack([rectangle(size, *mask) for mask in masks]), np.roll([0.9, 0.7, 0.5], (x0 + y0) % 3)


def results(toy: Toy, images: tuple[int, ...] = IDS) -> list[dict]:
    """COCO results, by pycocotools: for each box the mask that the toy model is surest of."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in toy.images}
    found = []
    for row in toy.detections:
        if row["image_id"] in images:
            x, y, w, h = row["bbox"]
            masks, ious = answer(np.array([x, y, x + w, y + h]), sizes[row["image_id"]])
            found.append({k: v for k, v in row.items() if k != "bbox"} | {"segmentation": code(masks[ious.argmax()])})
    return found
