"""Images and boxes of a COCO file, without masks."""

import copy
import pickle

import numpy as np
import pytest
from pycocotools import mask as reference

from sadist_jax.codecs.prompts import box_of
from sadist_jax.data.coco_pictures import CocoBoxes, CocoPictures, corners
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, rectangle, save, write

PARTS = {
    "images": [
        {"id": 9, "file_name": "a b/ü.png", "height": 20, "width": 30, "coco_url": "x"},
        {"id": 2, "file_name": "z.png", "height": 4, "width": 5},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 3, "bbox": [1, 2, 5, 9], "area": 3, "score": 0.5},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [1, 2, 5, 9], "iscrowd": 1, "segmentation": {}},
        {"id": 3, "image_id": 2, "category_id": 90, "bbox": [5, 0, 3, 3]},
        {"id": 4, "image_id": 2, "category_id": 90, "bbox": [-3, 1.5, 7, 0]},
    ],
    "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
}


@pytest.fixture
def made(tmp_path):
    """(annotations to change, function that writes and opens them)."""
    for number, image in enumerate(PARTS["images"]):
        save(tmp_path / "images" / image["file_name"], noise(image["height"], image["width"], number))
    data = copy.deepcopy(PARTS)

    def open_it(source=CocoBoxes):
        return source(write(tmp_path / "ann.json", data), str(tmp_path / "images")).open()

    return data, open_it


def test_rows_and_pictures_are_the_files(made):
    for source in (CocoPictures, CocoBoxes):
        reader = pickle.loads(pickle.dumps(made[1](source)))
        assert [reader.name(i) for i in range(len(reader))] == ["a b/ü.png", "z.png"]
        assert [reader.row(i) for i in range(2)] == PARTS["images"]
        assert np.array_equal(reader[0].image, noise(20, 30, 0))
        assert len(reader[0].masks) == 0


def test_boxes_that_can_be_asked_about(made):
    """Neither the crowd nor the box right of its image; the one that is cut off at the left stays, without height."""
    reader = made[1]()
    assert reader.boxes(0) == [{"id": 1, "category_id": 3, "bbox": [1, 2, 5, 9], "score": 0.5}]
    assert [box["id"] for box in reader.boxes(1)] == [4]
    assert reader.left_out == {"crowds": 1, "boxes outside their picture": 1}
    assert list(reader.categories) == PARTS["categories"]


def test_pictures_need_no_annotations_and_do_not_depend_on_them(made):
    data, open_it = made
    before = open_it(CocoPictures).digest()
    data["annotations"] = [{"image_id": "nowhere"}]
    assert open_it(CocoPictures).digest() == before
    del data["annotations"], data["categories"]
    assert open_it(CocoPictures).digest() == before
    data["images"][0]["coco_url"] = "y"
    assert open_it(CocoPictures).digest() != before


def test_the_digest_of_boxes_changes_with_them(made):
    data, open_it = made
    before = open_it().digest()
    data["annotations"][0]["bbox"] = [1, 2, 5, 8]
    assert open_it().digest() != before


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
@pytest.mark.parametrize("xyxy", [(3, 0, 7, 5), (0, 0, 20, 10), (19, 9, 20, 10), (4, 2, 5, 10)])
def test_corners_of_coco_s_box_are_sam_s_box_of_the_same_mask(xyxy):
    mask = rectangle((10, 20), *xyxy)
    bbox = reference.toBbox(reference.encode(np.asfortranarray(mask.astype(np.uint8)))).tolist()
    assert corners(bbox, mask.shape).tolist() == box_of(mask).tolist()


@pytest.mark.parametrize(
    ("bbox", "expected"),
    [
        ([-5, -5, 100, 100], [0, 0, 19, 9]),  # cut off
        ([20, 0, 5, 5], None),  # begins behind the last column
        ([-4, 0, 4, 5], None),  # ends before the first
        ([0, -3, 5, 2.5], None),
        ([0, 12, 5, 2], None),
        ([-3.5, 0, 4, 5], [0, 0, 0, 4]),  # half of the first column
        ([2, 3, 0, 0], [2, 3, 2, 3]),
    ],
)
def test_corners_lie_in_the_image(bbox, expected):
    found = corners(bbox, (10, 20))
    assert (None if found is None else found.tolist()) == expected


def change(path, value):
    """Function that sets data[path[0]][path[1]]... to the value."""

    def apply(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (change(["images"], []), '"images"'),
        (change(["images"], None), 'no list "images"'),
        (change(["images", 0, "width"], "wide"), "1 images without id, file_name or a whole height and width"),
        (change(["images", 0, "id"], 2), "whose id another image has|ids that several images have: 2;"),
        (change(["images", 1, "file_name"], "a b/ü.png"), "1 file names that several images have: a b/ü.png;"),
        (change(["images", 1, "file_name"], "../z.png"), r"1 file names that lead out of the folder .*: \.\./z\.png;"),
        (change(["images", 1, "file_name"], "/z.png"), r"1 file names that lead out of the folder .*: /z\.png;"),
        (change(["images", 1, "file_name"], "gone.png"), r"1 of 2 files that .*ann\.json lists .*: gone\.png;"),
    ],
)
@pytest.mark.parametrize("source", [CocoPictures, CocoBoxes])
def test_wrong_images_are_refused_on_opening(made, source, spoil, why):
    data, open_it = made
    spoil(data)
    with pytest.raises(BadInput, match=why):
        open_it(source)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (change(["annotations"], []), 'an empty list "annotations"'),
        (change(["annotations", 0, "image_id"], 99), "1 annotations of images that are not in its list .*: 1;"),
        (change(["annotations", 0, "category_id"], 4), "1 category ids that are not in its list .*: 4;"),
        (change(["annotations", 0, "id"], None), "1 annotations without an id: number 0;"),
        (change(["annotations", 0, "id"], 3), "1 ids that several annotations have: 3;"),
        (change(["annotations", 0, "bbox"], None), "1 annotations whose bbox is not .* in finite numbers: 1;"),
        (change(["annotations", 0, "bbox"], [1, 2, 3]), "1 annotations whose bbox is not"),
        (change(["annotations", 0, "bbox"], [1, 2, -3, 4]), "1 annotations whose bbox is not"),
        (change(["annotations", 0, "bbox"], [1, float("nan"), 3, 4]), "1 annotations whose bbox is not"),
        (change(["annotations", 0, "bbox"], [1, "2", 3, 4]), "1 annotations whose bbox is not"),
        (lambda data: [a.update(iscrowd=1) for a in data["annotations"]], "only crowds and boxes outside"),
    ],
)
def test_wrong_boxes_are_refused_on_opening(made, spoil, why):
    data, open_it = made
    spoil(data)
    with pytest.raises(BadInput, match=why) as caught:
        open_it()
    assert "ann.json" in str(caught.value)


def test_a_picture_of_another_size_is_a_damaged_sample(made, tmp_path):
    reader = made[1]()
    save(tmp_path / "images" / "z.png", noise(21, 30))
    with pytest.raises(Unreadable, match=r"z.png has 21 x 30 pixels \(h x w\), but its annotation is for 4 x 5"):
        reader[1]
