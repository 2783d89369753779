"""Masks for the boxes that an annotation file has: what costs a person seconds a box becomes a segmentation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sadist_jax.codecs import rle
from sadist_jax.codecs.prompts import Prediction, Prompt
from sadist_jax.data.coco_pictures import corners
from sadist_jax.predict.predictor import PROMPTS, Predictor

PIXELS = 2**27  # of all masks that are decoded at once, 4 bytes each: for large photos fewer boxes are


def masks_of_boxes(
    predictor: Predictor, image: np.ndarray, annotations: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The annotations, each with the surest mask for its bbox.

    Args:
      predictor: whose image becomes this one.
      image: uint8 RGB (H, W, 3).
      annotations: rows with bbox, COCO's [x, y, width, height] in pixels of the image, in part inside it.

    Returns: the rows with iscrowd, segmentation (compressed RLE), area (its pixels) and predicted_iou; all else, bbox
      too, is what it was. Where the model sees nothing, the mask is empty.
    """
    if not annotations:
        return []
    predictor.set_image(image)
    boxes = [corners(annotation["bbox"], image.shape[:2]) for annotation in annotations]
    records = []
    for annotation, prediction in zip(annotations, _ask(predictor, boxes, image.shape[:2]), strict=True):
        best = prediction.best
        found = {"segmentation": rle.compress(rle.encode(best)), "area": int(best.sum())}
        records.append({"iscrowd": 0, **annotation, **found, "predicted_iou": float(prediction.ious.max())})
    return records


def _ask(predictor: Predictor, boxes: Sequence[np.ndarray | None], hw: tuple[int, int]) -> Iterator[Prediction]:
    many = min(PROMPTS, 1 << max(1, PIXELS // (3 * hw[0] * hw[1])).bit_length() - 1)
    for start in range(0, len(boxes), many):
        yield from predictor.predict_many([Prompt(box=box) for box in boxes[start : start + many]])
