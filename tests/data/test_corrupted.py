import pickle

import numpy as np
import pytest

from sadist_jax.data.corrupted import Corrupted
from sadist_jax.data.folder import Folder
from sadist_jax.data.label_maps import LabelMaps
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import noise, save

HW = (40, 50)


@pytest.fixture
def clean(tmp_path):
    for name in "ab":
        save(tmp_path / "images" / f"{name}.png", noise(*HW))  # equal pictures
        save(tmp_path / "maps" / f"{name}.png", np.tri(*HW, dtype=np.uint8) * 3)
    return LabelMaps(str(tmp_path / "images"), str(tmp_path / "maps"))


def test_pictures_are_damaged_and_masks_are_not(clean):
    before, reader = clean.open()[1], Corrupted(clean, "elastic_transform", 5).open()
    after = reader[1]
    assert len(reader) == 2
    assert after.name == reader.name(1) == "elastic_transform/5/b.png"
    assert not np.array_equal(after.image, before.image)
    np.testing.assert_array_equal(np.stack(after.masks), np.stack(before.masks))
    assert after.category.tolist() == [3]


def test_seed_name_and_kind_decide_the_damage(clean):
    def images(kind="gaussian_noise", severity=1, seed=0):
        reader = pickle.loads(pickle.dumps(Corrupted(clean, kind, severity, seed).open()))
        return [reader[i].image.astype(int) for i in range(len(reader))]

    first, second = images()
    assert np.array_equal(first, images()[0])
    assert not np.array_equal(first, second)  # only the name differs
    assert not np.array_equal(first, images(seed=1)[0])
    noise_1, noise_5 = ((image - noise(*HW))[(image > 0) & (image < 255)] for image in (first, images(severity=5)[0]))
    assert noise_5.std() > 2 * noise_1.std()
    strong, both = images(severity=5)[0], noise(*HW)
    kept = (strong > 0) & (strong < 255) & (first > 0) & (first < 255)
    # 0.38 / 0.08 of the same draws
    assert np.corrcoef((strong - both)[kept], (first - both)[kept])[0, 1] > 0.99


def test_digests_tell_all_apart(clean):
    sources = [clean, *(Corrupted(clean, *c) for c in [("fog", 5, 0), ("fog", 4, 0), ("snow", 5, 0), ("fog", 5, 1)])]
    assert len({source.open().digest() for source in sources}) == 5
    assert Corrupted(clean, "fog").open().digest() == Corrupted(clean, "fog", 5, 0).open().digest()


def test_mistakes(clean, tmp_path):
    with pytest.raises(BadInput, match="no corruption 'smog'"):
        Corrupted(clean, "smog").open()
    with pytest.raises(BadInput, match="severity of fog is 9"):
        Corrupted(clean, "fog", 9).open()
    save(tmp_path / "small/s.png", noise(31, 90))
    with pytest.raises(Unreadable, match=r"s.png: a picture of 31 x 90 pixels .* too small"):
        Corrupted(Folder(str(tmp_path / "small")), "fog").open()[0]
