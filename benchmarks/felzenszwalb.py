"""The baseline of the cards: regions of Felzenszwalb and Huttenlocher 2004, without any learning.

Its numbers were chosen on the val split of BSDS500 by benchmarks/felzenszwalb_tuning.py, for each kind of prompt the
best; the table is in benchmarks/results/felzenszwalb_tuning.md.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sadist_jax.codecs.prompts import Prediction, Prompt
from sadist_jax.evals.promptable import Reply


@dataclass(frozen=True)
class Felzenszwalb:
    """`Predict` by regions of scikit-image's `felzenszwalb`.

    One click: the region under it. Several: the regions under the positive clicks; a region that has clicks of both
    kinds is contested. Box: the regions that have more than a share of their area inside, cut off at the box; the
    filled box where there are none.

    scale, sigma, min_size: of `felzenszwalb`.
    inside: the share for boxes; 0 is the filled box.
    contested: regions with clicks of both kinds are "removed", or "split": each of their pixels goes with the nearest
        click in the region.
    """

    scale: float
    sigma: float
    min_size: int
    inside: float = 0.5
    contested: Literal["removed", "split"] = "split"

    def __call__(self, image: np.ndarray) -> Reply:
        return functools.partial(self.reply, self.segment(image))

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Region ids (H, W), from 0."""
        from skimage.segmentation import felzenszwalb

        return felzenszwalb(image, scale=self.scale, sigma=self.sigma, min_size=self.min_size)

    def reply(self, regions: np.ndarray, prompts: Sequence[Prompt]) -> list[Prediction]:
        """One mask for each prompt. Its logits are its values: > 0 is the mask, as in SAM."""
        masks = [self.mask(regions, prompt)[None] for prompt in prompts]
        return [Prediction(mask, np.ones(1), mask.astype(np.float32)) for mask in masks]

    def mask(self, regions: np.ndarray, prompt: Prompt) -> np.ndarray:
        if prompt.box is not None:
            return in_box(regions, prompt.box, self.inside)
        assert prompt.points is not None
        assert prompt.labels is not None
        return under_clicks(regions, prompt.points, prompt.labels, self.contested)


def in_box(regions: np.ndarray, box: np.ndarray, inside: float) -> np.ndarray:
    """(H, W) bool: the part inside the box, inclusive, of regions with more than `inside` of their area in it."""
    x0, y0, x1, y1 = np.round(box).astype(int)
    window = slice(y0, y1 + 1), slice(x0, x1 + 1)
    areas = np.bincount(regions.ravel())
    kept = (np.bincount(regions[window].ravel(), minlength=areas.size) > inside * areas)[regions[window]]
    mask = np.zeros(regions.shape, bool)
    mask[window] = kept if kept.any() else True
    return mask


def under_clicks(
    regions: np.ndarray, points: np.ndarray, labels: np.ndarray, contested: Literal["removed", "split"]
) -> np.ndarray:
    """(H, W) bool: the regions under clicks of label 1; see `Felzenszwalb` for those that are contested."""
    x, y = np.round(points).astype(int).T
    under, positive = regions[y, x], labels == 1
    mask = np.isin(regions, under[positive])
    for region in np.intersect1d(under[positive], under[~positive]):
        rows, columns = np.nonzero(regions == region)
        here = np.flatnonzero(under == region)
        gaps = (rows[:, None] - y[here]) ** 2 + (columns[:, None] - x[here]) ** 2
        mask[rows, columns] = positive[here][gaps.argmin(1)] if contested == "split" else False
    return mask


BOX = Felzenszwalb(scale=60, sigma=0.8, min_size=50, inside=0.9)
ONE_CLICK = Felzenszwalb(scale=300, sigma=0.8, min_size=200)
MORE_CLICKS = Felzenszwalb(scale=300, sigma=0.8, min_size=20, contested="split")
