"""What is wrong with the folders, files, options and environment of `sadist label`, in one sentence each."""

import json
import os

import jax
import pytest

from tests.cli.labelling import LOOSE, fails


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"SADIST_PROCESS": "0"}, "SADIST_PROCESS and SADIST_PROCESSES go together"),
        ({"SADIST_PROCESS": "-1", "SADIST_PROCESSES": "2"}, "SADIST_PROCESS must be a whole number, not '-1'"),
        ({"SADIST_PROCESS": "2", "SADIST_PROCESSES": "2"}, "SADIST_PROCESS 2 must be 0 or more, and below"),
    ],
)
def test_bad_environments_are_one_sentence(label, photos, monkeypatch, environment, why):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert why in fails(label("photos", "--out", "out"))


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--process", "2", "--processes", "2"], "--process 2 must be 0 or more, and below --processes 2"),
        (["--process", "0", "--processes", "0"], "below --processes 0"),
        (["--processes", "8"], "--process and --processes go together"),
        (["--form", "maps", "--out", "photos/labels"], "would be taken for photos"),
        (["--out", "photos/notes.txt"], "is a file; name a folder"),
        (["--out", "photos/notes.txt/below", *LOOSE], "cannot be written"),
        (["--max-bad-fraction", "2"], "--max-bad-fraction 2 must be between 0 and 1"),
        (["--prompt", "boxes"], "--prompt boxes needs the file that has them: --annotations FILE.json"),
        (["--annotations", "boxes.json", "--prompt", "boxes", *LOOSE], "--grid is of --prompt everything"),
        (["--annotations", "nowhere.json"], "nowhere.json cannot be read (No such file or directory)"),
        (["--annotations", "photos/notes.txt"], "notes.txt is not JSON"),
    ],
)
def test_bad_options_are_one_sentence(label, boxes, argv, why):
    assert why in fails(label("photos", "--out", "out", *argv))
    assert not os.path.exists("out")


def spoiled(key, value):
    """Function that changes the last annotation of a COCO file."""
    return lambda data: data["annotations"][0].update({key: value})


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda data: data["images"][1].update(file_name="gone.png"), "1 of 3 files that boxes.json lists are not in"),
        (spoiled("image_id", 9), 'annotations of images that are not in its list "images": 501'),
        (spoiled("category_id", 9), 'category ids that are not in its list "categories": 9'),
        (spoiled("bbox", [1, 2]), "annotations whose bbox is not [x, y, width, height] in finite numbers: 501"),
        (lambda data: data.update(annotations=[]), 'an empty list "annotations"'),
        (lambda data: [a.update(iscrowd=1) for a in data["annotations"]], "has only crowds"),
    ],
)
def test_bad_annotations_are_one_sentence(label, boxes, spoil, why):
    with open(boxes) as file:
        data = json.load(file)
    spoil(data)
    with open(boxes, "w") as file:
        json.dump(data, file)
    assert why in fails(label("photos", "--annotations", "boxes.json", "--prompt", "boxes", "--out", "out"))
    assert not os.path.exists("out")


def test_a_folder_without_pictures(label, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no pictures found in empty" in fails(label("empty", "--out", "out"))
    assert "nowhere is not a folder" in fails(label("nowhere", "--out", "out"))


def test_devices_that_do_not_start_are_one_sentence(label, photos, monkeypatch):
    def refuse():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", refuse)
    assert "JAX cannot start the devices" in fails(label("photos", "--out", "out"))
