import json
import random
import sys

import numpy as np
import pytest
from pycocotools import mask as reference
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sadist_jax.codecs import rle
from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.evaluation import merge
from sadist_jax.evals.proposals import EVERYTHING, ProposalRecall, match
from sadist_jax.predict.grid import Everything
from tests.data.made import noise, rectangle, save, write
from tests.evals import toy_coco

SIZES = ("", "_small", "_medium", "_large")  # COCO's order
FREQUENCIES = {"frequent": "f", "common": "c", "rare": "r"}


@pytest.fixture
def toy(tmp_path):
    """The toy set with areas that are pixels, as a source of masks has them."""
    made = toy_coco.Toy()
    for image in made.images:
        save(tmp_path / image["file_name"], noise(image["height"], image["width"], image["id"]))
    truth = COCO(write(tmp_path / "truth.json", made.annotations))
    for row in made.objects:
        row["area"] = float(reference.area(truth.annToRLE(row)))
    write(tmp_path / "truth.json", made.annotations)
    return made


def proposed(sample):
    """Records of everything mode: near misses of the objects among more boxes than count, in no order."""
    draw, (height, width) = random.Random(sample.name), sample.image.shape[:2]
    boxes = []
    for mask in sample.masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        for _ in range(12):
            x, y = (int(draw.random() * 11) - 5 for _ in range(2))
            boxes.append((columns[0] + max(x, 0), rows[0] + max(y, 0), columns[-1] + 1 + min(x, 0), rows[-1] + 1))
    for _ in range(1100):
        x, y = int(draw.random() * (width - 6)), int(draw.random() * (height - 6))
        boxes.append((x, y, x + 6, y + 6))
    masks = [toy_coco.code(rectangle((height, width), *box)) for box in boxes]
    sure = [[int(draw.random() * 500) / 500 for _ in range(2)] for _ in masks]
    found = [
        {"segmentation": mask, "predicted_iou": a, "stability_score": b}
        for mask, (a, b) in zip(masks, sure, strict=True)
    ]
    return sorted(found, key=lambda _: draw.random())


def official(path, results, keep=lambda row: True):
    """COCO's own average recalls, without categories: {"AR@10": ..., "AR@10_small": ...}."""
    data = json.loads(path.read_text())
    data["annotations"] = [row for row in data["annotations"] if keep(row)]
    truth = COCO(write(path.with_name("official.json"), data))
    evaluation = COCOeval(truth, truth.loadRes([dict(row) for row in results]), "segm")
    evaluation.params.useCats, evaluation.params.maxDets = 0, [10, 100, 1000]
    evaluation.evaluate()
    evaluation.accumulate()
    recall = evaluation.eval["recall"]  # (thresholds, 1, sizes, budgets)
    return {f"AR@{k}{s}": recall[:, 0, i, j].mean() for i, s in enumerate(SIZES) for j, k in enumerate((10, 100, 1000))}


def close(expected):
    return pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools 2.0.11 on numpy 2
def test_average_recall_is_cocos(toy, tmp_path):
    """Crowds, objects beyond counting proposals, equal scores, an image without objects; of LVIS's groups, too."""
    path = tmp_path / "truth.json"
    reader = CocoInstances(str(path), str(tmp_path), keep_empty=True).open()
    samples = [reader[i] for i in range(len(reader))]
    answers = {sample.name: proposed(sample) for sample in samples}
    results = [
        {"image_id": i, "category_id": 1, "segmentation": p["segmentation"],
         "score": (p["predicted_iou"] + p["stability_score"]) / 2}
        for i, sample in zip(toy_coco.IDS, samples, strict=True) for p in answers[sample.name]
    ]  # fmt: skip
    evaluation = ProposalRecall(annotations=str(path))
    records = merge(evaluation.update(sample, lambda image, s=sample: answers[s.name]) for sample in samples)
    records = [evaluation.record(*json.loads(json.dumps(record))) for record in records]
    scores, expected = evaluation.finish(records), official(path, results)
    for group, letter in FREQUENCIES.items():
        ours = {row["id"] for row in toy.annotations["categories"] if row["frequency"] == letter}
        of_group = official(path, results, lambda row, ours=ours: row["category_id"] in ours)
        expected |= {f"{name}_{group}": value for name, value in of_group.items() if "_" not in name}
    assert 0 < expected["AR@10"] < expected["AR@100"] < expected["AR@1000"] < 1
    assert scores == close(expected | {"images": 6, "instances": sum(not row["iscrowd"] for row in toy.objects)})


def test_proposals_find_objects_greedily():
    """Worked out by hand: the first takes the object it overlaps most, the second must take what is left."""
    ious = np.array([[0.6, 0.7, 0.0], [0.52, 0.9, 0.0], [0.95, 0.2, 0.3]])
    found = match(ious)
    assert found.shape == (10, 3)
    assert found[:3].tolist() == [[1, 0, -1], [2, 0, -1], [2, 0, -1]]  # 0.5, 0.55, 0.6
    assert found[5:].tolist() == [[2, 1, -1]] * 4 + [[2, -1, -1]]  # 0.75 to 0.9, 0.95
    assert match(np.array([[0.8, 0.8]]))[0].tolist() == [-1, 0]  # of equals the last
    assert match(np.zeros((0, 2))).tolist() == [[-1, -1]] * 10


HW = (40, 60)
OBJECT = rectangle(HW, 0, 0, 10, 10)
SAMPLE = Sample(noise(*HW), OBJECT[None], np.zeros(1, bool), np.ones(1, int), "a.jpg")


def proposal(mask, iou, stability):
    return {"segmentation": rle.encode(mask), "predicted_iou": iou, "stability_score": stability}


def test_recall_is_averaged_over_thresholds_and_the_rank_is_of_the_mean():
    """IoU 0.72 reaches five of ten thresholds; its rank is 15 by the mean, 0 by either score alone."""
    near = proposal(rectangle(HW, 0, 0, 8, 9), 0.5, 0.3)
    others = [proposal(rectangle(HW, 30, 30, 40, 40), 0.45, 0.45) for _ in range(15)]
    evaluation = ProposalRecall()
    records = evaluation.update(SAMPLE, lambda image: [near, *others])
    expected = {"images": 1, "instances": 1, "AR@10": 0.0, "AR@100": 0.5, "AR@1000": 0.5}
    small = {f"AR@{k}_small": expected[f"AR@{k}"] for k in (10, 100, 1000)}
    assert evaluation.finish(records) == close(expected | small)
    assert evaluation.value(records[0]) == 0.5


def test_an_object_of_32_squared_pixels_is_small_and_medium():
    sample = SAMPLE._replace(masks=rectangle(HW, 0, 0, 32, 32)[None])
    (record,) = ProposalRecall().update(sample, lambda image: [])
    assert record.area == 1024
    assert record.ranks == {"all": [-1] * 10, "small": [-1] * 10, "medium": [-1] * 10}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_objects_of_another_size_take_no_proposals_away(tmp_path):
    """30 x 30 in 33 x 33: IoU 0.826. The one proposal is the small object, and finds the medium one up to 0.8, too."""
    masks = np.stack([rectangle(HW, 0, 0, 30, 30), rectangle(HW, 0, 0, 33, 33)])
    answer = [proposal(masks[0], 0.9, 0.9)]
    sample = SAMPLE._replace(masks=masks, iscrowd=np.zeros(2, bool), category=np.ones(2, int))
    scores = ProposalRecall().finish(ProposalRecall().update(sample, lambda image: answer))
    rows = [
        {"id": i, "image_id": 4, "category_id": 1, "iscrowd": 0, "area": int(m.sum()), "segmentation": toy_coco.code(m)}
        for i, m in enumerate(masks, 1)
    ]
    image = {"id": 4, "height": HW[0], "width": HW[1]}
    write(tmp_path / "truth.json", {"images": [image], "annotations": rows, "categories": [{"id": 1, "name": "cat"}]})
    result = {"image_id": 4, "category_id": 1, "score": 0.9, "segmentation": toy_coco.code(masks[0])}
    expected = official(tmp_path / "truth.json", [result])
    assert [scores[f"AR@1000{size}"] for size in SIZES[:3]] == close([0.5, 1.0, 0.7])
    assert [expected[f"AR@1000{size}"] for size in SIZES[:3]] == close([0.5, 1.0, 0.7])


def test_a_thousand_proposals_count():
    far = [proposal(rectangle(HW, 30, 30, 40, 40), 0.9, 0.9)] * 1000
    (record,) = ProposalRecall().update(SAMPLE, lambda image: [proposal(OBJECT, 0.8, 0.9), *far])
    assert ProposalRecall().value(record) == 0.0
    (record,) = ProposalRecall().update(SAMPLE, lambda image: [proposal(OBJECT, 0.8, 0.9), *far[1:]])
    assert record.ranks["all"] == [999] * 10


def test_crowds_alone_are_not_looked_at():
    crowd = SAMPLE._replace(iscrowd=np.ones(1, bool))
    assert ProposalRecall().update(crowd, None) == ()
    assert ProposalRecall().finish([]) == {"images": 0, "instances": 0}


def test_only_lvis_knows_frequencies(tmp_path):
    data = toy_coco.Toy().lvis()
    lvis = write(tmp_path / "lvis.json", data)
    (record,) = ProposalRecall(lvis).update(SAMPLE, lambda image: [])
    assert list(record.ranks) == ["all", "small", "rare"]
    with pytest.raises(BadInput, match=r"category 2 is not in .*lvis.json"):
        ProposalRecall(lvis).update(SAMPLE._replace(category=np.array([2])), lambda image: [])
    for category in data["categories"]:
        del category["frequency"]
    with pytest.raises(BadInput, match=r"coco.json has 5 categories without a frequency .*: 1, 7, 9, 20, 90;"):
        ProposalRecall(write(tmp_path / "coco.json", data)).update(SAMPLE, lambda image: [])


def test_proposals_of_another_size_are_a_mistake():
    with pytest.raises(ValueError, match=r"proposals have \[20, 60\] pixels, a.jpg has \[40, 60\]"):
        ProposalRecall().update(SAMPLE, lambda image: [proposal(np.ones((20, 60)), 1, 1)])


def test_everything_mode_takes_sams_options():
    """App. D: a grid of 64 x 64 points, NMS at 0.9, nothing filtered, no crops."""
    options = Everything(**EVERYTHING)
    assert len(options.grids()[0]) == 4096
    assert (options.box_nms_thresh, options.crop_n_layers) == (0.9, 0)
    assert (options.pred_iou_thresh, options.stability_score_thresh) == (0, 0)


def test_a_missing_library_is_missed_before_the_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(BadInput, match=r"pip install sadist_jax\[eval\]"):
        ProposalRecall().update(SAMPLE, None)
