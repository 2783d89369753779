"""Records of everything mode as SA-1B writes them: a JSON beside each picture, which data.sa1b reads."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sadist_jax.codecs import rle
from sadist_jax.errors import BadInput


def annotation_file(
    name: str, image: tuple[int, int], records: Iterable[Mapping[str, Any]], image_id: int = 0
) -> dict[str, Any]:
    """Content of the JSON for a picture `name` of (height, width) `image`; masks become compressed RLE."""
    height, width = image
    described = {"image_id": image_id, "width": width, "height": height, "file_name": name}
    numbered = enumerate(records, 1)
    return {"image": described, "annotations": [{"id": i, **record, **_compressed(record)} for i, record in numbered]}


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
