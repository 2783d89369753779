"""Our reader against torch.save and our writer against torch.load, live and bit for bit."""

import argparse
import collections
import subprocess
import sys

import numpy as np
import pytest

from sadist_jax.errors import BadInput
from sadist_jax.weights.pth import read_pth
from sadist_jax.weights.pth_writer import write_pth

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

TYPED = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
TYPED += ["complex64", "complex128"]
UNTYPED = ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"]


def drawn(dtype: str, *shape: int) -> torch.Tensor:
    """Random bits of this type: NaN payloads, infinities and subnormal numbers included."""
    kind = getattr(torch, dtype)
    count = int(np.prod(shape)) * torch.empty(0, dtype=kind).element_size()
    content = torch.randint(0, 2 if dtype == "bool" else 256, (count,), generator=torch.Generator().manual_seed(0))
    return content.to(torch.uint8).view(kind).reshape(shape)


def raw(value) -> bytes:
    if isinstance(value, torch.Tensor):
        return value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return value.tobytes()


def agree(arrays: dict, tensors: dict) -> None:
    assert list(arrays) == list(tensors)
    for name, tensor in tensors.items():
        assert str(tensor.dtype) == f"torch.{arrays[name].dtype.name}", name
        assert tuple(tensor.shape) == arrays[name].shape, name
        assert raw(tensor) == raw(arrays[name]), name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_every_type(tmp_path, protocol):
    state = {dtype: drawn(dtype, 3, 4) for dtype in TYPED + UNTYPED}
    state |= {f"{dtype} scalar": drawn(dtype, 1)[0] for dtype in TYPED + UNTYPED}
    state |= {f"{dtype} empty": drawn(dtype, 0, 5) for dtype in TYPED}
    torch.save(state, tmp_path / "x.pth", pickle_protocol=protocol)
    agree(read_pth(tmp_path / "x.pth"), state)


def test_reads_views_parameters_and_shared_storages(tmp_path):
    base = drawn("float32", 6, 8)
    parameter = torch.nn.Parameter(drawn("float16", 5))
    parameter.no_decay = True  # an attribute: another rebuild function
    state = collections.OrderedDict(
        base=base,
        transposed=base.T,
        sliced=base[1:5:2, ::3],
        last=base[-1, -1],
        expanded=base[2].expand(4, 8),
        one=base[:1].expand(1, 8).T,
        tied=base,
        diagonal=base.diagonal(),
        parameter=torch.nn.Parameter(base),
        attribute=parameter,
        channels_last=drawn("float32", 2, 3, 4, 5).to(memory_format=torch.channels_last),
        four=drawn("bfloat16", 2, 3, 4, 5).permute(3, 1, 0, 2),
    )
    torch.save(state, tmp_path / "x.pth")
    found = read_pth(tmp_path / "x.pth")
    agree(found, state)
    assert np.shares_memory(found["base"], found["tied"])


def test_reads_a_module_with_buffers_and_a_training_checkpoint(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.zeros(2, 3, 3, 6)).sum().backward()
    optimizer.step()
    torch.save(module.state_dict(), tmp_path / "bare.pth")
    agree(read_pth(tmp_path / "bare.pth"), module.state_dict())
    everything = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": float("nan")}
    torch.save(everything, tmp_path / "checkpoint.pth")
    agree(read_pth(tmp_path / "checkpoint.pth"), module.state_dict())


def test_refuses_what_is_not_weights(tmp_path):
    module = torch.nn.Linear(2, 2)
    path = tmp_path / "x.pth"
    torch.save(module, path)
    with pytest.raises(BadInput, match=r"is a pickled object of torch\.nn\.modules\.linear\.Linear"):
        read_pth(path)
    torch.save({"model": module.state_dict(), "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(BadInput, match=r"contains a Python object of argparse\.Namespace"):
        read_pth(path)
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(BadInput, match=r"PyTorch before 1\.6"):
        read_pth(path)
    torch.save({"w": torch.eye(3).to_sparse()}, path)
    with pytest.raises(BadInput, match="contains a Python object of torch"):
        read_pth(path)
    torch.save({"w": torch.complex(torch.ones(2), torch.ones(2)).conj()}, path)
    with pytest.raises(BadInput, match="lazily conjugated"):
        read_pth(path)


def test_refuses_torchscript(tmp_path):
    # In a process of its own: torch.jit warns that it is deprecated, and warnings are errors here.
    code = "import sys, torch; torch.jit.script(torch.nn.Linear(2, 2)).save(sys.argv[1])"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path / "x.pt"], check=True)
    with pytest.raises(BadInput, match="is a TorchScript archive"):
        read_pth(tmp_path / "x.pt")


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("wrapper", [None, "model"])
def test_torch_loads_what_we_write(tmp_path, mmap, wrapper):
    state = {dtype: drawn(dtype, 3, 4) for dtype in TYPED}
    state |= {f"{dtype} scalar": drawn(dtype, 1)[0] for dtype in TYPED}
    state |= {f"{dtype} empty": drawn(dtype, 0, 5) for dtype in TYPED}
    state["layer.ü.weight"] = drawn("float32", 300, 257)
    state["wide"] = drawn("uint8", 1 << 20)
    torch.save(state, tmp_path / "theirs.pth")
    arrays = read_pth(tmp_path / "theirs.pth")
    transposed = {f"{name} transposed": array.T for name, array in arrays.items()}
    write_pth(tmp_path / "ours.pth", arrays | transposed, wrapper)

    loaded = torch.load(tmp_path / "ours.pth", weights_only=True, mmap=mmap)
    loaded = loaded[wrapper] if wrapper else loaded
    agree(arrays | transposed, loaded)
    agree(arrays, {name: loaded[name] for name in state})
    assert all(raw(state[name]) == raw(loaded[name]) for name in state)
    if mmap:
        assert all(tensor.data_ptr() % 64 == 0 for tensor in loaded.values() if tensor.numel())


def test_a_module_trains_on_what_we_write(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(module.state_dict(), tmp_path / "theirs.pth")
    write_pth(tmp_path / "ours.pth", read_pth(tmp_path / "theirs.pth"))
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    other.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True))
    for left, right in zip(module.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(left, right)
    other(torch.zeros(2, 3, 5, 5)).sum().backward()
    torch.save(other.state_dict(), tmp_path / "again.pth")
