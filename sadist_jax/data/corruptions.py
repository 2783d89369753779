"""The fifteen corruptions of ImageNet-C and COCO-C, each at five severities.

Sources: Hendrycks and Dietterich 2019, arXiv:1903.12261 (ImageNet-C); Michaelis et al. 2019, arXiv:1907.07484, whose
package `imagecorruptions` 1.1.2 (Apache-2.0) makes COCO-C, and whose constants and definitions these are, for pictures
of any proportions. In this they differ:

- frost: the package mixes in one of five photos that are not ours to give away; here the frost is drawn (ours), with
  the photos' mean colours and contrasts. Scores on it compare with published ones only roughly.
- motion blur, and that of snow: the package loses brightness in pictures smaller than the path, here borders repeat.
- random numbers come from the generator that is given.

The package itself is not used: it needs OpenCV, calls scikit-image with an argument that is gone (`multichannel`),
draws from NumPy's global generator, so that a sample would depend on those before it, and was last released in 2020.

Fractions are cut off in the end, as there.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from sadist_jax.codecs.images import to_rgb
from sadist_jax.data import blurs, weather
from sadist_jax.errors import BadInput

SMALLEST = 32  # pixels a side, the package's own limit
SEVERITIES: dict[str, tuple] = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation, of 1
    "shot_noise": (60, 25, 12, 5, 3),  # photons of a white pixel
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),  # share of values that become 0 or 255
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),  # radius, softness
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),  # sigma, reach, rounds
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),  # radius, sigma
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),  # stop, step
    "snow": (  # mean, spread, size, threshold, radius, sigma, share of the picture that is kept
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),  # of the picture, of the frost
    "fog": ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),  # thickness, decay
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to the value of hue, saturation, value
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # factor on the distance from each channel's mean
    "elastic_transform": (250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12),  # factor on the displacement
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),  # of the sides
    "jpeg_compression": (25, 18, 15, 10, 7),  # quality
}


def corrupt(image: np.ndarray, kind: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Picture -> uint8 (H, W, 3) RGB, damaged.

    Args:
        image: uint8 (H, W, 3) RGB, or grey (H, W) or (H, W, 1), at least 32 pixels a side.
        kind: a name in SEVERITIES.
        severity: 1 to 5.
        rng: where all randomness comes from; defocus, zoom, brightness, contrast, pixelate and jpeg draw nothing.
    Raises:
        BadInput: another kind or severity, or a picture that is too small.
    """
    refuse_unknown(kind, severity)
    image = to_rgb(image)
    height, width, _ = image.shape
    if min(height, width) < SMALLEST:
        raise BadInput(
            f"a picture of {height} x {width} pixels (h x w) is too small for {kind}; it needs {SMALLEST} a side"
        )
    damaged = _CORRUPTIONS[kind](image, SEVERITIES[kind][severity - 1], rng)
    return np.clip(damaged + 1e-3, 0, 255).astype(np.uint8)  # 1e-3: a whole number may have come out just below


def refuse_unknown(kind: str, severity: int) -> None:
    """Raises BadInput for a kind that is not in SEVERITIES, or a severity other than 1 to 5."""
    if kind not in SEVERITIES:
        raise BadInput(f"there is no corruption {kind!r}; the kinds are {', '.join(SEVERITIES)}")
    if severity not in range(1, 6):
        raise BadInput(f"the severity of {kind} is {severity}; it must be 1 (slight) to 5 (severe)")


def _gaussian_noise(image: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    return image + 255 * rng.normal(0, spread, image.shape)


def _shot_noise(image: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    return 255 * rng.poisson(image / 255 * photons) / photons


def _impulse_noise(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    hit, white = rng.random((2, *image.shape))
    return np.where(hit < share, np.where(white < 0.5, 255.0, 0.0), image)


def _brightness(image: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    """Hue and saturation stay when a colour is multiplied; black has neither and becomes grey."""
    value = image.max(-1, keepdims=True).astype(np.float32)
    brighter = np.minimum(value + 255 * added, 255)
    return np.where(value > 0, image * (brighter / np.maximum(value, 1)), brighter)


def _contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    mean = image.mean((0, 1), keepdims=True)
    return (image - mean) * factor + mean


def _elastic_transform(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Displacements: uniform in +-0.005 heights, smoothed with a sigma of 0.01 sides, times the factor."""
    height, width, _ = image.shape
    sigma = (0.01 * height, 0.01 * width)
    noise = rng.uniform(-0.005 * height, 0.005 * height, (2, height, width))
    moved = [ndimage.gaussian_filter(n, sigma, mode="reflect", truncate=3) * factor for n in noise]
    places = np.indices((height, width)) + np.stack(moved)
    channels = np.moveaxis(image.astype(np.float32), 2, 0)
    return np.stack([ndimage.map_coordinates(channel, places, order=1, mode="reflect") for channel in channels], 2)


def _pixelate(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    height, width, _ = image.shape
    small = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST))


def _jpeg_compression(image: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as stored:
        return np.asarray(stored)


_CORRUPTIONS: dict[str, Callable[..., np.ndarray]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": lambda image, numbers, rng: blurs.defocus(image, *numbers),
    "glass_blur": lambda image, numbers, rng: blurs.glass(image, *numbers, rng=rng),
    "motion_blur": lambda image, numbers, rng: blurs.motion(image, *numbers, angle=rng.uniform(-45, 45)),
    "zoom_blur": lambda image, numbers, rng: blurs.zoom(image, *numbers),
    "snow": lambda image, numbers, rng: weather.snow(image, *numbers, rng=rng),
    "frost": lambda image, numbers, rng: weather.frost(image, *numbers, rng=rng),
    "fog": lambda image, numbers, rng: weather.fog(image, *numbers, rng=rng),
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
