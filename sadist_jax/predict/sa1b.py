"""Records of masks as SA-1B writes them: a JSON beside each picture, which data.sa1b reads."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sadist_jax.codecs import rle
from sadist_jax.codecs.prompts import Prompt, box_of
from sadist_jax.errors import BadInput


def annotation_file(image: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Content of the JSON of one picture; masks become compressed RLE, records without an id get 1, 2, ..."""
    numbered = enumerate(records, 1)
    return {"image": dict(image), "annotations": [{"id": i, **record, **_compressed(record)} for i, record in numbered]}


def described(name: str, hw: tuple[int, int], image_id: int = 0) -> dict[str, Any]:
    """The "image" of such a file, for a picture `name` of (height, width) `hw`."""
    return {"image_id": image_id, "width": hw[1], "height": hw[0], "file_name": name}


def prompted_record(prompt: Prompt, mask: np.ndarray, iou: float) -> dict[str, Any]:
    """Record of a mask bool (H, W) that a prompt was answered with: everything mode's, but what only that knows.

    bbox is SAM's XYWH, width = last - first; all zeros where the mask is empty. Clicks are in point_coords and
    point_labels, the box, xyxy, in box_prompt.
    """
    area = int(mask.sum())
    x0, y0, x1, y1 = map(int, box_of(mask)) if area else (0, 0, 0, 0)
    record = {"segmentation": mask, "area": area, "bbox": [x0, y0, x1 - x0, y1 - y0], "predicted_iou": float(iou)}
    if prompt.points is not None:
        labels = np.ones(len(prompt.points)) if prompt.labels is None else np.asarray(prompt.labels)
        record |= {
            "point_coords": np.asarray(prompt.points, float).tolist(),
            "point_labels": labels.astype(int).tolist(),
        }
    return record if prompt.box is None else record | {"box_prompt": np.asarray(prompt.box, float).tolist()}


def label_map(image: tuple[int, int], records: Iterable[Mapping[str, Any]]) -> np.ndarray:
    """uint16 (height, width): 0 where no mask is, i for the i-th record; the smaller of two is on top."""
    labels, numbered = np.zeros(image, np.uint16), list(enumerate(records, 1))
    if len(numbered) > np.iinfo(labels.dtype).max:
        raise BadInput(f"{len(numbered)} masks do not fit a 16-bit map; raise the thresholds, or write SA-1B's JSON")
    for i, record in sorted(numbered, key=lambda pair: -pair[1]["area"]):
        labels[_pixels(record["segmentation"])] = i
    return labels


def _pixels(segmentation: Any) -> np.ndarray:
    return rle.decode(segmentation).astype(bool) if isinstance(segmentation, Mapping) else segmentation


def _compressed(record: Mapping[str, Any]) -> dict[str, Any]:
    found = record["segmentation"]
    return {"segmentation": rle.compress(found if isinstance(found, Mapping) else rle.encode(found))}
