import numpy as np
import pytest

from sadist_jax.data.kvasir import BOXES, KvasirSeg
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, rectangle, save, write

HW = (48, 64)
POLYPS = [rectangle(HW, 0, 0, 16, 24), rectangle(HW, 32, 8, 56, 40)]


def box(x0, y0, x1, y1):
    return {"label": "polyp", "xmin": x0, "ymin": y0, "xmax": x1, "ymax": y1}


def table(*boxes):
    return {name: {"height": HW[0], "width": HW[1], "bbox": list(boxes)} for name in ("zz", "aa")}


@pytest.fixture
def root(tmp_path):
    for name in ("aa", "zz"):
        save(tmp_path / f"images/{name}.jpg", noise(*HW))
        mask = (POLYPS[0] | POLYPS[1]).astype(np.uint8) * 255
        save(tmp_path / f"masks/{name}.jpg", np.stack([mask] * 3, 2), quality=95)
    write(tmp_path / BOXES, table(box(0, 0, 15, 23), box(32, 8, 55, 39)))
    return tmp_path


def test_each_box_has_its_polyp(root):
    reader = KvasirSeg(str(root)).open()
    assert [reader.name(i) for i in range(len(reader))] == ["images/aa.jpg", "images/zz.jpg"]
    sample = reader[1]
    assert np.array_equal(np.stack(sample.masks), np.stack(POLYPS))
    assert sample.category.tolist() == [-1, -1]


def test_of_several_boxes_the_last_and_of_none_nothing(root):
    """Boxes may lie about: the second takes rows from 4 on, and what is right of column 8 is in none."""
    write(root / BOXES, table(box(-3, -2, 8, 50), box(0, 4, 8, 900)))
    first, second = KvasirSeg(str(root)).open()[0].masks
    assert np.array_equal(first, rectangle(HW, 0, 0, 9, 4))
    assert np.array_equal(second, rectangle(HW, 0, 4, 9, 24))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "lists no pictures"),
        ({"aa": {"bbox": []}}, r'1 names without a list "bbox" .*: aa'),
        ({"aa": {"bbox": [{"xmin": 1}]}}, '1 names without a list "bbox"'),
        ({"aa": {"bbox": [box(0, 0, 1, 1.5)]}}, '1 names without a list "bbox"'),
        ({"bb": {"bbox": [box(0, 0, 1, 1)]}}, r"2 of 2 files that .*kavsir_bboxes.json lists are not in"),
    ],
)
def test_wrong_tables_are_refused(root, content, why):
    write(root / BOXES, content)
    with pytest.raises(BadInput, match=why):
        KvasirSeg(str(root)).open()


def test_no_table_and_damage(root):
    save(root / "images/aa.jpg", noise(8, 8))
    with pytest.raises(Unreadable, match=r"aa.jpg has 8 x 8 pixels .* annotation is for 48 x 64"):
        KvasirSeg(str(root)).open()[0]
    (root / BOXES).unlink()
    with pytest.raises(BadInput, match=r"kavsir_bboxes.json cannot be read"):
        KvasirSeg(str(root)).open()
