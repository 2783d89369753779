import os

import pytest

from sadist_jax.data.names import Blobs, Names, pair, refuse_missing, stem, walk
from sadist_jax.errors import BadInput


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_names_come_back_as_they_went_in():
    names = ["a.jpg", "", "Ünï çødé/写真 1.jpg", os.fsdecode(b"not utf-8 \xff.png")]
    assert [Names(names)[i] for i in range(4)] == names
    assert len(Names(names)) == 4
    with pytest.raises(IndexError):
        Names(names)[4]
    with pytest.raises(IndexError):
        Names(names)[-1]


def test_the_digest_tells_lists_apart():
    assert Blobs([b"ab", b"c"]).digest() == Blobs([b"ab", b"c"]).digest()
    different = [[b"ab", b"c"], [b"a", b"bc"], [b"c", b"ab"], [b"abc"], [b"ab", b"c", b""], []]
    assert len({Blobs(items).digest() for items in different}) == len(different)


def test_walk_is_sorted_recursive_and_skips_what_is_hidden(tmp_path):
    touch(tmp_path, "b.JPG", "a/z.png", "a/b c/ö:1.jpg", "notes.txt", ".hidden.jpg", ".git/x.jpg", "B.jpg")
    assert walk(str(tmp_path), [".jpg", ".png"]) == ["B.jpg", "a/b c/ö:1.jpg", "a/z.png", "b.JPG"]


def test_walk_follows_links_and_survives_a_loop(tmp_path):
    touch(tmp_path, "real/x.png", "root/y.png")
    (tmp_path / "root/link").symlink_to(tmp_path / "real")
    (tmp_path / "real/up").symlink_to(tmp_path / "root")
    assert walk(str(tmp_path / "root"), [".png"]) == ["link/x.png", "y.png"]


def test_walk_wants_a_folder(tmp_path):
    with pytest.raises(BadInput, match="nowhere is not a folder"):
        walk(str(tmp_path / "nowhere"), [".png"])


def test_missing_files_are_counted_and_five_are_named(tmp_path):
    touch(tmp_path, "a/0.jpg")
    refuse_missing(str(tmp_path), ["a/0.jpg"], "list.json")
    with pytest.raises(BadInput, match=r"6 of 7 files that list.json lists .*a/1.jpg, .*b/5.jpg, \.\.\.;"):
        refuse_missing(str(tmp_path), [f"{'a' if i < 2 else 'b'}/{i}.jpg" for i in range(7)], "list.json")


def test_stem_removes_the_last_ending_only():
    assert [stem("a.b/c.d.jpg"), stem("a.b/c")] == ["a.b/c.d", "a.b/c"]


def test_pair_goes_by_relative_name(tmp_path):
    touch(tmp_path, "i/x/1.jpg", "i/x/2.jpg", "i/1.png", "m/x/1_mask.png", "m/1_mask.png", "m/readme.txt")
    pictures, maps = pair(str(tmp_path / "i"), [".jpg", ".png"], str(tmp_path / "m"), [".png"], "_mask")
    assert pictures == ["1.png", "x/1.jpg"]
    assert maps == ["1_mask.png", "x/1_mask.png"]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (["i/1.jpg", "m/2.png", "m/3.png"], "2 of 2 masks in .*: 2.png, 3.png; check"),
        (["i/1.jpg", "i/1.png", "m/1.png"], "has both 1.jpg and 1.png"),
        (["i/1.jpg", "m/1.txt"], "no masks found in .*m"),
    ],
)
def test_pair_refuses(tmp_path, files, why):
    touch(tmp_path, *files)
    with pytest.raises(BadInput, match=why):
        pair(str(tmp_path / "i"), [".jpg", ".png"], str(tmp_path / "m"), [".png"], "")
