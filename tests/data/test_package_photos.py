import importlib.util
import pickle

import numpy as np
import pytest

from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.errors import BadInput


def names(part: str) -> list[str]:
    reader = PackagePhotos(part).open()
    return [reader.name(i) for i in range(len(reader))]


def test_the_parts_are_disjoint_and_sorted():
    train, held_out = names("train"), names("held_out")
    assert not set(train) & set(held_out)
    assert names("all") == sorted(train + held_out)
    assert train == sorted(train)
    assert {"chelsea.png", "coffee.png"} <= set(held_out)


def test_photos_are_rgb_and_unlabelled():
    reader = PackagePhotos().open()
    for i in range(len(reader)):
        sample = reader[i]
        assert sample.image.dtype == np.uint8
        assert sample.image.shape[2] == 3
        assert min(sample.image.shape[:2]) >= 300
        assert not sample.image.flags.writeable
        assert sample.masks.shape == (0, *sample.image.shape[:2])
    grey = reader[names("all").index("camera.png")].image
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


def test_they_are_the_pictures_of_the_packages():
    import skimage.data
    import sklearn.datasets

    held_out, train = PackagePhotos("held_out").open(), PackagePhotos("train").open()
    np.testing.assert_array_equal(held_out[names("held_out").index("chelsea.png")].image, skimage.data.cat())
    flower = train[names("train").index("flower.jpg")].image
    np.testing.assert_array_equal(flower, sklearn.datasets.load_sample_image("flower.jpg"))


def test_a_reader_travels_and_tells_what_it_holds():
    reader = PackagePhotos("train").open()
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.digest() == reader.digest() != PackagePhotos("held_out").open().digest()
    with pytest.raises(IndexError):
        reader[len(reader)]


def test_a_missing_package_or_picture_names_the_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find(name))
    with pytest.raises(BadInput, match=r"china.jpg comes with scikit-learn, which is missing; .*sadist_jax\[demo\]"):
        PackagePhotos("train").open()
    assert len(PackagePhotos("held_out").open()) == 4
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find("numpy"))
    with pytest.raises(BadInput, match=r"comes without data/astronaut.png"):
        PackagePhotos("held_out").open()
