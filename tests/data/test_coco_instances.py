import copy
import warnings

import numpy as np
import pytest
from pycocotools import mask as reference

from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import corners, noise, rectangle, save, write

HW = (20, 30)


def uncompressed(mask):
    """RLE by definition: runs down the columns, zeros first."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != value:
            counts.append(0)
            value = not value
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def compressed(mask):
    rle = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


MASKS = [
    rectangle(HW, 1, 2, 5, 9) | rectangle(HW, 10, 3, 14, 6),  # two parts
    rectangle(HW, 0, 0, 3, 3),
    rectangle(HW, 20, 10, 30, 20),
    rectangle(HW, 6, 6, 9, 9),
]
PARTS = {
    "images": [
        {"id": 7, "file_name": "a b/ü.png", "height": 20, "width": 30},
        {"id": 9, "file_name": "only crowd.png", "height": 4, "width": 5},
        {"id": 8, "file_name": "z.png", "height": 20, "width": 30},
        {"id": 6, "file_name": "nothing.png", "height": 4, "width": 5},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [corners(1, 2, 5, 9), corners(10, 3, 14, 6)]},
        {"id": 2, "image_id": 8, "category_id": 90, "segmentation": [corners(6, 6, 9, 9)]},
        {"id": 3, "image_id": 7, "category_id": 90, "iscrowd": 1, "segmentation": uncompressed(MASKS[1])},
        {"id": 4, "image_id": 7, "category_id": 3, "iscrowd": 0, "segmentation": compressed(MASKS[2])},
        {"id": 5, "image_id": 9, "category_id": 3, "iscrowd": 1, "segmentation": uncompressed(np.eye(4, 5))},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}],
}


@pytest.fixture
def made(tmp_path):
    """(annotations to change, function that writes and opens them)."""
    for number, image in enumerate(PARTS["images"]):
        save(tmp_path / "images" / image["file_name"], noise(image["height"], image["width"], number))
    data = copy.deepcopy(PARTS)

    def open_it(**options):
        return CocoInstances(write(tmp_path / "ann.json", data), str(tmp_path / "images"), **options).open()

    return data, open_it


def test_masks_crowds_and_categories_are_as_annotated(made):
    reader = made[1]()
    assert [reader.name(i) for i in range(len(reader))] == ["a b/ü.png", "z.png"]
    first, second = reader[0], reader[1]
    assert np.array_equal(first.image, noise(20, 30, 0))
    assert np.array_equal(np.stack(first.masks), np.stack(MASKS[:3]))
    assert np.stack(first.masks).dtype == bool
    assert first.iscrowd.tolist() == [False, True, False]
    assert first.category.tolist() == [3, 90, 3]
    assert np.array_equal(np.stack(second.masks), MASKS[3][None])
    assert second.name == "z.png"
    with pytest.raises(IndexError):
        first.masks[3]


def test_images_without_a_separate_object_are_kept_on_demand(made):
    reader = made[1](keep_empty=True)
    assert [reader.name(i) for i in range(4)] == ["a b/ü.png", "only crowd.png", "z.png", "nothing.png"]
    assert reader[1].iscrowd.tolist() == [True]
    assert len(reader[3].masks) == 0


def test_polygons_agree_with_pycocotools(made):
    data, open_it = made
    corner = np.random.default_rng(0).uniform(-3, 33, (5, 6)).round(2).tolist()
    data["annotations"][1]["segmentation"] = corner
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 on numpy 2
        expected = reference.decode(reference.merge(reference.frPyObjects(corner, *HW)))
    assert np.array_equal(open_it()[1].masks[0], expected)


def test_the_digest_changes_with_the_annotations(made):
    data, open_it = made
    before = open_it().digest()
    assert open_it().digest() == before
    data["annotations"][0]["iscrowd"] = 1
    assert open_it().digest() != before


def test_missing_categories_are_accepted(made):
    data, open_it = made
    del data["categories"]
    for annotation in data["annotations"]:
        del annotation["category_id"]
    assert open_it()[0].category.tolist() == [-1, -1, -1]


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
        (change(["annotations", 0, "category_id"], 4), "1 category ids that are not in its list .*: 4;"),
        (change(["annotations", 0, "category_id"], "cat"), "category ids .*: cat;"),
        (change(["annotations", 0, "image_id"], 99), "1 annotations of images that are not in its list .*: 1;"),
        (change(["annotations", 2, "segmentation"], []), "1 annotations without a segmentation: 3;"),
        (change(["annotations"], []), 'an empty list "annotations"'),
        (change(["images"], []), 'an empty list "images"'),
        (change(["annotations"], None), 'no list "annotations"'),
        (change(["images", 0, "height"], 0), "1 images without id, file_name or a whole height and width: 7;"),
        (change(["images", 0, "id"], 8), "1 images whose id another image has"),
        (change(["images", 2, "file_name"], "gone.png"), "1 of 2 files that .*ann.json lists .*: gone.png;"),
        (lambda data: [a.update(iscrowd=1) for a in data["annotations"]], "has only crowds"),
    ],
)
def test_wrong_tables_are_refused_on_opening(made, spoil, why):
    data, open_it = made
    spoil(data)
    with pytest.raises(BadInput, match=why) as caught:
        open_it()
    assert "ann.json" in str(caught.value)


@pytest.mark.parametrize(
    ("segmentation", "why"),
    [
        ({"size": [20, 30], "counts": [5, 5]}, "annotation 1 of .*ann.json has runs that add up to 10"),
        ({"size": [20, 30], "counts": "P"}, "annotation 1 of .*ann.json has counts that are cut off"),
        ({"size": [30, 20], "counts": [600]}, "annotation 1 of .*ann.json is for a 30 x 20 image"),
        ([[1, 2, 3, 4]], "annotation 1 of .*ann.json has a part of 2 points"),
    ],
)
def test_a_broken_mask_is_a_damaged_sample(made, segmentation, why):
    data, open_it = made
    data["annotations"][0]["segmentation"] = segmentation
    masks = open_it()[0].masks
    assert masks[1].any()
    with pytest.raises(Unreadable, match=why):
        masks[0]


def test_a_picture_of_another_size_is_a_damaged_sample(made, tmp_path):
    reader = made[1]()
    save(tmp_path / "images" / "z.png", noise(21, 30))
    with pytest.raises(Unreadable, match=r"z.png has 21 x 30 pixels \(h x w\), but its annotation is for 20 x 30"):
        reader[1]


@pytest.mark.parametrize(("text", "why"), [("{", "is not JSON"), ("[]", "holds a list"), ("", "is not JSON")])
def test_a_file_that_is_no_annotation_is_refused(tmp_path, text, why):
    path = tmp_path / "ann.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=f"ann.json {why}"):
        CocoInstances(str(path), str(tmp_path)).open()


def test_a_missing_annotation_file_or_folder_is_named(made, tmp_path):
    with pytest.raises(BadInput, match=r"nowhere.json cannot be read"):
        CocoInstances(str(tmp_path / "nowhere.json"), str(tmp_path)).open()
    with pytest.raises(BadInput, match="nowhere is not a folder"):
        CocoInstances(write(tmp_path / "ann.json", PARTS), str(tmp_path / "nowhere")).open()
