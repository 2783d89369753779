"""Prompts without a person: of each mask that everything mode keeps, its box and the click that found it.

Source: Zhang et al. 2024, arXiv:2312.03502 (WeSAM), "fully automatic": a dense grid of clicks on the model as it was,
its unsure and unstable masks and doubles dropped, and prompts derived from those that stay, fixed for all branches and
all of the training; there is no released code of it. Ours, where the paper is silent: which prompt a mask becomes, and
the thresholds, segment-anything's (predict/grid.py).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sadist_jax.codecs import rle


def prompts_of(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What data/weak_prompts.py reads for one image: {"box": [x0, y0, x1, y1], "points": [[x, y]]} of each mask.

    Args:
      records: everything mode's, masks as compressed RLE: bbox XYWH with w = last - first, point_coords [[x, y]] in
        pixels of the image.

    Returns: boxes with their ends included; a click that is not on its own mask is left out, so that box and click
      never contradict each other.
    """
    return [_prompt(record) for record in records]


def _prompt(record: Mapping[str, Any]) -> dict[str, Any]:
    x, y, width, height = record["bbox"]
    prompt: dict[str, Any] = {"box": [x, y, x + width, y + height]}
    mask = rle.decode(record["segmentation"])
    column, row = np.rint(record["point_coords"][0]).astype(int)  # a pixel's centre is at its whole number
    inside = row < mask.shape[0] and column < mask.shape[1] and mask[row, column]
    return prompt | ({"points": record["point_coords"]} if inside else {})
