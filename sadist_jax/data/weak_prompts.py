"""What a hurried annotator would give in place of a mask, simulated from the mask; and prompts that a file holds.

Source: Zhang et al. 2024, arXiv:2312.03502 (WeSAM), and its released code. Coordinates are xy pixel indices of the
frame that the mask has; a prompt is a row of slots, as in models/prompts.py.
"""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from sadist_jax.codecs import outlines, polygons
from sadist_jax.codecs.prompts import Prompt, box_of, check_box, check_points
from sadist_jax.codecs.simplify import simplify
from sadist_jax.data.names import first_five
from sadist_jax.errors import BadInput

EMPTY, BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = -2, 0, 1, 2, 3  # labels, as in models/prompts.py
POSITIVE, NEGATIVE = 5, 5  # points of a prompt of points
MOST_POINTS = POSITIVE + NEGATIVE  # of a prompt from a file, beside a box
LEAST_TOLERANCE, TOLERANCE = 3.0, 0.05  # of a coarse polygon: pixels, and share of the outline's length


class Slots(NamedTuple):
    """points: (n, 2) float32. labels: (n,) int32."""

    points: np.ndarray
    labels: np.ndarray


def from_box(box: np.ndarray) -> Slots:
    """xyxy (4,), ends included."""
    return Slots(np.asarray(box, np.float32).reshape(2, 2), np.array([TOP_LEFT, BOTTOM_RIGHT], np.int32))


def from_points(mask: np.ndarray, rng: np.random.Generator) -> Slots:
    """POSITIVE pixels of the mask and NEGATIVE of the rest of the image, uniform and with repetition.

    mask: bool (h, w) with a pixel set, of the content without padding (the released code takes padding as well).
    Without any background the negative slots are EMPTY.
    """
    inside, outside = np.flatnonzero(mask), np.flatnonzero(~mask)
    chosen = [inside[rng.integers(inside.size, size=POSITIVE)]]
    chosen.append(outside[rng.integers(outside.size, size=NEGATIVE)] if outside.size else np.zeros(NEGATIVE, int))
    y, x = np.divmod(np.concatenate(chosen), mask.shape[1])
    labels = [FOREGROUND] * POSITIVE + [BACKGROUND if outside.size else EMPTY] * NEGATIVE
    return Slots(np.stack([x, y], 1).astype(np.float32), np.array(labels, np.int32))


def coarse_polygon(mask: np.ndarray) -> np.ndarray:
    """The outer outline of a mask's largest part, with few corners: (n, 2) int64, 3 corners or more.

    mask: bool (h, w) with a pixel set. Corners are of the pixel grid: pixel (0, 0) covers [0, 1) x [0, 1). Where less
    than a triangle is left of a small or thin part, its box (the released code goes on with a line).
    """
    x0, y0, x1, y1 = box_of(mask).astype(int)
    largest = _largest_part(np.pad(mask[y0 : y1 + 1, x0 : x1 + 1], 1))
    (flat,) = outlines.to_polygons(largest[1:-1, 1:-1])
    outline = np.array(flat).reshape(-1, 2)
    corners = simplify(outline, max(LEAST_TOLERANCE, TOLERANCE * _length(outline)))
    if len(corners) < 3:
        low, high = outline.min(0), outline.max(0)
        corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    return corners + np.array([x0, y0])


def coarse_mask(mask: np.ndarray) -> np.ndarray:
    """`coarse_polygon` filled: bool (h, w). A polygon without the middle of any pixel gives the pixels of its box."""
    corners = coarse_polygon(mask)
    filled = polygons.to_mask([corners.ravel()], mask.shape).astype(bool)
    if not filled.any():
        (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
        filled[y0:y1, x0:x1] = True
    return filled


def coarse_box(mask: np.ndarray) -> np.ndarray:
    """The box of `coarse_polygon`, xyxy (4,) float32, ends included: all that the released code makes of it."""
    corners = coarse_polygon(mask)
    return np.concatenate([corners.min(0), corners.max(0) - 1]).astype(np.float32)


def of_image(path: str, name: str, hw: tuple[int, int]) -> list[Prompt]:
    """The prompts that a file holds for an image of (height, width) `hw`, in its own pixels.

    The file is JSON: {name of the image: [{"box": [x0, y0, x1, y1], "points": [[x, y], ...], "labels": [1, 0, ...]},
    ...], ...}; each prompt has a box, or points, or both, and points without labels are of the object.

    Raises:
      BadInput: the file is missing or damaged, does not know the image, or has a prompt that is none.
    """
    prompts = _of_file(path).get(name)
    if not isinstance(prompts, list):
        raise BadInput(f"{path} has no list of prompts for {name}; make the file again, from these very images")
    return [_prompt(entry, hw, f"{path}: prompt {i} of {name}") for i, entry in enumerate(prompts)]


def check_names(path: str, names: Sequence[str]) -> None:
    """Raises BadInput, before anything has begun, where a file lacks images of those names, or has no prompt at all."""
    known = _of_file(path)
    if lacking := [name for name in names if name not in known]:
        raise BadInput(
            f"{path} has no prompts for {len(lacking)} of {len(names)} images: {first_five(lacking)}; make the file "
            "again, from these very images"
        )
    if not any(known[name] for name in names):
        raise BadInput(
            f"{path} has no prompt for any image, so there is nothing to learn; `sadist label --form prompts` finds "
            "more with a lower --grid.pred-iou-thresh and --grid.stability-score-thresh"
        )


def _of_file(path: str) -> dict[str, Any]:
    try:
        return _read(path, os.stat(path).st_mtime_ns)
    except OSError as error:
        remedy = "name the prompts.json in it" if os.path.isdir(path) else "give a file of prompts"
        raise BadInput(f"{path} cannot be read ({error.strerror}); {remedy}") from None


def from_prompt(prompt: Prompt) -> Slots:
    """A box's two slots, and MOST_POINTS for points, as many of them EMPTY as are not needed."""
    points = np.zeros((2 + MOST_POINTS, 2), np.float32)
    labels = np.full(2 + MOST_POINTS, EMPTY, np.int32)
    if prompt.box is not None:
        points[:2], labels[:2] = from_box(prompt.box)
    if prompt.points is not None and prompt.labels is not None:
        count = len(prompt.points)
        points[2 : 2 + count], labels[2 : 2 + count] = prompt.points, prompt.labels
    return Slots(points, labels)


@functools.lru_cache(1)  # every sample of a run asks for the same file
def _read(path: str, stamp: int) -> dict[str, Any]:
    """stamp: when it was last written, so that a file that was made anew is read anew."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadInput(f"{path} is no file of prompts; it must be JSON, a list of prompts by name of the image")
    return found


def _prompt(entry: Any, hw: tuple[int, int], what: str) -> Prompt:
    if not isinstance(entry, dict) or not entry.keys() & {"box", "points"}:
        raise BadInput(f"{what} has neither a box nor points; give one of them")
    try:
        box = check_box(entry["box"], hw) if "box" in entry else None
        points = check_points(entry["points"], hw) if "points" in entry else None
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from None
    if points is None:
        return Prompt(box=box)
    labels: Any = entry.get("labels", [FOREGROUND] * len(points))
    fit = isinstance(labels, list) and len(labels) == len(points) <= MOST_POINTS
    if not fit or not all(label in (BACKGROUND, FOREGROUND) for label in labels):
        raise BadInput(f"{what} must have one label of 0 or 1 for each point, and {MOST_POINTS} points at most")
    return Prompt(points, np.array(labels, np.int32), box)


def _largest_part(framed: np.ndarray) -> np.ndarray:
    """The largest of the parts of a mask with a ring of background, parts being connected by sides; holes filled."""
    parts = _parts(framed, ndimage.generate_binary_structure(2, 1))
    largest = parts == np.bincount(parts[framed]).argmax()
    around = _parts(~largest, ndimage.generate_binary_structure(2, 2))
    return around != around[0, 0]


def _parts(mask: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Number of the connected part of each pixel, 0 outside."""
    numbers = np.empty(mask.shape, np.int32)
    ndimage.label(mask, neighbours, output=numbers)
    return numbers


def _length(outline: np.ndarray) -> float:
    """Of a closed outline along the edges of pixels, measured through the middles of these edges.

    So a slanted border, which is a staircase here, has its own length and not that of the stairs.
    """
    steps = np.diff(outline, axis=0, append=outline[:1])
    counts = np.abs(steps).sum(1)
    unit = np.repeat(np.sign(steps), counts, 0)
    middles = np.cumsum(unit, 0) - unit / 2
    return float(np.linalg.norm(middles - np.roll(middles, 1, 0), axis=1).sum())
