"""Everything mode of a photo against the official SamAutomaticMaskGenerator: same weights, grid and thresholds.

sam_mini has its own weights. A ViT-B's are drawn, so its masks mean nothing, but the work is the same; thresholds are
put where about half of the candidates pass each filter. Drawn weights make masks that all reach the photo's borders, so
that their boxes are one; none is suppressed there. The masks of both are compared: how many, and how many cover each
pixel.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Contender, Op

CHUNK = 64  # clicks at once, the official default
FORM = "uncompressed_rle"  # of the masks
THRESHOLDS = "thresholds.json"
PASS = 0.5  # of the candidates, at each of the first two filters


def cases(*, tiny: bool = False) -> list[Case]:
    def case(size: str, side: int) -> Case:
        title = f"Everything mode, SAM {size}, {side} x {side} clicks, a photo of 512 x 512"
        contenders = Contender("segment-anything, eager", official, torch=True), Contender("sadist_jax", ours)
        options = {"size": size, "side": side}
        return Case(f"everything_{size}", title, contenders, prepare, options, tolerance=0.02)

    return [case("mini", 4)] if tiny else [case("mini", 32), case("vit_b", 16)]


def photo() -> np.ndarray:
    import skimage.data

    return skimage.data.astronaut()


def prepare(folder: Path, size: str, side: int) -> None:
    """weights.pth, and thresholds from the scores of a few clicks."""
    from benchmarks.case import draw
    from sadist_jax import pretrained
    from sadist_jax.models.sam import Sam
    from sadist_jax.predict.everything import MaskGenerator
    from sadist_jax.predict.grid import Everything

    if size == "mini":
        pretrained.save(folder / "weights.pth", *pretrained.load("sam_mini"))
    else:
        draw(folder, getattr(Sam, size)().table())
    few = {"points_per_side": 6, "points_per_batch": 36, "box_nms_thresh": 1.0}
    limits: dict[str, float] = {"pred_iou_thresh": -1e9, "stability_score_thresh": 0.0}
    for name, score in (("pred_iou_thresh", "predicted_iou"), ("stability_score_thresh", "stability_score")):
        generator = MaskGenerator(*pretrained.load(folder / "weights.pth"), Everything(**few, **limits))
        limits[name] = float(np.quantile([record[score] for record in generator.generate(photo())], 1 - PASS))
    nms = 0.9 if size == "mini" else 1.0
    (folder / THRESHOLDS).write_text(json.dumps(limits | {"box_nms_thresh": nms}))


def official(folder: Path, size: str, side: int) -> Op:
    import tests.parity.conftest  # noqa: F401  stands in for torchvision
    from benchmarks.sam_encoder import build_official
    from segment_anything import SamAutomaticMaskGenerator  # isort: skip

    limits = json.loads((folder / THRESHOLDS).read_text())
    options = {"points_per_side": side, "points_per_batch": CHUNK, "output_mode": FORM}
    generator, image = SamAutomaticMaskGenerator(build_official(folder, size), **options, **limits), photo()
    return Op(lambda: generator.generate(image), lambda: outputs(generator.generate(image)))


def ours(folder: Path, size: str, side: int) -> Op:
    from sadist_jax import pretrained
    from sadist_jax.predict.everything import MaskGenerator
    from sadist_jax.predict.grid import Everything

    limits = json.loads((folder / THRESHOLDS).read_text())
    options = Everything(points_per_side=side, points_per_batch=CHUNK, **limits)
    generator = MaskGenerator(*pretrained.load(folder / "weights.pth"), options, FORM)
    image = photo()
    return Op(lambda: generator.generate(image), lambda: outputs(generator.generate(image)))


def outputs(records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The number of masks in hundreds, and the share of them that covers each pixel."""
    from sadist_jax.codecs import rle

    cover = sum((rle.decode(record["segmentation"]).astype(np.float32) for record in records), np.zeros(1, np.float32))
    return {"masks": np.float32(len(records) / 100), "cover": cover / max(1, len(records))}
