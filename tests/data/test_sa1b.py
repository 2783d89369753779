import numpy as np
import pytest
from pycocotools import mask as reference

from sadist_jax.data.sa1b import Sa1b
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, rectangle, save, write

HW = (12, 9)
MASKS = np.stack([rectangle(HW, 0, 0, 4, 5), rectangle(HW, 3, 6, 9, 12)])


def annotation(mask):
    rle = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"segmentation": {"size": list(HW), "counts": rle["counts"].decode()}, "area": int(mask.sum()), "bbox": []}


def document(name):
    return {
        "image": {"image_id": 1, "height": HW[0], "width": HW[1], "file_name": name},
        "annotations": [annotation(mask) for mask in MASKS],
    }


@pytest.fixture
def root(tmp_path):
    for name in ("sa_000000/sa_1", "sa_000000/sa_2", "sa_000001/sa_3"):
        save(tmp_path / f"{name}.jpg", noise(*HW))
        write(tmp_path / f"{name}.json", document(f"{name}.jpg"))
    return tmp_path


def test_pairs_of_picture_and_json_are_read(root):
    reader = Sa1b(str(root)).open()
    assert [reader.name(i) for i in range(len(reader))] == [
        "sa_000000/sa_1.jpg",
        "sa_000000/sa_2.jpg",
        "sa_000001/sa_3.jpg",
    ]
    sample = reader[2]
    assert np.array_equal(np.stack(sample.masks), MASKS)
    assert sample.image.shape == (*HW, 3)
    assert not sample.iscrowd.any()
    assert sample.category.tolist() == [-1, -1]


def test_pictures_and_jsons_must_come_in_pairs(root, tmp_path):
    (root / "sa_000000/sa_1.json").rename(root / "away")
    with pytest.raises(BadInput, match=r"1 of 3 pictures in .* have no .json beside them: sa_000000/sa_1.jpg;"):
        Sa1b(str(root)).open()
    (root / "away").rename(root / "sa_000000/sa_1.json")
    (root / "sa_000000/sa_2.jpg").unlink()
    with pytest.raises(BadInput, match=r"2 pictures but 3 .json files; .*: sa_000000/sa_2;"):
        Sa1b(str(root)).open()


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no pictures"):
        Sa1b(str(tmp_path)).open()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"image"', "sa_1.json is not JSON"),
        ("[]", "sa_1.json holds a list"),
        ("{}", "sa_1.json lacks image.height"),
        ('{"image": {"height": 12, "width": 9}, "annotations": [{}]}', "sa_1.json lacks"),
        ('{"image": {"height": 9, "width": 12}, "annotations": []}', "sa_1.jpg has 12 x 9 pixels"),
    ],
)
def test_a_broken_json_is_a_damaged_sample(root, content, why):
    (root / "sa_000000/sa_1.json").write_text(content)
    with pytest.raises(Unreadable, match=why):
        Sa1b(str(root)).open()[0]


def test_a_broken_mask_is_a_damaged_sample_when_it_is_decoded(root):
    broken = document("sa_1.jpg")
    broken["annotations"][1]["segmentation"]["counts"] += "1"
    write(root / "sa_000000/sa_1.json", broken)
    masks = Sa1b(str(root)).open()[0].masks
    assert np.array_equal(masks[0], MASKS[0])
    with pytest.raises(Unreadable, match=r"annotation number 1 of .*sa_1.json"):
        masks[1]
