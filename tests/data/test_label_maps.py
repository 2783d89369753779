import numpy as np
import pytest

from sadist_jax.data.label_maps import LabelMaps
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, save

IDS = np.array([[0, 0, 7, 7], [3, 255, 7, 3], [3, 255, 0, 3]], np.uint8)


@pytest.fixture
def root(tmp_path):
    save(tmp_path / "images/a b/ü.jpg", noise(3, 4))
    save(tmp_path / "images/unlabelled.jpg", noise(3, 4))
    save(tmp_path / "maps/a b/ü_ids.png", IDS)
    return tmp_path


def source(root, **options):
    return LabelMaps(str(root / "images"), str(root / "maps"), suffix="_ids", **options)


def test_every_id_that_is_not_ignored_is_one_mask(root):
    reader = source(root).open()
    assert [reader.name(i) for i in range(len(reader))] == ["a b/ü.jpg"]
    sample = reader[0]
    assert sample.category.tolist() == [3, 7]
    assert np.array_equal(np.stack(sample.masks), np.stack([IDS == 3, IDS == 7]))
    assert source(root, ignore=()).open()[0].category.tolist() == [0, 3, 7, 255]


def test_16_bit_ids_are_not_clipped(root):
    save(root / "maps/a b/ü_ids.png", IDS.astype(np.uint16) * 100)
    assert source(root).open()[0].category.tolist() == [300, 700, 25500]


def test_a_map_with_nothing_but_ignored_ids_has_no_masks(root):
    save(root / "maps/a b/ü_ids.png", np.zeros((3, 4), np.uint8))
    sample = source(root).open()[0]
    assert len(sample.masks) == len(sample.category) == len(sample.iscrowd) == 0


def test_damaged_samples(root):
    save(root / "maps/a b/ü_ids.png", np.ones((3, 5), np.uint8))
    with pytest.raises(Unreadable, match=r"ü.jpg has 3 x 4 pixels .* annotation is for 3 x 5"):
        source(root).open()[0]
    save(root / "maps/a b/ü_ids.png", noise(3, 4))
    with pytest.raises(Unreadable, match="one channel of ids"):
        source(root).open()[0]


def test_maps_without_a_picture_are_refused(root):
    with pytest.raises(BadInput, match=r"1 of 1 masks .*: a b/ü_ids.png; check the folders, and the suffix"):
        LabelMaps(str(root / "images"), str(root / "maps")).open()
