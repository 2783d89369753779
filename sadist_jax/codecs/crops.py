"""Random geometry for training: large-scale jitter, MAE's random-resized crop, flips. NumPy generators go in."""

import math
from typing import NamedTuple

import numpy as np

from sadist_jax.codecs.geometry import Hw, longest_side_shape, pad_to_square, resize_image, resize_mask


class Jitter(NamedTuple):
    """One draw of large-scale jitter: resize to `resized` (h, w), then take `content` (h, w) at `corner` (y, x)."""

    resized: Hw
    corner: tuple[int, int]
    content: Hw


class Box(NamedTuple):
    """A crop in whole pixels."""

    top: int
    left: int
    height: int
    width: int


def sample_jitter(hw: Hw, size: int, rng: np.random.Generator, scale: tuple[float, float] = (0.1, 2.0)) -> Jitter:
    """Draw a large-scale jitter (Ghiasi et al. 2021, arXiv 2012.07177, scale 0.1..2.0).

    The longest side becomes `size` times a uniform draw from `scale`; what is then larger than `size` is cropped at a
    uniform place, what is smaller will be padded.
    """
    resized = longest_side_shape(hw, max(1, round(size * rng.uniform(*scale))))
    content = min(resized[0], size), min(resized[1], size)
    corner = int(rng.integers(0, resized[0] - content[0] + 1)), int(rng.integers(0, resized[1] - content[1] + 1))
    return Jitter(resized, corner, content)


def jitter_image(image: np.ndarray, jitter: Jitter, size: int) -> np.ndarray:
    """uint8 (H, W, 3) -> (size, size, 3), zeros to the right and below of `jitter.content`."""
    return pad_to_square(_cut(resize_image(image, jitter.resized), jitter, (0, 1)), size)


def jitter_masks(masks: np.ndarray, jitter: Jitter, size: int) -> np.ndarray:
    """(..., H, W) -> (..., size, size), in step with `jitter_image`; nearest, so values stay."""
    return pad_to_square(_cut(resize_mask(masks, jitter.resized), jitter, (-2, -1)), size, axes=(-2, -1))


def _cut(array: np.ndarray, jitter: Jitter, axes: tuple[int, int]) -> np.ndarray:
    index = [slice(None)] * array.ndim
    for axis, start, length in zip(axes, jitter.corner, jitter.content, strict=True):
        index[axis] = slice(start, start + length)
    return array[tuple(index)]


def sample_crop(
    hw: Hw,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """Draw the box of a random-resized crop: area uniform in `scale` of the image, aspect w / h log-uniform in `ratio`.

    As torchvision's RandomResizedCrop, with MAE's scale; where ten draws do not fit, the largest centred crop whose
    aspect lies within `ratio`.
    """
    height, width = hw
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return Box(int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w)
    h = min(height, max(1, round(width / ratio[0])))
    w = min(width, max(1, round(height * ratio[1])))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def crop_resized(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """uint8 (H, W, 3) -> the box as (size, size, 3), bicubic and antialiased as in MAE."""
    top, left, height, width = box
    return resize_image(
        np.ascontiguousarray(image[top : top + height, left : left + width]), (size, size), bicubic=True
    )


def random_resized_crop(
    image: np.ndarray, size: int, rng: np.random.Generator, scale: tuple[float, float] = (0.2, 1.0)
) -> np.ndarray:
    """MAE's (and SAMI's) view: `sample_crop`, `crop_resized`, then a flip half of the time. uint8 (size, size, 3)."""
    view = crop_resized(image, sample_crop(image.shape[:2], rng, scale), size)
    return flip(view, axis=1) if rng.random() < 0.5 else view


def cells_of(start: float, stop: float, used: float, cells: int, grid: int) -> np.ndarray:
    """How to resample [start, stop) of a row of `cells` to `grid` cells: (grid, cells) float32, rows sum to 1.

    Antialiased bilinear, the rule of Pillow and `jax.image.resize`: a triangle around each new cell's centre, as wide
    as a new cell or an old one, whichever is larger. Old cells from `used` on (padding) do not count.
    """
    width = (stop - start) / grid
    centres = start + (np.arange(grid) + 0.5) * width
    places = np.arange(cells) + 0.5
    weights = np.maximum(0, 1 - np.abs(places - centres[:, None]) / max(1.0, width))
    weights = np.where(np.arange(cells) < math.ceil(used), weights, 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def flip(array: np.ndarray, axis: int) -> np.ndarray:
    """Left to right along the width axis: 1 for images (H, W, 3), -1 for masks (..., H, W)."""
    return np.ascontiguousarray(np.flip(array, axis))
