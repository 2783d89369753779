import pickle

import numpy as np
import pytest

from sadist_jax.data.class_folders import ClassFolders
from sadist_jax.errors import BadInput
from tests.data.made import flat, save


def three(root):
    """Classes b, a, n01; one has a folder inside."""
    for i, name in enumerate(["b/1.png", "a/2.JPG", "a/more/0.png", "n01/z.png"]):
        save(root / name, flat(10 * i))
    (root / "a" / "notes.txt").write_text("not a picture")
    (root / "README").write_text("nor this")
    save(root / ".cache" / "x.png", flat(0))
    return root


def test_labels_are_the_places_of_the_sorted_folders(tmp_path):
    reader = ClassFolders(str(three(tmp_path))).open()
    assert reader.classes == ("a", "b", "n01")
    assert [(reader.name(i), reader[i].label) for i in range(len(reader))] == [
        ("a/2.JPG", 0),
        ("a/more/0.png", 0),
        ("b/1.png", 1),
        ("n01/z.png", 2),
    ]
    assert (reader[3].image == 30).all()
    assert len(reader[0].masks) == 0
    assert pickle.loads(pickle.dumps(reader))[2].label == 1


def test_the_order_of_the_classes_can_be_given(tmp_path):
    reader = ClassFolders(str(three(tmp_path)), ("n01", "a")).open()
    assert [(reader.name(i), reader[i].label) for i in range(len(reader))] == [
        ("a/2.JPG", 1),
        ("a/more/0.png", 1),
        ("n01/z.png", 0),
    ]


def test_the_digest_is_of_names_and_labels(tmp_path):
    digests = [ClassFolders(str(three(tmp_path / where))).open().digest() for where in ("one", "two")]
    assert digests[0] == digests[1]
    given = [ClassFolders(str(tmp_path / "one"), names).open().digest() for names in (("a", "b"), ("b", "a"))]
    assert len({digests[0], *given}) == 3


@pytest.mark.parametrize(
    ("names", "classes", "why"),
    [
        (["a/1.png", "b/1.png", "x.png"], (), r"has 1 pictures in no class's folder: x\.png; move"),
        (["a/1.png"], (), "has the classes a; give a folder with two folders or more"),
        ([], (), r"has the classes \(none\)"),
        (["a/1.png", "b/1.png", "c/"], (), "has no pictures of 1 of its classes: c; remove"),
        (["a/1.png", "b/1.png"], ("a", "d"), "has no pictures of 1 of its classes: d"),
        (["a/1.png", "b/1.png"], ("a", "a"), "has the classes a, a"),
    ],
)
def test_folders_without_sense_are_refused(tmp_path, names, classes, why):
    for name in names:
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        else:
            save(tmp_path / name, np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(BadInput, match=why):
        ClassFolders(str(tmp_path), classes).open()


def test_a_missing_root_is_refused(tmp_path):
    with pytest.raises(BadInput, match="nowhere is not a folder"):
        ClassFolders(str(tmp_path / "nowhere")).open()
