"""RandAugment: a few of fifteen operations on a picture, drawn at random, all of one strength.

Source: Cubuk et al. 2020, arXiv:1909.13719 (N operations of magnitude M). EfficientSAM names "RandAugment" and nothing
else, so operations and ranges are those of the recipe that MAE's fine-tuning gives timm, "rand-m9-mstd0.5-inc1": 2
operations of magnitude 9 of 10 with normal noise of 0.5, each carried out half of the time, and severity rises with
magnitude for every operation. With s = magnitude / 10 in 0..1 and a sign drawn at random where there is one:

    operation                             what it does at s
    auto_contrast, equalize, invert       no magnitude
    rotate                                by +-30 s degrees about the centre
    posterize                             keeps the highest 4 - floor(4 s) bits
    solarize                              inverts values of 256 - floor(256 s) and more
    solarize_add                          adds floor(110 s) to values below 128
    colour, contrast, brightness,         blends with grey, with the mean grey, with black, with a smoothed picture:
      sharpness                             that one times (1 - f) + the picture times f, f = max(0.1, 1 +- 0.9 s)
    shear_x, shear_y                      by +-0.3 s pixels a pixel, the first row or column stays in place
    translate_x, translate_y              by +-0.45 s of the width or height

What comes into view is filled with ImageNet's mean colour. The paper's own list has an identity (the half of the time
here) and neither invert nor solarize_add.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

HIGHEST = 10.0  # magnitude
APPLIED = 0.5  # share of the drawn operations that is carried out
FILL = (124, 116, 104)  # ImageNet's mean colour, RGB

Operation = Callable[[Image.Image, float, int], Image.Image]  # (picture, s, sign)


def rand_augment(
    image: np.ndarray, rng: np.random.Generator, operations: int = 2, magnitude: float = 9.0, spread: float = 0.5
) -> np.ndarray:
    """uint8 (H, W, 3) RGB -> the same shape, changed.

    Args:
        image: the picture.
        rng: where all randomness comes from.
        operations: how many are drawn, with replacement.
        magnitude: 0..10, of all operations.
        spread: standard deviation of each operation's own magnitude, cut to 0..10.
    """
    picture = Image.fromarray(image)
    for name in rng.choice(list(OPERATIONS), operations):
        strength = np.clip(rng.normal(magnitude, spread), 0, HIGHEST) / HIGHEST
        sign = 1 if rng.random() < 0.5 else -1
        if rng.random() < APPLIED:
            picture = OPERATIONS[name](picture, float(strength), sign)
    return np.asarray(picture)


def _auto_contrast(picture: Image.Image, s: float, sign: int) -> Image.Image:
    return ImageOps.autocontrast(picture)


def _equalize(picture: Image.Image, s: float, sign: int) -> Image.Image:
    return ImageOps.equalize(picture)


def _invert(picture: Image.Image, s: float, sign: int) -> Image.Image:
    return ImageOps.invert(picture)


def _rotate(picture: Image.Image, s: float, sign: int) -> Image.Image:
    return picture.rotate(sign * 30 * s, Image.Resampling.BICUBIC, fillcolor=FILL)


def _posterize(picture: Image.Image, s: float, sign: int) -> Image.Image:
    lost = 2 ** (4 + int(4 * s))
    return picture.point([value // lost * lost for value in range(256)] * 3)


def _solarize(picture: Image.Image, s: float, sign: int) -> Image.Image:
    return ImageOps.solarize(picture, 256 - int(256 * s))


def _solarize_add(picture: Image.Image, s: float, sign: int) -> Image.Image:
    return picture.point([min(255, value + int(110 * s)) if value < 128 else value for value in range(256)] * 3)


def _blend(kind: Callable[[Image.Image], Any]) -> Operation:
    return lambda picture, s, sign: kind(picture).enhance(max(0.1, 1 + sign * 0.9 * s))


def _affine(matrix: Callable[[float, Image.Image], tuple[float, ...]]) -> Operation:
    """matrix: (signed s, picture) -> (a, b, c, d, e, f): output (x, y) shows input (ax + by + c, dx + ey + f)."""

    def moved(picture: Image.Image, s: float, sign: int) -> Image.Image:
        numbers = matrix(sign * s, picture)
        return picture.transform(
            picture.size, Image.Transform.AFFINE, numbers, Image.Resampling.BICUBIC, fillcolor=FILL
        )

    return moved


OPERATIONS: dict[str, Operation] = {
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": _invert,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "colour": _blend(ImageEnhance.Color),
    "contrast": _blend(ImageEnhance.Contrast),
    "brightness": _blend(ImageEnhance.Brightness),
    "sharpness": _blend(ImageEnhance.Sharpness),
    "shear_x": _affine(lambda s, picture: (1, 0.3 * s, 0, 0, 1, 0)),
    "shear_y": _affine(lambda s, picture: (1, 0, 0, 0.3 * s, 1, 0)),
    "translate_x": _affine(lambda s, picture: (1, 0, 0.45 * s * picture.width, 0, 1, 0)),
    "translate_y": _affine(lambda s, picture: (1, 0, 0, 0, 1, 0.45 * s * picture.height)),
}
