"""What the interpreter builds equals what Python's pickle builds; what could run code never runs."""

import collections
import contextlib
import os
import pickle
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadist_jax.errors import BadInput
from sadist_jax.weights.unpickle import Tensor, loads
from tests.weights.archives import dictionary, integer, named, storage, stream, tensor, text

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN, st.sampled_from([2, 3, 4, 5]))
def test_plain_data_is_what_pickle_says(value, protocol):
    assert loads(pickle.dumps(value, protocol), "x.pth") == value


def test_long_memos_and_ordered_dicts():
    value = collections.OrderedDict((f"name {i}", [i]) for i in range(400))  # beyond the one-byte memo index
    assert loads(pickle.dumps(value, 2), "x.pth") == dict(value)


def test_a_tensor_is_described_not_read():
    found = loads(stream(dictionary(w=tensor(storage("7", "torch.HalfStorage", 20), 2, (3, 2), (1, 3)))), "x.pth")["w"]
    assert isinstance(found, Tensor)
    assert (found.storage.key, found.storage.nbytes, found.dtype.name) == ("7", 40, "float16")
    assert (found.offset, found.shape, found.strides, found.nbytes) == (2, (3, 2), (1, 3), 12)


class Payload:
    """Unpickling this calls `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"weight": p}, lambda p: [p], lambda p: (1, {"a": p})])
def test_payloads_are_named_and_never_run(tmp_path, protocol, wrap):
    marker = tmp_path / "executed"
    for function, argument, name in [
        (os.system, f"touch {marker}", "system"),
        (exec, f"open({str(marker)!r}, 'w')", "exec"),
        (subprocess.check_call, ["touch", str(marker)], "check_call"),
    ]:
        payload = pickle.dumps(wrap(Payload(function, argument)), protocol)
        with pytest.raises(BadInput, match=r"x\.pth ") as refusal:
            loads(payload, "x.pth")
        assert not marker.exists()
        if protocol >= 2:  # older protocols already fail at their text opcodes
            assert name in str(refusal.value)
            assert "torch.save(model.state_dict(), 'weights.pth')" in str(refusal.value)


@pytest.mark.parametrize(
    "code",
    [
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",  # OBJ
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",  # REDUCE
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",  # NEWOBJ, even of an allowed name
        b"\x80\x02\x82\x01.",  # EXT1: the extension registry
        b"\x80\x02Pdata\n.",  # PERSID
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        stream(named("torch.FloatStorage") + b")R"),  # a name that is not a function
        stream(text("os.system") + b")R"),
        stream(named("collections.OrderedDict") + b"]\x85R"),  # an allowed function, other arguments
        stream(named("collections.OrderedDict") + b"}b"),  # state for a name
        stream(named("torch._utils._rebuild_tensor_v2") + b")R"),
        stream(named("torch._utils._rebuild_parameter") + b"NNN\x87R"),
        stream(named("torch.Size") + b"K\x01\x85R"),
        stream(text("module") + text("x") + b"\x86Q"),  # a persistent id of another kind
        stream(text("0") + b"Q"),
        stream(storage(kind="collections.OrderedDict")),
        stream(storage(size=-1)),
        stream(b"}" + b"]" + b"Ns"),  # a list as a key
        stream(b"}" + b")" + b"Ns"),  # a tuple as a key
        stream(dictionary(a=b"N") + text("a") + b"Ns"),  # the same key again
        stream(b"N" + b"K\x01a"),  # append to None
        stream(b"\x94" * 3),
        b"\x80\x04" + b"]\x94" + b"h\x00h\x00\x86" * 40 + b"\x93.",
    ],
)
def test_everything_outside_the_list_is_refused(code):
    with pytest.raises(BadInput, match=r"^x\.pth .*; (download|re-save)"):
        loads(code, "x.pth")


def test_shared_tuples_do_not_explode():
    """Thirty levels of (a, a): 2^30 leaves when hashed or printed, so they must be neither."""
    bomb = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(40))
    assert loads(stream(b")" + bomb + b"\x86"), "x.pth")[0] == ()
    for code in (b"}" + bomb + b"Ns", bomb + text("x") + b"\x93", bomb + b")R", bomb + b"Q"):
        with pytest.raises(BadInput):
            loads(stream(code), "x.pth")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (1, (2, 3), (3, 1)),
        (0, (2, 3), (4, 1)),
        (0, (7,), (1,)),
        (7, (0,), (1,)),
        (-1, (2,), (1,)),
        (5, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2, 3), (1,)),
        (0, (2**31, 2**31), (0, 0)),
        (0, (0, 2**63), (1, 1)),
        (2**63, (1,), (1,)),
        (0, (1,) * 33, (1,) * 33),
    ],
)
def test_tensors_outside_their_storage_are_refused(offset, shape, strides):
    with pytest.raises(BadInput, match="tensor"):
        loads(stream(tensor(None, offset, shape, strides)), "x.pth")


def test_lazy_conjugates_are_refused():
    with pytest.raises(BadInput, match="conjugated"):
        loads(stream(tensor(more=dictionary(conj=b"\x88"))), "x.pth")


SAMPLE = stream(dictionary(a=tensor(), b=b"(K\x01M\x02\x00" + integer(3) + b"t", c=b"](NG" + bytes(8) + b"e"))


def test_every_truncation_is_one_sentence():
    for length in range(len(SAMPLE)):
        with pytest.raises(BadInput, match=r"x\.pth"):
            loads(SAMPLE[:length], "x.pth")


@given(st.data())
def test_mutations_end_in_a_value_or_a_sentence(data):
    code = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        code[data.draw(st.integers(0, len(code) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadInput):
        loads(bytes(code), "x.pth")


@given(st.binary(max_size=60))
def test_noise_ends_in_a_value_or_a_sentence(noise):
    with contextlib.suppress(BadInput):
        loads(noise, "x.pth")
