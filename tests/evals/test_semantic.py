"""Semantic maps: scikit-learn's confusion and Jaccard index, and a picture of 24 pixels counted by hand."""

import json

import numpy as np
import pytest

from sadist_jax.codecs.boundary import Matches, boundary_matches, total
from sadist_jax.data.label_maps import LabelMaps
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.evaluation import merge
from sadist_jax.evals.semantic import SemanticMaps
from sadist_jax.evals.weighted_f import weighted_f
from tests.data.made import noise, save

metrics = pytest.importorskip("sklearn.metrics")

PLAIN = SemanticMaps(classes=(0, 3, 9), names=("ground", "tree", "car"), boundary=False, weighted_f=False)


def sample(ids, name="a.jpg", void=()):
    """Sample whose masks are the regions of a map of ids, those of `void` excepted."""
    kept = [i for i in np.unique(ids) if i not in void]
    masks = np.stack([ids == i for i in kept]) if kept else np.zeros((0, *ids.shape), bool)
    return Sample(noise(*ids.shape), masks, np.zeros(len(kept), bool), np.array(kept, np.int64), name)


def score(evaluation, truths, guesses, void=()):
    pairs = zip(truths, guesses, strict=True)
    return merge(evaluation.update(sample(truth, f"{i}.jpg", void), lambda _, guess=guess: guess)
                 for i, (truth, guess) in enumerate(pairs))  # fmt: skip


def draw(seed, ids, hw=(17, 23)):
    return np.random.default_rng(seed).choice(ids, hw)


def test_numbers_equal_scikit_learn():
    classes = (0, 3, 9, 4, 77)
    evaluation = SemanticMaps(classes, boundary=False, weighted_f=False)
    truths = [draw(i, [0, 3, 9, 255]) for i in range(3)]  # 77 occurs nowhere, 4 is only predicted
    guesses = [np.where(draw(i + 9, [0, 1]), truths[i], draw(i + 5, [0, 3, 9, 4])) for i in range(3)]
    guesses = [np.where(guess == 255, 9, guess) for guess in guesses]
    records = score(evaluation, truths, guesses)
    numbers = evaluation.finish(records)
    known = np.stack(truths) != 255
    truth, guess = np.stack(truths)[known], np.stack(guesses)[known]
    counts = metrics.confusion_matrix(truth, guess, labels=classes)
    np.testing.assert_array_equal(evaluation.confusion(records)[:, :-1], counts)
    seen = [0, 3, 9, 4]
    ious = metrics.jaccard_score(truth, guess, labels=seen, average=None, zero_division=0)
    assert numbers["miou"] == pytest.approx(ious.mean())
    assert {i: numbers[f"iou_{i}"] for i in seen} == pytest.approx(dict(zip(seen, ious, strict=True)))
    assert numbers["iou_4"] == 0
    assert "iou_77" not in numbers
    assert numbers["pixel_accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
    assert numbers["mean_accuracy"] == pytest.approx(
        metrics.recall_score(truth, guess, labels=[0, 3, 9], average="macro")
    )
    assert numbers["fw_iou"] == pytest.approx(metrics.jaccard_score(truth, guess, average="weighted", zero_division=0))
    assert (numbers["images"], numbers["pixels"]) == (3, known.sum())


def test_24_pixels_by_hand():
    """Ground 12, tree 8, void 4. Of the ground 3 are called tree, of the trees 2 car and 1 none.

    IoU: ground 9 / 12, tree 5 / (8 + 3), car 0 / 2; accuracy 14 / 20; by class 9 / 12 and 5 / 8; weighted by frequency
    (12 * 3/4 + 8 * 5/11) / 20.
    """
    truth = np.repeat([0, 3, 255], [12, 8, 4]).reshape(4, 6)
    guess = np.repeat([0, 3, 9, 255, 9], [9, 8, 2, 1, 4]).reshape(4, 6)
    records = score(PLAIN, [truth], [guess])
    assert records[0].pixels == [[0, 0, 9], [0, 1, 3], [1, 1, 5], [1, 2, 2], [1, 3, 1]]
    ious = {"iou_ground": 3 / 4, "iou_tree": 5 / 11, "iou_car": 0}
    assert PLAIN.finish(records) == pytest.approx(
        ious
        | {"images": 1, "pixels": 20, "miou": sum(ious.values()) / 3, "pixel_accuracy": 14 / 20}
        | {"mean_accuracy": (9 / 12 + 5 / 8) / 2, "fw_iou": (9 + 40 / 11) / 20}
    )
    assert PLAIN.value(records[0]) == pytest.approx(sum(ious.values()) / 3)


def test_pixels_of_all_images_are_one_set():
    """Tree: 2 of 2 right in one image, 0 of 6 in the other: IoU 2 / 8, not the mean 1 / 2."""
    one, other = np.full((1, 2), 3), np.full((1, 6), 3)
    records = score(PLAIN, [one, other], [one, np.full((1, 6), 9)])
    assert PLAIN.finish(records)["iou_tree"] == 0.25
    assert PLAIN.finish(records[:1])["miou"] == 1
    assert [PLAIN.value(record) for record in records] == [1, 0]


def test_boundaries_and_weighted_f_are_averaged_as_they_say():
    evaluation = SemanticMaps(classes=(0, 3, 9), background=(0,))
    a, b = np.zeros((40, 50), int), np.zeros((40, 50), int)
    a[5:20, 5:20], a[20:38, 25:45], b[10:30, 10:40] = 3, 9, 3
    guess_a, guess_b = np.roll(a, 1, 1), np.roll(b, 3, 0)
    guess_b[0:4, 0:4] = 9  # is not there
    records = score(evaluation, [a, b], [guess_a, guess_b])
    numbers = evaluation.finish(records)

    def matches(guess, truth, i):
        return boundary_matches(guess == i, truth == i)

    a3, a9, b3, b9 = (matches(g, t, i) for g, t in ((guess_a, a), (guess_b, b)) for i in (3, 9))
    assert b9.f == 0
    assert len({a3.f, b3.f, 0.0}) == 3
    assert numbers["boundary_f"] == pytest.approx((total([a3, b3]).f + total([a9, b9]).f) / 2)
    assert numbers["boundary_f_image"] == pytest.approx(((a3.f + a9.f) / 2 + b3.f) / 2)
    wanted = [np.mean([weighted_f(guess_a == i, a == i) for i in (3, 9)]), weighted_f(guess_b == 3, b == 3)]
    assert numbers["weighted_f"] == pytest.approx(np.mean(wanted))
    assert [sorted(record.boundary) for record in records] == [["3", "9"], ["3", "9"]]
    assert [sorted(record.weighted_f) for record in records] == [["3", "9"], ["3"]]
    assert sorted(score(SemanticMaps((0, 3, 9)), [a], [guess_a])[0].boundary) == ["0", "3", "9"]


def test_void_pixels_belong_to_no_class_in_either_map():
    evaluation = SemanticMaps(classes=(0, 3))
    truth = np.zeros((30, 30), int)
    truth[5:15, 5:15], truth[20:28, 20:28] = 3, 255
    guess = np.where(truth == 255, 3, truth)
    numbers = evaluation.finish(score(evaluation, [truth], [guess]))
    ones = {"miou", "pixel_accuracy", "boundary_f", "boundary_f_image", "weighted_f", "iou_0", "iou_3"}
    assert {name: numbers[name] for name in ones} == dict.fromkeys(ones, 1.0)
    assert numbers["pixels"] == 900 - 64


def test_only_void_counts_nothing_and_is_not_asked():
    def predict(image):
        raise AssertionError

    assert PLAIN.update(sample(np.full((4, 5), 255)), predict) == ()
    assert PLAIN.update(sample(np.full((4, 5), 8), void=(8,)), predict) == ()  # no masks at all
    assert PLAIN.finish(()) == {"images": 0, "pixels": 0}


def test_without_a_measured_class_there_is_no_number_for_it():
    evaluation = SemanticMaps(classes=(0, 3), background=(0,))
    ground = np.zeros((6, 7), int)
    numbers = evaluation.finish(score(evaluation, [ground], [ground]))
    assert set(numbers) == {"images", "pixels", "miou", "pixel_accuracy", "mean_accuracy", "fw_iou", "iou_0"}


def test_the_later_mask_wins_crowds_count_and_the_rest_is_void():
    first, second = np.zeros((3, 4), bool), np.zeros((3, 4), bool)
    first[:, :3], second[:2, 1:] = True, True
    both = Sample(noise(3, 4), np.stack([first, second]), np.array([False, True]), np.array([3, 9]), "a.jpg")
    wanted = np.array([[3, 9, 9, 9], [3, 9, 9, 9], [3, 3, 3, 255]])
    numbers = PLAIN.finish(PLAIN.update(both, lambda _: wanted))
    assert (numbers["pixels"], numbers["miou"]) == (11, 1)


def test_label_maps_are_scored_with_their_own_ids(tmp_path):
    ids = draw(0, [0, 3, 9, 255], (12, 16)).astype(np.uint8)
    save(tmp_path / "maps" / "x.png", ids)
    save(tmp_path / "images" / "x.png", noise(12, 16))
    reader = LabelMaps(str(tmp_path / "images"), str(tmp_path / "maps"), ignore=(255,)).open()
    records = PLAIN.update(reader[0], lambda image: ids)
    assert PLAIN.finish(records)["miou"] == 1
    assert PLAIN.finish(records)["pixels"] == np.count_nonzero(ids != 255)


def test_records_survive_json_and_shares_can_be_put_together():
    evaluation = SemanticMaps(classes=(0, 3, 9))
    truths, guesses = [draw(i, [0, 3, 255]) for i in range(4)], [draw(i + 7, [0, 3, 9]) for i in range(4)]
    records = score(evaluation, truths, guesses)
    again = [evaluation.record(*row) for row in json.loads(json.dumps(records))]
    assert again == list(records)
    numbers = evaluation.finish(again)
    assert numbers == evaluation.finish(records)
    assert numbers == evaluation.finish(merge([score(evaluation, truths[:1], guesses[:1]), again[1:]]))
    assert isinstance(Matches(*again[0].boundary["3"]).f, float)


@pytest.mark.parametrize(
    ("truth", "guess", "says"),
    [
        (0, np.zeros((4, 6), int), r"a.jpg: the predicted map is \(4, 6\), the image \(4, 5\)"),
        (0, np.zeros((4, 5, 1), int), r"\(4, 5, 1\)"),
        (0, np.full((4, 5), np.nan), "whole numbers, this one is of float64"),
        (0, np.full((4, 5), 4), "a.jpg: the predicted map has id 4, which is neither in classes nor in ignore"),
        (0, np.full((4, 5), -1), "id -1"),
        (8, np.zeros((4, 5), int), "a.jpg has category 8; name it in classes or in ignore"),
        (-1, np.zeros((4, 5), int), "a.jpg has a mask without a category"),
    ],
)
def test_mistakes_are_one_sentence(truth, guess, says):
    with pytest.raises(BadInput, match=says):
        PLAIN.update(sample(np.full((4, 5), truth)), lambda _: guess)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"classes": ()}, "at least one"),
        ({"classes": (1, 1)}, "different ids"),
        ({"classes": (0, 255)}, "id 255 is in classes and in ignore"),
        ({"classes": (0, 1), "background": (2,)}, "background has id 2"),
        ({"classes": (0, 1), "names": ("a",)}, "2 different names"),
        ({"classes": (0, 1), "names": ("a", "a")}, "2 different names"),
    ],
)
def test_what_contradicts_itself_is_refused(options, says):
    with pytest.raises(BadInput, match=says):
        SemanticMaps(**options)
