import numpy as np
import pytest

from sadist_jax.data.mask_folders import MaskFolders
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, rectangle, save

HW = (6, 8)
MASKS = [rectangle(HW, 0, 0, 3, 3), rectangle(HW, 4, 2, 8, 6)]


def byte(mask):
    return mask.astype(np.uint8) * 255


@pytest.fixture
def by_object(tmp_path):
    """As DSB 2018."""
    for name in ("one", "t w ö"):
        save(tmp_path / name / "images" / f"{name}.png", noise(*HW))
        for i, mask in enumerate(MASKS):
            save(tmp_path / name / "masks" / f"{i}.png", byte(mask))
    save(tmp_path / "no masks/images/x.png", noise(*HW))
    return tmp_path


def test_one_file_per_object(by_object):
    reader = MaskFolders(str(by_object)).open()
    assert [reader.name(i) for i in range(len(reader))] == ["one/images/one.png", "t w ö/images/t w ö.png"]
    sample = reader[1]
    assert np.array_equal(np.stack(sample.masks), np.stack(MASKS))
    assert sample.category.tolist() == [-1, -1]
    assert not sample.iscrowd.any()


def test_one_file_per_picture(tmp_path):
    save(tmp_path / "photos/test/1.jpg", noise(*HW))
    save(tmp_path / "photos/test/2.jpg", noise(*HW))
    save(tmp_path / "truth/test/1_m.png", byte(MASKS[0]))
    (tmp_path / "truth/test/1_m.xml").write_text("<a/>")
    reader = MaskFolders(str(tmp_path), "photos", "truth", "_m").open()
    assert [reader.name(i) for i in range(len(reader))] == ["photos/test/1.jpg"]
    assert np.array_equal(np.stack(reader[0].masks), MASKS[0][None])


def test_a_mask_of_another_size_is_a_damaged_sample(by_object):
    save(by_object / "one/masks/1.png", byte(MASKS[0])[:5])
    masks = MaskFolders(str(by_object)).open()[0].masks
    with pytest.raises(Unreadable, match=r"1.png has 5 x 8 pixels .* its picture has 6 x 8"):
        masks[1]
    save(by_object / "one/images/one.png", noise(7, 8))
    with pytest.raises(Unreadable, match=r"one.png has 7 x 8 pixels .* annotation is for 6 x 8"):
        MaskFolders(str(by_object)).open()[0]


def test_folders_that_fit_no_layout_are_refused(by_object):
    save(by_object / "one/images/second.png", noise(*HW))
    with pytest.raises(BadInput, match=r"1 folders .* do not have one picture in images/: one"):
        MaskFolders(str(by_object)).open()
    with pytest.raises(BadInput, match="no pictures with masks found in"):
        MaskFolders(str(by_object / "no masks" / "images")).open()
