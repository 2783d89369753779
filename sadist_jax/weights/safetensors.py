"""Read and write safetensors files, bfloat16 included, in NumPy.

Reading is the safetensors library's. Writing is ours, because the library (0.8.0) orders the metadata differently in
every process, so that equal weights give unequal files, and takes the memory of a transposed array as it lies, so that
it comes back with other values. Format: https://github.com/huggingface/safetensors#format
"""

import json
import struct
from collections.abc import Mapping

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from sadist_jax.errors import BadInput
from sadist_jax.weights import files

_ALIGNMENT = 8  # bytes; the header is padded with spaces to it
_CODES = {
    np.dtype("<f8"): "F64",
    np.dtype("<f4"): "F32",
    np.dtype("<f2"): "F16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype("<i8"): "I64",
    np.dtype("<i4"): "I32",
    np.dtype("<i2"): "I16",
    np.dtype("i1"): "I8",
    np.dtype("<u8"): "U64",
    np.dtype("<u4"): "U32",
    np.dtype("<u2"): "U16",
    np.dtype("u1"): "U8",
    np.dtype("?"): "BOOL",
}


def read(path: files.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read all tensors and the metadata.

    Returns: ({name: array} in order of name, {key: text}); every array owns its memory, bfloat16 is ml_dtypes'.

    Raises: BadInput, naming the file and the remedy, for a missing, truncated or foreign file or element type. (A
      safetensors file has no checksum: a flipped bit in a weight goes unnoticed here; compare `weights.digest`.)
    """
    with files.reading(path):
        pass  # the library's own errors do not tell a directory from a missing file
    try:
        with safe_open(str(path), framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
            return arrays, dict(sorted((file.metadata() or {}).items()))
    except SafetensorError as error:
        raise BadInput(
            f"{path} is truncated or not a safetensors file ({error}); download or copy it again and compare its size "
            "or checksum with the source"
        ) from None
    except (AttributeError, TypeError) as error:  # what the library raises for a type that NumPy lacks
        raise BadInput(f"{path} holds an element type that is not supported ({error}); re-save it as float32") from None


def write(path: files.PathLike, state: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors and metadata; equal contents give equal bytes, and the file appears whole or not at all.

    Args:
      path: the file; replaced when it exists.
      state: {name: array}; any order and strides. Floats, bfloat16, integers, bool.
      metadata: {key: text}, free-form.

    Raises:
      TypeError: for another element type, or metadata that is not text.
      BadInput: where the file cannot be written.

    Example:
      >>> write("bias.safetensors", {"head.bias": np.zeros(3, np.float32)}, {"model": "sam_mini"})
      >>> read("bias.safetensors")[1]
      {'model': 'sam_mini'}
    """
    metadata = dict(sorted((metadata or {}).items()))
    if not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise TypeError("the metadata of a safetensors file maps text to text")
    arrays = {name: np.asarray(value) for name, value in state.items()}
    # Wide elements first, so that each starts at a multiple of its width; then by name.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name in order:
        array = arrays[name]
        code = _CODES.get(array.dtype.newbyteorder("<"))
        if code is None or name == "__metadata__":
            raise TypeError(f"{name!r} ({array.dtype}) cannot be stored as safetensors; cast or rename it")
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with files.replacing(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            content = np.asarray(arrays[name], arrays[name].dtype.newbyteorder("<"), order="C")
            file.write(content.reshape(-1).view(np.uint8).data)
