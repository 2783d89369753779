"""Average precision of instance masks as the benchmarks define it, computed by hotcoco.

COCO (Lin et al. 2014, cocodataset/cocoapi): the mean over categories and over IoU thresholds 0.50, 0.55, ..., 0.95 of
precision at 101 recalls; at most 100 masks per image and category count; crowds may absorb any number of masks. LVIS
(Gupta et al. 2019, lvis-dataset/lvis-api): the same with at most 300 masks per image, and a category counts in an image
only where it was annotated or its absence was verified. Sizes are the areas of masks: 32^2 and 96^2 pixels.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, Literal

import numpy as np

from sadist_jax.codecs import rle
from sadist_jax.data import coco_json
from sadist_jax.errors import BadInput

Benchmark = Literal["coco", "lvis"]
FREQUENCIES = {"f": "frequent", "c": "common", "r": "rare"}  # of LVIS's categories: images of training with one
_VERIFIED = ("neg_category_ids", "not_exhaustive_category_ids")


def load_hotcoco() -> Any:
    """The library. Raises BadInput where it is not installed."""
    try:
        import hotcoco
    except ModuleNotFoundError:
        raise BadInput("average precision and recall need hotcoco; pip install sadist_jax[eval]") from None
    return hotcoco


def average_precision(
    annotations: str, benchmark: Benchmark, images: Collection[Any], masks: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """AP, AP50, AP75, APs, APm, APl of some images, for LVIS also APr, APc and APf; 0 to 1.

    A number for which there is no ground truth (no rare category in these images, only crowds, nothing at all) is left
    out; the official programs print -1.

    Args:
      annotations: the annotation file.
      benchmark: whose rules.
      images: ids of those that were looked at; annotations of others do not count.
      masks: COCO results {"image_id", "category_id", "score", "segmentation": RLE}, of these images. They have no
        "bbox": the official programs would take its area for the mask's. Among equal scores, the first comes first.
    Raises:
      BadInput: the annotation file has no categories, areas, or LVIS's lists where LVIS is asked for, or a broken mask.
    """
    # Numbered anew from 1, in the order of the ids: ties between images are broken by it, and id 0 means "no match"
    # inside COCO's program.
    numbers = {key: i for i, key in enumerate(sorted(set(images), key=lambda key: (isinstance(key, str), key)), 1)}
    hotcoco = load_hotcoco()
    truth = hotcoco.COCO(_ground_truth(annotations, benchmark, numbers))
    found = truth.load_res([{**mask, "image_id": numbers[mask["image_id"]]} for mask in masks])
    evaluation = hotcoco.COCOeval(truth, found, "segm", lvis_style=benchmark == "lvis")
    with redirect_stdout(StringIO()):  # it prints its table
        evaluation.run()
    results = evaluation.get_results()
    return {key: results[key] for key in evaluation.metric_keys() if key.startswith("AP") and results[key] >= 0}


def frequencies(annotations: str, categories: Mapping[Any, Mapping]) -> dict[Any, str]:
    """Category id -> "frequent", "common" or "rare", of LVIS's file. Raises BadInput where there are no frequencies."""
    without = [key for key, row in categories.items() if row.get("frequency") not in FREQUENCIES]
    coco_json.refuse(annotations, without, "categories without a frequency (r, c or f), which LVIS has")
    return {key: FREQUENCIES[row["frequency"]] for key, row in categories.items()}


def _ground_truth(path: str, benchmark: Benchmark, numbers: Mapping[Any, int]) -> dict[str, list[dict]]:
    """COCO's tables of some images, with what the evaluation reads and nothing else."""
    table, annotations, categories = coco_json.read_tables(path)
    if not categories:
        raise BadInput(f"{path} has no categories, over which average precision is a mean; give the benchmark's file")
    coco_json.refuse_unknown_categories(path, (row.get("category_id") for row in annotations), categories)
    ours = [row for row in annotations if row["image_id"] in numbers and row["category_id"] in categories]
    without = [row.get("id", "?") for row in ours if not isinstance(row.get("area"), int | float)]
    coco_json.refuse(path, without, "annotations without an area")
    kept, extra = ["id", "height", "width"], ["id", "name"]
    if benchmark == "lvis":
        frequencies(path, categories)
        bare = [key for key in numbers if not all(isinstance(table[key].get(name), list) for name in _VERIFIED)]
        coco_json.refuse(path, bare, f"images without {' or '.join(_VERIFIED)}, which LVIS has")
        kept, extra = [*kept, *_VERIFIED], [*extra, "frequency"]
    images = [{name: table[key][name] for name in kept} | {"id": number} for key, number in numbers.items()]
    return {
        "images": images,
        "annotations": [_instance(path, i, row, table, numbers) for i, row in enumerate(ours, 1)],
        "categories": [{"name": "", **{k: v for k, v in row.items() if k in extra}} for row in categories.values()],
    }


def _instance(path: str, number: int, row: dict, table: Mapping[Any, dict], numbers: Mapping[Any, int]) -> dict:
    key, source = row["image_id"], f"annotation {row.get('id', '?')} of {path}"
    size = [table[key]["height"], table[key]["width"]]
    return {
        "id": number,
        "image_id": numbers[key],
        "category_id": row["category_id"],
        "iscrowd": int(row.get("iscrowd", 0)),
        "area": row["area"],
        "segmentation": _checked(row.get("segmentation"), size, source),
    }


def _checked(segmentation: Any, size: list[int], source: str) -> Any:
    """As it was: hotcoco takes broken masks for empty ones without a word."""
    if isinstance(segmentation, dict):
        found = rle.compress(segmentation, source)
        if found["size"] != size:
            raise BadInput(f"{source} is for a mask of {found['size']}, but its image is {size} (h x w); correct it")
        return found
    if not segmentation or not isinstance(segmentation, list) or not all(map(_is_outline, segmentation)):
        raise BadInput(f"{source} has no outlines of at least 3 points [x0, y0, x1, y1, ...] and no RLE; correct it")
    return segmentation


def _is_outline(part: Any) -> bool:
    try:
        return len(part) >= 6 and len(part) % 2 == 0 and bool(np.isfinite(np.asarray(part, np.float64)).all())
    except (TypeError, ValueError):
        return False
