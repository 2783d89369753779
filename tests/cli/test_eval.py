"""`sadist eval` on data that the tests write: its numbers are those of the evaluations, whatever the shares were."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from scipy.io import savemat

import sadist_jax
from sadist_jax import cli, pretrained
from sadist_jax.cli._eval_report import cases
from sadist_jax.data.mask_folders import MaskFolders
from sadist_jax.evals.evaluation import merge
from sadist_jax.evals.promptable import PromptedMasks, Record, ask_predictor
from sadist_jax.evals.scoring import Scoring
from sadist_jax.models.classifier import Classifier
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.vit import Vit
from tests.data.made import corners, noise, rectangle, save, write

HW = (48, 64)
SQUARES = [rectangle(HW, 8, 8, 28, 28), rectangle(HW, 30, 12, 60, 40)]


@pytest.fixture
def photos(tmp_path):
    """Three photos of two objects each, a mask file an object."""
    for i in range(3):
        image = noise(*HW, seed=i) // 4
        for number, mask in enumerate(SQUARES):
            image[mask] += np.uint8(60 * (number + 1) + 10 * i)
            save(tmp_path / f"data/{i}/masks/{number}.png", mask)
        save(tmp_path / f"data/{i}/images/{i}.png", image)
    return tmp_path / "data"


def prompts(photos, out, *options):
    return [
        "eval",
        "prompts",
        "--out",
        str(out),
        "--clicks",
        "2",
        *options,
        "data:mask-folders",
        "--data.root",
        str(photos),
    ]


def run(argv):
    assert cli.main(argv) == 0


def test_prompts_gives_the_evaluations_numbers(photos, tmp_path, capsys):
    run(prompts(photos, tmp_path / "out", "--cases", "1"))
    found = json.loads((tmp_path / "out/results.json").read_text())
    evaluation = PromptedMasks(clicks=2, placements=("farthest", "inside"), min_share=0, per_image=0)
    predict = ask_predictor(sadist_jax.Predictor(*sadist_jax.load("sam_mini")))
    reader = MaskFolders(str(photos)).open()
    wanted = evaluation.finish(merge([evaluation.update(reader[i], predict) for i in range(3)]))
    assert found["scores"] == {"sam_mini": wanted}
    printed = capsys.readouterr().out
    assert f"| box | {wanted['box']:.3f} |" in printed
    assert f"| 2 clicks, inside | {wanted['inside_2']:.3f} |" in printed
    assert "6 objects in 3 images" in printed
    assert (tmp_path / "out/results.md").read_text().startswith(f"`sadist eval prompts --out {tmp_path}")
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("<img") == 1
    assert "best, median and worst" in page


def test_a_model_of_few_points_is_asked_as_far_as_it_reads(photos, tmp_path, capsys):
    """Two slots; a third click has no number, and none is made up."""
    model = dataclasses.replace(EfficientSam.mini(), slots=2)
    pretrained.save(tmp_path / "few.safetensors", model, model.init(jax.random.key(0)))
    options = ["--checkpoint", str(tmp_path / "few.safetensors"), "--checkpoint", "sam_mini", "--limit", "1"]
    run(prompts(photos, tmp_path / "out", *options, "--no-box", "--clicks", "3", "--placements", "inside"))
    scores = json.loads((tmp_path / "out/results.json").read_text())["scores"]
    assert "inside_3" not in scores["few"]
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:4] for line in capsys.readouterr().out.splitlines() if "|" in line
    }
    assert rows["3 clicks, inside"][0].strip() == "-"
    assert float(rows["3 clicks, inside"][1]) >= 0


def test_shares_and_another_run_score_each_image_once(photos, tmp_path, capsys):
    short = ["--no-box", "--clicks", "1", "--placements", "inside"]
    run(prompts(photos, tmp_path / "out", *short, "--process", "1", "--processes", "2"))
    assert "2 scores are missing" in capsys.readouterr().out
    assert not (tmp_path / "out/results.json").exists()
    run(prompts(photos, tmp_path / "out", *short, "--process", "0", "--processes", "2"))
    whole = (tmp_path / "out/results.json").read_text()
    lines = {path.name: path.read_text() for path in (tmp_path / "out/records/sam_mini").glob("*.jsonl")}
    assert sorted(lines) == ["records-0.jsonl", "records-1.jsonl"]
    run(prompts(photos, tmp_path / "out", *short))
    assert {path.name: path.read_text() for path in (tmp_path / "out/records/sam_mini").glob("*.jsonl")} == lines
    assert json.loads(whole)["scores"] == json.loads((tmp_path / "out/results.json").read_text())["scores"]


def test_other_options_are_another_job(photos, tmp_path, capsys):
    short = ["--no-box", "--clicks", "1", "--placements", "inside", "--limit", "1"]
    run(prompts(photos, tmp_path / "out", *short))
    assert cli.main(prompts(photos, tmp_path / "out", *short, "--seed", "1")) == 2
    assert "scores of another job" in capsys.readouterr().err


@pytest.fixture
def coco(tmp_path):
    """A photo of two objects of two categories, and a detector that boxes both."""
    boxes = [[8, 8, 20, 20], [30, 12, 30, 28]]
    annotations = [
        {"id": i + 1, "image_id": 7, "category_id": i + 1, "iscrowd": 0, "bbox": box, "area": box[2] * box[3],
         "segmentation": [corners(box[0], box[1], box[0] + box[2], box[1] + box[3])]}
        for i, box in enumerate(boxes)
    ]  # fmt: skip
    found = [
        {"image_id": 7, "category_id": c, "bbox": b, "score": s} for c, b, s in ((1, boxes[0], 0.9), (2, boxes[1], 0.8))
    ]
    image = noise(*HW) // 4
    for mask in SQUARES:
        image[mask] = 200
    save(tmp_path / "photos/a.png", image)
    table = {
        "images": [{"id": 7, "file_name": "a.png", "height": HW[0], "width": HW[1]}],
        "annotations": annotations, "categories": [{"id": i, "name": str(i)} for i in (1, 2)],
    }  # fmt: skip
    return write(tmp_path / "objects.json", table), write(tmp_path / "boxes.json", found), str(tmp_path / "photos")


def test_instances(coco, tmp_path, capsys):
    annotations, detections, photos = coco
    options = ["--annotations", annotations, "--images-root", photos, "--detections", detections]
    run(["eval", "instances", "--out", str(tmp_path / "out"), *options, "--cases", "1", "--choice", "box_iou"])
    scores = json.loads((tmp_path / "out/results.json").read_text())["scores"]["sam_mini"]
    assert scores["images"] == 1
    assert scores["masks"] == 2
    assert 0 < scores["AP"] <= scores["AP50"] <= 1
    assert f"| AP50 | {scores['AP50']:.3f} |" in capsys.readouterr().out


def test_proposals(photos, tmp_path):
    grid = ["--grid.points-per-side", "4", "--limit", "1", "--cases", "1"]
    data = ["data:mask-folders", "--data.root", str(photos)]
    run(["eval", "proposals", "--out", str(tmp_path / "out"), *grid, *data])
    scores = json.loads((tmp_path / "out/results.json").read_text())["scores"]["sam_mini"]
    assert scores["instances"] == 2
    assert 0 < scores["AR@1000"] <= 1
    assert scores["AR@10"] <= scores["AR@100"] <= scores["AR@1000"]


def test_edges(tmp_path):
    image, line = noise(*HW) // 8, np.zeros(HW, np.uint8)
    image[:, 32:] += 150
    line[:, 31] = 1
    save(tmp_path / "images/a.png", image)
    person = np.zeros((1, 1), [("Segmentation", object), ("Boundaries", object)])
    person[0, 0]["Segmentation"], person[0, 0]["Boundaries"] = np.ones(HW, np.uint16), line
    cells = np.empty((1, 1), object)
    cells[0, 0] = person
    (tmp_path / "truth").mkdir()
    savemat(tmp_path / "truth/a.mat", {"groundTruth": cells})
    options = ["--points-per-side", "3", "--thresholds", "9", "--max-distance", "0.05"]
    folders = ["--images", str(tmp_path / "images"), "--ground-truth", str(tmp_path / "truth")]
    run(["eval", "edges", "--out", str(tmp_path / "out"), *options, *folders])
    scores = json.loads((tmp_path / "out/results.json").read_text())["scores"]["sam_mini"]
    assert scores["images"] == 1
    assert scores["ods"] > 0.5  # the line between dark and bright is found, whatever else is


def test_maps_of_two_programs(tmp_path, capsys):
    truth = np.zeros(HW, np.uint8)
    truth[SQUARES[0]] = 1
    wrong = np.zeros_like(truth)
    save(tmp_path / "photos/a.jpg", noise(*HW))
    for name, ids in (("truth", truth), ("right", truth), ("empty", wrong)):
        save(tmp_path / name / "a.png", ids)
    scored = ["--predictions", f"right={tmp_path / 'right'}", "--predictions", str(tmp_path / "empty")]
    data = ["data:label-maps", "--data.images", str(tmp_path / "photos"), "--data.maps", str(tmp_path / "truth")]
    options = ["--out", str(tmp_path / "out"), "--classes", "0", "1", "--no-boundary"]
    run(["eval", "maps", *options, *scored, *data, "--data.ignore", "255"])
    scores = json.loads((tmp_path / "out/results.json").read_text())["scores"]
    assert scores["right"]["miou"] == 1
    background = 1 - 400 / (48 * 64)
    assert scores["empty"]["miou"] == pytest.approx(background / 2)
    assert f"| miou | 1.000 | {background / 2:.3f} |" in capsys.readouterr().out


def test_other_maps_under_the_same_name_are_scored_anew(tmp_path, capsys):
    truth = np.zeros(HW, np.uint8)
    truth[SQUARES[0]] = 1
    save(tmp_path / "photos/a.jpg", noise(*HW))
    save(tmp_path / "truth/a.png", truth)
    save(tmp_path / "mine/a.png", np.zeros_like(truth))
    data = ["data:label-maps", "--data.images", str(tmp_path / "photos"), "--data.maps", str(tmp_path / "truth")]
    options = ["--classes", "0", "1", "--no-boundary", "--predictions", str(tmp_path / "mine")]
    command = ["eval", "maps", "--out", str(tmp_path / "out"), *options, *data]
    assert cli.main(command) == 2
    assert "say --data.ignore 255" in capsys.readouterr().err
    run([*command, "--data.ignore", "255"])
    save(tmp_path / "mine/a.png", truth)
    assert cli.main([*command, "--data.ignore", "255"]) == 2
    assert "another job" in capsys.readouterr().err


def test_a_missing_map_is_named(tmp_path, capsys):
    save(tmp_path / "photos/a.jpg", noise(*HW))
    save(tmp_path / "truth/a.png", np.zeros(HW, np.uint8))
    (tmp_path / "none").mkdir()
    data = ["data:label-maps", "--data.images", str(tmp_path / "photos"), "--data.maps", str(tmp_path / "truth")]
    command = [
        "eval",
        "maps",
        "--out",
        str(tmp_path / "out"),
        "--classes",
        "0",
        "--predictions",
        str(tmp_path / "none"),
    ]
    assert cli.main([*command, *data, "--data.ignore", "255"]) == 2
    assert str(tmp_path / "none/a.png") in capsys.readouterr().err


def test_classes(tmp_path):
    model = Classifier(Vit(dim=16, depth=1, heads=2, patch=8, image_size=32), classes=2)
    params = model.init(jax.random.key(0))
    params["head"]["bias"] = np.array([0.0, 9.0], np.float32)  # always the second class
    pretrained.save(tmp_path / "second.safetensors", model, params)
    for name, count in (("cat", 1), ("dog", 3)):
        for i in range(count):
            save(tmp_path / f"photos/{name}/{i}.png", noise(40, 50, seed=i))
    data = ["data:class-folders", "--data.root", str(tmp_path / "photos")]
    weights = ["--checkpoint", str(tmp_path / "second.safetensors"), "--top", "1"]
    run(["eval", "classes", "--out", str(tmp_path / "out"), *weights, *data])
    assert json.loads((tmp_path / "out/results.json").read_text())["scores"]["second"]["top_1"] == 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--process", "2", "--processes", "2"], "below --processes 2"),
        (["--limit", "0"], "--limit must be 1 or more"),
        (["--max-bad-fraction", "3"], "must be between 0 and 1"),
        (["--checkpoint", "a/x.pth", "--checkpoint", "b/x.pth"], "two of --checkpoint are called x"),
        (["--checkpoint", "no/such.pth"], "no/such.pth does not exist"),
        (["--checkpoint", "../=x.pth"], "has no name that a folder could have"),
    ],
)
def test_bad_options_are_one_sentence_and_leave_nothing(photos, tmp_path, capsys, options, message):
    assert cli.main(prompts(photos, tmp_path / "out", *options)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_to_score_says_so(tmp_path, capsys):
    save(tmp_path / "data/0/images/0.png", noise(*HW))
    save(tmp_path / "data/0/masks/0.png", np.zeros(HW, bool))
    assert cli.main(prompts(tmp_path / "data", tmp_path / "out")) == 2
    assert "no object" in capsys.readouterr().err


def test_cases_are_of_different_images():
    """Two objects an image: of image i with values i and 10 - i."""
    records = [Record(str(i), j, 0.1, {"box": (v, 10)}) for i in range(5) for j, v in enumerate((i, 10 - i))]
    values = [record.areas["box"][0] for record in records]
    found = cases(records, values, 2)
    assert [(r.image, r.instance) for r in found["best"]] == [("0", 1), ("1", 1)]
    assert [(r.image, r.instance) for r in found["worst"]] == [("0", 0), ("1", 0)]
    assert {v for r in found["median"] for v in [r.areas["box"][0]]} <= {3, 4, 6, 7}
    assert len({r.image for r in found["median"]}) == 2


def test_asked_to_stop_it_ends_between_two_images(photos, tmp_path, monkeypatch, capsys):
    """SIGTERM, exit code 75; the same command scores the rest, and the numbers are those of an unbroken run."""
    append = Scoring._append
    run(prompts(photos, tmp_path / "whole", "--cases", "0"))

    def ask_after(*args):
        append(*args)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "_append", ask_after)
        assert cli.main(prompts(photos, tmp_path / "out", "--cases", "0")) == 75
    assert "asked to stop (SIGTERM)" in capsys.readouterr().err
    (records,) = (tmp_path / "out").rglob("records-0.jsonl")
    assert len(records.read_text().splitlines()) == 1
    run(prompts(photos, tmp_path / "out", "--cases", "0"))
    whole, found = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "out"))
    assert found["scores"] == whole["scores"]
