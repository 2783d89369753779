"""Written .pth files: read back bit for bit, the same bytes every time, aligned, whole or absent."""

import pickletools
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadist_jax.weights import pth_writer
from sadist_jax.weights.pth import read_pth
from sadist_jax.weights.pth_writer import write_pth
from tests.weights.states import bits, states


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return tmp_path_factory.mktemp("written") / "x.pth"


@settings(max_examples=50)
@given(states(), st.sampled_from([None, "model", "state_dict"]))
def test_round_trip(target, state, wrapper):
    write_pth(target, state, wrapper)
    found = read_pth(target)
    assert bits(found) == bits(state)
    assert list(found) == list(state)


def test_big_endian_arrays_and_sizes_beyond_one_byte(target):
    state = {"a": np.arange(70_000, dtype=">f4").reshape(2, 35_000), "b": np.zeros((300, 1, 1), np.complex64)}
    write_pth(target, state)
    found = read_pth(target)
    np.testing.assert_array_equal(found["a"], state["a"])
    assert (found["a"].dtype.str, found["b"].dtype.str, found["b"].shape) == ("<f4", "<c8", (300, 1, 1))


def test_equal_weights_give_equal_bytes(target, tmp_path):
    state = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(3, ml_dtypes.bfloat16)}
    write_pth(target, state)
    write_pth(tmp_path / "another name.pt", {"a": np.asfortranarray(state["a"]), "b": state["b"].copy()})
    assert target.read_bytes() == (tmp_path / "another name.pt").read_bytes()


@pytest.mark.parametrize("zip64_beyond", [1 << 30, 10])  # the second as for records of more than a gibibyte
def test_every_storage_begins_at_a_multiple_of_64_bytes(target, monkeypatch, zip64_beyond):
    monkeypatch.setattr(pth_writer, "_ZIP64_BEYOND", zip64_beyond)
    state = {str(i): np.random.default_rng(i).bytes(i) for i in range(1, 130, 7)}
    state = {name: np.frombuffer(content, np.uint8) for name, content in state.items()}
    write_pth(target, state)
    content = target.read_bytes()
    for array in state.values():
        if array.size > 7:  # long enough to be found by its bytes
            assert content.index(array.tobytes()) % 64 == 0
    assert bits(read_pth(target)) == bits(state)


def test_only_opcodes_of_protocol_2_and_only_names_of_tensors(target):
    """PyTorch's weights_only loader takes no others."""
    write_pth(target, {"a": np.zeros((2, 300)), "b": np.zeros(3, bool)}, "model")
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == b"little"
        opcodes = list(pickletools.genops(archive.read("archive/data.pkl")))
    assert all(opcode.proto <= 2 for opcode, _, _ in opcodes)
    assert {argument for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"} == {
        "torch._utils _rebuild_tensor_v2",
        "torch DoubleStorage",
        "torch BoolStorage",
        "collections OrderedDict",
    }


@pytest.mark.parametrize("dtype", [np.uint16, np.longdouble, "U3", object, ml_dtypes.int4])
def test_types_without_a_storage_are_refused_and_nothing_is_written(tmp_path, dtype):
    with pytest.raises(TypeError, match="'w' is"):
        write_pth(tmp_path / "x.pth", {"ok": np.zeros(2), "w": np.zeros(2, dtype)})
    assert list(tmp_path.iterdir()) == []
