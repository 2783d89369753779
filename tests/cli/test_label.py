"""`sadist label` as it is typed: sets of every kind, and sharing."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sadist_jax import cli
from sadist_jax.cli import label as label_job
from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.sa1b import Sa1b
from tests.cli.labelling import LOOSE, fails
from tests.data.made import noise, save, truncate, write


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_boxes_become_masks_of_the_same_annotations(label, boxes, capsys):
    code, out, _ = label("photos", "--annotations", boxes, "--prompt", "boxes", "--out", "out", "--form", "coco")
    assert code == 0
    assert "left out: 1 crowds, 1 boxes outside their picture" in out
    assert "3 done, 0 there, 0 bad" in out
    with open(boxes) as file:
        given = json.load(file)
    found = COCO("out/instances.json")
    assert found.dataset["images"] == given["images"]
    assert found.dataset["categories"] == given["categories"]
    assert sorted(found.anns) == [40, 501]
    for annotation in given["annotations"][:2]:
        made = found.anns[annotation["id"]]
        assert {k: made[k] for k in ("image_id", "category_id", "bbox")} == {
            k: annotation[k] for k in ("image_id", "category_id", "bbox")
        }
        assert made["area"] == found.annToMask(made).sum()
        assert "predicted_iou" in made
    reader = CocoInstances("out/instances.json", "photos", keep_empty=True).open()
    assert [reader[i].category.tolist() for i in range(3)] == [[5], [17], []]


def test_boxes_as_maps_and_as_sa_1b(label, boxes):
    common = ["photos", "--annotations", boxes, "--prompt", "boxes"]
    assert label(*common, "--out", "maps", "--form", "maps")[0] == 0
    with Image.open("maps/0.png") as picture:
        assert set(np.unique(np.asarray(picture))) <= {0, 1}
        assert picture.size == (30, 20)
    assert label(*common, "--out", "each")[0] == 0
    shutil.copy("photos/0.png", "each/0.jpg")
    for other in ("1.json", "2.json"):
        os.remove(f"each/{other}")
    assert len(Sa1b("each").open()[0].masks) == 1


def test_everything_in_the_images_of_a_coco_file(label, boxes):
    assert label("photos", "--annotations", boxes, "--out", "out", "--form", "coco", *LOOSE)[0] == 0
    with open("out/instances.json") as file:
        found = json.load(file)
    assert [image["id"] for image in found["images"]] == [68, 70, 69]
    assert {a["image_id"] for a in found["annotations"]} == {68, 69, 70}
    assert [a["id"] for a in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))


def test_sa_1b_is_labelled_anew_elsewhere_and_never_in_place(label, tmp_path):
    for name in ("sa_1", "sa_2"):
        save(tmp_path / "set" / f"{name}.jpg", noise(20, 30))
        write(tmp_path / "set" / f"{name}.json", {"image": {"height": 20, "width": 30}, "annotations": []})
    before = (tmp_path / "set" / "sa_1.json").read_text()
    assert "sa_1.json is there already, and by no run of this job; choose another folder" in fails(
        label("set", "--out", "set", *LOOSE)
    )
    assert sorted(os.listdir("set")) == ["sa_1.jpg", "sa_1.json", "sa_2.jpg", "sa_2.json"]
    assert label("set", "--out", "new", *LOOSE)[0] == 0
    assert (tmp_path / "set" / "sa_1.json").read_text() == before
    for name in ("sa_1.jpg", "sa_2.jpg"):
        shutil.copy(tmp_path / "set" / name, tmp_path / "new")
    assert len(Sa1b("new").open()[0].masks) > 0


def test_the_annotation_file_itself_is_not_replaced(label, photos, tmp_path):
    images = [{"id": 1, "file_name": "0.png", "height": 20, "width": 30}]
    mine = write(tmp_path / "out" / "instances.json", {"images": images, "annotations": []})
    outcome = label("photos", "--annotations", mine, "--out", "out", "--form", "coco", *LOOSE)
    assert "instances.json is there already, and by no run of this job" in fails(outcome)
    assert json.loads((tmp_path / "out" / "instances.json").read_text())["annotations"] == []


@pytest.mark.parametrize("crops", [["--grid.crop-n-layers", "2"], []])
def test_pictures_of_a_few_pixels(label, tmp_path, crops):
    """Smaller than what they are cut into; one pixel; a line."""
    for height, width in ((20, 30), (1, 1), (1, 40), (3, 2)):
        save(tmp_path / "photos" / f"{height}x{width}.png", noise(height, width))
    code, out, _ = label("photos", "--out", "out", "--form", "coco", *LOOSE, *crops)
    assert code == 0
    assert "4 done, 0 there, 0 bad" in out
    found = COCO("out/instances.json")
    assert len(found.imgs) == 4
    for annotation in found.anns.values():
        image = found.imgs[annotation["image_id"]]
        assert annotation["segmentation"]["size"] == [image["height"], image["width"]]


def test_no_mask_anywhere_is_a_result(label, photos):
    code, out, _ = label("photos", "--out", "out", "--form", "coco", "--grid.points-per-side", "2", "--grid.pred-iou-thresh", "1e9")  # fmt: skip # noqa: E501
    assert code == 0
    assert "4 pictures, 0 masks" in out
    with open("out/instances.json") as file:
        assert json.load(file)["annotations"] == []


def test_damaged_pictures_are_named_and_the_others_done(label, photos):
    truncate(photos / "2.png")
    argv = ["photos", "--out", "out", "--form", "coco", *LOOSE]
    assert "1 of 4 samples cannot be read" in fails(label(*argv))
    code, out, _ = label(*argv, "--max-bad-fraction", "0.25")
    assert code == 0
    assert "1 bad" in out
    assert "delete quarantine.jsonl in --out and run the same again" in out
    save(photos / "2.png", noise(22, 30, 2))
    os.remove("out/quarantine.jsonl")
    code, out, _ = label(*argv)
    assert "1 done, 3 there, 0 bad" in out
    assert label("photos", "--out", "whole", "--form", "coco", *LOOSE)[0] == 0
    with open("out/instances.json", "rb") as mended, open("whole/instances.json", "rb") as whole:
        assert mended.read() == whole.read()


@pytest.mark.parametrize(
    "environment",
    [("SADIST_PROCESS", "SADIST_PROCESSES"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")],
)
def test_shares_of_what_started_the_processes(label, photos, monkeypatch, environment):
    for process in ("1", "0"):
        for name, value in zip(environment, (process, "2"), strict=True):
            monkeypatch.setenv(name, value)
        code, out, _ = label("photos", "--out", "out", "--form", "coco", *LOOSE)
        assert code == 0
        assert f"process {process} of 2\n" in out
        assert "2 done, 0 there" in out
    assert os.path.exists("out/instances.json")


def test_a_batch_script_of_slurm_is_one_process(label, photos, monkeypatch):
    """It has the number of tasks, too; only srun starts them."""
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert "4 done" in label("photos", "--out", "out", *LOOSE)[1]


def test_options_come_before_the_environment(label, photos, monkeypatch):
    monkeypatch.setenv("SADIST_PROCESS", "0")
    monkeypatch.setenv("SADIST_PROCESSES", "4")
    assert "2 done" in label("photos", "--out", "out", "--process", "1", "--processes", "2", *LOOSE)[1]


def test_a_broken_mask_beside_a_box_does_not_matter(label, boxes):
    with open(boxes) as file:
        data = json.load(file)
    data["annotations"][0]["segmentation"] = {"size": [1, 1], "counts": "broken"}
    with open(boxes, "w") as file:
        json.dump(data, file)
    assert label("photos", "--annotations", boxes, "--prompt", "boxes", "--out", "out")[0] == 0


def test_names_that_are_not_utf_8(label, tmp_path):
    save(tmp_path / "photos" / os.fsdecode(b"caf\xe9.png"), noise(8, 9))
    code, out, _ = label("photos", "--out", os.fsdecode(b"\xe9"), "--form", "coco", *LOOSE)
    assert code == 0
    assert "caf?.png" in out


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        cli.main(["label", "--help"])
    said = capsys.readouterr().out
    assert "--grid.points-per-side" in said
    assert "--prompt {everything,boxes}" in said
    assert "point-grids" not in said


def test_asked_to_stop_it_ends_between_two_pictures(label, photos, tmp_path, monkeypatch):
    """SIGTERM, exit code 75; the same command does the rest."""

    def ask_after_the_first(text):
        print(text)
        if text.startswith("1/"):
            os.kill(os.getpid(), signal.SIGTERM)

    argv = ("photos", "--out", "labels", *LOOSE)
    with monkeypatch.context() as patch:
        patch.setattr(label_job, "say", ask_after_the_first)
        code, _, err = label(*argv)
    assert code == 75
    assert "asked to stop (SIGTERM) between two pieces of work; what is done is kept; to go on: " in err
    assert [path.name for path in (tmp_path / "labels").glob("?.json")] == ["0.json"]
    code, out, _ = label(*argv)
    assert (code, "3 done, 1 there, 0 bad" in out) == (0, True)
