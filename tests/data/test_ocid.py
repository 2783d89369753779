import numpy as np
import pytest

from sadist_jax.data.ocid import Ocid
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, save

IDS = np.array([[0, 0, 1, 1], [2, 2, 3, 1], [2, 4, 3, 0]], np.uint8)
FLOOR = "ARID20/floor/top/seq01"
TABLE = "ARID20/table/top/seq02"


@pytest.fixture
def root(tmp_path):
    """Below a folder whose name has "table" in it, which must not count."""
    root = tmp_path / "table" / "OCID-dataset"
    for folder in (FLOOR, TABLE):
        save(root / folder / "rgb/result.png", noise(3, 4))
        save(root / folder / "label/result.png", IDS)
        save(root / folder / "depth/result.png", IDS)
    save(root / FLOOR / "rgb/unlabelled.png", noise(3, 4))
    return root


def test_the_ground_is_no_object_and_nor_is_the_table(root):
    reader = Ocid(str(root)).open()
    assert [reader.name(i) for i in range(len(reader))] == [f"{FLOOR}/rgb/result.png", f"{TABLE}/rgb/result.png"]
    floor, table = reader[0], reader[1]
    assert floor.category.tolist() == [2, 3, 4]
    assert table.category.tolist() == [3, 4]
    assert np.array_equal(np.stack(table.masks), np.stack([IDS == 3, IDS == 4]))
    assert floor.image.shape == (3, 4, 3)
    assert not floor.iscrowd.any()


def test_16_bit_maps_and_damage(root):
    save(root / FLOOR / "label/result.png", IDS.astype(np.uint16))
    assert Ocid(str(root)).open()[0].category.tolist() == [2, 3, 4]
    save(root / FLOOR / "label/result.png", IDS[:2])
    with pytest.raises(Unreadable, match=r"result.png has 3 x 4 pixels .* annotation is for 2 x 4"):
        Ocid(str(root)).open()[0]


def test_other_folders_are_refused(root):
    with pytest.raises(BadInput, match=r"no folder rgb has pictures; give the folder OCID-dataset"):
        Ocid(str(root / FLOOR / "label")).open()
    (root / FLOOR / "label/result.png").unlink()
    with pytest.raises(BadInput, match=r"found rgb/result.png, rgb/unlabelled.png without a map"):
        Ocid(str(root / FLOOR)).open()
