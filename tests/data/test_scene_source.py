import pickle

import numpy as np

from sadist_jax.data.mask_folders import MaskFolders
from sadist_jax.data.scene_source import SceneSource
from tests.data.made import noise, rectangle, save


def photos(root):
    for i in range(3):
        save(root / "images" / f"{i}.png", noise(40, 60, i))
        save(root / "masks" / f"{i}.png", rectangle((40, 60), 5, 5, 30, 30).astype(np.uint8))
    return MaskFolders(str(root))


def test_scenes_open_from_plain_values(tmp_path):
    plain = SceneSource(size=64, seed=3, count=4).open()
    borrowed = SceneSource(size=64, seed=3, count=4, photos=photos(tmp_path)).open()
    for reader in (plain, borrowed):
        assert len(reader) == 4
        sample = reader[1]
        assert sample.image.shape == (64, 64, 3)
        assert sample.image.dtype == np.uint8
        assert np.stack(sample.masks).shape == (len(sample.iscrowd), 64, 64)
        assert sample.name == reader.name(1)
        assert np.array_equal(pickle.loads(pickle.dumps(reader))[1].image, sample.image)
    assert plain.digest() != borrowed.digest()
    assert [(t.shape, c[1].shape) for t, c in zip(borrowed.textures, borrowed.cutouts, strict=True)] == [
        ((40, 60, 3), (25, 25))
    ] * 3
