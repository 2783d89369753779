import copy

import numpy as np
import pytest

from sadist_jax.data.coco_panoptic import CocoPanoptic
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, rectangle, save, write

HW = (6, 8)
IDS = {5: rectangle(HW, 0, 0, 3, 6), 256 * 7 + 1: rectangle(HW, 4, 0, 6, 3), 65536 * 3 + 2: rectangle(HW, 6, 3, 8, 6)}
DATA = {
    "images": [
        {"id": 1, "file_name": "1.jpg", "height": 6, "width": 8},
        {"id": 2, "file_name": "2.jpg", "height": 6, "width": 8},
    ],
    "annotations": [
        {
            "image_id": 1,
            "file_name": "1.png",
            "segments_info": [
                {"id": 5, "category_id": 1, "iscrowd": 0},
                {"id": 1793, "category_id": 100, "iscrowd": 0},
                {"id": 196610, "category_id": 1, "iscrowd": 1},
            ],
        },
        {"image_id": 2, "file_name": "2.png", "segments_info": [{"id": 5, "category_id": 100, "iscrowd": 0}]},
    ],
    "categories": [{"id": 1, "isthing": 1}, {"id": 100, "isthing": 0}],
}


@pytest.fixture
def made(tmp_path):
    ids = sum(key * mask.astype(int) for key, mask in IDS.items())
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    for name in ("1", "2"):
        save(tmp_path / "images" / f"{name}.jpg", noise(*HW))
        save(tmp_path / "maps" / f"{name}.png", colours)
    data = copy.deepcopy(DATA)

    def open_it(**options):
        path = write(tmp_path / "pan.json", data)
        return CocoPanoptic(path, str(tmp_path / "maps"), str(tmp_path / "images"), **options).open()

    return data, open_it


def test_segments_become_instances(made):
    reader = made[1]()
    assert [reader.name(i) for i in range(len(reader))] == ["1.jpg", "2.jpg"]
    sample = reader[0]
    assert np.array_equal(np.stack(sample.masks), np.stack(list(IDS.values())))
    assert sample.iscrowd.tolist() == [False, False, True]
    assert sample.category.tolist() == [1, 100, 1]


def test_things_only_leaves_out_stuff_and_images_without_things(made):
    reader = made[1](things_only=True)
    assert [reader.name(i) for i in range(len(reader))] == ["1.jpg"]
    assert reader[0].category.tolist() == [1, 1]
    assert np.array_equal(reader[0].masks[1], IDS[196610])
    assert reader.digest() != made[1]().digest()


def test_a_segment_that_the_png_lacks_is_a_damaged_sample(made):
    data, open_it = made
    data["annotations"][0]["segments_info"][1]["id"] = 77
    with pytest.raises(Unreadable, match=r"1.png has no pixel of segment 77 that .*pan.json lists"):
        open_it()[0].masks[1]


def test_a_map_of_another_size_is_a_damaged_sample(made, tmp_path):
    reader = made[1]()
    save(tmp_path / "maps" / "1.png", noise(5, 8))
    with pytest.raises(Unreadable, match=r"1.png has 5 x 8 pixels .* its picture has 6 x 8"):
        reader[0]


def test_missing_files_and_wrong_tables_are_refused(made, tmp_path):
    data, open_it = made
    data["annotations"][1]["file_name"] = "gone.png"
    with pytest.raises(BadInput, match=r"1 of 2 files .*maps: gone.png"):
        open_it()
    data["annotations"][1] = {"image_id": 2, "file_name": "2.png", "segments_info": [{"id": 5, "category_id": 3}]}
    with pytest.raises(BadInput, match=r"1 category ids .*: 3;"):
        open_it()
    del data["annotations"][1]["segments_info"]
    with pytest.raises(BadInput, match="1 annotations without file_name or segments_info: 2;"):
        open_it()
    data["annotations"] = [{"image_id": 2, "file_name": "2.png", "segments_info": []}]
    with pytest.raises(BadInput, match="no segments that are not crowds"):
        open_it()
