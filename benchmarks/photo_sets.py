"""The research-only photos that things are measured on: where they lie in their folders."""

from pathlib import Path

from sadist_jax.data.bsds import Bsds
from sadist_jax.data.coco_panoptic import CocoPanoptic


def bsds500(folder: Path, split: str) -> Bsds:
    """BSDS500 as Berkeley distributes it; split: train, val or test."""
    return Bsds(str(folder / "images" / split), str(folder / "groundTruth" / split))


def coco200(folder: Path, split: str) -> CocoPanoptic:
    """Photos of COCO 2017 with panoptic segments, in COCO's own layout; split: train2017 or val2017."""
    segments = folder / f"panoptic_segmentation/annotations/panoptic_{split}"
    return CocoPanoptic(f"{segments}.json", str(segments), str(folder / "images" / split))
