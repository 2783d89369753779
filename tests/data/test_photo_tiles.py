import numpy as np
import pytest
from PIL import Image

from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.data.photo_tiles import PhotoTiles
from sadist_jax.errors import BadInput


def test_tiles_of_both_parts_make_up_each_photo():
    photos = PackagePhotos("train").open()
    readers = [PhotoTiles(part, size=8).open() for part in ("train", "held_out")]
    assert [len(reader) for reader in readers] == [10 * 5 * 6, 10 * 5 * 2]
    whole = np.zeros((10, 40, 64, 3), np.uint8)
    for reader in readers:
        for i in range(len(reader)):
            sample = reader[i]
            photo, _, place = sample.name.rpartition("/")
            row, column = map(int, place.split("-"))
            assert photos.name(sample.label) == photo
            assert sample.name == reader.name(i)
            assert (column >= 6) == (reader.part == "held_out")
            whole[sample.label, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = sample.image
    for i in range(len(photos)):
        expected = Image.fromarray(photos[i].image).resize((64, 40), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(whole[i], expected)
    assert len({reader.digest() for reader in readers}) == 2


def test_what_is_not_there_is_refused():
    with pytest.raises(IndexError):
        PhotoTiles("held_out", 8).open()[100]
    with pytest.raises(BadInput, match="tiles' size is 0"):
        PhotoTiles(size=0).open()
