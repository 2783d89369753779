"""Prompts of masks that are drawn here, and of what everything mode finds."""

import json

import numpy as np
import pytest

from sadist_jax.codecs import rle
from sadist_jax.codecs.prompts import box_of
from sadist_jax.data import weak_prompts
from sadist_jax.predict.automatic_prompts import prompts_of
from sadist_jax.predict.everything import Everything, MaskGenerator
from tests.adapt import tiny
from tests.data.made import noise, rectangle

HW = (20, 30)


def record(mask, click):
    """As everything mode writes it: w = last - first."""
    x0, y0, x1, y1 = (int(x) for x in box_of(mask))
    segmentation = rle.compress(rle.encode(mask))
    return {"segmentation": segmentation, "bbox": [x0, y0, x1 - x0, y1 - y0], "point_coords": [click]}


@pytest.mark.parametrize(
    ("click", "on_it"),
    [([12.0, 9.0], True), ([10.5, 4.5], True), ([24.4, 12.4], True), ([24.6, 9.0], False), ([2.0, 9.0], False)],
)
def test_a_mask_becomes_its_box_and_its_click(click, on_it):
    """Columns 10 to 24, rows 4 to 12. A pixel reaches half a pixel around its whole number."""
    (prompt,) = prompts_of([record(rectangle(HW, 10, 4, 25, 13), click)])
    assert prompt == {"box": [10, 4, 24, 12]} | ({"points": [click]} if on_it else {})


def test_a_click_in_a_hole_does_not_contradict_the_mask():
    ring = rectangle(HW, 5, 5, 15, 15) & ~rectangle(HW, 8, 8, 12, 12)
    assert prompts_of([record(ring, [10.0, 10.0]), record(ring, [6.0, 6.0])]) == [
        {"box": [5, 5, 14, 14]},
        {"box": [5, 5, 14, 14], "points": [[6.0, 6.0]]},
    ]


def test_a_picture_without_masks_has_no_prompt():
    assert prompts_of([]) == []


def test_prompts_of_everything_mode_are_read_by_the_training(tmp_path):
    """Boxes are those of the masks, pixel for pixel; smallest pictures too."""
    options = Everything(2, pred_iou_thresh=-9, stability_score_thresh=0)
    generator, path = MaskGenerator(tiny.SAM, tiny.params(tiny.SAM), options, "coco_rle"), tmp_path / "prompts.json"
    records = {f"{h}x{w}.png": generator.generate(noise(h, w)) for h, w in (HW, (1, 1))}
    path.write_text(json.dumps({name: prompts_of(found) for name, found in records.items()}))
    clicks = 0
    for name, hw in (("20x30.png", HW), ("1x1.png", (1, 1))):
        prompts = weak_prompts.of_image(str(path), name, hw)
        assert len(prompts) == len(records[name]) > 0
        for prompt, found in zip(prompts, records[name], strict=True):
            mask = rle.decode(found["segmentation"])
            np.testing.assert_array_equal(prompt.box, box_of(mask))
            if prompt.points is not None:
                (x, y), clicks = np.rint(prompt.points[0]).astype(int), clicks + 1
                assert mask[y, x]
    assert clicks
