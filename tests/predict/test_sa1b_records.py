"""Records of prompts as SA-1B's files have them."""

import numpy as np
import pytest

from sadist_jax.codecs import rle
from sadist_jax.codecs.prompts import Prompt
from sadist_jax.predict.sa1b import annotation_file, described, prompted_record


def mask(rows, columns):
    found = np.zeros((6, 9), bool)
    found[rows, columns] = True
    return found


def test_a_record_has_sam_s_box_and_the_prompt():
    prompt = Prompt(np.array([[3.0, 2.0], [8.0, 0.5]], np.float32), np.array([1.0, 0.0]), np.array([2, 1, 5, 3]))
    record = prompted_record(prompt, mask(slice(1, 4), slice(2, 6)), 0.75)
    assert record.pop("segmentation").sum() == 12
    assert record == {
        "area": 12, "bbox": [2, 1, 3, 2], "predicted_iou": 0.75, "point_coords": [[3.0, 2.0], [8.0, 0.5]],
        "point_labels": [1, 0], "box_prompt": [2.0, 1.0, 5.0, 3.0],
    }  # fmt: skip


def test_clicks_without_labels_are_on_the_object():
    record = prompted_record(Prompt(np.array([[3, 2]])), mask(0, 0), 0.5)
    assert record["point_labels"] == [1]
    assert "box_prompt" not in record


def test_an_empty_mask_has_a_box_of_zeros():
    record = prompted_record(Prompt(box=np.array([0, 0, 1, 1])), np.zeros((6, 9), bool), 0.5)
    assert (record["area"], record["bbox"]) == (0, [0, 0, 0, 0])


@pytest.mark.parametrize("form", [lambda m: m, rle.encode, lambda m: rle.compress(rle.encode(m))])
def test_a_file_numbers_records_that_have_no_id(form):
    found = [mask(slice(0, 2), slice(0, 3)), mask(5, 8)]
    records = [{"segmentation": form(found[0])}, {"segmentation": form(found[1]), "id": 70}]
    content = annotation_file(described("a.jpg", (6, 9), 4), records)
    assert content["image"] == {"image_id": 4, "width": 9, "height": 6, "file_name": "a.jpg"}
    assert [annotation["id"] for annotation in content["annotations"]] == [1, 70]
    for annotation, wanted in zip(content["annotations"], found, strict=True):
        assert isinstance(annotation["segmentation"]["counts"], str)
        assert np.array_equal(rle.decode(annotation["segmentation"]), wanted)
