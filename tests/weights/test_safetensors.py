"""safetensors files: ours are read by the library and by us alike, and the other way round."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from sadist_jax.errors import BadInput
from sadist_jax.weights.safetensors import read, write
from tests.weights.states import DTYPES, UNSIGNED, bits, states

NAMES = states((*DTYPES, *UNSIGNED)).filter(lambda state: "__metadata__" not in state)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return tmp_path_factory.mktemp("written") / "x.safetensors"


@settings(max_examples=50)
@given(NAMES, st.dictionaries(TEXT, TEXT, max_size=3))
def test_round_trip(target, state, metadata):
    write(target, state, metadata)
    found, text = read(target)
    assert bits(found) == bits(state)
    assert text == metadata
    assert bits(safetensors.numpy.load_file(target)) == bits(state)


@settings(max_examples=30)
@given(NAMES)
def test_reads_what_the_library_writes(target, state):
    contiguous = {name: np.asarray(array, order="C") for name, array in state.items()}  # it mistakes other strides
    safetensors.numpy.save_file(contiguous, target, {"format": "np"})
    found, text = read(target)
    assert bits(found) == bits(state)
    assert text == {"format": "np"}


def test_equal_contents_give_equal_bytes(target):
    state = {"b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a": np.ones(3, ml_dtypes.bfloat16)}
    write(target, state, {"x": "1", "y": "2"})
    first = target.read_bytes()
    write(target, dict(reversed(state.items())), {"y": "2", "x": "1"})
    assert target.read_bytes() == first
    length = int.from_bytes(first[:8], "little")
    assert length % 8 == 0
    assert json.loads(first[8 : 8 + length]) == {
        "__metadata__": {"x": "1", "y": "2"},
        "b": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]},
        "a": {"dtype": "BF16", "shape": [3], "data_offsets": [24, 30]},
    }
    assert first[8 + length :] == np.array([0, 3, 1, 4, 2, 5], "<f4").tobytes() + b"\x80\x3f" * 3


def test_arrays_outlive_the_file(target):
    write(target, {"a": np.arange(1000.0)})
    found, text = read(target)
    with target.open("r+b") as file:  # overwritten in place, as rsync --inplace does
        file.write(bytes(target.stat().st_size))
    np.testing.assert_array_equal(found["a"], np.arange(1000.0))
    assert text == {}


@given(st.data())
def test_truncated_anywhere_is_one_sentence(target, data):
    write(target, {"a": np.arange(10.0), "b": np.ones((2, 2), np.float16)}, {"k": "v"})
    content = target.read_bytes()
    target.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(BadInput, match=r"x\.safetensors is (empty|truncated or not a safetensors file).*; download"):
        read(target)


@pytest.mark.parametrize("content", [b"garbage", b"PK\x03\x04" * 50, bytes(100), b"\x02" + bytes(7) + b"{}" + b"more"])
def test_foreign_files_are_one_sentence(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadInput, match="truncated or not a safetensors file"):
        read(tmp_path / "x")


def test_missing_files_directories_and_odd_types(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read(tmp_path / "none")
    with pytest.raises(BadInput, match="is a directory"):
        read(tmp_path)
    header = b'{"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(BadInput, match=r"holds an element type that is not supported .*; re-save it as float32"):
        read(tmp_path / "x")


@pytest.mark.parametrize(
    ("state", "metadata"),
    [({"w": np.zeros(2, object)}, {}), ({"__metadata__": np.zeros(2)}, {}), ({"w": np.zeros(2)}, {"steps": 3})],
)
def test_what_the_format_cannot_hold_is_a_type_error(tmp_path, state, metadata):
    with pytest.raises(TypeError):
        write(tmp_path / "x", state, metadata)
    assert list(tmp_path.iterdir()) == []
