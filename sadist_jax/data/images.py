"""Files of a data set -> arrays: pictures, binary masks, maps of ids. A file at fault is `Unreadable`."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from sadist_jax.codecs.images import decode, open_stored, upright
from sadist_jax.data.sample import Unreadable
from sadist_jax.errors import BadInput

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
_TRIES = 4
_FILES_FAULT = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_T = TypeVar("_T")


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Picture file -> uint8 (H, W, 3) RGB by the rules of `codecs.images.open_rgb` (upright, alpha on white, ...).

    Args:
        path: the file.
        size: (H, W) of the annotations. Where only the picture as stored has it, not the upright one, the picture
            stays as stored: some tools annotate without looking at the EXIF orientation.
    Raises:
        Unreadable: missing, damaged, not a picture, too large, or of another size than `size`.
        BadInput: the drive, not the file, is at fault.
    """
    stored, orientation = _persist(path, lambda: open_stored(path))
    image = upright(stored, orientation)
    found = image.shape[:2]
    if size is None or found == tuple(size):
        return image
    if stored.shape[:2] == tuple(size):
        return stored
    raise Unreadable(
        str(path),
        f"{path} has {found[0]} x {found[1]} pixels (h x w), but its annotation is for {size[0]} x {size[1]}; "
        "annotate the same file that is read",
    )


def read_mask(path: str | Path) -> np.ndarray:
    """Mask file -> bool (H, W): True above half of the file's largest value, so 0/1, 0/255 and soft edges all work."""

    def convert(image: Image.Image) -> np.ndarray:
        deep = image.mode.startswith(("I", "F"))
        values = np.asarray(image if deep else image.convert("L")).astype(np.float32)
        return values > max(values.max(), 0) / 2

    return _decode(path, convert)


def read_ids(path: str | Path) -> np.ndarray:
    """Label map with one channel of ids (8-bit, 16-bit, or palette, where the index counts) -> integers (H, W)."""

    def convert(image: Image.Image) -> np.ndarray:
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise BadInput(f"this is a picture of mode {image.mode}; a label map has one channel of ids")
        return np.asarray(image).astype(np.int32)

    return _decode(path, convert)


def read_panoptic(path: str | Path) -> np.ndarray:
    """COCO panoptic PNG -> ids int32 (H, W): R + 256 G + 65536 B; 0 is unlabelled."""

    def convert(image: Image.Image) -> np.ndarray:
        if image.mode not in ("RGB", "RGBA"):
            raise BadInput(f"this is a picture of mode {image.mode}; a panoptic map has three channels")
        red, green, blue = np.moveaxis(np.asarray(image)[..., :3].astype(np.int32), 2, 0)
        return red + 256 * green + 65536 * blue

    return _decode(path, convert)


def read_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of a picture as stored, from its header."""
    return _persist(path, lambda: decode(path, lambda image: (image.height, image.width)))


def refuse_size(path: str | Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raises Unreadable when the map in `path` has not the (H, W) of its picture."""
    if tuple(found) != tuple(size):
        message = f"{path} has {found[0]} x {found[1]} pixels (h x w), but its picture has {size[0]} x {size[1]}"
        raise Unreadable(str(path), f"{message}; save it in the size of the picture")


def _decode(path: str | Path, convert: Callable[[Image.Image], _T]) -> _T:
    def read(image: Image.Image) -> _T:
        image.load()  # here, so that NumPy does not meet the errors of a decoder
        return convert(image)

    return _persist(path, lambda: decode(path, read))


def _persist(path: str | Path, attempt: Callable[[], _T]) -> _T:
    """Try again when a (network) drive has hiccups, which must not make a file look damaged.

    BadInput becomes `Unreadable`; an error of the operating system behind it that stays is BadInput.
    """
    for number in range(_TRIES):
        try:
            return attempt()
        except BadInput as error:
            kind = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
            if kind is None or kind in _FILES_FAULT:
                raise Unreadable(str(path), str(error)) from None
            if kind in (errno.EACCES, errno.EPERM) or number == _TRIES - 1:
                reason = os.strerror(kind)
                raise BadInput(f"{path} cannot be read ({reason}); check the drive and your rights") from None
            time.sleep(0.2 * 4**number)
    raise AssertionError("unreachable")
