"""Any image file becomes upright RGB, or one sentence that names it."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from sadist_jax.codecs import images
from sadist_jax.errors import BadInput


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def test_rgb_is_read_as_it_is(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "a.png")
    read = images.open_rgb(tmp_path / "a.png")
    assert read.flags.writeable
    np.testing.assert_array_equal(read, photo)


def test_grey_is_repeated(tmp_path, photo):
    Image.fromarray(photo[..., 0]).save(tmp_path / "a.png")
    expected = np.repeat(photo[..., :1], 3, 2)
    np.testing.assert_array_equal(images.open_rgb(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(images.to_rgb(photo[..., 0]), expected)
    np.testing.assert_array_equal(images.to_rgb(photo[..., :1]), expected)


def test_black_and_white_is_scaled(tmp_path):
    bits = np.eye(9, dtype=bool)
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.open_rgb(tmp_path / "a.png")[..., 1], bits * 255)
    np.testing.assert_array_equal(images.to_rgb(bits)[..., 2], bits * 255)


def test_sixteen_bit_grey_is_scaled_and_rounded(tmp_path):
    deep = np.array([[0, 128, 129, 257, 32768], [65535, 65000, 385, 386, 1]], np.uint16)
    expected = np.round(deep / 257).astype(np.uint8)
    for name in ("a.png", "a.tif", "a.pgm"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(images.open_rgb(tmp_path / name)[..., 0], expected, err_msg=name)
    np.testing.assert_array_equal(images.to_rgb(deep)[..., 0], expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(tmp_path, photo, mode):
    alpha = np.zeros((12, 20, 1), np.uint8)
    alpha[:, 5:] = 255
    alpha[:, 10:] = 51  # a fifth
    colour = photo if mode == "RGBA" else photo[..., :1]
    array = np.concatenate([colour, alpha], 2)
    Image.fromarray(array).save(tmp_path / "a.png")
    read = images.open_rgb(tmp_path / "a.png")
    assert (read[:, :5] == 255).all()
    np.testing.assert_array_equal(read[:, 5:10], np.broadcast_to(colour, photo.shape)[:, 5:10])
    np.testing.assert_allclose(read[:, 10:], colour[:, 10:] * 0.2 + 255 * 0.8 + np.zeros(3), atol=0.5001)
    np.testing.assert_array_equal(images.to_rgb(array), read)


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=2)
    assert images.open_rgb(tmp_path / "opaque.png").tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]
    assert images.open_rgb(tmp_path / "clear.png")[1, 0].tolist() == [255, 255, 255]


def test_cmyk(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = images.open_rgb(tmp_path / "a.jpg")
    assert red.shape == (16, 16, 3)
    np.testing.assert_allclose(red[8, 8], [255, 0, 0], atol=6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, photo, orientation):
    """The file's pixels are the upright picture turned the way that the EXIF standard says the camera held it."""
    turned = {
        1: photo,
        2: np.fliplr(photo),
        3: np.rot90(photo, 2),
        4: np.flipud(photo),
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo),
        7: np.rot90(photo, 2).transpose(1, 0, 2),
        8: np.rot90(photo, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(images.open_rgb(tmp_path / "a.png"), photo)


def bomb(path, width, height):
    """A PNG that says it is huge: 60 bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


@pytest.mark.parametrize("side", [10_000, 60_000])  # Pillow's warning zone, and its error zone
def test_bombs_are_bad_input_and_nothing_is_printed(tmp_path, side):
    bomb(tmp_path / "a.png", side, side)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(BadInput, match=r"a\.png has more than"):
            images.open_rgb(tmp_path / "a.png")
    assert not seen


def test_limit_can_be_set(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "a.png")
    assert images.open_rgb(tmp_path / "a.png", max_pixels=240).shape == photo.shape
    with pytest.raises(BadInput, match="more than 239 pixels"):
        images.open_rgb(tmp_path / "a.png", max_pixels=239)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "gif"])
def test_cut_files_are_bad_input(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for keep in (0, 3, 20, len(whole) // 2):
        path.write_bytes(whole[:keep])
        with pytest.raises(BadInput, match=rf"a\.{suffix}") as error:
            images.open_rgb(path)
        assert "\n" not in str(error.value)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(BadInput, match="there is no image"):
        images.open_rgb(tmp_path / "no.png")
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(BadInput, match=r"text\.jpg is not an image"):
        images.open_rgb(tmp_path / "text.jpg")
    with pytest.raises(BadInput, match="cannot read"):
        images.open_rgb(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(BadInput, match=r"f\.tif.*16 bits"):
        images.open_rgb(tmp_path / "f.tif")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4, 5), np.uint8), "channels"),
        (np.zeros((1, 4, 4, 3), np.uint8), "channels"),
        (np.zeros((0, 4, 3), np.uint8), "channels"),
        (np.zeros(4, np.uint8), "channels"),
    ],
)
def test_arrays_of_other_kinds_are_bad_input(array, says):
    with pytest.raises(BadInput, match=says):
        images.to_rgb(array)
