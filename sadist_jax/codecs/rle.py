"""Run-length codes of masks, as COCO writes them: {"size": [h, w], "counts": [...] or "..."}.

Runs go down the columns (column-major) and alternate zeros, ones, zeros, ...; the first run is of zeros and may be
empty. The string form stores each run from the fourth on as the difference with the run two before it, each number in
groups of 5 bits, lowest first: bit 0x20 says that more follow, bit 0x10 of the last group is the sign, and 48 is added
to land in printable ASCII (cocodataset/cocoapi, common/maskApi.c, rleToString).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sadist_jax.errors import BadInput

MAX_PIXELS = 2**28  # a mask beyond this is a broken or hostile file, not a photograph
_MAX_GROUPS = 7  # 5-bit groups of one number: 35 bits hold every difference of two runs below MAX_PIXELS

Rle = dict[str, Any]


def encode(mask: np.ndarray) -> Rle:
    """Mask -> uncompressed RLE.

    Args:
        mask: (h, w) bool, or a number where anything but 0 is inside.
    Returns:
        {"size": [h, w], "counts": list of int}; ready for JSON.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or 0 in mask.shape:
        raise BadInput(f"a mask to encode must be (h, w) and not empty, this one is {mask.shape}")
    height, width = mask.shape
    flat = (mask != 0).ravel(order="F")
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], starts, [flat.size]])
    counts = np.diff(edges).tolist()
    return {"size": [height, width], "counts": [0, *counts] if flat[0] else counts}


def decode(rle: Mapping[str, Any], size: Sequence[int] | None = None, source: str = "the RLE") -> np.ndarray:
    """RLE, compressed or not -> mask uint8 {0, 1} (h, w).

    Args:
        rle: {"size": [h, w], "counts": list of int, str or bytes}.
        size: (h, w) that the mask must have, e.g. the image's; None accepts what the RLE says.
        source: what to call it in errors, e.g. "annotation 17 of instances.json".
    Raises:
        BadInput: a size that is wrong, garbage in counts, or runs that do not add up to h * w.
    """
    (height, width), counts = _read(rle, source)
    if size is not None and (height, width) != tuple(size):
        raise BadInput(f"{source} is for a {height} x {width} image, but the image is {size[0]} x {size[1]} (h x w)")
    values = (np.arange(counts.size) & 1).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)


def compress(rle: Mapping[str, Any], source: str = "the RLE") -> Rle:
    """RLE -> the same with `counts` as a string (str, as in JSON; pycocotools takes it too)."""
    size, counts = _read(rle, source)
    return {"size": list(size), "counts": _to_string(counts)}


def decompress(rle: Mapping[str, Any], source: str = "the RLE") -> Rle:
    """RLE -> the same with `counts` as a list of int."""
    size, counts = _read(rle, source)
    return {"size": list(size), "counts": counts.tolist()}


def area(rle: Mapping[str, Any], source: str = "the RLE") -> int:
    """Number of pixels inside."""
    return int(_read(rle, source)[1][1::2].sum())


def bbox(rle: Mapping[str, Any], source: str = "the RLE") -> list[int]:
    """[x, y, w, h] in whole pixels, COCO's rule: w = max - min + 1 (SAM's own XYWH is one less). Empty: all zeros."""
    (height, _), counts = _read(rle, source)
    ends = np.cumsum(counts)
    first, last = (ends - counts)[1::2], ends[1::2] - 1
    some = last >= first
    if not some.any():
        return [0, 0, 0, 0]
    first, last = first[some], last[some]
    left, right = int(first[0]) // height, int(last[-1]) // height
    # a run that goes on into the next column holds this column's last row and that column's first
    wraps = (first // height != last // height).any()
    top, bottom = (0, height - 1) if wraps else (int((first % height).min()), int((last % height).max()))
    return [left, top, right - left + 1, bottom - top + 1]


def _read(rle: Mapping[str, Any], source: str) -> tuple[tuple[int, int], np.ndarray]:
    """Checked ((h, w), counts int64)."""
    if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
        raise BadInput(f'{source} must be an object with "size" and "counts"')
    height, width = _read_size(rle["size"], source)
    counts = rle["counts"]
    if isinstance(counts, str | bytes):
        counts = _from_string(counts, source)
    else:
        counts = _from_list(counts, source)
    if counts.size and (counts.min() < 0 or counts.max() > MAX_PIXELS):
        raise BadInput(f"{source} has a run of length {counts[np.argmax(np.abs(counts))]}; the file is damaged")
    if counts.sum() != height * width:
        raise BadInput(f"{source} has runs that add up to {counts.sum()}, not to {height} x {width} = {height * width}")
    return (height, width), counts


def _read_size(size: Any, source: str) -> tuple[int, int]:
    whole = isinstance(size, Sequence | np.ndarray) and len(size) == 2 and all(_is_int(s) for s in size)
    if not whole or min(size) < 1:
        raise BadInput(f"{source} has size {size!r}, which must be [height, width] in whole pixels")
    height, width = int(size[0]), int(size[1])
    if height * width > MAX_PIXELS:
        raise BadInput(f"{source} has size {height} x {width}, above the limit of {MAX_PIXELS} pixels")
    return height, width


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _from_list(counts: Any, source: str) -> np.ndarray:
    try:
        array = np.asarray(counts)
    except (ValueError, OverflowError):
        array = np.empty(0, object)
    if array.size == 0 and isinstance(counts, list):
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise BadInput(f'{source} has "counts" that are neither a string nor a list of whole numbers')
    return array.astype(np.int64)


def _from_string(text: str | bytes, source: str) -> np.ndarray:
    """String form -> runs (int64), all of them at once."""
    raw = text.encode("utf-8") if isinstance(text, str) else text
    groups = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if groups.size == 0:
        return groups
    if groups.min() < 0 or groups.max() > 63:
        raise BadInput(f"{source} has characters in its counts that no RLE has; the file is damaged")
    ends = np.flatnonzero(groups < 32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if groups[-1] >= 32 or lengths.max() > _MAX_GROUPS:
        raise BadInput(f"{source} has counts that are cut off or run on; the file is damaged")
    place = 5 * (np.arange(groups.size) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((groups & 31) << place, starts)
    negative = (groups[ends] & 16) != 0
    numbers = numbers - (negative.astype(np.int64) << (5 * lengths))
    # undo "difference with the run two before", which begins at the fourth run
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _to_string(counts: np.ndarray) -> str:
    """Runs -> string form."""
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
    groups = np.zeros((counts.size, _MAX_GROUPS), np.int64)
    used = np.zeros(groups.shape, bool)
    more = np.ones(counts.size, bool)
    for i in range(_MAX_GROUPS):
        low = rest & 31
        rest = rest >> 5
        used[:, i] = more
        more = more & np.where(low & 16, rest != -1, rest != 0)
        groups[:, i] = low + 32 * more
    return (groups[used] + 48).astype(np.uint8).tobytes().decode("ascii")
