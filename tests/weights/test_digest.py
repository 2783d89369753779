"""Fingerprints: known values, independence of order and file, dependence on everything else."""

import hashlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadist_jax.weights import safetensors
from sadist_jax.weights.digest import digest
from sadist_jax.weights.pth import read_pth
from sadist_jax.weights.pth_writer import write_pth
from tests.weights.states import states


def test_the_stream_is_head_newline_bytes_by_name():
    """Fixed for ever: digests are stored in runs and model cards."""
    state = {"b": np.array([True]), "a": np.arange(2, dtype="<f4").reshape(1, 2)}
    stream = b'["a", "float32", [1, 2]]\n' + b"\0\0\0\0\0\0\x80\x3f" + b'["b", "bool", [1]]\n' + b"\x01"
    assert digest(state) == hashlib.sha256(stream).hexdigest()
    assert digest({}) == hashlib.sha256(b"").hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("digest")


@settings(max_examples=40)
@given(states(), st.randoms())
def test_independent_of_order_strides_and_file(folder, state, random):
    expected = digest(state)
    names = list(state)
    random.shuffle(names)
    assert digest({name: np.asarray(state[name], order="F") for name in names}) == expected
    write_pth(folder / "x.pth", state)
    assert digest(read_pth(folder / "x.pth")) == expected
    if "__metadata__" not in state:
        safetensors.write(folder / "x.safetensors", state)
        assert digest(safetensors.read(folder / "x.safetensors")[0]) == expected


BASE = {"w": np.zeros((2, 3), np.float32), "v": np.ones(4, np.float16)}
BIT = np.zeros((2, 3), np.float32)
BIT.view(np.uint32)[1, 2] = 1


@pytest.mark.parametrize(
    "other",
    [
        {"w": BIT, "v": BASE["v"]},
        {"w": -BASE["w"], "v": BASE["v"]},
        {"w": BASE["w"].reshape(3, 2), "v": BASE["v"]},
        {"w": BASE["w"].view(np.int32), "v": BASE["v"]},
        {"w": BASE["w"], "v": BASE["v"].view(ml_dtypes.bfloat16)},
        {"x": BASE["w"], "v": BASE["v"]},
        {"w": BASE["w"]},
        {**BASE, "e": np.zeros(0, np.float32)},
    ],
    ids=range(8),
)
def test_any_difference_shows(other):
    assert digest(other) != digest(BASE)


def test_big_endian_memory_is_the_same_weight():
    assert digest({"w": np.arange(3, dtype=">f4")}) == digest({"w": np.arange(3, dtype="<f4")})
