"""Folders of labels: what is in them, going on, sharing, refusing; the model is a function here."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from sadist_jax import cli
from sadist_jax.codecs import rle
from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.folder import Folder
from sadist_jax.data.sa1b import Sa1b
from sadist_jax.errors import BadInput
from sadist_jax.predict.labelling import Labelling
from sadist_jax.predict.sa1b import label_map

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


def halves(image):
    """Two masks: the left half and a corner."""
    records = []
    for rows, columns in ((image.shape[0], image.shape[1] // 2), (5, 5)):
        mask = np.zeros(image.shape[:2], bool)
        mask[:rows, :columns] = True
        records.append({"segmentation": rle.compress(rle.encode(mask)), "area": int(mask.sum()), "bbox": [0, 0, columns - 1, rows - 1]})  # fmt: skip # noqa: E501
    return records


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

    def counted(image):
        seen.append(image.shape)
        return halves(image)

    def dying(image):
        if len(seen) == 3:
            raise KeyboardInterrupt
        return counted(image)

    with pytest.raises(KeyboardInterrupt):
        labelling(photos, tmp_path / "out").run(dying, say=lambda _: None)
    counts = labelling(photos, tmp_path / "out").run(counted, say=lambda _: None)
    assert counts == {"done": 3, "there": 3, "bad": 1}
    assert len(seen) == 6
    assert labelling(photos, tmp_path / "out").run(counted) == {"done": 0, "there": 6, "bad": 1}


def test_processes_share_without_overlap(photos, tmp_path):
    seen, lock, together = [], threading.Lock(), threading.Barrier(3)

    def counted(image):
        with lock:
            seen.append(image.shape)
        return halves(image)

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
    labelling(photos, tmp_path / "out", "coco").run(lambda image: [], say=lambda _: None)
    whole = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert len(whole["images"]) == 6
    assert whole["annotations"] == []


def test_a_place_that_cannot_be_written(photos, tmp_path):
    out = tmp_path / "out"
    labelling(photos, out).run(lambda image: [], 0, 7, say=lambda _: None)  # one picture
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


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--process", "2", "--processes", "2"], "--process 2 must be 0 or more, and below --processes 2"),
        (["--processes", "0"], "below --processes 0"),
        (["--form", "maps", "--out", "photos/labels"], "would be taken for photos"),
        (["--out", "photos/notes.txt"], "is a file; name a folder"),
    ],
)
def test_bad_options_of_the_command_are_one_sentence(photos, tmp_path, monkeypatch, capsys, argv, why):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["label", "photos", "--out", "out", *argv]) == 2
    assert why in capsys.readouterr().err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        cli.main(["label", "--help"])
    said = capsys.readouterr().out
    assert "--grid.points-per-side" in said
    assert "point-grids" not in said
