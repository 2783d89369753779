import pickle
import sys

import numpy as np
import pytest

from sadist_jax.data.bsds import Bsds
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, save, truncate

scipy_io = pytest.importorskip("scipy.io")

HW = (4, 6)
HALVES = np.repeat([[1, 1, 1, 2, 2, 2]], 4, 0)
THIRDS = np.repeat([[1, 1, 2, 2, 3, 3]], 4, 0)
ONE = np.ones(HW)
ROWS = np.repeat([[7], [1], [2], [3]], 6, 1)  # four regions, ids with a gap


def write(path, maps):
    """A .mat as BSDS has them: a row of cells, each a struct with Segmentation and Boundaries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(maps)), object)
    for k, ids in enumerate(maps):
        cells[0, k] = {"Segmentation": ids.astype(np.uint16), "Boundaries": np.zeros(ids.shape, np.uint8)}
    scipy_io.savemat(path, {"groundTruth": cells})


@pytest.fixture
def root(tmp_path):
    save(tmp_path / "images/10.jpg", noise(*HW))
    save(tmp_path / "images/9.jpg", noise(*HW))
    save(tmp_path / "images/unlabelled.jpg", noise(*HW))
    write(tmp_path / "maps/10.mat", [ROWS, HALVES, THIRDS])
    write(tmp_path / "maps/9.mat", [ROWS, ONE, HALVES, THIRDS])
    return tmp_path


def source(root, **options):
    return Bsds(str(root / "images"), str(root / "maps"), **options)


def masks_of(*maps):
    return np.stack([ids == region for ids in maps for region in np.unique(ids)])


def test_the_median_annotator_gives_the_masks(root):
    reader = source(root).open()
    assert [reader.name(i) for i in range(len(reader))] == ["10.jpg", "9.jpg"]
    sample = reader[0]
    assert np.array_equal(np.stack(sample.masks), masks_of(THIRDS))  # 4, 2 and 3 regions: 3 is the median
    assert sample.image.shape == (*HW, 3)
    assert sample.category.tolist() == [-1] * 3
    assert not sample.iscrowd.any()
    assert np.array_equal(np.stack(reader[1].masks), masks_of(HALVES))  # 4, 1, 2, 3: the lower one of 2 and 3


def test_other_annotators_can_be_asked_for(root):
    assert np.array_equal(np.stack(source(root, annotator=0).open()[0].masks), masks_of(ROWS))
    assert np.array_equal(np.stack(source(root, annotator="all").open()[0].masks), masks_of(ROWS, HALVES, THIRDS))
    digests = {source(root, annotator=a).open().digest() for a in ("median", "all", 0, 1)}
    assert len(digests) == 4
    with pytest.raises(Unreadable, match=r"10.mat has the maps of 3 people, so there is no annotator 3; \"median\""):
        source(root, annotator=3).open()[0]
    for wrong in ("mean", -1, 1.5):
        with pytest.raises(BadInput, match=r"annotator is .*; it must be"):
            source(root, annotator=wrong).open()


def test_of_equal_annotators_the_first_is_taken(root):
    write(root / "maps/10.mat", [ONE, HALVES, HALVES[:, ::-1], ROWS])
    assert np.array_equal(np.stack(source(root).open()[0].masks), masks_of(HALVES))


def test_a_reader_travels_to_workers(root):
    reader = source(root).open()
    again = pickle.loads(pickle.dumps(reader))
    assert again.digest() == reader.digest()
    assert np.array_equal(np.stack(again[0].masks), np.stack(reader[0].masks))


def test_damaged_samples(root):
    save(root / "images/10.jpg", noise(5, 6))
    with pytest.raises(Unreadable, match=r"10.jpg has 5 x 6 pixels .* annotation is for 4 x 6"):
        source(root).open()[0]
    write(root / "maps/10.mat", [HALVES, ONE[:3]])
    with pytest.raises(Unreadable, match=r"all of one size; it holds uint16 \(4, 6\), uint16 \(3, 6\)"):
        source(root).open()[0]
    scipy_io.savemat(root / "maps/10.mat", {"other": ONE})
    with pytest.raises(Unreadable, match=r"10.mat is damaged, or no .mat of BSDS"):
        source(root).open()[0]
    truncate(root / "maps/9.mat")
    with pytest.raises(Unreadable, match=r"9.mat is damaged"):
        source(root).open()[1]


def test_mats_without_a_picture_are_refused(root):
    (root / "images/9.jpg").unlink()
    with pytest.raises(BadInput, match=r"1 of 2 masks .* have no picture of their name .*: 9.mat"):
        source(root).open()


def test_without_scipy_the_remedy_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(BadInput, match=r"needs SciPy; pip install sadist_jax\[eval\]"):
        source(root).open()
