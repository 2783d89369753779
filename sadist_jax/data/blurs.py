"""The four blurs of `data/corruptions.py`: out of focus, through frosted glass, by motion, by zooming."""

import math

import numpy as np
from scipy import ndimage, signal

_SMALL = 8  # pixels: up to here all discs have one kernel size


def defocus(image: np.ndarray, radius: int, softness: float) -> np.ndarray:
    """(H, W, 3) uint8 -> float, convolved with a disc whose edge is softened by a Gaussian; mirrored at the border.

    radius: pixels. softness: sigma of the Gaussian.
    """
    reach = max(radius, _SMALL)
    places = np.arange(-reach, reach + 1)
    disc = (places**2 + places[:, None] ** 2 <= radius**2).astype(np.float64)
    kernel = ndimage.gaussian_filter(disc / disc.sum(), softness, mode="mirror")
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect").astype(np.float64)
    return np.asarray(signal.fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1)))


def glass(image: np.ndarray, sigma: float, reach: int, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 -> float: smoothed, pixels displaced, smoothed again.

    Every pixel takes the colour of one up to `reach` above or left, or `reach` - 1 below or right. The pixels are gone
    through from the last to the first, so that one of later rows has been displaced already. ImageNet-C means to swap
    the two, but its assignment through views of an array copies one way only; the published pictures are made so.
    """
    smooth = (_smooth(image, sigma) + 1e-3).astype(np.uint8)  # 1e-3: a flat region stays as it is
    height, width, _ = image.shape
    pixels = smooth.reshape(-1, 3)
    for _ in range(rounds):
        pixels = pixels[_displaced((height, width), reach, rng)]
    return _smooth(pixels.reshape(smooth.shape), sigma)


def motion(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """(H, W) or (H, W, 3) -> float: a mean of 2 radius + 1 copies, moved step by step, weighted by half a Gaussian.

    angle: degrees; at 0 the picture moves to the left, at 90 up. Borders are repeated. ImageNet-C has ImageMagick do
        it, COCO-C does it in this way.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    down = np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
    across = np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
    height, width = image.shape[:2]
    reach = len(steps)
    padded = np.pad(image, [(reach, reach)] * 2 + [(0, 0)] * (image.ndim - 2), mode="edge").astype(np.float32)
    total = np.zeros(image.shape, np.float32)
    for weight, y, x in zip(weights / weights.sum(), down + reach, across + reach, strict=True):
        total += np.float32(weight) * padded[y : y + height, x : x + width]
    return total


def zoom(image: np.ndarray, stop: float, step: float) -> np.ndarray:
    """(H, W, 3) uint8 -> float: mean of the picture and of its enlargements by 1, 1 + step, ... below `stop`."""
    image = image.astype(np.float32)
    factors = np.arange(1, stop, step)
    return np.mean([image, *(enlarge(image, factor) for factor in factors)], 0)


def enlarge(image: np.ndarray, factor: float) -> np.ndarray:
    """(H, W, ...) float -> the same shape: the middle, bilinearly enlarged by `factor` and cut at the lower right."""
    height, width = image.shape[:2]
    h, w = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - h) // 2, (width - w) // 2
    factors = (factor, factor, *[1] * (image.ndim - 2))
    return np.asarray(ndimage.zoom(image[top : top + h, left : left + w], factors, order=1))[:height, :width]


def _smooth(image: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0), mode="nearest")


def _displaced(hw: tuple[int, int], reach: int, rng: np.random.Generator) -> np.ndarray:
    """(H * W,) which pixel each one shows, when all but a border have taken the colour of a neighbour, last one first.

    A pixel that takes from a later one gets what that one has by then. Such chains are followed for all at once: each
    pass doubles the length that has been followed.
    """
    height, width = hw
    own = np.arange(height * width).reshape(hw)
    source = own.copy()
    inside = (slice(reach + 1, height - reach + 1), slice(reach + 1, width - reach + 1))
    dy, dx = rng.integers(-reach, reach, (2, *own[inside].shape))
    source[inside] = own[inside] + dy * width + dx
    own, source = own.ravel(), source.ravel()
    shown = np.concatenate([np.where(source > own, source, source + own.size), own + own.size])  # then the untouched
    while not np.array_equal(further := shown[shown], shown):
        shown = further
    return shown[: own.size] - own.size
