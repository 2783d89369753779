import json

import numpy as np
import pytest

from sadist_jax.data.coco_json import read_tables
from sadist_jax.data.detections import NO_BOXES, read_boxes
from sadist_jax.errors import BadInput
from tests.data.made import write

IMAGES = {7: {"height": 20, "width": 30}, "x": {"height": 4, "width": 5}, 8: {"height": 9, "width": 9}}
ROWS = [
    {"image_id": 7, "category_id": 3, "bbox": [1, 2, 5.5, 9], "score": 0.5},
    {"image_id": "x", "category_id": 90, "bbox": [0, 0, 5, 4], "score": 1, "segmentation": "unread"},
    {"image_id": 7, "category_id": 90, "bbox": [-0.25, 15, 40, 10], "score": -2.5},
    {"image_id": 7, "category_id": 3, "bbox": [30, 0, 4, 4], "score": 0.25},
    {"image_id": 7, "category_id": 3, "bbox": [-5, 0, 5, 4], "score": 0.25},
    {"image_id": 7, "category_id": 3, "bbox": [3, 3, 0, 4], "score": 0.25},
]
CATEGORIES = (3, 90)


def test_boxes_are_corners_within_their_image_in_the_files_order(tmp_path):
    found = read_boxes(write(tmp_path / "boxes.json", ROWS), IMAGES, CATEGORIES)
    assert list(found) == [7, "x"]
    seven = found[7]
    assert seven.xyxy[:2].tolist() == [[1, 2, 6.5, 11], [0, 15, 30, 20]]
    assert seven.scores.tolist() == [0.5, -2.5, 0.25, 0.25, 0.25]
    assert seven.categories.tolist() == [3, 90, 3, 3, 3]
    assert seven.empty.tolist() == [False, False, True, True, True]  # right of the image, left of it, no width
    assert found["x"].xyxy.tolist() == [[0, 0, 5, 4]]
    assert not found["x"].empty.any()


def test_boxes_are_taken_by_place_or_by_truth(tmp_path):
    boxes = read_boxes(write(tmp_path / "boxes.json", ROWS), IMAGES, CATEGORIES)[7]
    assert boxes.take(~boxes.empty).scores.tolist() == boxes.take(np.arange(2)).scores.tolist() == [0.5, -2.5]
    assert NO_BOXES.take(NO_BOXES.empty).xyxy.shape == (0, 4)


def test_a_file_without_categories_accepts_all(tmp_path):
    assert len(read_boxes(write(tmp_path / "boxes.json", ROWS), IMAGES, ())[7].scores) == 5


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"image_id": 9}, "1 image ids that the annotation file does not have: 9;"),
        ({"image_id": "7"}, "1 image ids that the annotation file does not have: 7;"),
        ({"category_id": 4}, "1 category ids that the annotation file does not have: 4;"),
        ({"category_id": "cat"}, "1 detections without an image_id, a whole category_id, .*: number 0;"),
        ({"category_id": 3.5}, "1 detections without"),
        ({"image_id": None}, "1 detections without"),
        ({"image_id": [7]}, "1 detections without"),
        ({"bbox": [1, 2, -1, 3]}, r"1 detections whose bbox is not \[x, y, w, h\] in finite .*: number 0;"),
        ({"bbox": [1, 2, 3]}, "1 detections whose bbox"),
        ({"bbox": [1, 2, 3, float("nan")]}, "1 detections whose bbox"),
        ({"bbox": [1, 2, 3, 10**400]}, "1 detections whose bbox"),
        ({"bbox": [1, 2, 3, "4"]}, "1 detections whose bbox"),
        ({"bbox": None}, "1 detections whose bbox"),
        ({"score": float("nan")}, "1 scores that are none: number 0;"),
        ({"score": None}, "1 scores that are none"),
    ],
)
def test_wrong_detections_are_counted_and_named(tmp_path, change, why):
    path = write(tmp_path / "boxes.json", [ROWS[0] | change, *ROWS[1:]])
    with pytest.raises(BadInput, match=f"boxes.json has {why}"):
        read_boxes(path, IMAGES, CATEGORIES)


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_missing_key_is_named(tmp_path, key):
    rows = [{k: v for k, v in row.items() if k != key} for row in ROWS]
    with pytest.raises(BadInput, match=r"has 6 detections without .*: number 0, number 1, .*, \.\.\.;"):
        read_boxes(write(tmp_path / "boxes.json", rows), IMAGES, CATEGORIES)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "holds a dict, not a list of detections"),
        ("[]", "holds no detections"),
        ("[3]", "has 1 detections without"),
    ],
)
def test_a_file_that_holds_no_detections_is_refused(tmp_path, text, why):
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=f"boxes.json {why}"):
        read_boxes(path, IMAGES, CATEGORIES)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere.json cannot be read \(No such file or directory\)"):
        read_boxes(tmp_path / "nowhere.json", IMAGES, CATEGORIES)


def test_images_of_lvis_are_named_by_their_address(tmp_path):
    image = {"id": 397133, "height": 427, "width": 640}
    address = "http://images.cocodataset.org/val2017/000000397133.jpg"
    rows = [image | {"coco_url": address}, image | {"id": 1, "file_name": "a.jpg", "coco_url": address}]
    data = {"images": rows, "annotations": [{"id": 1, "image_id": 1}]}
    images, _, _ = read_tables(write(tmp_path / "lvis.json", data))
    assert [row["file_name"] for row in images.values()] == ["val2017/000000397133.jpg", "a.jpg"]
    for wrong in ({}, {"coco_url": None}, {"file_name": None, "coco_url": address}):
        (tmp_path / "lvis.json").write_text(json.dumps(data | {"images": [image | wrong, rows[1]]}))
        with pytest.raises(BadInput, match=r"1 images without id, file_name or .*: 397133;"):
            read_tables(tmp_path / "lvis.json")
