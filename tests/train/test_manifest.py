"""The manifest of a folder: what it lists, what it notices, how hosts share the reading."""

import errno
import hashlib
import json
import random
import shutil

import pytest

from sadist_jax.train import manifest

FILES = {"state/d/a": b"a" * 3000, "state/d/b": b"b" * 2000, "state/empty": b"", "meta/metadata": b'{"step": 4}'}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / "4" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "4" / name).write_bytes(content)
    (tmp_path / "4" / "_CHECKPOINT_METADATA").write_text("when")
    manifest.write(tmp_path / "4")
    return tmp_path / "4"


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_every_file_below_is_listed_with_size_and_sha256(folder):
    listed = json.loads((folder / manifest.NAME).read_text())["value"]
    assert listed == {name: [len(c), hashlib.sha256(c).hexdigest()] for name, c in FILES.items()}
    assert manifest.problem(folder) is None


def test_any_flipped_bit_of_a_listed_file_is_noticed(folder):
    dice = random.Random(0)
    for name in (n for n, content in FILES.items() if content):
        for bit in dice.sample(range(8 * len(FILES[name])), 20):
            flip(folder / name, bit)
            assert manifest.problem(folder) == f"{name} has changed since it was written"
            flip(folder / name, bit)
    assert manifest.problem(folder) is None


def test_any_flipped_bit_of_the_manifest_is_noticed(folder):
    content = (folder / manifest.NAME).read_bytes()
    assert manifest.unsealed(content) is not None
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert manifest.unsealed(bytes(flipped)) is None, bit
    (folder / manifest.NAME).write_bytes(flipped)
    assert manifest.problem(folder) == "manifest.json is damaged"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b'{"value": 3, "digest": ""}', b"\xff\xfe", b"[" * 50])
def test_anything_else_in_its_place_is_damage(folder, content):
    (folder / manifest.NAME).write_bytes(content)
    assert manifest.problem(folder) == "manifest.json is damaged"


def test_other_damage_is_named(folder):
    (folder / "state/d/b").write_bytes(b"b" * 1000)
    assert manifest.problem(folder) == "state/d/b has 1000 bytes, of 2000 that were written"
    (folder / "state/d/b").unlink()
    assert manifest.problem(folder) == "state/d/b is missing"
    (folder / "state/d/b").mkdir()
    assert manifest.problem(folder) is not None
    (folder / manifest.NAME).unlink()
    assert "has no manifest.json: it was never finished" in manifest.problem(folder)
    shutil.rmtree(folder)
    assert "has no manifest.json" in manifest.problem(folder)


def test_files_that_are_not_listed_do_not_matter(folder):
    (folder / "_CHECKPOINT_METADATA").write_text("later")
    (folder / "state/.nfs0001").write_text("")
    assert manifest.problem(folder) is None


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_of_several_hosts_one_reads_each_file(folder, of):
    for name in (n for n, content in FILES.items() if content):
        flip(folder / name, 5)
        found = [manifest.problem(folder, share, of) for share in range(of)]
        assert [why for why in found if why] == [f"{name} has changed since it was written"]
        flip(folder / name, 5)
    (folder / "meta/metadata").write_bytes(b"")  # names and sizes are everybody's
    assert all(manifest.problem(folder, share, of) for share in range(of))


def test_what_is_sealed_is_read_as_json_holds_it():
    value = {"b": {10: 0.1, 9: float("inf")}, "a": (1, 2)}
    assert manifest.unsealed(manifest.sealed(value)) == {"b": {"10": 0.1, "9": float("inf")}, "a": [1, 2]}


@pytest.mark.parametrize(("failures", "said"), [(3, None), (4, "cannot be read (Stale file handle)")])
def test_hiccups_of_the_drive_are_no_damage(folder, monkeypatch, failures, said):
    left, read = iter(range(failures)), manifest._digest

    def moody(where, name):
        if name == "state/d/a" and next(left, None) is not None:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(where, name)

    monkeypatch.setattr(manifest, "_digest", moody)
    monkeypatch.setattr(manifest.time, "sleep", lambda seconds: None)
    found = manifest.problem(folder)
    assert found == (said and f"state/d/a {said}")
