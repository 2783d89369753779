import numpy as np
import pytest

from sadist_jax.data.sample import Unreadable
from sadist_jax.data.shared_masks import SharedMasks
from sadist_jax.errors import BadInput
from tests.data.made import noise, rectangle, save

MASK = rectangle((6, 8), 1, 2, 5, 4)


@pytest.fixture
def root(tmp_path):
    for folder, name in (("Train", "a"), ("Train", "b"), ("Test", "c"), ("Test", "no mask")):
        save(tmp_path / f"Images/{folder}/{name}.jpg", noise(6, 8))
    for name in "abc":
        save(tmp_path / f"GT/{name}.png", MASK.astype(np.uint8) * 255)
    return tmp_path


def names(reader):
    return [reader.name(i) for i in range(len(reader))]


def test_two_folders_of_pictures_share_one_of_masks(root):
    train, test = (SharedMasks(str(root), f"Images/{part}", "GT").open() for part in ("Train", "Test"))
    assert names(train) == ["Images/Train/a.jpg", "Images/Train/b.jpg"]
    assert names(test) == ["Images/Test/c.jpg"]
    assert np.array_equal(np.stack(test[0].masks), MASK[None])
    assert train.digest() != test.digest()


def test_mistakes(root):
    save(root / "GT/a.png", np.zeros((6, 9), np.uint8))
    with pytest.raises(Unreadable, match=r"a.jpg has 6 x 8 pixels .* annotation is for 6 x 9"):
        SharedMasks(str(root), "Images/Train", "GT").open()[0]
    with pytest.raises(BadInput, match=r"none of 4 pictures in .*/Images has a mask of its name in GT: Test/c.jpg"):
        SharedMasks(str(root), "Images", "GT").open()
    save(root / "GT/c.bmp", MASK)
    with pytest.raises(BadInput, match=r"GT has c.bmp and c.png; rename or remove one"):
        SharedMasks(str(root), "Images/Test", "GT").open()
