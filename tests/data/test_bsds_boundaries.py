import pickle

import numpy as np
import pytest
import scipy.io

from sadist_jax.data.bsds import Bsds, BsdsBoundaries
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, save

LEFT, RIGHT = np.zeros((2, 4, 6), np.uint8)
LEFT[:, 1] = RIGHT[:, 4] = 1


@pytest.fixture
def root(tmp_path):
    save(tmp_path / "images/10.jpg", noise(4, 6))
    write(tmp_path / "maps/10.mat", [LEFT, RIGHT])
    return tmp_path


def write(path, maps, field="Boundaries"):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(maps)), object)
    for k, lines in enumerate(maps):
        cells[0, k] = {"Segmentation": np.full(lines.shape, 1, np.uint16), field: lines}
    scipy.io.savemat(path, {"groundTruth": cells})


def source(root):
    return BsdsBoundaries(str(root / "images"), str(root / "maps"))


def test_each_persons_lines_are_a_mask(root):
    reader = pickle.loads(pickle.dumps(source(root).open()))
    sample = reader[0]
    assert reader.name(0) == sample.name == "10.jpg"
    assert sample.image.shape == (4, 6, 3)
    assert sample.masks.dtype == bool
    np.testing.assert_array_equal(sample.masks, [LEFT, RIGHT])
    assert sample.category.tolist() == [-1, -1]
    assert not sample.iscrowd.any()


def test_it_is_another_data_set_than_the_regions(root):
    regions = Bsds(str(root / "images"), str(root / "maps"), annotator="all").open()
    assert source(root).open().digest() != regions.digest()


def test_damaged_samples_and_sets(root):
    write(root / "maps/10.mat", [LEFT], field="Lines")
    with pytest.raises(Unreadable, match=r"10.mat is damaged, or no .mat of BSDS with groundTruth and Boundaries"):
        source(root).open()[0]
    write(root / "maps/10.mat", [LEFT, RIGHT[:3]])
    with pytest.raises(Unreadable, match=r"all of one size"):
        source(root).open()[0]
    save(root / "images/10.jpg", noise(5, 6))
    write(root / "maps/10.mat", [LEFT])
    with pytest.raises(Unreadable, match=r"5 x 6 pixels .* annotation is for 4 x 6"):
        source(root).open()[0]
    (root / "images/10.jpg").unlink()
    with pytest.raises(BadInput, match=r"10.mat"):
        source(root).open()
