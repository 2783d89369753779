import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

import sadist_jax
from sadist_jax import cli
from sadist_jax.data.sa1b import Sa1b
from tests.cli.predicting import fails, masks_of


def test_the_best_mask_is_written_and_every_mask_described(here, tmp_path, capsys):
    argv = ["--point", "40,30", "--point", "5,6,0", "--box", "10,10,80,50", "--multimask", "True"]
    argv += ["--mask-out", "mask.png"]
    assert cli.main(["predict", str(here / "photo.png"), "--checkpoint", str(here / "sam.safetensors"), *argv]) == 0
    out = capsys.readouterr().out.splitlines()

    predictor = sadist_jax.Predictor(*sadist_jax.load(here / "sam.safetensors"))
    photo = np.asarray(Image.open(here / "photo.png"))
    predictor.set_image(photo)
    clicks, box = (np.array([[40, 30], [5, 6]]), np.array([1, 0])), np.array([10, 10, 80, 50])
    masks, ious, _ = predictor.predict(*clicks, box, multimask=True)
    best = int(ious.argmax())
    assert [float(line.split()[1]) for line in out[1:4]] == pytest.approx(ious, abs=1e-3)
    assert [int(line.split()[2].replace(",", "")) for line in out[1:4]] == masks.sum((1, 2)).tolist()
    assert [line.endswith("<- shown") for line in out[1:4]] == [i == best for i in range(3)]
    written = np.asarray(Image.open(tmp_path / "mask.png"))
    np.testing.assert_array_equal(written > 0, masks[best])
    picture = np.asarray(Image.open(tmp_path / "photo_overlay.png"))
    assert picture.shape == photo.shape
    assert (picture != photo).any()


def test_logits_of_one_prediction_refine_the_next(here, tmp_path, capsys):
    """The .npy goes back in as a mask prompt, and gets one mask, as SAM was trained."""
    common = ["predict", str(here / "photo.png"), "--checkpoint", str(here / "sam.safetensors")]
    assert cli.main([*common, "--point", "40,30", "--logits-out", "l.npy", "--out", "a.jpg"]) == 0
    assert np.load(tmp_path / "l.npy").shape == (1, 32, 32)
    capsys.readouterr()
    assert cli.main([*common, "--mask", "l.npy", "--out", "b.png"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 3
    assert out[-1] == "written: b.png"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ([], "there is no prompt; click with --point X,Y"),
        (["--point", "90,30"], "lies outside the image, which is 90 wide and 60 high; choose pixels inside it"),
        (["--point", "1;2"], "--point '1;2' must be X,Y or X,Y,0"),
        (["--point", "1,2,3"], "the third number of --point is 1 (the object) or 0 (not the object)"),
        (["--point", "nan,2"], "points must be finite numbers"),
        (["--box", "1,2,3"], "--box '1,2,3' must be X0,Y0,X1,Y1"),
        (["--box", "9,2,3,4"], "must be x0, y0, x1, y1 with x0 <= x1"),
        (["--mask", "nowhere.npy"], "there is no file nowhere.npy; --mask reads what --logits-out has written"),
        (["--mask", "{here}/text.png"], "is no .npy file of numbers"),
        (["--mask", "{here}/nan.npy"], "holds no finite numbers"),
        (["--point", "1,2", "--out", "nowhere/x.png"], "--out nowhere/x.png cannot be written: there is no folder"),
        (["--point", "1,2", "--out", "x.exr"], "--out x.exr must end in .png or .jpg"),
        (["--point", "1,2", "--mask-out", "x.jpg"], "--mask-out x.jpg must end in .png"),
        (["--point", "1,2", "--out", "{here}"], "must end in .png or .jpg"),
        (["--box", "1,2,3,4", "--box", "1,2,300,4"], "--box of "),
        (
            ["--box", "1,2,3,4", "--box", "1,2,8,9", "--point", "1,2"],
            "several --box are several objects, so no --point",
        ),
        (["--box", "1,2,3,4", "--box", "1,2,8,9", "--logits-out", "x.npy"], "--logits-out is for one prompt"),
        (["--point", "1,2", "--checkpoint", "nowhere.pth"], "nowhere.pth"),
        (
            ["--point", "1,2", "--checkpoint", "sam_mni"],
            "there is no file sam_mni, and no weights of that name come with",
        ),
    ],
)
def test_bad_input_is_one_sentence(here, capsys, argv, why):
    assert why in fails(capsys, here / "photo.png", *[a.format(here=here) for a in argv])
    assert not list(here.glob("*_overlay.png"))


@pytest.mark.parametrize(("name", "why"), [("nowhere.png", "there is no image"), ("text.png", "is not an image")])
def test_a_photo_that_cannot_be_read(here, capsys, name, why):
    assert why in fails(capsys, here / name, "--point", "1,2")


@pytest.mark.parametrize(
    ("weights", "argv", "masks"),
    [
        ("sam.safetensors", ["--point", "40,30"], 3),
        ("sam.safetensors", ["--point", "40,30", "--multimask", "False"], 1),
        ("sam.safetensors", ["--box", "10,10,80,50"], 1),
        ("student.pt", ["--box", "10,10,80,50"], 3),
    ],
)
def test_as_many_masks_as_the_model_was_trained_for(here, capsys, weights, argv, masks):
    assert cli.main(["predict", str(here / "photo.png"), "--checkpoint", str(here / weights), *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + masks + 1  # header, masks, what was written


def test_an_efficient_sam_takes_clicks_and_no_masks(here, tmp_path, capsys):
    np.save(tmp_path / "l.npy", np.zeros((1, 128, 128), np.float32))
    common = [here / "photo.png", "--checkpoint", here / "student.pt"]
    assert "EfficientSAM takes no mask prompts" in fails(capsys, *common, "--mask", "l.npy")
    assert cli.main(["predict", *map(str, common), "--point", "40,30"]) == 0
    assert "written: photo_overlay.png" in capsys.readouterr().out


def test_several_boxes_are_several_objects(here, tmp_path, capsys):
    boxes, common = ("10,10,40,50", "50,5,85,55"), ["predict", str(here / "photo.png")]
    common += ["--checkpoint", str(here / "sam.safetensors")]
    argv = [part for box in boxes for part in ("--box", box)]
    assert cli.main([*common, *argv, "--json-out", "both.json", "--mask-out", "map.png"]) == 0
    assert "2 masks; written: photo_overlay.png" in capsys.readouterr().out
    found = masks_of(tmp_path / "both.json")
    for i, box in enumerate(boxes, 1):
        assert cli.main([*common, "--box", box, "--mask-out", "one.png", "--json-out", "one.json"]) == 0
        with Image.open("one.png") as picture:
            alone = np.asarray(picture) > 0
        np.testing.assert_array_equal(masks_of(tmp_path / "one.json")[1], alone)
        np.testing.assert_array_equal(found[i], alone)
    annotation = json.loads((tmp_path / "both.json").read_text())["annotations"][1]
    assert annotation["box_prompt"] == [50, 5, 85, 55]
    assert annotation["area"] == found[2].sum()
    with Image.open("map.png") as picture:
        assert (np.asarray(picture) > 0).sum() == (found[1] | found[2]).sum()


def test_the_json_of_clicks_is_read_as_sa_1b(here, tmp_path):
    (tmp_path / "set").mkdir()
    with Image.open(here / "photo.png") as picture:
        picture.save(tmp_path / "set" / "photo.jpg")
    argv = ["--checkpoint", str(here / "sam.safetensors"), "--point", "40,30", "--point", "5,6,0"]
    assert cli.main(["predict", "set/photo.jpg", *argv, "--json-out", "set/photo.json", "--mask-out", "m.png"]) == 0
    (sample,) = list(Sa1b("set").open())
    with Image.open("m.png") as picture:
        np.testing.assert_array_equal(sample.masks[0], np.asarray(picture) > 0)
    (annotation,) = json.loads((tmp_path / "set" / "photo.json").read_text())["annotations"]
    assert annotation["point_coords"] == [[40, 30], [5, 6]]
    assert annotation["point_labels"] == [1, 0]


def test_a_name_that_is_not_utf_8(here, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes((here / "photo.png").read_bytes())
    assert cli.main(["predict", name, "--point", "40,30", "--checkpoint", str(here / "sam.safetensors")]) == 0
    assert "written: caf?_overlay.png" in capsys.readouterr().out
    assert (tmp_path / os.fsdecode(b"caf\xe9_overlay.png")).exists()


def test_a_full_disk_leaves_what_was_there(here, tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "o.png").write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    argv = ["--point", "40,30", "--checkpoint", str(here / "sam.safetensors"), "--out", "o.png"]
    assert cli.main(["predict", str(here / "photo.png"), *argv]) == 2
    assert "o.png cannot be written (No space left on device)" in capsys.readouterr().err
    assert (tmp_path / "o.png").read_text() == "before"
    assert os.listdir(tmp_path) == ["o.png"]


@pytest.mark.parametrize(
    "outputs", [["--out", "own.png"], ["--out", "b.png", "--mask-out", "b.png"], ["--mask-out", "own.png"]], ids=str
)
def test_nothing_is_written_over_the_photo_or_twice(here, tmp_path, capsys, outputs):
    photo = tmp_path / "own.png"
    photo.write_bytes((here / "photo.png").read_bytes())
    before = sorted(tmp_path.iterdir())
    assert cli.main(["predict", "own.png", "--point", "3,3", *outputs]) == 2
    assert "would be written over the photo, or twice" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert photo.read_bytes() == (here / "photo.png").read_bytes()
