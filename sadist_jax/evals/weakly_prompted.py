"""Masks for weak prompts: a tight box, scattered points, a coarse mask, and the fixed prompts of a file.

Source: Zhang et al. 2024, arXiv:2312.03502 (WeSAM): a model is asked with the kind of prompt that it was adapted with,
and, across prompts, with others; the score is the mean over images of the mean IoU of their objects (PER_IMAGE). Where
its released code does otherwise: an object's points are drawn once here, so that all models get the same ones; masks
are logits above 0 (released: 0.5) on the pixels of the original (released: of the padded frame).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from sadist_jax.codecs.geometry import longest_side_shape, pad_to_square, resize_mask, scale_points
from sadist_jax.codecs.prompts import Prompt, box_of
from sadist_jax.data import weak_prompts
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.promptable import PER_IMAGE, Areas, Predict, Record, Reply, column, images_of, ious_of, kinds_of

AUTOMATIC = "automatic"
COARSE_LOGIT = 10.0  # of a coarse mask as a prompt, as in methods/adapted.py

Kind = Literal["box", "point", "coarse", "coarse_box"]


@dataclass(frozen=True)
class WeaklyPrompted:
    """IoU of the most confident answer; answers should be single masks, as in training: `multimask=False`.

    Attributes:
      kinds: 'box', tight; 'point', five of the object and five of the rest; 'coarse', a polygon of few corners, drawn
        into the frame as a mask prompt, with its box; 'coarse_box', that box alone (data/weak_frames.py has the same).
      prompts: a file of prompts of whole images (data/weak_prompts.py has its format). With it comes the kind
        AUTOMATIC, which no object has a prompt of its own for: of the answers to all prompts of its image, an object is
        given the best, whoever is asked.
      size: side of the model's frame. logits: side of a mask prompt.
      min_area: objects with fewer pixels in the frame are left out; crowds are, too.
      per_image: at most so many objects, drawn at random, so that crowded images do not dominate; 0: all.
      seed: of the draws, which depend on it, the image's name and the object's position, and on nothing else.
    """

    record: ClassVar = Record

    kinds: tuple[Kind, ...] = ("box", "point", "coarse")
    prompts: str | None = None
    size: int = 1024
    logits: int = 256
    min_area: int = 1
    per_image: int = 0
    seed: int = 0

    def __post_init__(self):
        if not self.kinds and self.prompts is None:
            raise BadInput("nothing is asked: there are no kinds of prompts, and no file of them")
        if min(self.size, self.logits, self.min_area) < 1 or self.per_image < 0 or self.size % self.logits:
            raise BadInput("size, logits and min_area must be 1 or more, per_image not negative, size / logits whole")

    def update(self, sample: Sample, predict: Predict) -> tuple[Record, ...]:
        """Records of one image, () when none of its objects counts."""
        objects = self._choose(sample)
        if not objects:
            return ()
        reply, records = (
            predict(sample.image),
            [Record(sample.name, i, float(m.mean()), {}) for i, m in objects.items()],
        )
        for kind in self.kinds:
            answers = reply([self._prompt(kind, sample.name, i, mask) for i, mask in objects.items()])
            for record, answer, target in zip(records, answers, objects.values(), strict=True):
                record.areas[kind] = _areas(answer.best, target)
        if self.prompts is not None:
            masks = self._automatic(sample, reply)
            for record, target in zip(records, objects.values(), strict=True):
                best = masks[np.argmax(ious_of(masks, target))] if len(masks) else np.zeros_like(target)
                record.areas[AUTOMATIC] = _areas(best, target)
        return tuple(records)

    def finish(self, records: Sequence[Record]) -> dict[str, float]:
        """Mean IoU for each kind of prompt over objects and, with PER_IMAGE, over images; and numbers of both."""
        images, names = np.unique(images_of(records), return_inverse=True)
        numbers: dict[str, float] = {"images": len(images), "instances": len(records)}
        for kind in kinds_of(records):
            ious = column(records, kind)
            numbers[kind] = float(ious.mean())
            numbers[kind + PER_IMAGE] = float((np.bincount(names, ious) / np.bincount(names)).mean())
        return numbers

    def value(self, record: Record) -> float:
        """IoU for the first kind of prompt."""
        return next(iter(record.ious.values()))

    def _choose(self, sample: Sample) -> dict[int, np.ndarray]:
        """Position -> mask of the objects that count, in rising order."""
        content = longest_side_shape(sample.image.shape[:2], self.size)
        masks = {int(i): np.asarray(sample.masks[int(i)], bool) for i in np.flatnonzero(~np.asarray(sample.iscrowd))}
        seen = [i for i, mask in masks.items() if np.count_nonzero(resize_mask(mask, content)) >= self.min_area]
        if self.per_image and len(seen) > self.per_image:
            seen = sorted(self._rng(sample.name, "objects").choice(seen, self.per_image, replace=False).tolist())
        return {i: masks[i] for i in seen}

    def _prompt(self, kind: Kind, name: str, instance: int, mask: np.ndarray) -> Prompt:
        if kind == "box":
            return Prompt(box=box_of(mask))
        if kind == "point":
            points, labels = weak_prompts.from_points(mask, self._rng(name, instance))
            return Prompt(points[labels != weak_prompts.EMPTY], labels[labels != weak_prompts.EMPTY])
        content = longest_side_shape(mask.shape, self.size)
        framed = resize_mask(mask, content)  # where training draws the polygon, too
        corners = weak_prompts.coarse_box(framed).reshape(2, 2)
        box = scale_points(corners, content, mask.shape).ravel()
        if kind == "coarse_box":
            return Prompt(box=box)
        return Prompt(box=box, mask=self._logits(weak_prompts.coarse_mask(framed))[None])

    def _logits(self, framed: np.ndarray) -> np.ndarray:
        """Mask of the content of the frame -> a mask prompt (logits, logits)."""
        cell = self.size // self.logits
        cells = pad_to_square(framed, self.size).reshape(self.logits, cell, self.logits, cell)
        return np.where(cells.mean((1, 3)) >= 0.5, COARSE_LOGIT, -COARSE_LOGIT).astype(np.float32)

    def _automatic(self, sample: Sample, reply: Reply) -> np.ndarray:
        """Masks of all prompts that the file has for the image: bool (n, H, W)."""
        assert self.prompts is not None
        hw = sample.image.shape[0], sample.image.shape[1]
        asked = weak_prompts.of_image(self.prompts, sample.name, hw)
        return np.stack([answer.best for answer in reply(asked)]) if asked else np.zeros((0, *hw), bool)

    def _rng(self, *what: Any) -> np.random.Generator:
        words = "/".join(str(word) for word in (self.seed, *what))
        return np.random.default_rng(list(hashlib.sha256(words.encode("utf-8", "surrogateescape")).digest()))


def _areas(mask: np.ndarray, target: np.ndarray) -> Areas:
    """Pixels of the intersection and of the union."""
    return int(np.count_nonzero(mask & target)), int(np.count_nonzero(mask | target))
