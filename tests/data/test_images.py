import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadist_jax.data import images
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput
from tests.data.made import flat, noise, save, truncate

TURN = 0x0112  # EXIF orientation


def save_turned(path: Path, array: np.ndarray, orientation: int) -> Path:
    exif = Image.Exif()
    exif[TURN] = orientation
    return save(path, array, exif=exif)


def test_grey_rgba_palette_and_16_bit_pictures_become_rgb(tmp_path):
    grey = noise(5, 7)[..., 0]
    colour = noise(5, 7)
    opaque = np.dstack([colour, np.full((5, 7), 255, np.uint8)])
    save(tmp_path / "grey.png", grey)
    save(tmp_path / "rgba.png", opaque)
    save(tmp_path / "deep.png", grey.astype(np.uint16) * 257)
    Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    expected = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(images.read_image(tmp_path / "grey.png"), expected)
    assert np.array_equal(images.read_image(tmp_path / "deep.png"), expected)
    assert np.array_equal(images.read_image(tmp_path / "rgba.png"), colour)
    assert np.array_equal(images.read_image(tmp_path / "palette.png"), colour)  # 35 colours fit into 256


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_unless_only_the_stored_one_fits_the_annotation(tmp_path, orientation):
    stored = noise(5, 7)
    path = save_turned(tmp_path / "turned.png", stored, orientation)
    upright = images.read_image(path)
    assert upright.shape == ((7, 5, 3) if orientation >= 5 else (5, 7, 3))
    assert np.array_equal(images.read_image(path, upright.shape[:2]), upright)
    if orientation >= 5:
        assert np.array_equal(images.read_image(path, (5, 7)), stored)
    with pytest.raises(Unreadable, match=r"pixels .* annotation is for 7 x 9"):
        images.read_image(path, (7, 9))


def test_a_swapped_size_without_a_turn_in_the_file_is_a_mismatch(tmp_path):
    with pytest.raises(Unreadable, match="annotation is for 7 x 5"):
        images.read_image(save(tmp_path / "a.png", noise(5, 7)), (7, 5))


def test_a_broken_exif_block_costs_neither_the_picture_nor_the_worker(tmp_path):
    path = save(tmp_path / "broken.png", flat(9, 5, 7), exif=b"Exif\0\0no TIFF header")
    with Image.open(path) as image, pytest.raises(SyntaxError):
        image.getexif()
    assert np.array_equal(images.read_image(path, (5, 7)), flat(9, 5, 7))
    with pytest.raises(Unreadable, match=r"has 5 x 7 pixels .* annotation is for 7 x 5"):
        images.read_image(path, (7, 5))


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "bmp", "gif"])
@pytest.mark.parametrize("read", [images.read_image, images.read_mask, images.read_ids, images.read_panoptic])
def test_a_cut_file_is_unreadable(tmp_path, ending, read):
    path = save(tmp_path / f"cut.{ending}", noise(40, 40))
    truncate(path)
    with pytest.raises(Unreadable, match=f"cut.{ending}") as caught:
        read(path)
    assert caught.value.path == str(path)


def test_what_is_no_picture_or_not_there_is_unreadable(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for name in ("text.jpg", "empty.png", "folder.png", "nowhere.png"):
        for read in (images.read_image, images.read_mask):
            with pytest.raises(Unreadable, match=name):
                read(tmp_path / name)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    header = save(tmp_path / "bomb.png", noise(1, 1)).read_bytes()
    for side in (10_000, 30_000):
        ihdr = b"IHDR" + side.to_bytes(4, "big") * 2 + header[24:29]
        import zlib

        (tmp_path / "bomb.png").write_bytes(header[:12] + ihdr + zlib.crc32(ihdr).to_bytes(4, "big") + header[33:])
        for read in (images.read_image, images.read_mask, images.read_size):
            with pytest.raises(Unreadable, match="more than 89478485 pixels"):
                read(tmp_path / "bomb.png")


def test_a_mask_is_true_above_half_of_its_largest_value(tmp_path):
    mask = noise(6, 9)[..., 0] > 128
    soft = np.where(mask, 200, 90).astype(np.uint8)
    cases = {
        "binary": mask.astype(np.uint8),
        "bright": mask.astype(np.uint8) * 255,
        "soft": soft,
        "deep": mask.astype(np.uint16) * 40_000,
        "rgb": np.dstack([soft] * 3),
        "one bit": mask,
    }
    for name, array in cases.items():
        assert np.array_equal(images.read_mask(save(tmp_path / f"{name}.png", array)), mask), name
    assert not images.read_mask(save(tmp_path / "none.png", np.zeros((4, 4), np.uint8))).any()


def test_ids_are_the_stored_values(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(ids).convert("P")
    picture.putpalette(list(range(255, -1, -1)) * 3)
    picture.save(tmp_path / "palette.png")
    assert np.array_equal(images.read_ids(tmp_path / "palette.png"), ids)
    assert np.array_equal(images.read_ids(save(tmp_path / "grey.png", ids)), ids)
    assert np.array_equal(
        images.read_ids(save(tmp_path / "deep.png", ids.astype(np.uint16) * 999)), ids.astype(int) * 999
    )
    with pytest.raises(Unreadable, match="mode RGB; a label map has one channel"):
        images.read_ids(save(tmp_path / "colour.png", noise(3, 4)))


def test_panoptic_ids_are_rgb_in_base_256(tmp_path):
    colours = noise(3, 4)
    red, green, blue = np.moveaxis(colours.astype(int), 2, 0)
    found = images.read_panoptic(save(tmp_path / "ids.png", colours))
    assert np.array_equal(found, red + 256 * green + 65536 * blue)
    with pytest.raises(Unreadable, match="mode L; a panoptic map has three channels"):
        images.read_panoptic(save(tmp_path / "grey.png", colours[..., 0]))


@pytest.mark.parametrize("kind", [errno.EIO, errno.ESTALE])
def test_hiccups_of_the_drive_are_not_the_files_fault(tmp_path, monkeypatch, kind):
    path = save(tmp_path / "a.png", noise(3, 4))
    monkeypatch.setattr(images.time, "sleep", lambda seconds: None)
    failures = iter([1, 1])

    def moody(original):
        def opened(*args, **kwargs):
            if next(failures, None):
                raise OSError(kind, "hiccup")
            return original(*args, **kwargs)

        return opened

    monkeypatch.setattr(Image, "open", moody(Image.open))
    assert images.read_mask(path).shape == (3, 4)
    failures = iter([1, 1])
    assert images.read_image(path).shape == (3, 4, 3)
    failures = iter([1] * 99)
    for read in (images.read_image, images.read_mask):
        with pytest.raises(BadInput, match=r"cannot be read .*check the drive") as caught:
            read(path)
        assert not isinstance(caught.value, Unreadable)
