"""Everything mode of ours against the official SamAutomaticMaskGenerator, mask by mask: same weights, same options.

    python -m benchmarks.everything_agreement --photos DIR --count 20

Three settings: the default grid, two layers of crops, and small regions removed. Thresholds are set so that sam_mini
finds dozens of masks in a photo and every filter rejects a part of its candidates (the shares are printed). A mask
agrees when it has IoU >= 0.99 with the official mask at the same place in the list. Writes
benchmarks/results/everything_agreement.md.
"""

import argparse
import dataclasses
import datetime
import itertools
import statistics
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import tests.parity.conftest  # noqa: F401  stands in for torchvision
from sadist_jax import pretrained
from sadist_jax.codecs.images import open_rgb
from sadist_jax.nn import table
from sadist_jax.predict import everything as generator_file
from sadist_jax.predict.candidates import Candidates
from sadist_jax.predict.everything import MaskGenerator
from sadist_jax.predict.grid import Crop, Everything
from tests.parity import official

from segment_anything import SamAutomaticMaskGenerator  # isort: skip

SAME = 0.99  # IoU
LIMITS: dict[str, Any] = {"pred_iou_thresh": 0.35, "stability_score_thresh": 0.4, "box_nms_thresh": 0.9}
SETTINGS: dict[str, dict[str, Any]] = {
    "default grid": LIMITS,
    "two crop layers": LIMITS
    | {"points_per_side": 16, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2, "crop_nms_thresh": 0.9},
    "minimum area 100": LIMITS | {"points_per_side": 16, "min_mask_region_area": 100},
}
RESULTS = Path(__file__).parent / "results"


def official_generator(sam: Any, params: Any, options: dict[str, Any]) -> SamAutomaticMaskGenerator:
    """The official one with our weights; OpenCV, which it asks for connected parts, is stood in for by SciPy."""
    model = official.build(sam)
    state = table.to_reference(sam.table(), params)
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    with mock.patch.dict(sys.modules, cv2=connected_parts()):
        return SamAutomaticMaskGenerator(model, **options)


def connected_parts() -> types.ModuleType:
    """A module with the one function of OpenCV that segment_anything calls."""
    from scipy import ndimage

    def with_stats(mask: np.ndarray, connectivity: int) -> tuple[int, np.ndarray, np.ndarray, None]:
        assert connectivity == 8
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        stats = np.zeros((count + 1, 5), np.int64)
        stats[:, -1] = np.bincount(labels.ravel(), minlength=count + 1)
        return count + 1, labels, stats, None

    module = types.ModuleType("cv2")
    module.connectedComponentsWithStats = with_stats
    return module


def differing(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    """A line for each mask that is not the other's at the same place."""
    lines = [f"{len(ours)} masks, official {len(theirs)}"] * (len(ours) != len(theirs))
    for i, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if (iou := _iou(a, b)) < SAME:
            scores = [f"{r['predicted_iou']:.6f} / {r['stability_score']:.6f}" for r in (a, b)]
            lines.append(f"mask {i}: IoU {iou:.3f}, scores {scores[0]}, official {scores[1]}")
    return lines


def _iou(a: dict[str, Any], b: dict[str, Any]) -> float:
    x, y = a["segmentation"], b["segmentation"]
    return (x & y).sum() / max(1, (x | y).sum())


def shares(sam: Any, params: Any, options: Everything, image: np.ndarray) -> list[float]:
    """Share of its candidates that each filter rejects: predicted IoU, stability, edges of crops, suppression."""
    counts, fetched = np.zeros(4, int), generator_file._fetched

    def watched(points: np.ndarray, chunk: Candidates, crop: Crop) -> list[Any]:
        iou, stability, passed = (np.asarray(x)[: len(points)] for x in (chunk.iou, chunk.stability, chunk.passed))
        sure = iou > options.pred_iou_thresh
        stable = sure & (stability >= options.stability_score_thresh)
        counts[:] += iou.size, sure.sum(), stable.sum(), passed.sum()
        return fetched(points, chunk, crop)

    with mock.patch.object(generator_file, "_fetched", watched):
        kept = len(MaskGenerator(sam, params, options).generate(image))
    return [1 - after / max(1, before) for before, after in itertools.pairwise([*counts.tolist(), kept])]


def section(name: str, options: dict[str, Any], sam: Any, params: Any, photos: list[Path]) -> str:
    theirs, ours = official_generator(sam, params, options), MaskGenerator(sam, params, Everything(**options))
    found, same, rejected, lines = [], 0, [], []
    for path in photos:
        image = open_rgb(path)
        with mock.patch.dict(sys.modules, cv2=connected_parts()):
            expected = theirs.generate(image)
        records = ours.generate(image)
        wrong = differing(records, expected)
        found.append(len(expected))
        same += sum(_iou(a, b) >= SAME for a, b in zip(records, expected, strict=False))
        rejected.append(shares(sam, params, dataclasses.replace(Everything(**options), min_mask_region_area=0), image))
        lines += [f"* {path.name}: {line}" for line in wrong]
        print(name, path.name, len(expected), len(records), *wrong, sep="; ", flush=True)
    middle = [f"{statistics.median(share):.0%}" for share in zip(*rejected, strict=True)]
    text = (
        f"{len(photos)} photos, {sum(found)} official masks, median {statistics.median(found):g} a photo. The same at "
        f"the same place: {same} ({same / max(1, sum(found)):.2%}). Of its candidates, median over the photos, "
        f"predicted IoU rejects {middle[0]}, stability {middle[1]}, edges of crops {middle[2]}, suppression "
        f"{middle[3]}."
    )
    return "\n".join([f"## {name}", "", f"`{options}`", "", text, "", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of .jpg")
    parser.add_argument("--count", type=int, default=20)
    args = parser.parse_args()
    sam, params = pretrained.load("sam_mini")
    photos = sorted(args.photos.glob("*.jpg"))[: args.count]
    parts = [section(name, options, sam, params, photos) for name, options in SETTINGS.items()]
    head = (
        "# Everything mode beside the official one\n\nsam_mini's weights in both. `python -m "
        f"benchmarks.everything_agreement --photos DIR --count {args.count}`, {datetime.date.today()}, DIR: the test "
        "images of BSDS500.\n"
    )
    page = "\n".join([head, *parts])
    (RESULTS / "everything_agreement.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
