"""Masks for the boxes of an annotation file; sam_mini sees a bright rectangle, a stub stands in for the rest."""

import numpy as np
import pytest

import sadist_jax
from sadist_jax.codecs import rle
from sadist_jax.codecs.prompts import Prediction
from sadist_jax.predict import box_masks
from sadist_jax.predict.box_masks import masks_of_boxes


class Stub:
    """Answers a box with three masks: nothing, the box itself, everything; the second is the surest."""

    def __init__(self):
        self.asked, self.image = [], None

    def set_image(self, image):
        self.image = image

    def predict_many(self, prompts):
        self.asked.append(len(prompts))
        return [self.answer(*prompt.box.astype(int)) for prompt in prompts]

    def answer(self, x0, y0, x1, y1):
        masks = np.zeros((3, *self.image.shape[:2]), bool)
        masks[1, y0 : y1 + 1, x0 : x1 + 1] = masks[2] = True
        return Prediction(masks, np.array([0.1, 0.9, 0.5], np.float32), np.zeros((3, 4, 4), np.float32))


def test_a_row_gets_the_surest_mask_and_keeps_the_rest():
    image = np.zeros((20, 30, 3), np.uint8)
    rows = [
        {"id": 8, "category_id": 3, "bbox": [2, 3, 4, 5], "attributes": {"wet": True}},
        {"id": 5, "category_id": 1, "bbox": [25.0, 15.0, 90.0, 90.0], "iscrowd": 0},
    ]
    first, second = masks_of_boxes(Stub(), image, rows)
    assert rle.bbox(first["segmentation"]) == [2, 3, 4, 5]  # the pixels of a COCO box are the box
    assert {k: first[k] for k in rows[0]} == rows[0]
    assert (first["area"], first["iscrowd"]) == (20, 0)
    assert first["predicted_iou"] == pytest.approx(0.9)
    assert rle.bbox(second["segmentation"]) == [25, 15, 5, 5]
    assert second["bbox"] == [25.0, 15.0, 90.0, 90.0]


def test_a_picture_without_boxes_is_not_even_encoded():
    stub = Stub()
    assert masks_of_boxes(stub, np.zeros((4, 4, 3), np.uint8), []) == []
    assert stub.image is None


def test_an_empty_mask_is_an_annotation_all_the_same():
    stub = Stub()
    stub.answer = lambda *box: Prediction(np.zeros((1, 4, 4), bool), np.ones(1, np.float32), np.zeros((1, 4, 4)))
    (record,) = masks_of_boxes(stub, np.zeros((4, 4, 3), np.uint8), [{"id": 1, "bbox": [0, 0, 2, 2]}])
    assert record["area"] == 0
    assert not rle.decode(record["segmentation"]).any()


@pytest.mark.parametrize(("pixels", "asked"), [(3 * 600, [1] * 5), (3 * 600 * 3, [2, 2, 1]), (2**27, [5])])
def test_large_photos_are_asked_about_few_boxes_at_a_time(monkeypatch, pixels, asked):
    monkeypatch.setattr(box_masks, "PIXELS", pixels)
    stub, rows = Stub(), [{"id": i, "bbox": [i, 0, 2, 2]} for i in range(5)]
    records = masks_of_boxes(stub, np.zeros((20, 30, 3), np.uint8), rows)
    assert stub.asked == asked
    assert [rle.bbox(record["segmentation"]) for record in records] == [row["bbox"] for row in rows]


def test_a_rectangle_is_found_in_a_box_that_is_a_little_loose():
    image = np.full((120, 160, 3), 60, np.uint8)
    image[40:90, 30:100] = (220, 180, 40)
    predictor = sadist_jax.Predictor(*sadist_jax.load("sam_mini"))
    (record,) = masks_of_boxes(predictor, image, [{"id": 1, "bbox": [27, 37, 76, 56]}])
    found, wanted = rle.decode(record["segmentation"]).astype(bool), np.zeros((120, 160), bool)
    wanted[40:90, 30:100] = True
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9
