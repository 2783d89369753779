"""Top-k accuracy: scikit-learn's numbers, ties and NaN by hand."""

import json

import numpy as np
import pytest

from sadist_jax.data.sample import unlabelled
from sadist_jax.errors import BadInput
from sadist_jax.evals.classification import Record, TopK, rank_of
from sadist_jax.evals.evaluation import merge
from tests.data.made import flat

metrics = pytest.importorskip("sklearn.metrics")


def sample(label, name="a.jpg"):
    return unlabelled(flat(7), name, label)


def records_of(logits, labels, evaluation):
    rows = zip(logits, labels, strict=True)
    return merge(evaluation.update(sample(label, f"{i}.jpg"), lambda _, row=row: row)
                 for i, (row, label) in enumerate(rows))  # fmt: skip


def test_numbers_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 200)
    logits = rng.normal(size=(200, 12)) + 2 * np.eye(12)[labels]
    evaluation = TopK(ks=(1, 2, 5))
    numbers = evaluation.finish(records_of(logits, labels, evaluation))
    assert numbers["images"] == 200
    for k in (1, 2, 5):
        wanted = metrics.top_k_accuracy_score(labels, logits, k=k, labels=np.arange(12))
        assert 0.2 < wanted < 1
        assert numbers[f"top_{k}"] == pytest.approx(wanted)


def test_of_equals_the_lower_index_comes_first():
    logits = np.array([1.0, 3.0, 3.0, 0.0, 3.0])
    assert [rank_of(logits, label) for label in range(5)] == [3, 0, 1, 4, 2]


def test_a_nan_is_a_wrong_answer_for_every_k_and_infinity_is_a_number():
    evaluation = TopK(ks=(1, 3))
    logits = [[np.nan, 9, 0, 0], [0, 9, np.nan, 0], [-np.inf, 9, -np.inf, 0], [np.inf, 9, 0, 0]]
    records = records_of(np.array(logits), [1, 1, 1, 1], evaluation)
    assert [record.rank for record in records] == [None, None, 0, 1]
    assert evaluation.finish(records) == {"images": 4, "top_1": 0.25, "top_3": 0.5}
    assert [evaluation.value(record) for record in records] == [0, 0, 1, 0.5]


def test_records_survive_json_and_no_records_give_no_accuracy():
    evaluation = TopK()
    records = records_of(np.eye(7, dtype=np.float32), np.arange(7), evaluation)
    again = [evaluation.record(*row) for row in json.loads(json.dumps(records))]
    assert again == list(records)
    assert again[3] == Record("3.jpg", 3, 0)
    assert evaluation.finish(again) == {"images": 7, "top_1": 1, "top_5": 1}
    assert evaluation.finish(()) == {"images": 0}


@pytest.mark.parametrize(
    ("label", "logits", "says"),
    [
        (-1, np.zeros(9), "a.jpg has no class"),
        (9, np.zeros(9), "a.jpg is of class 9, but the model knows 9"),
        (0, np.zeros((1, 9)), r"one row of logits \(C,\), this one gave \(1, 9\)"),
        (0, np.zeros(5), r"top-5 is always right with 5 classes.*ks="),
    ],
)
def test_mistakes_are_one_sentence(label, logits, says):
    with pytest.raises(BadInput, match=says):
        TopK().update(sample(label), lambda _: logits)


def test_the_image_is_what_is_classified():
    seen = []
    TopK().update(sample(0), lambda image: seen.append(image) or np.arange(9.0))
    np.testing.assert_array_equal(seen[0], flat(7))
