import numpy as np
import pytest

from sadist_jax.data.folder import Folder
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, save, truncate


def test_pictures_come_sorted_with_odd_names_and_without_masks(tmp_path):
    names = ["a b/ü:1.PNG", "a/x.png", "z.bmp", "写真.png"]
    for i, name in enumerate(names):
        save(tmp_path / name, noise(3 + i, 5, i))
    (tmp_path / "notes.txt").write_text("not a picture")
    reader = Folder(str(tmp_path)).open()
    assert [reader.name(i) for i in range(len(reader))] == names
    for i, name in enumerate(names):
        sample = reader[i]
        assert np.array_equal(sample.image, noise(3 + i, 5, i))
        assert (sample.name, sample.label, len(sample.masks), len(sample.iscrowd), len(sample.category)) == (
            name,
            -1,
            0,
            0,
            0,
        )
        assert sample.masks.shape == (0, 3 + i, 5)


def test_the_digest_is_of_the_list_not_of_the_place(tmp_path):
    digests = []
    for root in ("one", "two"):
        save(tmp_path / root / "a.png", noise(2, 2))
        digests.append(Folder(str(tmp_path / root)).open().digest())
    save(tmp_path / "two" / "b.png", noise(2, 2))
    digests.append(Folder(str(tmp_path / "two")).open().digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(BadInput, match=f"no pictures found in {tmp_path}"):
        Folder(str(tmp_path)).open()


def test_a_damaged_picture_is_named_when_it_is_read(tmp_path):
    save(tmp_path / "a.png", noise(40, 40))
    reader = Folder(str(tmp_path)).open()
    truncate(tmp_path / "a.png")
    with pytest.raises(Unreadable, match=r"a.png"):
        reader[0]
