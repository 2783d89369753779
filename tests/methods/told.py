"""A stand-in for `Adapted` whose answers are its parameters, one set for each view."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax.methods.adapted import Adapted, Answers
from sadist_jax.models.sam import Sam

SIDE, LOGITS, GRID = 16, 8, 2  # pixels of the frame, of the mask logits and of the embedding
CELL = LOGITS // GRID


@dataclasses.dataclass(frozen=True)
class Told(Adapted):
    """Parameters `told.logits` (2, B, K, 8, 8), `told.iou` (2, B, K), `told.features` (2, B, 2, 2, C); view 0 is black.

    An image whose pixels are 1 is view 1.
    """

    sam: Sam = Sam()

    def answer(self, params, image, batch):
        return self.decode(params, params["told"]["features"][image[0, 0, 0, 0]], batch, image[0, 0, 0, 0])

    def decode(self, params, embedding, batch, view=0):
        return Answers(embedding, params["told"]["logits"][view], params["told"]["iou"][view])


def answers(seed, images=2, instances=3, channels=5):
    """Parameters at random."""
    rng = np.random.default_rng(seed)
    shapes = {
        "logits": (2, images, instances, LOGITS, LOGITS),
        "iou": (2, images, instances),
        "features": (2, images, GRID, GRID, channels),
    }
    return {"told": {name: jnp.array(rng.normal(0, 2, shape), jnp.float32) for name, shape in shapes.items()}}


def batch(images=2, instances=3, **changes):
    rows = {
        "image": np.zeros((images, SIDE, SIDE, 3), np.uint8),
        "strong": np.ones((images, SIDE, SIDE, 3), np.uint8),
        "size": np.full((images, 2), SIDE, np.int32),
        "instance": np.ones((images, instances), bool),
        "points": np.zeros((images, instances, 2, 2), np.float32),
        "labels": np.tile(np.array([2, 3], np.int32), (images, instances, 1)),
        "index": np.arange(images, dtype=np.int32),
        "weight": np.ones(images, np.float32),
    }
    return rows | changes


def loss(method, params, anchor, rows, extra=None, step=1):
    """-> ({name: ratio}, training loss, metrics as ratios), through jit."""

    @jax.jit
    def computed(params, anchor, rows, extra):
        frozen = {"model": {}, "anchor": anchor}
        terms, aux = method.loss({"model": params}, frozen, extra, rows, jax.random.key(0), step)
        ratios = {name: total / weight for name, (total, weight, _) in terms.items()}
        total = sum(c * ratios[name] for name, (_, _, c) in terms.items())
        return ratios, total, {n: t / jnp.maximum(w, 1e-9) for n, (t, w) in aux.get("metrics", {}).items()}

    return computed(params, anchor, rows, extra or {})


# float64, with loops, from the formulas --------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def entropy(x, t):
    """Binary cross-entropy of a pixel."""
    p = sigmoid(x)
    return -np.log(np.where(t, p, 1 - p))


def focal(x, t, alpha):
    """x, t: all pixels of all instances of one image."""
    e = entropy(x, t)
    return (alpha * (1 - np.exp(-e)) ** 2 * e).mean()


def dice(x, t, smooth):
    p = sigmoid(x).ravel()
    t = np.asarray(t, np.float64).ravel()
    return 1 - (2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth)


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def cells(logits):
    """torch's bilinear at a quarter of the size: the middle four of 16 pixels."""
    k = len(logits)
    blocks = np.asarray(logits, np.float64).reshape(k, GRID, CELL, GRID, CELL)
    return blocks[:, :, 1:3, :, 1:3].mean((2, 4)) > 0


def features(embedding, masks):
    """(h, w, c), (k, h, w) -> (k, c)."""
    e = np.asarray(embedding, np.float64)
    unit = e / np.linalg.norm(e, axis=-1, keepdims=True)
    return np.stack([unit[m].sum(0) / max(m.sum(), 1) for m in masks])


def similarity(x, y, temperature=0.3):
    def one(a, b):
        length = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / length if length else 0.0

    return np.array([[one(a, b) for b in y] for a in x]) / temperature
