"""Folders of labels: what is in them, going on, sharing, refusing; the model is a function here."""

import errno
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.folder import Folder
from sadist_jax.data.sa1b import Sa1b
from sadist_jax.data.weak_frames import WeakFrames
from sadist_jax.data.weak_prompts import EMPTY
from sadist_jax.errors import BadInput
from sadist_jax.predict.labelling import Labelling
from sadist_jax.predict.sa1b import label_map
from tests.data.made import noise, save
from tests.predict.labelled import halves

COUNT = 7


@pytest.fixture
def photos(tmp_path):
    """Seven pictures of several sizes, one in a subfolder, one damaged, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        path = folder / "more" / f"{i}.jpg" if i == 3 else folder / f"{i}.jpg"
        Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), np.uint8)).save(path)
    (folder / "5.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    return folder


def labelling(photos, out, form="sa1b", about="a", fraction=0.5):
    return Labelling(Folder(str(photos)).open(), out, form, {"weights": about}, fraction)


def test_sa_1b_files_lie_as_their_pictures_and_are_read_back(photos, tmp_path):
    said = []
    counts = labelling(photos, photos).run(halves, say=said.append)
    assert counts == {"done": 6, "there": 0, "bad": 1}
    assert (photos / "more" / "3.json").exists()
    (photos / "5.jpg").unlink()
    reader = Sa1b(str(photos)).open()
    assert len(reader) == 6
    sample = reader[0]
    assert [mask.sum() for mask in sample.masks] == [sample.image.shape[0] * 15, 25]
    assert said[-1].startswith("7/7  ")
    assert said[-1].endswith("2 masks  0:00:00 left")


def test_maps_hold_the_number_of_the_mask(photos, tmp_path):
    labelling(photos, tmp_path / "out", "maps").run(halves, say=lambda _: None)
    with Image.open(tmp_path / "out" / "0.png") as picture:
        labels = np.asarray(picture)
    assert labels.dtype == np.uint16
    assert (labels[:5, :5] == 2).all()  # the smaller is on top
    assert (labels == 1).sum() == 20 * 15 - 25


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_a_coco_file_is_put_together_at_the_end(photos, tmp_path):
    out, said = tmp_path / "out", []
    labelling(photos, out, "coco").run(halves, 0, 2, say=said.append)
    assert said[-1] == "instances.json is written when all pictures are done; 3 are missing"
    labelling(photos, out, "coco").run(halves, 1, 2, say=said.append)
    whole = json.loads((out / "instances.json").read_text())
    assert [image["file_name"] for image in whole["images"]] == sorted(
        ["0.jpg", "1.jpg", "2.jpg", "4.jpg", "6.jpg", "more/3.jpg"]
    )
    assert [annotation["id"] for annotation in whole["annotations"]] == list(range(1, 13))
    sizes = {image["id"]: (image["height"], image["width"]) for image in whole["images"]}
    for annotation in whole["annotations"]:
        assert coco.decode(annotation["segmentation"]).shape == sizes[annotation["image_id"]]
        assert coco.area(annotation["segmentation"]) == annotation["area"]
        assert coco.toBbox(annotation["segmentation"]).tolist() == annotation["bbox"]
    assert len(CocoInstances(str(out / "instances.json"), str(photos)).open()) == 6


def test_what_is_there_is_not_done_again(photos, tmp_path):
    seen = []

    def counted(index, image):
        seen.append(image.shape)
        return halves(index, image)

    def dying(index, image):
        if len(seen) == 3:
            raise KeyboardInterrupt
        return counted(index, image)

    with pytest.raises(KeyboardInterrupt):
        labelling(photos, tmp_path / "out").run(dying, say=lambda _: None)
    counts = labelling(photos, tmp_path / "out").run(counted, say=lambda _: None)
    assert counts == {"done": 3, "there": 3, "bad": 1}
    assert len(seen) == 6
    assert labelling(photos, tmp_path / "out").run(counted) == {"done": 0, "there": 6, "bad": 1}


def test_processes_share_without_overlap(photos, tmp_path):
    seen, lock, together = [], threading.Lock(), threading.Barrier(3)

    def counted(index, image):
        with lock:
            seen.append(image.shape)
        return halves(index, image)

    def share(process):
        together.wait()
        return labelling(photos, tmp_path / "out", "coco").run(counted, process, 3, say=lambda _: None)

    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(share, range(3)))
    assert len(seen) == len(set(seen)) == 6
    assert sum(c["done"] for c in counts) == 6
    labelling(photos, tmp_path / "alone", "coco").run(halves, say=lambda _: None)
    both = [(tmp_path / name / "instances.json").read_bytes() for name in ("out", "alone")]
    assert both[0] == both[1]


def test_another_job_does_not_go_into_the_same_folder(photos, tmp_path):
    labelling(photos, tmp_path / "out").run(halves, say=lambda _: None)
    for other in (labelling(photos, tmp_path / "out", about="b"), labelling(photos, tmp_path / "out", "coco")):
        with pytest.raises(BadInput, match="holds the labels of another job"):
            other.run(halves)


def test_a_job_that_labelled_nothing_may_be_mended(photos, tmp_path):
    def broken(*_):
        raise BadInput("the weights are damaged")

    with pytest.raises(BadInput, match="weights"):
        labelling(photos, tmp_path / "out").run(broken)
    assert labelling(photos, tmp_path / "out", about="b").run(halves, say=lambda _: None)["done"] > 0


def test_pictures_that_would_share_a_file_are_refused(photos, tmp_path):
    Image.new("RGB", (9, 9)).save(photos / "0.png")
    with pytest.raises(BadInput, match=r"differ only in their ending .* 0\.jpg, 0\.png"):
        labelling(photos, tmp_path / "out").run(halves)


def test_too_many_damaged_pictures_end_it(photos, tmp_path):
    with pytest.raises(BadInput, match="1 of 7 samples cannot be read"):
        labelling(photos, tmp_path / "out", fraction=0.1).run(halves, say=lambda _: None)
    with pytest.raises(BadInput, match="1 of 7 pictures are listed in"):
        labelling(photos, tmp_path / "out", fraction=0.1).run(halves, say=lambda _: None)


def test_a_picture_without_masks_has_a_file_all_the_same(photos, tmp_path):
    labelling(photos, tmp_path / "out", "coco").run(lambda *_: [], say=lambda _: None)
    whole = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert len(whole["images"]) == 6
    assert whole["annotations"] == []


def test_a_place_that_cannot_be_written(photos, tmp_path):
    out = tmp_path / "out"
    labelling(photos, out).run(lambda *_: [], 0, 7, say=lambda _: None)  # one picture
    (out / "more").write_text("a file where a folder must be")
    with pytest.raises(BadInput, match=r"3\.json cannot be written"):
        labelling(photos, out).run(halves, say=lambda _: None)


def test_files_of_somebody_else_are_not_taken_for_labels(photos):
    (photos / "0.json").write_text("{}")
    with pytest.raises(BadInput, match=r"0\.json is there already, and by no run of this job"):
        labelling(photos, photos).run(halves)


def test_a_damaged_part_is_named(photos, tmp_path):
    labelling(photos, tmp_path / "out", "coco").run(halves, 0, 2, say=lambda _: None)
    (tmp_path / "out" / "pictures" / "0.json").write_text("{")
    with pytest.raises(BadInput, match=r"0\.json is damaged .* delete it and run the same again"):
        labelling(photos, tmp_path / "out", "coco").run(halves, say=lambda _: None)


def test_more_masks_than_a_map_can_number(photos, tmp_path):
    record = {"segmentation": np.ones((1, 1), bool), "area": 1}
    with pytest.raises(BadInput, match="70000 masks do not fit a 16-bit map"):
        label_map((1, 1), [record] * 70000)


def test_annotations_of_somebody_else_are_not_replaced_by_the_merged_file(photos, tmp_path):
    (tmp_path / "instances.json").write_text("precious")
    with pytest.raises(BadInput, match=r"instances\.json is there already, and by no run of this job"):
        labelling(photos, tmp_path, "coco").run(halves)
    assert (tmp_path / "instances.json").read_text() == "precious"


@pytest.mark.parametrize("kept", [0, 5, 40])
def test_a_job_file_that_a_kill_cut_short_is_written_again(photos, tmp_path, kept):
    out = tmp_path / "out"
    labelling(photos, out, "coco").run(halves, say=lambda _: None)
    whole = (out / ".job.json").read_bytes()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / ".job.json").write_bytes(whole[:kept])
    assert labelling(photos, tmp_path / "again", "coco").run(halves, say=lambda _: None)["done"] == 6
    assert (tmp_path / "again" / ".job.json").read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b'{"form', b"\xff\xfe"])
def test_labels_of_an_unknown_job_are_not_gone_on_with(photos, tmp_path, content):
    labelling(photos, tmp_path / "out").run(halves, say=lambda _: None)
    (tmp_path / "out" / ".job.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"\.job\.json is damaged, so nobody knows what .*0\.json is of"):
        labelling(photos, tmp_path / "out").run(halves, say=lambda _: None)


def test_a_full_disk_leaves_no_half_file_and_can_be_gone_on_from(photos, tmp_path, monkeypatch):
    out, written = tmp_path / "out", []

    def full(descriptor):
        written.append(descriptor)
        if len(written) == 4:  # the job, two pictures, and then
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(BadInput, match=r"2\.json cannot be written \(No space left on device\)"):
            labelling(photos, out, "coco").run(halves, say=lambda _: None)
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == [".job.json", "0.json", "1.json"]
    counts = labelling(photos, out, "coco").run(halves, say=lambda _: None)
    assert counts == {"done": 4, "there": 2, "bad": 1}
    labelling(photos, tmp_path / "whole", "coco").run(halves, say=lambda _: None)
    both = [(folder / "instances.json").read_bytes() for folder in (out, tmp_path / "whole")]
    assert both[0] == both[1]


def test_a_quarantine_that_cannot_be_written_is_one_sentence(photos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(BadInput, match=r"quarantine\.jsonl cannot be written \(No space left on device\)"):
        labelling(photos, tmp_path / "out").run(halves, say=lambda _: None)


def test_names_that_are_not_utf_8(tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    save(tmp_path / "photos" / name, noise(8, 9))
    labelling(tmp_path / "photos", tmp_path / "out", "coco").run(halves)
    assert "1/1  caf?.png: 2 masks" in capsys.readouterr().out
    whole = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert whole["images"][0]["file_name"] == name
    assert (tmp_path / "out" / "pictures" / os.fsdecode(b"caf\xe9.json")).exists()
    (sample,) = list(CocoInstances(str(tmp_path / "out" / "instances.json"), str(tmp_path / "photos")).open())
    assert len(sample.masks) == 2


def test_a_file_of_prompts_is_put_together_at_the_end(photos, tmp_path):
    """Under the reader's names, with nothing for what cannot be read; WeakFrames finds each picture's own."""
    out, said = tmp_path / "out", []

    def clicked(index, image):
        return [{**record, "point_coords": [[2.0, 2.0]]} for record in halves(index, image)]

    labelling(photos, out, "prompts").run(clicked, 0, 2, say=said.append)
    assert said[-1] == "prompts.json is written when all pictures are done; 3 are missing"
    labelling(photos, out, "prompts").run(clicked, 1, 2, say=said.append)
    assert said[-1].endswith("prompts.json: 6 pictures, 12 prompts")
    found = json.loads((out / "prompts.json").read_text())
    assert found.keys() == {"0.jpg", "1.jpg", "2.jpg", "4.jpg", "6.jpg", "more/3.jpg"}
    assert found["more/3.jpg"] == [
        {"box": [0, 0, 14, 22], "points": [[2.0, 2.0]]},
        {"box": [0, 0, 4, 4], "points": [[2.0, 2.0]]},
    ]
    reader, frames = Folder(str(photos)).open(), WeakFrames(32, 3, "automatic", str(out / "prompts.json"))
    row = frames(reader[0], np.random.default_rng(0))
    assert row["instance"].tolist() == [True, True, False]
    assert [sorted(labels[labels != EMPTY]) for labels in row["labels"][:2]] == [[1, 2, 3]] * 2
