"""Outlines of the things in a scene, and their antialiased rasters.

A shape is a list of contours (points (n, 2) xy, fill): painted in turn, a contour with fill False cuts a hole. Points
are in a unit frame, about -1..1, y down.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Contours = list[tuple[np.ndarray, bool]]
Rng = np.random.Generator

_TURN = np.linspace(0, 2 * np.pi, 96, endpoint=False)


class Raster(NamedTuple):
    """Coverage 0..1 (h, w) float32 of the pixels from (top, left) of the frame on."""

    alpha: np.ndarray
    top: int
    left: int

    @property
    def hw(self) -> tuple[int, int]:
        return self.alpha.shape[0], self.alpha.shape[1]

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.hw
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def draw_shape(rng: Rng) -> Contours:
    """A random shape: kind, outline, now and then rough edges or holes."""
    contours = _KINDS[rng.choice(len(_KINDS), p=_ODDS)][0](rng)
    if rng.random() < 0.25:
        strength = rng.uniform(0.01, 0.05)
        contours = [(_roughen(points, rng, strength), fill) for points, fill in contours]
    if rng.random() < 0.1:
        contours += [(_move(_ellipse(rng)[0][0], rng.uniform(0.05, 0.25), rng.normal(0, 0.25, 2)), False)]
    return contours


def place(contours: Contours, radius: float, centre: np.ndarray, rng: Rng) -> Contours:
    """Unit frame -> pixels: stretch, rotate (half of the time hardly: things stand upright), scale, move."""
    stretch = np.exp(rng.normal(0, 0.3))
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else rng.normal(0, 0.15)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.diag([radius * stretch, radius / stretch]) @ turn
    return [(points @ matrix + centre, fill) for points, fill in contours]


def rasterise(contours: Contours, size: int, soft: float = 0.0) -> Raster | None:
    """Coverage of the contours in a frame of size x size pixels; None when they lie outside.

    `soft` blurs the coverage (standard deviation in pixels), as a lens out of focus does; half coverage stays in place.
    """
    points = np.concatenate([p for p, fill in contours if fill])
    margin = 1 + int(3 * soft)
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + margin, size)
    if (high <= low).any():
        return None
    width, height = (int(v) for v in high - low)
    finer = 4 if max(width, height) < 100 else 2
    canvas = Image.new("L", (width * finer, height * finer))
    draw = ImageDraw.Draw(canvas)
    for outline, fill in contours:
        # Pillow's whole numbers are pixel centres, ours are pixel corners
        draw.polygon(((outline - low) * finer - 0.5).ravel().tolist(), fill=255 if fill else 0)
    canvas = canvas.reduce(finer)
    if soft > 0:
        canvas = canvas.filter(ImageFilter.GaussianBlur(float(soft)))
    return Raster(np.asarray(canvas, np.float32) / 255, int(low[1]), int(low[0]))


def _ellipse(rng: Rng) -> Contours:
    """Superellipse: round, or towards a box with round corners."""
    power = 1.0 if rng.random() < 0.5 else rng.uniform(0.25, 1)
    points = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)
    return [(np.sign(points) * np.abs(points) ** power, True)]


def _blob(rng: Rng) -> Contours:
    """Smooth random radius: a Fourier series with falling amplitudes."""
    order = np.arange(1, rng.integers(3, 9))
    waves = np.cos(order[:, None] * _TURN + rng.uniform(0, 2 * np.pi, (order.size, 1)))
    radius = 0.8 + (rng.normal(0, 0.3, (order.size, 1)) / order[:, None] ** 0.8 * waves).sum(0)
    return [(_around(np.clip(radius, 0.15, 1.5), _TURN), True)]


def _polygon(rng: Rng) -> Contours:
    count = int(rng.integers(3, 9))
    angle = (np.arange(count) + rng.uniform(-0.35, 0.35, count)) * 2 * np.pi / count
    return [(_around(rng.uniform(0.5, 1.1, count), angle), True)]


def _box(rng: Rng) -> Contours:
    """A rectangle seen a little from the side."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [1, rng.uniform(0.3, 1)]
    return [(corners + rng.normal(0, rng.choice([0.0, 0.15]), (4, 2)), True)]


def _star(rng: Rng) -> Contours:
    count = int(rng.integers(4, 10))
    radius = np.tile([1.0, rng.uniform(0.3, 0.75)], count) * rng.uniform(0.85, 1.1, 2 * count)
    return [(_around(radius, np.arange(2 * count) * np.pi / count), True)]


def _ring(rng: Rng) -> Contours:
    """A band around a hole, closed or open as a horseshoe."""
    inner = rng.uniform(0.35, 0.85)
    outline = _blob(rng)[0][0] if rng.random() < 0.4 else _ellipse(rng)[0][0]
    if rng.random() < 0.6:
        return [(outline, True), (outline * inner, False)]
    arc = outline[: int(rng.uniform(0.4, 0.85) * len(outline))]
    return [(np.concatenate([arc, arc[::-1] * inner]), True)]


def _bar(rng: Rng) -> Contours:
    """A thin stroke: straight or bent, even or tapering."""
    bend = (
        np.array([[-1, 0], rng.normal(0, 0.5, 2), [1, 0]])
        if rng.random() < 0.6
        else np.array([[-1, 0], [0, 0], [1, 0]])
    )
    return [(_stroke(bend, rng.uniform(0.025, 0.14), rng.uniform(0.2, 1)), True)]


def _vase(rng: Rng) -> Contours:
    """A turned profile: bottles, vases, people from far away."""
    knots = rng.uniform(0.12, 0.6, int(rng.integers(3, 8)))
    y = np.linspace(-1, 1, 40)
    half = np.interp(y, np.linspace(-1, 1, knots.size), knots)
    half = np.convolve(np.pad(half, 3, "edge"), np.ones(7) / 7, "valid")
    return [(np.concatenate([np.stack([half, y], 1), np.stack([-half, y], 1)[::-1]]), True)]


def _plant(rng: Rng) -> Contours:
    """Leaves around a middle, or a crown of tufts on a trunk."""
    leaf = _ellipse(rng)[0][0]
    contours: Contours = []
    count = int(rng.integers(5, 13))
    if rng.random() < 0.5:
        for angle in rng.uniform(0, 2 * np.pi, count):
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            contours.append(((leaf * [0.5, rng.uniform(0.06, 0.2)] + [0.45, 0]) @ turn, True))
        return contours
    contours.append((_stroke(np.array([[0, 1], rng.normal(0, 0.1, 2), [0, -0.5]]), 0.1, 0.4), True))
    return contours + [(_move(leaf, rng.uniform(0.2, 0.45), rng.normal([0, -0.4], 0.28)), True) for _ in range(count)]


def _creature(rng: Rng) -> Contours:
    """A body with a head, legs and a tail."""
    body = _blob(rng)[0][0] * [0.6, 0.32]
    head = _move(_blob(rng)[0][0], rng.uniform(0.15, 0.3), np.array([0.65, rng.uniform(-0.5, 0.1)]))
    contours: Contours = [(body, True), (head, True)]
    thick = rng.uniform(0.04, 0.1)
    for x in np.linspace(-0.4, 0.4, int(rng.integers(2, 5))) + rng.normal(0, 0.05):
        leg = np.array([[x, 0], [x + rng.normal(0, 0.1), 0.4], [x + rng.normal(0, 0.15), 0.8]])
        contours.append((_stroke(leg, thick, 0.6), True))
    tail = np.array([[-0.4, 0], rng.normal([-0.8, -0.1], 0.2), rng.normal([-1, -0.3], 0.2)])
    return [*contours, (_stroke(tail, thick, 0.3), True)]


def _group(rng: Rng) -> Contours:
    """Several parts that do not touch, one thing all the same."""
    kinds = [_ellipse, _blob, _polygon, _box]
    spots = _around(rng.uniform(0.4, 0.8, 4), rng.uniform(0, 2 * np.pi) + np.arange(4) * np.pi / 2)
    one = kinds[rng.integers(len(kinds))]
    return [(_move(one(rng)[0][0], rng.uniform(0.15, 0.4), spot), True) for spot in spots[: rng.integers(2, 5)]]


_KINDS: list[tuple[Callable[[Rng], Contours], float]] = [
    (_ellipse, 2), (_blob, 4), (_polygon, 2), (_box, 2), (_star, 1), (_ring, 1.5), (_bar, 1.5), (_vase, 2),
    (_plant, 1.5), (_creature, 2), (_group, 1),
]  # fmt: skip
_ODDS = np.array([weight for _, weight in _KINDS]) / sum(weight for _, weight in _KINDS)


def _around(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _move(points: np.ndarray, scale: float, to: np.ndarray) -> np.ndarray:
    return points * scale + to


def _stroke(path: np.ndarray, half: float, taper: float) -> np.ndarray:
    """Outline of a quadratic curve through three control points, `half` wide at first, `half * taper` at last."""
    t = np.linspace(0, 1, 16)[:, None]
    curve = (1 - t) ** 2 * path[0] + 2 * t * (1 - t) * path[1] + t**2 * path[2]
    along = np.gradient(curve, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.hypot(*along.T), 1e-6)[:, None]
    offset = normal * half * (1 + (taper - 1) * t)
    return np.concatenate([curve + offset, (curve - offset)[::-1]])


def _roughen(points: np.ndarray, rng: Rng, strength: float) -> np.ndarray:
    """Fine random dents: fur, foliage, torn paper."""
    closed = np.concatenate([points, points[:1]])
    place = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    dense = np.linspace(0, place[-1], 160, endpoint=False)
    outline = np.stack([np.interp(dense, place, closed[:, 0]), np.interp(dense, place, closed[:, 1])], 1)
    return outline + rng.normal(0, strength, outline.shape)
