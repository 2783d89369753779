"""Write weights as a `.pth` file, without PyTorch, that PyTorch loads with `weights_only=True` and with `mmap=True`.

The pickle is written opcode by opcode (protocol 2, as torch.save does), so there is nothing in it but tensors and
names; see pickletools for the opcodes and torch/_utils.py for the arguments of `_rebuild_tensor_v2`.
"""

import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import BinaryIO

import numpy as np

from sadist_jax.weights import files
from sadist_jax.weights.torch_dtypes import STORAGES

_ALIGNMENT = 64  # bytes; torch.save's own, so that a mapped tensor starts on a cache line
_STEM = "archive"  # the folder inside; fixed, so that equal weights give equal bytes whatever the file is called
_LOCAL_HEADER, _EXTRA_HEADER, _ZIP64_EXTRA = 30, 4, 20  # bytes, zip format (APPNOTE 4.3.7, 4.5.1, 4.5.3)
_ZIP64_BEYOND = 1 << 30
_STORAGE_NAMES = {dtype: name for name, dtype in STORAGES.items()}


def write_pth(path: files.PathLike, state: Mapping[str, np.ndarray], wrapper: str | None = None) -> None:
    """Write a state dict; equal contents in equal order give equal bytes, and the file appears whole or not at all.

    Args:
      path: the file; replaced when it exists.
      state: {name: array}, stored in this order and with PyTorch's axes (`nn.table.to_reference` makes it). Floats,
        bfloat16, signed integers, uint8, bool and complex; any strides.
      wrapper: "model" writes {"model": state}, as EfficientSAM's files have it; None writes the state dict itself.

    Raises:
      TypeError: for an element type that PyTorch has no storage for.
      BadInput: where the file cannot be written.

    Example:
      >>> write_pth("bias.pth", {"head.bias": np.zeros(3, np.float32)})
    """
    arrays = {name: np.asarray(value) for name, value in state.items()}
    structure = _pickle_state(arrays, wrapper)
    with files.replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        _store(archive, file, "data.pkl", np.frombuffer(structure, np.uint8))
        _store(archive, file, "byteorder", np.frombuffer(b"little", np.uint8))
        for key, array in enumerate(arrays.values()):
            # One contiguous copy at a time, and none where the array is contiguous already.
            content = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            _store(archive, file, f"data/{key}", content.reshape(-1).view(np.uint8))
        _store(archive, file, "version", np.frombuffer(b"3\n", np.uint8))


def _store(archive: zipfile.ZipFile, file: BinaryIO, name: str, content: np.ndarray) -> None:
    """Append one stored record; an extra field of the right length before it aligns its bytes in the file."""
    info = zipfile.ZipInfo(f"{_STEM}/{name}")  # dated 1980-01-01: time must not change the bytes
    info.create_system = 3  # likewise the operating system
    info.file_size = content.nbytes
    large = content.nbytes > _ZIP64_BEYOND
    start = file.tell() + _LOCAL_HEADER + len(info.filename) + _EXTRA_HEADER + (_ZIP64_EXTRA if large else 0)
    info.extra = struct.pack("<2sH", b"FB", -start % _ALIGNMENT) + bytes(-start % _ALIGNMENT)
    with archive.open(info, "w", force_zip64=large) as record:
        record.write(content.data)


def _pickle_state(arrays: Mapping[str, np.ndarray], wrapper: str | None) -> bytes:
    parts = [b"\x80\x02"]
    if wrapper is not None:
        parts += [b"}", _text(wrapper)]
    parts += [b"}("]
    for key, (name, array) in enumerate(arrays.items()):
        parts += [_text(name), _tensor(name, str(key), array)]
    parts += [b"u", b"" if wrapper is None else b"s", b"."]
    return b"".join(parts)


def _tensor(name: str, key: str, array: np.ndarray) -> bytes:
    """_rebuild_tensor_v2(storage, offset 0, size, stride, requires_grad False, hooks OrderedDict())."""
    kind = _STORAGE_NAMES.get(array.dtype.newbyteorder("<"))
    if kind is None:
        raise TypeError(f"{name!r} is {array.dtype}, which PyTorch's files have no storage for; cast it first")
    storage = b"(" + _text("storage") + _global(kind) + _text(key) + _text("cpu") + _integer(array.size) + b"tQ"
    strides = [1]
    for length in array.shape[:0:-1]:
        strides.insert(0, strides[0] * max(length, 1))
    view = _integer(0) + _tuple(array.shape) + _tuple(strides[: array.ndim]) + b"\x89"
    return (
        _global("torch._utils._rebuild_tensor_v2")
        + b"("
        + storage
        + view
        + _global("collections.OrderedDict")
        + b")RtR"
    )


def _global(name: str) -> bytes:
    return b"c" + "\n".join(name.rsplit(".", 1)).encode() + b"\n"


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _integer(value: int) -> bytes:
    if value < 1 << 8:
        return struct.pack("<cB", b"K", value)
    if value < 1 << 31:
        return struct.pack("<ci", b"J", value)
    encoded = value.to_bytes(9, "little", signed=True)
    return struct.pack("<cB", b"\x8a", len(encoded)) + encoded


def _tuple(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
