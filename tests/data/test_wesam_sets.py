"""configs/_wesam_sets.py on tiny folders in each set's official layout."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.made import corners, noise, rectangle, save, write

HW = (40, 48)
FILE = Path(__file__).parents[2] / "configs" / "_wesam_sets.py"
OBJECT = rectangle(HW, 8, 8, 24, 32)


@pytest.fixture(scope="module")
def sets():
    spec = importlib.util.spec_from_file_location("wesam_sets", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def readers(sources):
    train, test = (source.open() for source in sources)
    assert train.digest() != test.digest()
    found = [[reader.name(i).split("/")[-1] for i in range(len(reader))] for reader in (train, test)]
    assert not set(found[0]) & set(found[1])
    return train, test, found


def binary(path):
    save(path, OBJECT.astype(np.uint8) * 255)


def only_mask(sample):
    (mask,) = sample.masks
    return mask


def test_coco_counts_images_before_it_drops_those_without_objects(sets, tmp_path):
    """Nine images by id; the third has no annotation and the fourth a crowd alone. The seventh is for testing."""
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "height": HW[0], "width": HW[1]}
        for i in (90, 80, 70, 60, 50, 40, 30, 20, 10)
    ]
    for image in images:
        save(tmp_path / "val2017" / image["file_name"], noise(*HW))
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "iscrowd": int(i == 40), "segmentation": [corners(8, 8, 24, 32)]}
        for i in (10, 20, 40, 50, 60, 70, 80, 90)
    ]
    table = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    write(tmp_path / "annotations/instances_val2017.json", table)
    train, test, found = readers(sets.coco(str(tmp_path)))
    assert [sorted(int(name[:-4]) for name in part) for part in found] == [[10, 20, 50, 60, 80, 90], [70]]
    assert np.array_equal(only_mask(test[0]), OBJECT)

    foggy, foggy_test, found_c = readers(sets.coco_c(str(tmp_path), "fog", 5))
    assert found_c == found
    assert foggy_test.name(0) == "fog/5/000000000070.jpg"
    assert foggy.digest() != train.digest()
    assert foggy_test[0].image.std() < test[0].image.std()  # fog takes contrast
    assert np.array_equal(only_mask(foggy_test[0]), OBJECT)


def test_voc_takes_instances_by_palette_index(sets, tmp_path):
    ids = np.zeros(HW, np.uint8)
    ids[:4], ids[4:9], ids[9:12] = 1, 25, 255  # the 25th object, and void
    for i in range(9):
        save(tmp_path / f"JPEGImages/2007_{i:06d}.jpg", noise(*HW))
    for i in range(8):
        picture = Image.fromarray(ids)
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
        (tmp_path / "SegmentationObject").mkdir(exist_ok=True)
        picture.save(tmp_path / f"SegmentationObject/2007_{i:06d}.png")
    train, _, found = readers(sets.voc(str(tmp_path)))
    assert list(map(len, found)) == [7, 1]
    assert found[1] == ["2007_000006.jpg"]
    assert train[0].category.tolist() == [1, 25]
    assert np.array_equal(train[0].masks[1], ids == 25)


def test_kvasir(sets, tmp_path):
    box = {"label": "polyp", "xmin": 8, "ymin": 8, "xmax": 23, "ymax": 31}
    for i in range(7):
        save(tmp_path / f"images/cju{i}.jpg", noise(*HW))
        binary(tmp_path / f"masks/cju{i}.jpg")
    write(tmp_path / "kavsir_bboxes.json", {f"cju{i}": {"bbox": [box]} for i in range(7)})
    train, _, found = readers(sets.kvasir(str(tmp_path)))
    assert found == [[f"cju{i}.jpg" for i in (0, 1, 2, 3, 4, 6)], ["cju5.jpg"]]
    assert np.array_equal(only_mask(train[0]), OBJECT)


def test_isic(sets, tmp_path):
    for part, numbers in (("Training", (0, 2)), ("Test", (1,))):
        for i in numbers:
            save(tmp_path / f"ISBI2016_ISIC_Part1_{part}_Data/ISIC_000000{i}.jpg", noise(*HW))
            binary(tmp_path / f"ISBI2016_ISIC_Part1_{part}_GroundTruth/ISIC_000000{i}_Segmentation.png")
    train, _, found = readers(sets.isic(str(tmp_path)))
    assert found == [["ISIC_0000000.jpg", "ISIC_0000002.jpg"], ["ISIC_0000001.jpg"]]
    assert np.array_equal(only_mask(train[1]), OBJECT)


def test_camo(sets, tmp_path):
    for part, numbers in (("Train", (1, 3)), ("Test", (2,))):
        for i in numbers:
            save(tmp_path / f"Images/{part}/camourflage_0000{i}.jpg", noise(*HW))
            binary(tmp_path / f"GT/camourflage_0000{i}.png")
    train, _, found = readers(sets.camo(str(tmp_path)))
    assert found == [["camourflage_00001.jpg", "camourflage_00003.jpg"], ["camourflage_00002.jpg"]]
    assert np.array_equal(only_mask(train[0]), OBJECT)


@pytest.mark.parametrize(
    ("name", "images", "masks"), [("chameleon", "Imgs", "GT"), ("cod10k", "Test/Image", "Test/GT_Object")]
)
def test_camouflaged_sets_of_one_folder(sets, tmp_path, name, images, masks):
    for i in range(6):
        save(tmp_path / images / f"animal-{i}.jpg", noise(*HW))
        binary(tmp_path / masks / f"animal-{i}.png")
    train, _, found = readers(getattr(sets, name)(str(tmp_path)))
    assert found == [[f"animal-{i}.jpg" for i in (0, 1, 2, 3, 5)], ["animal-4.jpg"]]
    assert np.array_equal(only_mask(train[0]), OBJECT)


def test_ocid(sets, tmp_path):
    for i in range(7):
        save(tmp_path / f"ARID20/table/top/seq{i:02d}/rgb/result.png", noise(*HW))
        save(tmp_path / f"ARID20/table/top/seq{i:02d}/label/result.png", OBJECT.astype(np.uint8) + 2)
    train, test = (source.open() for source in sets.ocid(str(tmp_path)))
    assert (len(train), len(test)) == (6, 1)
    assert test.name(0) == "ARID20/table/top/seq06/rgb/result.png"
    assert np.array_equal(only_mask(train[0]), OBJECT)


def test_osd(sets, tmp_path):
    for i in range(8):
        save(tmp_path / f"image_color/learn{i}.png", noise(*HW))
        save(tmp_path / f"annotation/learn{i}.png", 254 * OBJECT.astype(np.uint8) + 1)
    train, _, found = readers(sets.osd(str(tmp_path)))
    assert list(map(len, found)) == [7, 1]
    assert train[0].category.tolist() == [255]  # as good an id as any other here
    assert np.array_equal(only_mask(train[0]), OBJECT)
