"""Where pixels go: resize by the longest side, pad, and carry masks and points along.

Frames: the *original* frame is the image as read; the *padded S frame* has the longest side resized to S, the content
at the top left and zeros to the right and below. Coordinates are xy; pixel (0, 0) has its centre at 0 (official SAM).
"""

import numpy as np
from PIL import Image

Hw = tuple[int, int]  # (height, width)


def longest_side_shape(hw: Hw, target: int) -> Hw:
    """(h, w) with the longest side `target`: int(side * scale + 0.5), as segment-anything's ResizeLongestSide.

    A side never falls below 1 (the reference would make an empty image of a 1 x 5000 strip).
    """
    scale = target / max(hw)
    return max(1, int(hw[0] * scale + 0.5)), max(1, int(hw[1] * scale + 0.5))


def resize_image(image: np.ndarray, hw: Hw, bicubic: bool = False) -> np.ndarray:
    """uint8 (H, W, 3) -> (h, w, 3) by Pillow, antialiased; bilinear as in official SAM, bicubic as in MAE."""
    if image.shape[:2] == tuple(hw):
        return image
    how = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((hw[1], hw[0]), how))


def resize_without_antialias(image: np.ndarray, hw: Hw) -> np.ndarray:
    """uint8 (H, W, 3) -> float32 (h, w, 3) in 0..255: bilinear at source position (i + 0.5) * H / h - 0.5, clamped.

    EfficientSAM's released `forward` does so, by torch's interpolate: in reducing, pixels that are not among the four
    nearest do not count.
    """
    return _blend(_blend(image.astype(np.float32), hw[0], 0), hw[1], 1)


def _blend(array: np.ndarray, new: int, axis: int) -> np.ndarray:
    last = array.shape[axis] - 1
    place = np.clip((np.arange(new) + 0.5) * (last + 1) / new - 0.5, 0, last)
    before = place.astype(int)
    share = np.expand_dims((place - before).astype(np.float32), [a for a in range(array.ndim) if a != axis])
    return array.take(before, axis) * (1 - share) + array.take(np.minimum(before + 1, last), axis) * share


def resize_mask(mask: np.ndarray, hw: Hw) -> np.ndarray:
    """(..., H, W) -> (..., h, w), nearest pixel centre: output pixel i takes input pixel floor((i + 0.5) * H / h).

    The rule of Pillow's NEAREST and torch's "nearest-exact", but in whole numbers: their float steps can fall on either
    side where the place is exactly between two pixels.
    """
    rows, columns = _nearest(mask.shape[-2], hw[0]), _nearest(mask.shape[-1], hw[1])
    return mask[..., rows[:, None], columns]


def _nearest(old: int, new: int) -> np.ndarray:
    return (2 * np.arange(new) + 1) * old // (2 * new)


def pad_to_square(array: np.ndarray, size: int, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
    """Zeros to the right and below until `axes` (height, width) are `size`: (0, 1) images, (-2, -1) stacks of masks."""
    widths = [(0, 0)] * array.ndim
    for axis in axes:
        if array.shape[axis] > size:
            raise ValueError(f"cannot pad {array.shape} to {size}")
        widths[axis] = (0, size - array.shape[axis])
    return np.pad(array, widths)


def scale_points(points: np.ndarray, old_hw: Hw, new_hw: Hw) -> np.ndarray:
    """xy (..., 2) of a frame of `old_hw` -> the same places in `new_hw`, float32: each axis times new / old.

    Pixel indices are scaled as they are, without the half pixel, because official SAM does so.
    """
    factor = np.array([new_hw[1] / old_hw[1], new_hw[0] / old_hw[0]])
    return (np.asarray(points, np.float64) * factor).astype(np.float32)
