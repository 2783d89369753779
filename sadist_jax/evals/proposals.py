"""Zero-shot proposals: how many of an image's objects are among the masks of everything mode, whatever they are.

Source: Kirillov et al. 2023, "Segment Anything", sec. 7.3 and app. D: average recall (Hosang et al. 2015) of the first
10, 100 and 1000 masks, ranked by the mean of predicted IoU and stability. Matching is that of COCO's evaluation without
categories (cocodataset/cocoapi, `COCOeval` with useCats 0).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from sadist_jax.codecs import rle
from sadist_jax.data import coco_json
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.average_precision import frequencies, load_hotcoco

BUDGETS = (10, 100, 1000)  # SAM reports the last; COCO's evaluation stops at 100
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of IoU, COCO's
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # pixels, ends included: COCO's
ALL = "all"

# Everything mode as SAM's app. D has it: a dense grid, little suppression, no crops and no thresholds (0: none).
EVERYTHING: Mapping[str, Any] = MappingProxyType(
    {
        "points_per_side": 64,
        "pred_iou_thresh": 0.0,
        "stability_score_thresh": 0.0,
        "box_nms_thresh": 0.9,
        "crop_n_layers": 0,
    }
)

# uint8 RGB (H, W, 3) -> records of segment-anything: "segmentation" (RLE), "predicted_iou", "stability_score"
Segment = Callable[[np.ndarray], Sequence[Mapping[str, Any]]]


class Record(NamedTuple):
    """When one object was found.

    image: name of the sample. instance: its position in `Sample.masks`. area: pixels of its mask.
    ranks: for each group that it belongs to (ALL, sizes, frequencies) and each of THRESHOLDS the rank, from 0, of the
      proposal that found it; -1: none did.
    """

    image: str
    instance: int
    area: int
    ranks: dict[str, list[int]]


@dataclass(frozen=True)
class ProposalRecall:
    """Average recall of class-agnostic masks.

    AR@k is the share of objects found by the k best proposals of their image, averaged over THRESHOLDS. The numbers are
    "AR@1000", for a group "AR@1000_small". Works on any source with masks. Crowds neither count nor take proposals away
    from objects, and so do the objects of other groups: COCO's matching prefers those that count.

    annotations: file of LVIS by which objects are also frequent, common or rare; "": they are not.

    Sizes are pixels of the masks; COCO's files give areas of their outlines, which differ a little.

    Example:
      generator = MaskGenerator(model, params, Everything(**EVERYTHING), "coco_rle")
      evaluation = ProposalRecall()
      records = merge(evaluation.update(sample, generator.generate) for sample in samples)
      evaluation.finish(records)["AR@1000"]
    """

    record: ClassVar = Record

    annotations: str = ""

    def update(self, sample: Sample, predict: Segment) -> tuple[Record, ...]:
        """Records of the objects of one image, () when there are only crowds or nothing.

        Raises BadInput: the annotation file is none of LVIS, or lacks a category of the sample.
        """
        hotcoco, names = load_hotcoco(), self._frequencies
        which = np.flatnonzero(~np.asarray(sample.iscrowd)).tolist()
        if not which:
            return ()
        objects = [rle.compress(rle.encode(np.asarray(sample.masks[i], bool))) for i in which]
        areas = [rle.area(code) for code in objects]
        groups = [self._groups(area, int(sample.category[i]), names) for i, area in zip(which, areas, strict=True)]
        masks = [rle.compress(proposal["segmentation"]) for proposal in _best(predict(sample.image))]
        if masks and masks[0]["size"] != objects[0]["size"]:
            raise ValueError(f"proposals have {masks[0]['size']} pixels, {sample.name} has {objects[0]['size']}")
        ious = hotcoco.mask.iou(masks, objects, [False] * len(objects)) if masks else np.zeros((0, len(objects)))
        ranks: list[dict[str, list[int]]] = [{} for _ in which]
        for group in dict.fromkeys(name for some in groups for name in some):
            members = [j for j, some in enumerate(groups) if group in some]
            for j, found in zip(members, match(np.asarray(ious)[:, members]).T.tolist(), strict=True):
                ranks[j][group] = found
        return tuple(Record(sample.name, i, area, r) for i, area, r in zip(which, areas, ranks, strict=True))

    def finish(self, records: Sequence[Record]) -> dict[str, float]:
        """AR@10, AR@100, AR@1000, 0 to 1, of all objects and of each group that has some; "images" and "instances"."""
        numbers: dict[str, float] = {"images": len({r.image for r in records}), "instances": len(records)}
        for group in (ALL, *SIZES, "frequent", "common", "rare"):
            ranks = np.array([r.ranks[group] for r in records if group in r.ranks])
            for k in BUDGETS if len(ranks) else ():
                ending = "" if group == ALL else f"_{group}"
                numbers[f"AR@{k}{ending}"] = float(((ranks >= 0) & (ranks < k)).mean())
        return numbers

    def value(self, record: Record) -> float:
        """Share of the thresholds at which it was found."""
        return float((np.array(record.ranks[ALL]) >= 0).mean())

    @functools.cached_property
    def _frequencies(self) -> dict[Any, str]:
        return frequencies(self.annotations, coco_json.read_tables(self.annotations)[2]) if self.annotations else {}

    def _groups(self, area: int, category: int, names: Mapping[Any, str]) -> list[str]:
        if names and category not in names:
            raise BadInput(f"category {category} is not in {self.annotations}; give the annotation file of the images")
        sizes = [name for name, (least, most) in SIZES.items() if least <= area <= most]
        return [ALL, *sizes, *([names[category]] if names else [])]


def match(ious: np.ndarray) -> np.ndarray:
    """Which proposal finds which object, greedily: (10, n) ranks from 0, -1 for those that none finds.

    At each of THRESHOLDS, each proposal in turn takes the object of highest IoU among those that are left, of equals
    the last, if it reaches the threshold.

    Args:
      ious: (p, n) of p proposals, the best first, with n objects.
    """
    ranks = np.full((len(THRESHOLDS), ious.shape[1]), -1)
    for threshold, found in zip(THRESHOLDS, ranks, strict=True):
        for rank in np.flatnonzero((ious >= threshold).any(1)):
            left = np.where(found < 0, ious[rank], -1.0)
            nearest = len(left) - 1 - int(np.argmax(left[::-1]))
            if left[nearest] >= threshold:
                found[nearest] = rank
    return ranks


def _best(proposals: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """As many as count, the best first; equals stay in the order they came in."""
    order = sorted(proposals, key=lambda p: -(p["predicted_iou"] + p["stability_score"]) / 2)
    return order[: BUDGETS[-1]]
