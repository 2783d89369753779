"""Tiny data sets that the tests of this folder write into tmp_path."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, array: np.ndarray, **options) -> Path:
    """Array -> picture file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def flat(value: int, height: int = 6, width: int = 8) -> np.ndarray:
    """A picture of one grey, so that any crop of it tells which picture it was."""
    return np.full((height, width, 3), value, np.uint8)


def grey_folder(root: Path, count: int) -> Path:
    """Pictures 00.png, 01.png, ... where number i has the grey 10 * i."""
    for i in range(count):
        save(root / f"{i:02d}.png", flat(10 * i))
    return root


def truncate(path: Path) -> None:
    """Cut a file in half."""
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def write(path: Path, value) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return str(path)


def rectangle(hw: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(hw, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def corners(x0: int, y0: int, x1: int, y1: int) -> list[int]:
    """Polygon of `rectangle`: with whole coordinates, COCO's rule fills exactly its pixels."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]
