"""Zip files that lie: every lie is a BadInput before any memory is spent on it."""

import io
import struct
import zipfile

import pytest

from sadist_jax.errors import BadInput
from sadist_jax.weights.archive import Archive
from tests.weights.archives import zipped

CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def opened(content: bytes) -> Archive:
    return Archive(io.BytesIO(content), "x.pth")


def patched(content: bytes, signature: bytes, offset: int, form: str, value: int) -> bytes:
    """Overwrite a field of the first header with this signature."""
    at = content.index(signature) + offset
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


def test_reads_what_was_stored():
    archive = opened(zipped({"a/x": b"12345", "a/empty": b"", "a/": b""}))
    assert sorted(archive.members) == ["a/empty", "a/x"]
    assert archive.read("a/x", 5) == b"12345"
    assert archive.read_array("a/empty").shape == (0,)
    with pytest.raises(BadInput, match=r"claims 5 bytes \(at most 4"):
        archive.read("a/x", 4)


def test_a_wrong_checksum_is_found():
    with pytest.raises(BadInput, match=r"x\.pth is truncated or damaged \(Bad CRC-32 for file 'a/x'\); download"):
        opened(zipped({"a/x": b"12345"}).replace(b"12345", b"12346")).read_array("a/x")


def test_deflated_records_are_refused():
    archive = opened(zipped({"a/x": bytes(1000)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(BadInput, match="holds the record 'a/x' compressed"):
        archive.read_array("a/x")
    assert b"".join(archive.chunks("a/x")) == bytes(1000)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/x", b"one")
        archive.writestr("a/x", b"two")
    with pytest.raises(BadInput, match="two of its members have the same name"):
        opened(out.getvalue())


def test_members_that_share_bytes_are_refused():
    content = zipped({"a/x": b"12345678", "a/y": b"12345678"})
    second = content.index(CENTRAL, content.index(CENTRAL) + 1)
    shared = content[: second + 42] + struct.pack("<I", 0) + content[second + 46 :]  # the second one starts at 0 too
    with pytest.raises(BadInput, match="overlaps"):
        opened(shared)


def test_a_size_beyond_the_file_is_refused():
    content = zipped({"a/x": b"12345"})
    for size in (1 << 20, (1 << 32) - 2):
        claimed = patched(patched(content, CENTRAL, 20, "<I", size), CENTRAL, 24, "<I", size)
        with pytest.raises(BadInput, match="overlaps another or the end of the file"):
            opened(claimed)


def test_a_record_marked_deflated_is_refused_whatever_its_size():
    with pytest.raises(BadInput, match="compressed"):
        opened(patched(zipped({"a/x": b"12345"}), CENTRAL, 10, "<H", zipfile.ZIP_DEFLATED)).read_array("a/x")


def test_a_size_that_differs_from_the_stored_one_is_refused():
    with pytest.raises(BadInput, match="compressed"):
        opened(patched(zipped({"a/x": b"12345"}), CENTRAL, 24, "<I", 1 << 31)).read_array("a/x")


def test_encrypted_members_are_refused():
    archive = opened(patched(zipped({"a/x": b"12345"}), CENTRAL, 8, "<H", 1))
    with pytest.raises(BadInput, match="encrypted"):
        archive.read_array("a/x")


@pytest.mark.parametrize("damage", [(CENTRAL, 6, "<H", 99), (LOCAL, 26, "<H", 9), (END, 16, "<I", 1 << 30)])
def test_damaged_headers_are_one_sentence(damage):
    with pytest.raises(BadInput, match=r"x\.pth is truncated or damaged"):
        opened(patched(zipped({"a/x": b"12345"}), *damage)).read_array("a/x")
