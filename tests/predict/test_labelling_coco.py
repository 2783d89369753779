"""Labels of the images of a COCO file: what it says of them, and its boxes, stay."""

import json

import numpy as np
import pytest

from sadist_jax.codecs import rle
from sadist_jax.data.coco_pictures import CocoBoxes, CocoPictures
from sadist_jax.predict.labelling import Labelling
from tests.data.made import noise, save, write
from tests.predict.labelled import halves

SET = {
    "images": [
        {"id": 139, "file_name": "b.png", "height": 20, "width": 30, "license": 3},
        {"id": 7, "file_name": "a.png", "height": 8, "width": 9},
        {"id": 40, "file_name": "none.png", "height": 8, "width": 9},
    ],
    "annotations": [
        {"id": 900, "image_id": 7, "category_id": 18, "bbox": [1, 1, 4, 3], "iscrowd": 0},
        {"id": 12, "image_id": 139, "category_id": 2, "bbox": [0, 0, 9, 9], "segmentation": [[0, 0, 9, 0, 9, 9]]},
        {"id": 13, "image_id": 139, "category_id": 18, "bbox": [3, 4, 20, 10], "iscrowd": 1},
    ],
    "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 2, "name": "bicycle"}],
}


@pytest.fixture
def coco_set(tmp_path):
    """(file, folder) of three images, one with a picture more that the file does not list."""
    for image in SET["images"]:
        save(tmp_path / "images" / image["file_name"], noise(image["height"], image["width"]))
    save(tmp_path / "images" / "unlisted.png", noise(8, 9))
    return write(tmp_path / "set.json", SET), str(tmp_path / "images")


def test_images_of_a_coco_file_keep_what_it_says_of_them(coco_set, tmp_path):
    reader = CocoPictures(*coco_set).open()
    Labelling(reader, tmp_path / "out", "coco", {}).run(halves, say=lambda _: None)
    whole = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert whole["images"] == SET["images"]
    assert [a["image_id"] for a in whole["annotations"]] == [139, 139, 7, 7, 40, 40]
    assert whole["categories"] == [{"id": 1, "name": "object"}]
    Labelling(reader, tmp_path / "each", "sa1b", {}).run(halves, say=lambda _: None)
    image = json.loads((tmp_path / "each" / "b.json").read_text())["image"]
    assert image == {"image_id": 139, "file_name": "b.png", "height": 20, "width": 30, "license": 3}


def test_annotations_keep_ids_categories_and_boxes(coco_set, tmp_path):
    reader = CocoBoxes(*coco_set).open()

    def filled(index, image):
        mask = rle.compress(rle.encode(np.ones(image.shape[:2])))
        return [{**row, "segmentation": mask, "area": 1} for row in reader.boxes(index)]

    Labelling(reader, tmp_path / "out", "coco", {}, categories=reader.categories).run(filled, say=lambda _: None)
    whole = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert whole["images"] == SET["images"]
    assert whole["categories"] == SET["categories"]
    named = {a["id"]: (a["image_id"], a["category_id"], a["bbox"]) for a in whole["annotations"]}
    assert named == {12: (139, 2, [0, 0, 9, 9]), 900: (7, 18, [1, 1, 4, 3])}
    Labelling(reader, tmp_path / "each", "sa1b", {}, categories=reader.categories).run(filled, say=lambda _: None)
    assert [a["id"] for a in json.loads((tmp_path / "each" / "b.json").read_text())["annotations"]] == [12]
    assert json.loads((tmp_path / "each" / "none.json").read_text())["annotations"] == []
