"""The weak and the strong view of WeSAM: four flips, and six changes of colour that leave every pixel in its place.

Source: Zhang et al. 2024, arXiv:2312.03502, and its release, which takes both from albumentations 1.3.1 with that
package's defaults. The weak view is one of three flips half of the time, then a mirroring from left to right and one
from top to bottom, each half of the time; together that makes each of four outcomes one draw in four. The strong view
is made of the weak one by these, in this order, each half of the time:

    posterize    keeps the four highest bits
    equalize     per channel: v -> 255 (C(v) - C(lowest)) / (C(highest) - C(lowest)), C pixels have v or less (OpenCV)
    sharpen      3 x 3 kernel, (1 - a) at rest + a (9 + l in the middle, -1 all over), a in 0.2..0.5, l in 0.5..1
    solarize     inverts values of 128 and more
    brightness   v -> a v + 255 b, a in 0.8..1.2, b in -0.2..0.2
    shadow       halves the lightness (of hue, lightness, saturation) in one or two random pentagons of the lower half

The package stores hue, lightness and saturation in 8 bits each; here they are exact, so shadows differ by a few levels.
"""

import numpy as np
from PIL import Image, ImageDraw

from sadist_jax.codecs.augment import OPERATIONS

VIEWS = 4  # 0 as it is, 1 left to right, 2 top to bottom, 3 both
APPLIED = 0.5  # of each operation of the strong view
SHARPEN = (0.2, 0.5)
LIGHTNESS = (0.5, 1.0)
BRIGHTNESS = CONTRAST = 0.2
SHADOWS = (1, 2)
CORNERS = 5  # of a shadow


def draw_view(rng: np.random.Generator) -> int:
    """Number of a weak view, 0..3, each as likely."""
    return int(rng.integers(VIEWS))


def flip_view(array: np.ndarray, view: int, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
    """An image (H, W, 3), or with axes (-2, -1) masks (..., H, W), in a weak view; twice the same gives it back.

    axes: of the height and of the width.

    >>> flip_view(np.array([[1, 2], [3, 4]]), 1).tolist()
    [[2, 1], [4, 3]]
    """
    turned = tuple(axis for axis, on in zip(axes, _down_across(view), strict=True) if on)
    return np.ascontiguousarray(np.flip(array, turned))


def flip_points(points: np.ndarray, view: int, hw: tuple[int, int]) -> np.ndarray:
    """xy (..., 2) pixel indices of a frame of hw = (height, width) -> where those pixels are in a weak view of it."""
    down, across = _down_across(view)
    sign = np.array([-1 if across else 1, -1 if down else 1], points.dtype)
    start = np.array([hw[1] - 1 if across else 0, hw[0] - 1 if down else 0], points.dtype)
    return start + sign * points


def flip_boxes(boxes: np.ndarray, view: int, hw: tuple[int, int]) -> np.ndarray:
    """xyxy (..., 4) pixel indices, ends included, of a frame of hw = (height, width) -> in a weak view of it."""
    corners = flip_points(boxes.reshape(*boxes.shape[:-1], 2, 2), view, hw)
    return np.concatenate([corners.min(-2), corners.max(-2)], -1)


def strong_view(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3) RGB of any size -> the same shape, in other colours."""
    for operation in (_posterize, _equalize, _sharpen, _solarize, _brighten, _shade):
        if rng.random() < APPLIED:
            image = operation(image, rng)
    return image


def equalize(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> each channel with its levels spread evenly over 0..255; a channel of one level stays."""
    return np.stack([_spread_levels(channel) for channel in np.moveaxis(image, 2, 0)], 2)


def sharpen(image: np.ndarray, amount: float, lightness: float) -> np.ndarray:
    """uint8 (H, W, 3) -> (1 - a) v + a ((9 + l) v - sum of the 3 x 3 around), mirrored at the border, rounded."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="reflect").astype(np.float32)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    centre = 1 - amount + amount * (9 + lightness)
    return np.rint(np.clip(centre * image.astype(np.float32) - amount * around, 0, 255)).astype(np.uint8)


def adjust(image: np.ndarray, contrast: float, brightness: float) -> np.ndarray:
    """uint8 (H, W, 3) -> contrast * v + 255 * brightness, fractions cut off."""
    levels = np.arange(256, dtype=np.float32) * contrast + 255 * brightness
    return np.clip(levels, 0, 255).astype(np.uint8)[image]


def shade(image: np.ndarray, polygons: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> half the lightness inside the polygons (n, corners, 2), whole xy pixels; hue, saturation stay.

    With all in 0..1, the lightness L is the middle of the smallest and the largest channel, and the saturation their
    distance over min(2 L, 2 - 2 L). So a colour v becomes L / 2 + k (v - L), with k = 1 / 2 where L <= 1 / 2 and
    L / (2 - 2 L) above. Near white, k is large: the faint tint of a highlight becomes a strong colour in the shadow.
    """
    height, width, _ = image.shape
    inside = np.any([_fill(polygon, (height, width)) for polygon in polygons], 0)
    colour = image[inside].astype(np.float32) / 255
    light = (colour.max(-1, keepdims=True) + colour.min(-1, keepdims=True)) / 2
    growth = light / np.maximum(2 - 2 * np.maximum(light, 0.5), 1e-6)  # 1e-6: white, which has no tint
    growth = np.where(light <= 0.5, 0.5, growth)
    shaded = image.copy()
    shaded[inside] = np.rint(255 * np.clip(light / 2 + growth * (colour - light), 0, 1))
    return shaded


def _posterize(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(OPERATIONS["posterize"](Image.fromarray(image), 0.0, 1))  # strength 0: 4 bits


def _equalize(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return equalize(image)


def _sharpen(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return sharpen(image, rng.uniform(*SHARPEN), rng.uniform(*LIGHTNESS))


def _solarize(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(OPERATIONS["solarize"](Image.fromarray(image), 0.5, 1))  # strength 0.5: from 128 on


def _brighten(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return adjust(image, 1 + rng.uniform(-CONTRAST, CONTRAST), rng.uniform(-BRIGHTNESS, BRIGHTNESS))


def _shade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width, _ = image.shape
    count = rng.integers(*SHADOWS, endpoint=True)
    low, high = (0, height // 2), (width, height)  # the corner of the picture is one, as in the package
    return shade(image, rng.integers(low, high, (count, CORNERS, 2), endpoint=True))


def _fill(polygon: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """bool (H, W): inside by the even-odd rule, its outline too, as OpenCV fills."""
    mask = Image.new("1", (hw[1], hw[0]))
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in polygon.tolist()], fill=1, outline=1)
    return np.asarray(mask)


def _spread_levels(channel: np.ndarray) -> np.ndarray:
    counts = np.bincount(channel.ravel(), minlength=256)
    above = np.cumsum(counts) - counts[np.flatnonzero(counts)[0]]  # pixels of the lowest level do not count
    if not above[-1]:
        return channel
    scale = np.float32(255) / np.float32(above[-1])
    return np.rint(np.maximum(above, 0) * scale).astype(np.uint8)[channel]


def _down_across(view: int) -> tuple[bool, bool]:
    return bool(view & 2), bool(view & 1)
