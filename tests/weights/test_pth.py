"""Reading .pth files: the values PyTorch would load, or one sentence that names the file."""

import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadist_jax.errors import BadInput
from sadist_jax.weights import pth
from sadist_jax.weights.pth import read_pth
from tests.weights.archives import FROM_TORCH, SIX, checkpoint, dictionary, named, storage, tensor, text, zipped

MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)
EXPECTED = {  # the contents of FROM_TORCH, by formula
    "whole": MATRIX,
    "transposed": MATRIX.T,
    "column": MATRIX[:, 1],
    "expanded": np.full((2, 3), 5, np.float32),
    "parameter": np.arange(3).astype(ml_dtypes.bfloat16),
    "flags": np.array([True, False]),
    "count": np.array(7),
    "empty": np.zeros((0, 2), np.float16),
}
SIX_VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def saved(tmp_path):
    def save(content: bytes, name: str = "x.pth") -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return save


def same(left: dict, right: dict) -> bool:
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and left[name].tobytes() == right[name].tobytes()
        for name in left
    )


def test_a_file_that_pytorch_wrote(saved):
    state = read_pth(saved(FROM_TORCH))
    assert same(state, EXPECTED)
    assert np.shares_memory(state["whole"], state["transposed"])  # as in the file: one storage


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict"])
def test_wrappers_are_opened_and_what_is_beside_them_stays_closed(saved, key):
    optimizer = dictionary(exp_avg=tensor(storage("missing", size=1 << 50)))  # it must not even be looked for
    value = dictionary(epoch=b"K\x03", optimizer=optimizer, **{key: dictionary(w=tensor())})
    assert same(read_pth(saved(checkpoint(value))), {"w": SIX_VALUES})


def test_a_file_without_byte_order_is_little_endian(saved):
    with zipfile.ZipFile(saved(checkpoint(dictionary(w=tensor())))) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if "byteorder" not in name}
    assert same(read_pth(saved(zipped(members), "old.pth")), {"w": SIX_VALUES})


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_pt_inside_a_zip_is_read_through(saved, compression):
    members = {"weights/": b"", "weights/efficient_sam_vits.pt": FROM_TORCH, "__MACOSX/weights/._x.pt": b"junk"}
    assert same(read_pth(saved(zipped(members, compression), "vits.pt.zip")), EXPECTED)


def test_views_outside_the_file_and_wrong_sizes_are_refused(saved):
    for source in (storage(size=7), storage(size=5), storage("1"), storage("../0"), storage(kind="torch.HalfStorage")):
        with pytest.raises(BadInput, match=r"(needs a storage of|outside its storage)"):
            read_pth(saved(checkpoint(dictionary(w=tensor(source)))))
    with pytest.raises(BadInput, match="outside its storage '0'"):
        read_pth(saved(checkpoint(dictionary(w=tensor(offset=1)))))


def test_the_stride_of_an_axis_of_length_one_means_nothing(saved):
    source = storage("1", "torch.ComplexDoubleStorage", 3)
    value = dictionary(w=tensor(source, 1, (1, 2), ((1 << 58) - 1, 1)))
    found = read_pth(saved(checkpoint(value, **{"data/1": np.arange(6.0).tobytes()})))["w"]
    np.testing.assert_array_equal(found, [[2 + 3j, 4 + 5j]])


def test_one_storage_seen_as_two_types_has_the_same_bytes(saved):
    words = storage("0", "torch.IntStorage", 6)
    state = read_pth(saved(checkpoint(dictionary(w=tensor(), i=tensor(words)))))
    np.testing.assert_array_equal(state["i"], SIX_VALUES.view(np.int32))


def test_the_limit_counts_what_the_views_claim(saved):
    assert read_pth(saved(checkpoint(dictionary(w=tensor()))), max_bytes=24)["w"].nbytes == 24
    with pytest.raises(BadInput, match=r"claims 24 bytes of tensors, more than the limit of 23; .* raise max_bytes"):
        read_pth(saved(checkpoint(dictionary(w=tensor()))), max_bytes=23)
    huge = tensor(shape=(1 << 20, 1 << 20), strides=(0, 0))  # 4 TiB out of 24 bytes
    with pytest.raises(BadInput, match="more than the limit"):
        read_pth(saved(checkpoint(dictionary(w=huge))))


def test_deflated_records_are_refused(saved):
    with pytest.raises(BadInput, match=r"holds the record 'archive/\S+' compressed, which PyTorch never does"):
        read_pth(saved(checkpoint(dictionary(w=tensor()), zipfile.ZIP_DEFLATED, **{"data/0": bytes(24)})))


def test_zip_bombs_are_refused_before_they_inflate(saved, monkeypatch):
    monkeypatch.setattr(pth, "_BEYOND_BYTES", 1 << 20)
    bomb = saved(zipped({"a.pt": bytes(8 << 20)}, zipfile.ZIP_DEFLATED), "bomb.pt.zip")
    with pytest.raises(BadInput, match=r"inflate from \d+ to 8388608 bytes, which no weights do"):
        read_pth(bomb)
    monkeypatch.setattr(pth, "_STRUCTURE_BYTES", 0)
    with pytest.raises(BadInput, match="more than the limit of 8388607; if you trust it, raise max_bytes"):
        read_pth(bomb, max_bytes=(8 << 20) - 1)
    nested = zipped({"a.pt": zipped({"b.pt": FROM_TORCH})})
    with pytest.raises(BadInput, match=r"its member 'a\.pt'\) is a zip file but not a PyTorch checkpoint"):
        read_pth(saved(nested, "nested.pt.zip"))


class Payload:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("where", ["whole", "weight", "beside"])
def test_a_payload_is_refused_by_name_and_not_run(saved, tmp_path, where):
    marker = tmp_path / "executed"
    payload = Payload(f"touch {marker}")
    root = {"whole": payload, "weight": {"w": payload}, "beside": {"model": {}, "extra": [payload]}}[where]
    code = pickle.dumps(root, protocol=2)
    with pytest.raises(BadInput, match=r"x\.pth (is|contains) a .*system.*torch\.save\(model\.state_dict\(\)"):
        read_pth(saved(zipped({"x/data.pkl": code, "x/byteorder": b"little"})))
    assert not marker.exists()
    pickle.loads(code)  # the file was a live one
    assert marker.exists()


def test_training_leftovers_are_named(saved):
    leftover = named("argparse.Namespace") + b")\x81}b"
    for value in (dictionary(model=dictionary(w=tensor()), args=leftover), dictionary(w=tensor(), args=leftover)):
        with pytest.raises(BadInput, match=r"contains a Python object of argparse\.Namespace, .* re-save the weights"):
            read_pth(saved(checkpoint(value)))


LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00."  # torch 1.5 begins thus


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"begins with b'version http'.*Git LFS pointer"),
        (b"\x00" * 100, "is not a PyTorch checkpoint"),
        (LEGACY, "PyTorch before 1.6; re-save it"),
        (pickle.dumps({"w": [1.0]}, 4), "is a bare pickle"),
        (zipped({"a.npy": b"x", "b.npy": b"x"}), r"nor does it hold exactly one .pt or .pth file \(it has 2 members\)"),
        (zipped({"a.pt": FROM_TORCH, "b.pt": FROM_TORCH}), "exactly one"),
        (zipped({"a.pt": LEGACY}), r"x.pth \(its member 'a.pt'\) is in the format of PyTorch before 1.6"),
        (zipped({"m/data.pkl": b"", "m/constants.pkl": b"", "m/version": b"3"}), "is a TorchScript archive"),
        (zipped({"m/data.pkl": b"", "m/code/__torch__.py": b""}), "is a TorchScript archive"),
        (checkpoint(dictionary(w=tensor()), byteorder=b"big"), "little-endian"),
        (
            checkpoint(named("torch.nn.modules.linear.Linear") + b")\x81"),
            "is a pickled object of torch.nn.modules.linear",
        ),
        (checkpoint(tensor()), "holds a tensor, not a dictionary"),
        (checkpoint(b"]"), "holds a list, not a dictionary"),
        (checkpoint(b"}"), "holds no tensors"),
        (checkpoint(dictionary(model=b"}")), "holds no tensors"),
        (checkpoint(dictionary(w=tensor(), epoch=b"K\x03")), r"entries that are not tensors \('epoch'\) among"),
        (checkpoint(dictionary(model=dictionary(w=b"}"))), r"entries that are not tensors \('w'\)"),
        (checkpoint(b"}K\x03" + tensor() + b"s"), r"entries that are not tensors \(3\)"),
        (checkpoint(dictionary(model=b"}", state_dict=b"}")), r"several models \(model, state_dict\)"),
        (checkpoint(text("x") * 2 + b"\x93"), "is a pickled object of x.x"),
    ],
    ids=range(21),
)
def test_what_is_not_weights_is_one_sentence(saved, content, sentence):
    with pytest.raises(BadInput, match=sentence) as refusal:
        read_pth(saved(content))
    assert "x.pth" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert ";" in str(refusal.value)  # the remedy


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(BadInput, match=r"none\.pth does not exist; check the path"):
        read_pth(tmp_path / "none.pth")
    with pytest.raises(BadInput, match="is a directory; name the weights file"):
        read_pth(tmp_path)


BIG_RECORD = np.random.default_rng(0).bytes(4000)
CONTENT = checkpoint(
    dictionary(w=tensor(), b=tensor(storage("1", size=1000), 0, (10, 100), (100, 1))), **{"data/1": BIG_RECORD}
)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return tmp_path_factory.mktemp("flips") / "x.pth"


@given(length=st.integers(1, len(CONTENT) - 1))
def test_truncated_anywhere(target, length):
    target.write_bytes(CONTENT[:length])
    with pytest.raises(BadInput, match=r"x\.pth"):
        read_pth(target)


@given(bit=st.integers(0, 8 * len(CONTENT) - 1))
def test_a_flipped_bit_never_changes_a_weight(target, bit):
    flipped = bytearray(CONTENT)
    flipped[bit // 8] ^= 1 << bit % 8
    target.write_bytes(flipped)
    try:
        state = read_pth(target)
    except BadInput:
        return
    assert (state["w"].tobytes(), state["b"].tobytes()) == (SIX, BIG_RECORD)


@given(st.integers(0, 8 * 4000 - 1))
def test_a_flipped_bit_in_a_weight_is_always_found(target, bit):
    flipped = bytearray(CONTENT)
    flipped[CONTENT.index(BIG_RECORD) + bit // 8] ^= 1 << bit % 8
    target.write_bytes(flipped)
    with pytest.raises(BadInput, match=r"Bad CRC-32 for file 'archive/data/1'"):
        read_pth(target)
