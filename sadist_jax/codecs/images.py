"""Image files and arrays -> RGB uint8, whatever they were."""

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from sadist_jax.errors import BadInput

MAX_PIXELS = 89_478_485  # Pillow's own warning line: 1 GiB at 3 bytes, 4 copies
_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_T = TypeVar("_T")
_open_lock = threading.Lock()  # warning filters belong to the process, loader threads must take turns


def open_rgb(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Image file -> uint8 (H, W, 3) RGB, upright by its EXIF orientation.

    Grey, palette, CMYK, ... become RGB; 16-bit grey is scaled to 8 bits; whatever is transparent lies on white, as a
    page shows it (official SAM drops alpha and so shows what is hidden below). Of several frames, the first.

    Args:
        path: any format that Pillow reads.
        max_pixels: refuse images with more; the header is enough to tell, nothing is decoded.
    Raises:
        BadInput: names the file: missing, not an image, truncated, too large, or of a kind without a fixed range.
    """
    return upright(*open_stored(path, max_pixels))


def open_stored(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, int]:
    """(the picture of `open_rgb` as it is stored, its EXIF orientation 1..8); 1 where the EXIF block is broken."""

    def read(image: Image.Image) -> tuple[np.ndarray, int]:
        image.load()  # before the EXIF block, which a PNG may have behind its pixels
        return _to_rgb8(image), _orientation(image)

    return decode(path, read, max_pixels)


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """uint8 (H, W, 3) as stored -> as it is to be looked at."""
    turn = _UPRIGHT.get(orientation)
    return stored if turn is None else np.asarray(Image.fromarray(stored).transpose(turn))


def decode(path: str | Path, read: Callable[[Image.Image], _T], max_pixels: int = MAX_PIXELS) -> _T:
    """read(Pillow's image of the file, of which only the header is decoded yet).

    Raises:
        BadInput: whatever is wrong with the file, in one sentence that names it; `read` may raise one without the
            name. An error of the operating system is its cause.
    """
    with _open(path, max_pixels) as image:
        try:
            return read(image)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None
        except MemoryError:
            raise
        except Exception as error:  # decoders raise anything on damaged data: OSError, SyntaxError, struct.error, ...
            message = f"cannot read {path}, the image is damaged or incomplete ({error}); fetch it again or remove it"
            raise BadInput(message) from error


def to_rgb(array: np.ndarray) -> np.ndarray:
    """Array -> uint8 (H, W, 3) RGB.

    Args:
        array: (H, W), (H, W, 1) grey, (H, W, 2) grey + alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8 0..255, uint16
            0..65535 (scaled) or bool (black and white). Alpha is laid on white.
    Raises:
        BadInput: another shape or type; a float could be 0..1 or 0..255, and we do not guess.
    """
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or 0 in array.shape:
        raise BadInput(f"an image must be (H, W) or (H, W, 1 to 4 channels), this array is {array.shape}")
    if array.dtype == np.uint16:
        array = _to_8_bits(array)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise BadInput(f"an image must be uint8 in 0..255, this array is {array.dtype}; scale and round it first")
    if array.shape[2] in (2, 4):
        array = _on_white(array[..., :-1], array[..., -1:])
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _open(path: str | Path, max_pixels: int) -> Image.Image:
    too_large = f"{path} has more than {max_pixels} pixels; make it smaller before use"
    try:
        with _open_lock, warnings.catch_warnings():
            # between its warning and its error line Pillow would go on; our limit is checked below
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except Image.DecompressionBombError:
        raise BadInput(too_large) from None
    except FileNotFoundError:
        raise BadInput(f"there is no image {path}; check the name") from None
    except Image.UnidentifiedImageError:
        raise BadInput(f"{path} is not an image of a known format; save it as PNG or JPEG") from None
    except Exception as error:  # as above: headers are parsed here
        raise BadInput(f"cannot read {path} ({error}); check the file and your rights to it") from error
    if image.width * image.height > max_pixels:
        image.close()
        raise BadInput(too_large)
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block is no reason to lose the picture
        return 1


def _to_rgb8(image: Image.Image) -> np.ndarray:
    """Decoded image -> uint8 (H, W, 3), not yet turned upright."""
    if image.mode.startswith("I") or image.mode == "F":
        return to_rgb(_read_deep_grey(image))
    if image.has_transparency_data:
        return to_rgb(np.asarray(image.convert("RGBA")))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _read_deep_grey(image: Image.Image) -> np.ndarray:
    """I;16 and I (16-bit PGM and old PNGs arrive as 32-bit) -> uint16 (H, W)."""
    array = np.asarray(image)
    if array.dtype.kind == "f" or array.min() < 0 or array.max() > 65535:
        raise BadInput("grey values beyond 16 bits have no fixed range; save it as an 8-bit or 16-bit image")
    return array.astype(np.uint16)


def _to_8_bits(array: np.ndarray) -> np.ndarray:
    """0..65535 -> 0..255, rounded; 65535 = 257 * 255."""
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colour over white, rounded. Alpha is straight (not premultiplied)."""
    alpha = alpha.astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
