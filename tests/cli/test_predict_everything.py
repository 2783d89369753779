"""`sadist predict --everything`, of one photo and of several."""

import re

import numpy as np
import pytest
from PIL import Image

from sadist_jax import cli
from sadist_jax.data.sa1b import Sa1b
from tests.cli.predicting import fails, masks_of

LOOSE = ["--everything", "--grid.points-per-side", "3"]
LOOSE += ["--grid.pred-iou-thresh", "-9", "--grid.stability-score-thresh", "0"]


def test_everything_is_written_as_sa_1b_and_as_a_map(here, tmp_path, capsys):
    (tmp_path / "set").mkdir()
    with Image.open(here / "photo.png") as picture:
        picture.save(tmp_path / "set" / "photo.jpg")
    argv = ["--checkpoint", str(here / "sam.safetensors"), *LOOSE, "--grid.box-nms-thresh", "1"]
    argv += ["--mask-out", "map.png", "--json-out", "set/photo.json"]
    assert cli.main(["predict", "set/photo.jpg", *argv]) == 0
    said = capsys.readouterr().out
    (sample,) = list(Sa1b(str(tmp_path / "set")).open())
    masks = np.stack(sample.masks)
    assert len(masks) > 2
    assert f"{len(masks)} masks; written: photo_overlay.png" in said
    with Image.open("map.png") as picture:
        labels = np.asarray(picture)
    assert labels.shape == masks.shape[1:]
    for i in np.unique(labels[labels > 0]):
        assert masks[i - 1][labels == i].all()
    assert (labels > 0).sum() == masks.any(0).sum()
    with Image.open("photo_overlay.png") as picture:
        assert picture.size == (90, 60)


def test_a_model_that_is_sure_of_nothing_says_what_to_do(here, capsys):
    argv = ["--checkpoint", str(here / "sam.safetensors"), "--everything", "--grid.pred-iou-thresh", "1e9"]
    assert cli.main(["predict", str(here / "photo.png"), *argv, "--grid.points-per-side", "3"]) == 0
    assert "lower --grid.pred-iou-thresh" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--everything", "--point", "3,4"], "--everything takes no prompt"),
        (["--everything", "--json-out", "x.txt"], "--json-out x.txt must end in .json"),
        (["--everything", "--json-out", "nowhere/x.json"], "there is no folder nowhere"),
    ],
)
def test_bad_options_of_everything_are_one_sentence(here, capsys, argv, why):
    assert why in fails(capsys, here / "photo.png", *argv)


@pytest.fixture
def several(here, tmp_path):
    """Two photos, one that is cut short, one that is text, one that is not there."""
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(1)
    for name in ("a", "b", "short"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    raw = (tmp_path / "photos" / "short.png").read_bytes()
    (tmp_path / "photos" / "short.png").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "photos" / "text.png").write_text("no picture")
    return [*LOOSE, "--checkpoint", str(here / "sam.safetensors")]


def test_everything_in_several_photos(several, tmp_path, capsys):
    assert cli.main(["predict", "photos/a.png", "photos/b.png", *several, "--out", "new/found"]) == 0
    files = sorted(path.name for path in (tmp_path / "new" / "found").iterdir())
    assert files == [f"{name}{end}" for name in "ab" for end in (".json", "_mask.png", "_overlay.png")]
    argv = ["predict", "photos/b.png", *several, "--json-out", "b.json", "--mask-out", "b.png", "--out", "o.png"]
    assert cli.main(argv) == 0
    for alone, found in (("b.json", "b.json"), ("b.png", "b_mask.png"), ("o.png", "b_overlay.png")):
        assert (tmp_path / alone).read_bytes() == (tmp_path / "new" / "found" / found).read_bytes()


def test_damaged_photos_are_named_when_the_others_are_done(several, tmp_path, capsys):
    names = ["photos/short.png", "photos/a.png", "photos/text.png", "photos/gone.png", "photos/b.png"]
    assert cli.main(["predict", *names, *several, "--out", "found"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sadist: 3 of 5 photos cannot be read and are left out: ")
    assert all(name in line for name in ("photos/short.png", "photos/text.png", "photos/gone.png"))
    assert sorted(path.stem for path in (tmp_path / "found").glob("*.json")) == ["a", "b"]


def test_photos_that_are_all_damaged_need_no_model(several, tmp_path, capsys):
    assert "2 of 2 photos cannot be read" in fails(
        capsys, "photos/text.png", "photos/gone.png", "--everything", "--out", "found", "--checkpoint", "nowhere.pth"
    )


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["photos/a.png", "photos/b.png", "--point", "3,4"], "clicks and boxes are pixels of one photo"),
        (["photos/a.png", "photos/b.png", "--everything"], "several photos need a folder for what is written: --out"),
        (
            ["photos/a.png", "other/a.jpg", "--everything", "--out", "x"],
            "do one after the other: photos/a.png, other/a.jpg",
        ),
        (
            ["photos/a.png", "photos/b.png", "--everything", "--out", "photos"],
            r"own \.json could be lost; choose another",
        ),
        (["photos/a.png", "photos/b.png", "--everything", "--out", "photos/text.png"], "cannot be made a folder"),
        (["photos/a.png", "photos/b.png", "--everything", "--out", "x", "--json-out", "y.json"], "of one photo"),
        (["--everything"], "there is no photo; name one"),
    ],
)
def test_bad_options_of_several_photos_are_one_sentence(several, capsys, argv, why):
    assert re.search(why, fails(capsys, *argv))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (20, 30)])
@pytest.mark.parametrize("argv", [[*LOOSE, "--grid.crop-n-layers", "2"], ["--point", "0,0"], ["--box", "0,0,1,1"]])
def test_photos_of_a_few_pixels(here, tmp_path, size, argv):
    Image.fromarray(np.full((*size, 3), 99, np.uint8)).save("small.png")
    argv = [*argv, "--checkpoint", str(here / "sam.safetensors"), "--json-out", "small.json", "--mask-out", "m.png"]
    assert cli.main(["predict", "small.png", *argv]) == 0
    assert all(mask.shape == size for mask in masks_of(tmp_path / "small.json").values())
    with Image.open("m.png") as picture:
        assert picture.size == size[::-1]
