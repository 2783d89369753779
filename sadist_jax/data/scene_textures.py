"""Surfaces of the things in a scene: patterns coloured by a palette, or crops of photos.

A pattern is a field (h, w) of about 0..1; a palette maps it to colours. Colours are float32 in 0..255.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

Rng = np.random.Generator
Photos = Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Surface:
    """How a thing looks, before it is painted at a size. Two things with one surface look alike, but are not equal."""

    pattern: int  # which of the patterns
    palette: np.ndarray  # (256, 3) float32
    cell: float  # pixels of the pattern's repeat
    photo: int | None  # which photo, instead of a pattern
    window: float  # largest part of the photo's sides that is seen
    stains: float  # standard deviation in 0..255 of slow changes of brightness and hue


def draw_surface(rng: Rng, size: int, photos: Photos = (), photo_share: float = 0.5, window: float = 1.0) -> Surface:
    """A random surface for a frame of `size` pixels; a share of them from photos, where there are any."""
    use_photo = len(photos) > 0 and rng.random() < photo_share
    return Surface(
        pattern=int(rng.choice(len(_PATTERNS), p=_ODDS)),
        palette=_draw_palette(rng),
        cell=size * float(np.exp(rng.uniform(np.log(0.02), np.log(0.25)))),
        photo=int(rng.integers(len(photos))) if use_photo else None,
        window=window,
        stains=float(rng.exponential(9)),
    )


def alike(surface: Surface, rng: Rng, spread: float = 14.0) -> Surface:
    """A neighbour of the surface: same pattern, colours moved by a normal draw of `spread` levels."""
    palette = np.clip(surface.palette + rng.normal(0, spread, 3) + rng.normal(0, spread), 0, 255)
    return dataclasses.replace(surface, palette=palette.astype(np.float32), cell=surface.cell * rng.uniform(0.8, 1.25))


def paint(surface: Surface, hw: tuple[int, int], rng: Rng, photos: Photos = ()) -> np.ndarray:
    """The surface over hw = (height, width) pixels: float32 (height, width, 3) in about 0..255, freshly made."""
    height, width = hw
    if surface.photo is not None:
        colours = _crop_photo(photos[surface.photo], height, width, surface.window, rng)
    else:
        field = _PATTERNS[surface.pattern][0](height, width, surface.cell, rng)
        level = np.clip(field * 255, 0, 255).astype(np.uint8)
        colours = np.take(surface.palette, level, axis=0)
    if surface.stains > 2:
        slow = noise(height, width, 1.5 * max(height, width) / 4, rng, octaves=2)
        tint = 1 + rng.normal(0, 0.3, 3).astype(np.float32)
        colours = colours + (surface.stains * slow)[..., None] * tint
    return colours


def noise(height: int, width: int, cell: float, rng: Rng, octaves: int = 4, fall: float = 0.55, aspect: float = 1.0):
    """Smooth random field (height, width) float32, mean about 0, standard deviation about 1.

    Octaves from coarse to fine, each half of the one before in length and `fall` of it in height; a pyramid, so the
    cost is that of the finest. `cell` is the coarsest length in pixels along y, `cell * aspect` along x.
    """
    octaves = max(1, min(octaves, int(np.log2(max(cell * min(aspect, 1), 2)))))
    field, strength, power = np.zeros((1, 1), np.float32), 1.0, 0.0
    for octave in range(octaves):
        step = cell / 2**octave
        shape = int(height / step) + 3, int(width / (step * aspect)) + 3
        fresh = rng.standard_normal(shape, np.float32) * np.float32(strength)
        field = fresh + _resize(field, shape) if octave else fresh
        power += strength**2
        strength *= fall
    return _resize(field, (height, width)) * np.float32(1.4 / power**0.5)  # interpolation takes about 1 / 1.4


def _resize(field: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Smooth upsampling, keeping half a cell away from the edges, where bicubic repeats itself."""
    height, width = field.shape
    image = Image.fromarray(field)
    box = (0.5, 0.5, width - 0.5, height - 0.5)
    return np.asarray(image.resize((hw[1], hw[0]), Image.Resampling.BICUBIC, box=box))


def _grid(height: int, width: int, cell: float, rng: Rng, bend: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates in repeats of the pattern, turned by a random angle, shifted, and bent by slow noise."""
    angle, shift = rng.uniform(0, np.pi), rng.uniform(0, 1, 2)
    y, x = np.ogrid[:height, :width]
    u = ((np.cos(angle) / cell) * x + (np.sin(angle) / cell) * y + shift[0]).astype(np.float32)
    v = ((np.cos(angle) / cell) * y - (np.sin(angle) / cell) * x + shift[1]).astype(np.float32)
    if bend:
        wave = noise(height, width, 4 * cell, rng, octaves=1) * np.float32(bend)
        u, v = u + wave, v + wave
    return u, v


def _flat(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    grain = rng.uniform(0, 0.05)
    return 0.5 + np.float32(grain) * rng.standard_normal((height, width), np.float32)


def _gradient(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    u, v = _grid(height, width, max(height, width) * rng.uniform(0.7, 1.5), rng)
    return np.abs((u if rng.random() < 0.7 else np.hypot(u - 0.5, v - 0.5)) % 2 - 1)


def _cloud(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    return 0.5 + 0.22 * noise(height, width, 2 * cell, rng, octaves=6, fall=rng.uniform(0.4, 0.8))


def _grain(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    return 0.5 + 0.25 * noise(height, width, min(cell, 6.0), rng, octaves=2, fall=0.9)


def _fibres(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    """Grass, hair, wood, cloth: noise that is long one way."""
    aspect = np.exp(rng.choice([-1, 1]) * rng.uniform(1, 2.3))
    return 0.5 + 0.25 * noise(height, width, max(cell / 3, 3.0), rng, octaves=3, fall=0.7, aspect=aspect)


def _marble(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    field = noise(height, width, 2 * cell, rng, octaves=4)
    u, _ = _grid(height, width, cell, rng)
    return 0.5 + 0.5 * np.sin(2 * np.pi * u * rng.choice([0.0, 0.5]) + field * rng.uniform(1.5, 4))


def _stripes(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    u, _ = _grid(height, width, cell, rng, bend=rng.choice([0, 0, 0.2]))
    return _edge(np.sin(2 * np.pi * u), rng)


def _checks(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    u, v = _grid(height, width, 1.5 * cell, rng, bend=rng.choice([0, 0, 0.1]))
    a, b = np.sin(2 * np.pi * u), np.sin(2 * np.pi * v)
    return _edge(a * b if rng.random() < 0.5 else (a + b) / 2, rng)


def _dots(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    u, v = _grid(height, width, cell, rng)
    return np.clip((rng.uniform(0.15, 0.4) - np.hypot(u % 1 - 0.5, v % 1 - 0.5)) * 8 + 0.5, 0, 1)


def _bricks(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    """Bricks or tiles, each of its own shade, with joints."""
    u, v = _grid(height, width, cell, rng)
    row = np.floor(v)
    u = u / 2 + 0.5 * (row % 2)
    shade = rng.random(256, np.float32)[((np.floor(u) * 31 + row * 17) % 256).astype(np.uint8)]
    joint = (np.minimum(u % 1 * 2, v % 1) < 0.1).astype(np.float32)
    return (0.4 + 0.6 * shade) * (1 - joint)


def _spots(height: int, width: int, cell: float, rng: Rng) -> np.ndarray:
    """Two colours with a winding border: cow, camouflage, pebbles."""
    return np.clip(noise(height, width, cell, rng, octaves=3) * rng.uniform(2, 8) + 0.5, 0, 1)


_PATTERNS: list[tuple[Callable[[int, int, float, Rng], np.ndarray], float]] = [
    (_flat, 2), (_gradient, 2), (_cloud, 4), (_grain, 2), (_fibres, 2.5), (_marble, 1.5), (_stripes, 1.5), (_checks, 1),
    (_dots, 0.7), (_bricks, 0.8), (_spots, 1.2),
]  # fmt: skip
_ODDS = np.array([weight for _, weight in _PATTERNS]) / sum(weight for _, weight in _PATTERNS)


def _edge(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """-1..1 -> 0..1, from a smooth wave to a hard edge."""
    return np.clip(0.5 + wave * np.exp(rng.uniform(-0.7, 2)), 0, 1)


def _draw_palette(rng: Rng) -> np.ndarray:
    """(256, 3) colours between a few anchors: mostly shades of one muted colour, at times of several."""
    count = int(rng.integers(2, 5))
    base = _draw_colour(rng)
    light = np.exp(rng.uniform(np.log(4), np.log(80))) * rng.standard_normal((count, 1))
    anchors = base + light + rng.normal(0, rng.uniform(1, 15), (count, 3))
    if rng.random() < 0.25:
        anchors[1:] = [_draw_colour(rng) for _ in anchors[1:]]
    places = np.linspace(0, 255, count)
    ramp = np.stack([np.interp(np.arange(256), places, channel) for channel in anchors.T], 1)
    return np.clip(ramp, 0, 255).astype(np.float32)


def _draw_colour(rng: Rng) -> np.ndarray:
    """A colour as photos have them: any hue, seldom vivid, seldom black or white."""
    hue, vivid, light = rng.uniform(0, 1), rng.beta(1.2, 2.2), 255 * rng.beta(2, 1.7)
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return light * (1 - vivid * (1 - wheel))


def _crop_photo(photo: np.ndarray, height: int, width: int, window: float, rng: Rng) -> np.ndarray:
    """A random window of the photo at a random zoom, flipped at times, with other colours."""
    zoom = np.exp(rng.uniform(np.log(0.5), np.log(3)))
    zoom = min(zoom, window * photo.shape[0] / height, window * photo.shape[1] / width)
    h, w = max(1, int(height * zoom)), max(1, int(width * zoom))
    top, left = rng.integers(0, photo.shape[0] - h + 1), rng.integers(0, photo.shape[1] - w + 1)
    source = Image.fromarray(np.ascontiguousarray(photo[top : top + h, left : left + w]))
    crop = np.asarray(source.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    grey = crop.mean(axis=2, keepdims=True)
    crop = grey + (crop - grey) * np.float32(rng.uniform(0.4, 1.4))
    gain, shift = rng.normal(1, 0.15, 3).astype(np.float32), rng.normal(0, 15, 3).astype(np.float32)
    return crop * gain + shift
