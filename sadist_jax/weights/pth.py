"""Read the weights in a PyTorch `.pth` / `.pt` file without PyTorch, and without running anything that it holds.

Such a file is a zip archive of stored records: `<stem>/data.pkl`, the structure, and `<stem>/data/<key>`, the bytes of
one storage each (torch/serialization.py, format of PyTorch 1.6 and later).
"""

import math
import tempfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from sadist_jax.errors import BadInput
from sadist_jax.weights import files
from sadist_jax.weights.archive import Archive
from sadist_jax.weights.unpickle import RESAVE, Tensor, loads

MAX_BYTES = 16 << 30  # of tensors in one file; SAM ViT-H is 2.6 GB

_STRUCTURE_BYTES = 16 << 20  # of data.pkl; SAM ViT-H has 0.15 MB
_WRAPPERS = ("model", "state_dict", "model_state_dict")
_DATA_PKL = "/data.pkl"
_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # magic number of torch.save before 1.6
# Weights hardly compress (EfficientSAM-S: 1.1); a deflate bomb reaches 1000. Small files may hold constants.
_MOST_COMPRESSION, _BEYOND_BYTES = 100, 64 << 20


def read_pth(path: files.PathLike, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Read a state dict that torch.save wrote, bare or wrapped.

    The wrappers are {"model": ...}, {"state_dict": ...} and {"model_state_dict": ...}. Beside a wrapped state
    dict, plain data (epoch, optimizer state) is ignored and not loaded. A zip file that holds exactly one `.pt` or
    `.pth` (EfficientSAM's `efficient_sam_vits.pt.zip`) is read through.

    Args:
      path: the file.
      max_bytes: upper limit for the tensors' bytes together, and for the inflated size of a `.pt.zip`.

    Returns: {name: array} in the file's order, each bit for bit what PyTorch would load; bfloat16 is ml_dtypes'. A view
      (transposed, sliced, expanded) stays a strided view, and tensors that share a storage share memory here too.

    Raises: BadInput, naming the file and the remedy, for whatever is not such a file: anything that is not allow-listed
      in its pickle, a wrong CRC-32, a tensor outside its storage, a storage of the wrong size, sizes over the limit.

    Example:
      >>> read_pth("sam_vit_b_01ec64.pth")["image_encoder.pos_embed"].shape  # doctest: +SKIP
      (1, 64, 64, 768)
    """
    with files.reading(path) as file:
        return _read(file, str(path), max_bytes)


def _read(file: BinaryIO, where: str, max_bytes: int, inner: bool = False) -> dict[str, np.ndarray]:
    _refuse_other_formats(file.read(16), where)
    archive = Archive(file, where)
    structures = [n for n in archive.members if n.endswith(_DATA_PKL) and n.count("/") == 1]
    inside = [n for n in archive.members if n.endswith((".pt", ".pth")) and not n.startswith("__MACOSX/")]
    if not structures and len(inside) == 1 and not inner:
        with tempfile.TemporaryFile() as copy:  # on disk: the copy and the arrays need not fit in memory together
            _inflate(archive, inside[0], copy, max_bytes)
            return _read(copy, f"{where} (its member {inside[0]!a})", max_bytes, inner=True)
    if len(structures) != 1:
        raise BadInput(
            f"{where} is a zip file but not a PyTorch checkpoint, nor does it hold exactly one .pt or .pth file "
            f"(it has {len(archive.members)} members); unzip it and name the checkpoint inside"
        )
    stem = structures[0].removesuffix(_DATA_PKL)
    _refuse_variants(archive, stem)
    structure = loads(archive.read(structures[0], _STRUCTURE_BYTES), where)
    return _load(archive, stem, _state_dict(structure, where), max_bytes)


def _refuse_other_formats(head: bytes, where: str) -> None:
    if head.startswith(_ZIP):
        return
    if head.startswith(_LEGACY):
        raise BadInput(
            f"{where} is in the format of PyTorch before 1.6; re-save it in PyTorch: "
            "torch.save(torch.load(old, weights_only=True), new)"
        )
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise BadInput(f"{where} is a bare pickle, which this reader refuses because it could run code; {RESAVE}")
    raise BadInput(
        f"{where} is not a PyTorch checkpoint (it begins with {head[:12]!r}); check that the download was not an error "
        "page or a Git LFS pointer"
    )


def _refuse_variants(archive: Archive, stem: str) -> None:
    where = archive.where
    if f"{stem}/constants.pkl" in archive.members or any(n.startswith(f"{stem}/code/") for n in archive.members):
        raise BadInput(
            f"{where} is a TorchScript archive (a program, not weights); re-save the weights in PyTorch: "
            "torch.save(torch.jit.load(old).state_dict(), new)"
        )
    order = f"{stem}/byteorder"
    if order in archive.members and archive.read(order, 16) != b"little":
        raise BadInput(f"{where} was not written on a little-endian machine; re-save it on one with PyTorch")


def _inflate(archive: Archive, name: str, copy: BinaryIO, max_bytes: int) -> None:
    """Write the one checkpoint of a `.pt.zip` to `copy`, after a look at what it claims."""
    info = archive.members[name]
    claim = f"{archive.where} claims to inflate from {info.compress_size} to {info.file_size} bytes"
    if info.file_size > max_bytes + _STRUCTURE_BYTES:  # the container adds a few headers to the tensors
        raise BadInput(f"{claim}, more than the limit of {max_bytes}; if you trust it, raise max_bytes")
    if info.file_size > max(_BEYOND_BYTES, _MOST_COMPRESSION * info.compress_size):
        raise BadInput(f"{claim}, which no weights do; if you trust it, unzip it and name the file inside")
    try:
        for chunk in archive.chunks(name):
            copy.write(chunk)
        copy.seek(0)
    except OSError as error:
        raise BadInput(
            f"{archive.where} could not be inflated into {tempfile.gettempdir()} ({error.strerror}); free "
            f"{info.file_size} bytes there, or set TMPDIR to another place"
        ) from None


def _state_dict(root: Any, where: str) -> Mapping[str, Tensor]:
    """Find the one dictionary of tensors."""
    if not isinstance(root, dict):
        raise BadInput(f"{where} holds a {type(root).__name__.lower()}, not a dictionary of tensors; {RESAVE}")
    wrapped = [key for key in _WRAPPERS if isinstance(root.get(key), dict)]
    if len(wrapped) > 1:
        raise BadInput(f"{where} holds several models ({', '.join(wrapped)}); re-save the one you mean with torch.save")
    state = root[wrapped[0]] if wrapped else root
    others = [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others:
        shown = ", ".join(ascii(key)[:80] for key in others[:5]) + (", ..." if len(others) > 5 else "")
        raise BadInput(f"{where} holds entries that are not tensors ({shown}) among its weights; {RESAVE}")
    if not state:
        raise BadInput(f"{where} holds no tensors; {RESAVE}")
    return state


def _load(archive: Archive, stem: str, state: Mapping[str, Tensor], max_bytes: int) -> dict[str, np.ndarray]:
    # Views can claim far more than the file holds (a stride of 0), so what they claim counts too.
    storages = {tensor.storage for tensor in state.values()}
    claimed = max(sum(tensor.nbytes for tensor in state.values()), sum(storage.nbytes for storage in storages))
    if claimed > max_bytes:
        raise BadInput(
            f"{archive.where} claims {claimed} bytes of tensors, more than the limit of {max_bytes}; if you trust it, "
            "raise max_bytes"
        )
    contents: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in state.items():
        key, member = tensor.storage.key, f"{stem}/data/{tensor.storage.key}"
        if member not in archive.members or archive.size(member) != tensor.storage.nbytes:
            size = f"has {archive.size(member)}" if member in archive.members else "is missing"
            raise BadInput(
                f"{archive.where} is damaged: tensor {name[:80]!a} needs a storage of {tensor.storage.nbytes} "
                f"bytes, but the record {member[:80]!a} {size}; download it again, or {RESAVE}"
            )
        if key not in contents:
            contents[key] = archive.read_array(member)
        arrays[name] = _view(contents[key], tensor)
    return arrays


def _view(content: np.ndarray, tensor: Tensor) -> np.ndarray:
    if math.prod(tensor.shape) == 0:
        return np.empty(tensor.shape, tensor.dtype)
    item = tensor.dtype.itemsize
    return np.ndarray(tensor.shape, tensor.dtype, content, item * tensor.offset, [item * s for s in tensor.strides])
