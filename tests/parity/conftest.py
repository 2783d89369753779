"""Stands in for torchvision, of which segment_anything imports four functions and timm, for its data loaders, many.

Holds also what the comparisons share.

torchvision would tie torch to one build of it for the sake of these few lines. `resize` and `to_pil_image` are what
torchvision does with a NumPy image: Pillow's bilinear filter (antialiased).
"""

import importlib
import importlib.abc
import importlib.machinery
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


def _batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
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
        left = left[~(iou > iou_threshold) | (idxs[left] != idxs[best])]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long)


USED = {
    "torchvision.ops.boxes": {"batched_nms": _batched_nms, "box_area": _box_area},
    "torchvision.transforms.functional": {"resize": _resize, "to_pil_image": PIL.Image.fromarray},
}


class _Named(type):
    """Every attribute of such a class is its own name: an enumeration of whatever is asked for."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Module(types.ModuleType):
    """A module that has what is in USED, and an empty class of any other name."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Named(name, (), {})


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path, target=None):
        if fullname.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        vars(module).update(USED.get(module.__name__, {}))


if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.insert(0, finder := _StandIn())
    for name in ("segment_anything", "timm.models.tiny_vit"):
        importlib.import_module(name)
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # others ask whether torchvision is there


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """(400, 600, 3) uint8: scikit-image's cup of coffee."""
    return skimage.data.coffee()
