"""Stands in for torchvision, of which segment_anything imports four functions, and holds what the comparisons share.

torchvision would tie torch to one build of it for the sake of these few lines. `resize` and `to_pil_image` are what
torchvision does with a NumPy image: Pillow's bilinear filter (antialiased).
"""

import importlib
import importlib.util
import sys
import types

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch


def _resize(image: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    return image.resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR)


def _box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _batched_nms(boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, threshold: float) -> torch.Tensor:
    """Greedy suppression within each group; indices of what stays, best first."""
    left = torch.argsort(scores, descending=True, stable=True)
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[left, :2])
        high = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        inter = (high - low).clamp(min=0).prod(1)
        iou = inter / (_box_area(boxes[best][None]) + _box_area(boxes[left]) - inter)
        left = left[(iou <= threshold) | (groups[left] != groups[best])]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long)


STAND_IN = {
    "torchvision": {},
    "torchvision.ops": {},
    "torchvision.ops.boxes": {"batched_nms": _batched_nms, "box_area": _box_area},
    "torchvision.transforms": {},
    "torchvision.transforms.functional": {"resize": _resize, "to_pil_image": PIL.Image.fromarray},
}

if importlib.util.find_spec("torchvision") is None:
    for name, members in STAND_IN.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
    importlib.import_module("segment_anything")
    for name in STAND_IN:  # others ask whether torchvision is there
        del sys.modules[name]


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """(400, 600, 3) uint8: scikit-image's cup of coffee."""
    return skimage.data.coffee()
