import pickle
import sys
import types

import numpy as np
import pytest

from sadist_jax.data.tfds import Tfds
from sadist_jax.errors import BadInput
from tests.data.made import noise

IDS = np.array([[1, 1, 2], [0, 255, 2]], np.uint8)


class Builder:
    """What of tfds.core.DatasetBuilder is used."""

    def __init__(self, name, data_dir=None):
        if name != "pets":
            raise ValueError(f"Failed to find {name}\nand much more text")
        features = dict.fromkeys(("image", "label", "segmentation_mask"))
        self.info = types.SimpleNamespace(features=features, full_name="pets/1.0.0")

    def as_data_source(self, split):
        if split != "train":
            raise ValueError("unknown split")
        row = {"image": noise(2, 3), "label": np.int64(4), "segmentation_mask": IDS[..., None]}
        grey = {"image": noise(2, 3)[..., :1], "label": np.int64(2)}
        return [row, grey]


@pytest.fixture
def _installed(monkeypatch):
    module = types.ModuleType("tensorflow_datasets")
    module.builder = Builder
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)


@pytest.mark.usefixtures("_installed")
def test_features_become_a_sample():
    reader = Tfds("pets", "train").open()
    assert len(reader) == 2
    first, second = reader[0], reader[1]
    assert np.array_equal(first.image, noise(2, 3))
    assert first.label == 4
    assert first.category.tolist() == [1, 2]
    assert np.array_equal(np.stack(first.masks), np.stack([IDS == 1, IDS == 2]))
    assert first.name == reader.name(0) == "pets/train/0"
    assert second.image.shape == (2, 3, 3)
    assert len(second.masks) == 0
    with pytest.raises(IndexError):
        reader[2]


@pytest.mark.usefixtures("_installed")
def test_a_reader_travels_without_its_open_files():
    reader = Tfds("pets", "train").open()
    reader[0]
    again = pickle.loads(pickle.dumps(reader))
    assert set(vars(again)) == {"config"}
    assert again.digest() == reader.digest()


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("source", "why"),
    [
        (Tfds("pest", "train"), r"no data set 'pest' \(Failed to find pest\)"),
        (Tfds("pets", "train", image="photo"), "pets has no feature 'photo'; it has image, label, segmentation_mask"),
    ],
)
def test_typos_are_named(source, why):
    with pytest.raises(BadInput, match=why):
        source.open()


@pytest.mark.usefixtures("_installed")
def test_a_split_that_cannot_be_opened_is_named():
    with pytest.raises(BadInput, match=r"split 'all' of pets cannot be opened .*download_and_prepare"):
        len(Tfds("pets", "all").open())


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(BadInput, match=r"pip install sadist_jax\[tfds\]"):
        Tfds("pets", "train").open()
