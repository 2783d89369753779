"""A file appears whole or not at all, and what the file system says becomes one sentence."""

import contextlib
import errno
import os

import pytest

from sadist_jax.errors import BadInput
from sadist_jax.weights import files


def test_a_block_that_ends_well_replaces_the_file(tmp_path):
    target = tmp_path / "x y.bin"
    target.write_bytes(b"old")
    with files.replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path):
    target = tmp_path / "x.bin"
    target.write_bytes(b"old")
    with contextlib.suppress(KeyboardInterrupt), files.replacing(target) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file_alone(tmp_path, monkeypatch):
    target = tmp_path / "x.bin"
    target.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    sentence = r"x\.bin cannot be written \(No space left on device\); free space"
    with pytest.raises(BadInput, match=sentence), files.replacing(target) as file:
        file.write(b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(BadInput, match="none is not a directory; create it"), files.replacing(tmp_path / "none/x"):
        pass
    with pytest.raises(BadInput, match="is a directory; name the file"), files.replacing(tmp_path):
        pass


def test_things_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    reasons = {"none": "does not exist", "pipe": "not a regular file", "empty": "is empty", ".": "is a directory"}
    for name, sentence in reasons.items():
        with pytest.raises(BadInput, match=sentence), files.reading(tmp_path / name):
            pass
    (tmp_path / "x").write_bytes(b"1")
    with pytest.raises(BadInput, match=r"x cannot be read \(Input/output error\)"), files.reading(tmp_path / "x"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
