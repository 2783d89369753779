"""Fingerprints of weights, whatever file and order they came in."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np


def digest(state: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, element types, shapes and little-endian bytes, independent of the order of the names.

    Equal for the same weights read from a `.pth` and from a safetensors file; different as soon as one bit, one name or
    one shape differs (so 0.0 and -0.0 differ, and float32 differs from float16 of equal values).

    Args:
      state: {name: array}, any strides.

    Returns: 64 hexadecimal digits.

    Example:
      >>> x, y = np.zeros(2), np.ones(3)
      >>> digest({"x": x, "y": y}) == digest({"y": y, "x": x})
      True
    """
    total = hashlib.sha256()
    for name in sorted(state):
        array = np.asarray(state[name])
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        # The head fixes how many bytes follow and ends with its newline, so no two states give the same stream.
        total.update(json.dumps([name, array.dtype.name, array.shape]).encode() + b"\n")
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()
