import copy
import json
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sadist_jax.codecs.prompts import Prediction
from sadist_jax.data.coco_instances import CocoInstances
from sadist_jax.data.sample import Sample, Unreadable
from sadist_jax.errors import BadInput
from sadist_jax.evals.evaluation import merge
from sadist_jax.evals.instances import AT_ONCE, InstanceMasks
from tests.data.made import noise, rectangle, save, write
from tests.evals import toy_coco

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")

# python -m tests.evals.lvis_numbers: lvis 0.5.3 on the same files
LVIS = {
    "AP": 0.2855957625009798,
    "AP50": 0.5394153701084394,
    "AP75": 0.29432590178736523,
    "APs": 0.4344762897342366,
    "APm": 0.26192656765676564,
    "APl": 0.27633663366336636,
    "APr": 0.29137199434229133,
    "APc": 0.2887348447770557,
    "APf": 0.2795685643042483,
}


class Model:
    """Answers a box as the toy model does; keeps what it was asked."""

    def __init__(self):
        self.images, self.calls = 0, []

    def __call__(self, image):
        self.images += 1

        def reply(asks):
            self.calls.append(asks)
            answers = [toy_coco.answer(ask.box, image.shape[:2]) for ask in asks]
            return [Prediction(masks, ious, np.zeros((3, 2, 2), np.float32)) for masks, ious in answers]

        return reply


@pytest.fixture
def toy(tmp_path):
    made = toy_coco.Toy()
    for image in made.images:
        save(tmp_path / image["file_name"], noise(image["height"], image["width"], image["id"]))
    return made


def score(folder, annotations, detections, **options):
    """(evaluation, records of each image, in the order of the annotation file)."""
    files = write(folder / "truth.json", annotations), write(folder / "boxes.json", detections)
    reader = CocoInstances(files[0], str(folder), keep_empty=True).open()
    evaluation = InstanceMasks(*files, choice="tiny_sam", **options)
    return evaluation, [evaluation.update(reader[i], Model()) for i in range(len(reader))]


def official(folder, annotations, results, images):
    """COCO's own numbers of some images; None where it says -1."""
    truth = COCO(write(folder / "official.json", annotations))
    evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "segm")
    evaluation.params.imgIds = list(images)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {k: v for k, v in zip(NAMES, evaluation.stats.tolist(), strict=False) if v >= 0}


def numbers(scores):
    return {name: value for name, value in scores.items() if name.startswith("AP")}


def close(expected):
    return pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools 2.0.11 on numpy 2
def test_average_precision_is_cocos(toy, tmp_path):
    """Crowds, polygons of two parts and both kinds of RLE, images without objects and without boxes, equal scores."""
    evaluation, parts = score(tmp_path, toy.annotations, toy.detections)
    scores = evaluation.finish(merge(parts))
    expected = official(tmp_path, toy.annotations, toy_coco.results(toy), toy_coco.IDS)
    assert list(expected) == list(NAMES)
    assert 0.1 < expected["AP"] < 0.9
    assert numbers(scores) == close(expected)
    assert (scores["images"], scores["masks"], scores["dropped"]) == (8, len(toy.detections), 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "some", [(17, 3, 250), (toy_coco.NO_BOXES, 5), (toy_coco.NO_OBJECTS, 81), (toy_coco.NO_OBJECTS, 5, 9)]
)
def test_of_some_images_only_these_count_and_records_survive_json(toy, tmp_path, some):
    evaluation, parts = score(tmp_path, toy.annotations, toy.detections)
    kept = [part for i, part in zip(toy_coco.IDS, parts, strict=True) if i in some]
    records = [evaluation.record(*json.loads(json.dumps(record))) for record in merge(kept)]
    expected = official(tmp_path, toy.annotations, toy_coco.results(toy, some), some)
    scores = evaluation.finish(records)
    assert numbers(scores) == close(expected)
    assert scores["images"] == len(some)


def test_average_precision_is_lviss(toy, tmp_path):
    """With verified absences, categories that were not annotated exhaustively, and an image of more than 300 boxes."""
    for image in toy.images:
        save(tmp_path / "val2017" / image["file_name"], noise(image["height"], image["width"], image["id"]))
    evaluation, parts = score(tmp_path, toy.lvis(), toy.detections, benchmark="lvis")
    assert parts[0][0].image == "val2017/250.png"
    assert numbers(evaluation.finish(merge(parts))) == close(LVIS)


def test_ids_only_order_the_images(toy, tmp_path):
    """COCO's program takes a match with the annotation of id 0 for none; with text for ids it fails."""
    before, parts = score(tmp_path, toy.annotations, toy.detections)
    expected = before.finish(merge(parts))
    for i, annotation in enumerate(toy.objects):
        annotation["id"] = i
    for row in (*toy.objects, *toy.detections):
        row["image_id"] = f"{row['image_id']:03d}"
    for row in toy.images:
        row["id"] = f"{row['id']:03d}"
    after, parts = score(tmp_path, toy.annotations, toy.detections)
    assert after.finish(merge(parts)) == expected


def test_what_has_no_ground_truth_has_no_number(toy, tmp_path):
    evaluation, parts = score(tmp_path, toy.annotations, toy.detections)
    by_id = dict(zip(toy_coco.IDS, parts, strict=True))
    for some in (toy_coco.NO_OBJECTS, toy_coco.ONLY_CROWD):
        assert evaluation.finish(by_id[some]) == {"images": 1, "masks": 4, "dropped": 0}
    missed = evaluation.finish(by_id[toy_coco.NO_BOXES])
    assert (missed["images"], missed["masks"]) == (1, 0)
    assert set(numbers(missed).values()) == {0.0}
    assert evaluation.finish([]) == {"images": 0, "masks": 0, "dropped": 0}


HW = (40, 60)
LOW = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
SURE, TIGHT, REFINED = rectangle(HW, 0, 0, 30, 30), rectangle(HW, 10, 10, 30, 20), rectangle(HW, 5, 5, 30, 20)


class Refining:
    """Of the first answer's masks SURE is the most confident; of the second's, which the mask prompt asks for, REFINED.

    TIGHT is in both, least confident."""

    def __init__(self):
        self.calls = []

    def __call__(self, image):
        return self.reply

    def reply(self, asks):
        self.calls.append(asks)
        first, second = (np.stack([m, ~m, TIGHT]) for m in (SURE, REFINED))
        ious = np.array([0.9, 0.8, 0.1])
        return [Prediction(first if a.mask is None else second[::-1], ious[:: 1 if a.mask is None else -1], LOW)
                for a in asks]  # fmt: skip


def box_files(folder, *bboxes, category=1):
    image = {"id": 4, "file_name": "a.jpg", "height": HW[0], "width": HW[1]}
    annotation = {"id": 1, "image_id": 4, "category_id": 1, "area": 4, "segmentation": toy_coco.code(TIGHT)}
    truth = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
    rows = [{"image_id": 4, "category_id": category, "bbox": b, "score": 0.5 + i / 8} for i, b in enumerate(bboxes)]
    return write(folder / "truth.json", truth), write(folder / "boxes.json", rows)


SAMPLE = Sample(noise(*HW), TIGHT[None], np.zeros(1, bool), np.ones(1, int), "a.jpg")


@pytest.mark.parametrize(
    ("choice", "mask", "calls"), [("tiny_sam", SURE, 1), ("box_iou", TIGHT, 1), ("sam", REFINED, 2)]
)
def test_each_rule_chooses_another_mask(tmp_path, choice, mask, calls):
    predict = Refining()
    (record,) = InstanceMasks(*box_files(tmp_path, [10, 10, 20, 10]), choice=choice).update(SAMPLE, predict)
    assert record.rle == toy_coco.code(mask)
    assert len(predict.calls) == calls
    assert all(ask.box.tolist() == [10, 10, 30, 20] for (ask,) in predict.calls)
    if choice == "sam":
        assert np.array_equal(predict.calls[1][0].mask, LOW[:1])  # of the most confident mask


def test_of_equal_boxes_the_more_confident_mask_is_taken_and_empty_ones_are_far(tmp_path):
    holed = TIGHT.copy()
    holed[15, 15] = False
    masks = np.stack([np.zeros(HW, bool), TIGHT, holed, SURE])

    def reply(asks):
        return [Prediction(masks, np.array([0.9, 0.2, 0.3, 0.8]), LOW) for _ in asks]

    evaluation = InstanceMasks(*box_files(tmp_path, [10, 10, 20, 10]), choice="box_iou")
    (record,) = evaluation.update(SAMPLE, lambda image: reply)
    assert record.rle == toy_coco.code(holed)


def test_boxes_are_clipped_and_what_is_left_empty_is_dropped_and_counted(tmp_path):
    model = Model()
    boxes = [[-2, 30, 12.5, 20], [60, 0, 5, 5], [10, 10, 0, 5], [10, 10, 20, 10]]
    evaluation = InstanceMasks(*box_files(tmp_path, *boxes), choice="tiny_sam")
    records = evaluation.update(SAMPLE, model)
    assert [ask.box.tolist() for ask in model.calls[0]] == [[0, 30, 10.5, 40], [10, 10, 30, 20]]
    assert [(record.score, record.rle is None) for record in records] == [
        (0.5, False), (0.875, False), (0.625, True), (0.75, True),
    ]  # fmt: skip
    scores = evaluation.finish(records)
    assert (scores["images"], scores["masks"], scores["dropped"]) == (1, 2, 2)


def test_the_most_confident_boxes_count_and_are_asked_a_few_at_once(tmp_path):
    files = box_files(tmp_path, *([i / 8, 0, 8, 8] for i in range(AT_ONCE + 3)))
    model = Model()
    records = InstanceMasks(*files, choice="tiny_sam").update(SAMPLE, model)
    assert [len(call) for call in model.calls] == [AT_ONCE, 3]
    assert model.images == 1
    capped = InstanceMasks(*files, choice="tiny_sam", per_image=2).update(SAMPLE, Model())
    assert capped == records[-2:]


def test_an_image_without_boxes_is_not_encoded(toy, tmp_path):
    files = write(tmp_path / "truth.json", toy.annotations), write(tmp_path / "boxes.json", toy.detections)
    reader, model = CocoInstances(files[0], str(tmp_path), keep_empty=True).open(), Model()
    (record,) = InstanceMasks(*files).update(reader[toy_coco.IDS.index(toy_coco.NO_BOXES)], model)
    assert (record.image_id, record.rle, model.images) == (toy_coco.NO_BOXES, None, 0)


def test_the_value_of_a_record_is_its_iou_with_the_nearest_object_of_its_category(tmp_path):
    evaluation = InstanceMasks(*box_files(tmp_path, [10, 10, 20, 5], [40, 20, 5, 5]), choice="tiny_sam")
    values = [evaluation.value(record) for record in evaluation.update(SAMPLE, lambda image: half)]
    assert values == [0.5, 0.0]
    crowd = SAMPLE._replace(iscrowd=np.ones(1, bool))
    assert [evaluation.value(record) for record in evaluation.update(crowd, lambda image: half)] == [0.0, 0.0]


def half(asks):
    """Masks that fill their boxes."""
    masks = [rectangle(HW, *map(int, ask.box)) for ask in asks]
    return [Prediction(mask[None], np.ones(1), LOW) for mask in masks]


def test_a_sample_that_the_annotations_do_not_have_is_refused(tmp_path):
    evaluation = InstanceMasks(*box_files(tmp_path, [0, 0, 5, 5]))
    with pytest.raises(BadInput, match=r"b.jpg is no file_name in .*truth.json; give the annotations"):
        evaluation.update(SAMPLE._replace(name="b.jpg"), Model())
    with pytest.raises(Unreadable, match=r"a.jpg has 20 x 60 pixels \(h x w\), but .*truth.json says 40 x 60"):
        evaluation.update(SAMPLE._replace(image=noise(20, 60)), Model())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"choice": "best"}, "choice is 'best'; it must be one of sam, box_iou, tiny_sam"),
        ({"benchmark": "voc"}, "benchmark is 'voc'; it must be one of coco, lvis"),
        ({"per_image": -1}, "per_image is -1"),
    ],
)
def test_unknown_rules_are_refused(options, why):
    with pytest.raises(BadInput, match=why):
        InstanceMasks("truth.json", "boxes.json", **options)


def spoil(table, key, value):
    return lambda data: data[table][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "benchmark", "why"),
    [
        (
            spoil("annotations", "segmentation", {"size": [40, 60], "counts": [5]}),
            "coco",
            "annotation 1 of .* add up to 5",
        ),
        (spoil("annotations", "segmentation", {"size": [60, 40], "counts": [2400]}), "coco", "annotation 1 .*60, 40"),
        (spoil("annotations", "segmentation", [[1, 2, 3, 4]]), "coco", "annotation 1 of .* has no outlines"),
        (spoil("annotations", "segmentation", [[1, 2, 3, 4, 5, "x"]]), "coco", "annotation 1 of .* has no outlines"),
        (spoil("annotations", "segmentation", [7]), "coco", "annotation 1 of .* has no outlines"),
        (spoil("annotations", "area", None), "coco", "has 1 annotations without an area: 1;"),
        (spoil("annotations", "category_id", 5), "coco", "has 1 category ids .*: 5;"),
        (lambda data: data.update(categories=[]), "coco", "has no categories"),
        (lambda data: None, "lvis", "has 1 categories without a frequency"),
        (spoil("categories", "frequency", "f"), "lvis", "has 1 images without neg_category_ids or not_exhaustive"),
    ],
)
def test_ground_truth_that_the_benchmark_cannot_use_is_a_sentence(tmp_path, change, benchmark, why):
    files = box_files(tmp_path, [10, 10, 20, 10])
    evaluation = InstanceMasks(*files, choice="tiny_sam", benchmark=benchmark)
    records = evaluation.update(SAMPLE, Model())
    data = json.loads((tmp_path / "truth.json").read_text())
    change(data)
    write(tmp_path / "truth.json", data)
    with pytest.raises(BadInput, match=why) as caught:
        evaluation.finish(records)
    assert "truth.json" in str(caught.value)


def test_a_missing_library_is_missed_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    model = Model()
    with pytest.raises(BadInput, match=r"pip install sadist_jax\[eval\]"):
        InstanceMasks(*box_files(tmp_path, [10, 10, 20, 10])).update(SAMPLE, model)
    assert model.images == 0
