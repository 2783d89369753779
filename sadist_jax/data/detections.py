"""Boxes that a detector found: COCO's results file, as ViTDet writes it and TinySAM publishes it.

The file is a list of {"image_id", "category_id", "bbox": [x, y, w, h], "score"}; other keys do not count.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sadist_jax.data.coco_json import parse, refuse
from sadist_jax.errors import BadInput

LARGEST = 1e6  # pixels, or a score; beyond it a number is damage


class Boxes(NamedTuple):
    """What was found in one image, in the file's order.

    xyxy: float64 (n, 4) pixels, within the image: a box of all of it is (0, 0, width, height).
    scores: float64 (n,). categories: int64 (n,), the data set's own ids.
    """

    xyxy: np.ndarray
    scores: np.ndarray
    categories: np.ndarray

    @property
    def empty(self) -> np.ndarray:
        """bool (n,): without width or height, or wholly outside of the image."""
        return (self.xyxy[:, 2] <= self.xyxy[:, 0]) | (self.xyxy[:, 3] <= self.xyxy[:, 1])

    def take(self, which: np.ndarray) -> "Boxes":
        """Those at the positions `which`, or where it is true."""
        return Boxes(self.xyxy[which], self.scores[which], self.categories[which])


NO_BOXES = Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


def read_boxes(path: str | Path, images: Mapping[Any, Mapping], categories: Collection[Any]) -> dict[Any, Boxes]:
    """Image id -> its boxes, clipped to the image; images without any are left out.

    Detectors put corners a fraction of a pixel outside; clipping mends that, and what it leaves empty stays in the list
    as `Boxes.empty`, so that whoever drops it can count it.

    Args:
      path: the results file.
      images: id -> row with "height" and "width", of the annotation file (`coco_json.read_tables`).
      categories: ids of the annotation file; none: all are accepted.
    Raises:
      BadInput: no list of such objects or an empty one, numbers that are none (NaN) or absurd, negative sizes, images
        and categories that the annotation file does not have; with count and first five.
    """
    rows = _read_rows(path)
    unknown = {row["image_id"] for row in rows if row["image_id"] not in images}
    refuse(path, sorted(unknown, key=str), "image ids that the annotation file does not have")
    strange = {row["category_id"] for row in rows if categories and row["category_id"] not in categories}
    refuse(path, sorted(strange, key=str), "category ids that the annotation file does not have")
    grouped: dict[Any, list[dict]] = {}
    for row in rows:
        grouped.setdefault(row["image_id"], []).append(row)
    return {key: _boxes(some, images[key]["height"], images[key]["width"]) for key, some in grouped.items()}


def _boxes(rows: list[dict], height: int, width: int) -> Boxes:
    xywh = np.array([row["bbox"] for row in rows], np.float64)
    corners = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
    clipped = np.clip(corners, 0, [width, height, width, height])
    scores = np.array([row["score"] for row in rows], np.float64)
    return Boxes(clipped, scores, np.array([row["category_id"] for row in rows], np.int64))


def _read_rows(path: str | Path) -> list[dict]:
    """The list, each row checked by itself."""
    rows = parse(path, "detections file")
    if not isinstance(rows, list):
        raise BadInput(f"{path} holds a {type(rows).__name__}, not a list of detections; give COCO's results format")
    if not rows:
        raise BadInput(f"{path} holds no detections; give a detector's results")
    numbers = {i: row for i, row in enumerate(rows)}
    without = [f"number {i}" for i, row in numbers.items() if not _is_detection(row)]
    refuse(path, without, "detections without an image_id, a whole category_id, a bbox and a score")
    bent = [f"number {i}" for i, row in numbers.items() if not _is_box(row["bbox"])]
    refuse(path, bent, "detections whose bbox is not [x, y, w, h] in finite pixels with w and h of 0 or more")
    refuse(path, [f"number {i}" for i, row in numbers.items() if not _is_number(row["score"])], "scores that are none")
    return rows


def _is_detection(row: Any) -> bool:
    if not isinstance(row, dict) or "bbox" not in row or "score" not in row:
        return False
    category = row.get("category_id")
    return isinstance(row.get("image_id"), int | str) and isinstance(category, int) and abs(category) < 2**63


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST  # NaN is not
