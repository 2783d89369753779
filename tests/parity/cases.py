"""The prompts that are compared, as the official code takes them one by one and as ours takes them all at once."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from sadist_jax.models.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY, Prompts


class Case(NamedTuple):
    """One prompt in xy pixels of the padded input frame. mask: (h, w) logits at four times the embedding's size."""

    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    box: np.ndarray | None = None
    mask: np.ndarray | None = None


def cases(side: int, masks: int) -> dict[str, Case]:
    """One of each kind, in a frame of `side` pixels; `masks`: side of a mask prompt."""

    def at(*xy):
        return (np.array(xy, np.float32) * side / 1024).round(1)

    y, x = np.mgrid[:masks, :masks] / masks
    blob = (6 - 40 * np.hypot(x - 0.45, y - 0.4) + np.sin(31 * x + 17 * y)).astype(np.float32)
    box = at(212.5, 130, 655, 540.75)
    one, negative = np.array([1], np.int32), np.array([1, 0, 1], np.int32)
    three = at((500, 375), (90.5, 600), (640.25, 300))
    return {
        "point": Case(at((420.5, 311.25)), one),
        "points with a negative": Case(three, negative),
        "not a point": Case(at((420.5, 311.25), (7, 3)), np.array([1, -1], np.int32)),
        "box": Case(box=box),
        "box and point": Case(at((333, 250)), np.array([0], np.int32), box),
        "mask": Case(mask=blob),
        "mask, points and box": Case(three, negative, box, blob),
    }


def batch(prompts: list[Case], slots: int) -> Prompts:
    """Ragged prompts of one image as rows of `slots` slots: points first, then the box's corners, then EMPTY."""
    points = np.zeros((1, len(prompts), slots, 2), np.float32)
    labels = np.full((1, len(prompts), slots), EMPTY, np.int32)
    side = max((len(case.mask) for case in prompts if case.mask is not None), default=0)
    masks = np.zeros((1, len(prompts), side, side), np.float32)
    for i, case in enumerate(prompts):
        n = 0 if case.points is None else len(case.points)
        if n:
            points[0, i, :n], labels[0, i, :n] = case.points, case.labels
        if case.box is not None:
            points[0, i, n : n + 2] = case.box.reshape(2, 2)
            labels[0, i, n : n + 2] = BOX_TOP_LEFT, BOX_BOTTOM_RIGHT
        if case.mask is not None:
            masks[0, i] = case.mask
    has_mask = np.array([[case.mask is not None for case in prompts]])
    arrays = (points, labels, masks, has_mask) if side else (points, labels)
    return Prompts(*map(jnp.asarray, arrays))
