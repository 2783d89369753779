import json

import numpy as np
import pytest
from scipy import ndimage

from sadist_jax.codecs.prompts import Prediction
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.evaluation import merge
from sadist_jax.evals.promptable import PromptedMasks, Record, ask_predictor, column, images_of, ious_of
from tests.data.made import noise, rectangle

HW = (40, 60)
SMALL, LARGE = rectangle(HW, 5, 5, 15, 25), rectangle(HW, 20, 10, 50, 30)  # 200 and 600 of 2400 pixels


LOGITS = np.zeros((3, 2, 2), np.float32)


def sample(*masks, name="a.jpg", crowd=()):
    iscrowd = np.isin(np.arange(len(masks)), crowd)
    stacked = np.stack(masks) if masks else np.zeros((0, *HW), bool)
    return Sample(noise(*HW), stacked, iscrowd, np.full(len(masks), -1), name)


class Recorder:
    """Answers every ask by `answer(ask)` and keeps the asks of each call."""

    def __init__(self, answer):
        self.answer, self.calls, self.images = answer, [], 0

    def __call__(self, image):
        self.images += 1
        return self.reply

    def reply(self, asks):
        self.calls.append(list(asks))
        return [self.answer(ask) for ask in asks]


def constant(*masks, ious=None):
    return Recorder(
        lambda ask: Prediction(np.stack(masks), np.arange(len(masks), 0, -1) if ious is None else ious, LOGITS)
    )


def knowing(*targets):
    """Answers with the target that the first point, or the middle of the box, lies in."""

    def answer(ask):
        x, y = (ask.points[0] if ask.box is None else (ask.box[:2] + ask.box[2:]) / 2).astype(int)
        return Prediction(np.stack([t for t in targets if t[y, x]]), np.ones(1), LOGITS)

    return Recorder(answer)


ENDS = [a + b for a in ("", "_oracle") for b in ("", "_per_image", "_pooled")]
BOTH = PromptedMasks(placements=("random", "farthest"))


def test_whoever_knows_the_masks_scores_1_and_is_asked_once_each():
    predict = knowing(SMALL, LARGE)
    records = BOTH.update(sample(SMALL, LARGE), predict)
    scores = BOTH.finish(records)
    kinds = ["box", *(f"{place}_{n}" for place in ("random", "farthest") for n in (1, 2, 3))]
    assert scores == {"images": 1, "instances": 2} | {k + end: 1.0 for k in kinds for end in ENDS}
    assert [(r.image, r.instance, r.share) for r in records] == [("a.jpg", 0, 200 / 2400), ("a.jpg", 1, 600 / 2400)]
    assert predict.images == 1
    assert len(predict.calls) == 3  # box, a random and a farthest click: a content user stops


def test_a_constant_answer_scores_its_overlap():
    """The whole picture: IoU is the share of the object, 1/12 and 1/4, whatever is clicked."""
    predict = constant(np.ones(HW, bool))
    records = PromptedMasks().update(sample(SMALL, LARGE), predict)
    scores = PromptedMasks().finish(records)
    for kind in ("box", "random_1", "random_2", "random_3"):
        assert scores[kind] == pytest.approx((1 / 12 + 1 / 4) / 2)
        np.testing.assert_allclose(column(records, kind), [1 / 12, 1 / 4])
    assert images_of(records).tolist() == ["a.jpg", "a.jpg"]


def test_the_most_confident_mask_counts_and_the_best_is_the_oracle():
    predict = constant(np.ones(HW, bool), LARGE, SMALL, ious=np.array([0.1, 0.2, 0.9]))
    (record,) = PromptedMasks(clicks=1).update(sample(LARGE), predict)
    assert record.ious == {"box": 0.0, "box_oracle": 1.0, "random_1": 0.0, "random_1_oracle": 1.0}


def test_boxes_are_tight_and_inclusive():
    predict = constant(LARGE)
    PromptedMasks(clicks=0).update(sample(SMALL, LARGE), predict)
    (asks,) = predict.calls
    assert [ask.box.tolist() for ask in asks] == [[5, 5, 14, 24], [20, 10, 49, 29]]
    assert all(ask.points is None and ask.mask is None for ask in asks)


@pytest.mark.parametrize("placement", ["random", "farthest"])
def test_clicks_fall_into_the_errors(placement):
    shown = rectangle(HW, 35, 10, 60, 30)  # misses the left half of LARGE and takes the band right of it
    logits = np.arange(12.0).reshape(2, 2, 3)
    predict = Recorder(lambda ask: Prediction(np.stack([LARGE, shown]), np.arange(2), logits))
    PromptedMasks(box=False, placements=(placement,)).update(sample(LARGE), predict)
    first, second, third = (call[0] for call in predict.calls)
    assert first.labels.tolist() == [1]
    assert first.mask is None
    for ask, count in ((first, 1), (second, 2), (third, 3)):
        x, y = ask.points.astype(int).T
        assert len(ask.points) == len(ask.labels) == count
        assert LARGE[y[0], x[0]]
        assert (shown != LARGE)[y[1:], x[1:]].all()
        assert ask.labels[1:].tolist() == LARGE[y[1:], x[1:]].astype(int).tolist()
    assert np.array_equal(third.points[:2], second.points)
    assert second.mask is not None
    assert np.array_equal(second.mask, logits[1:])  # of the mask that was shown


def test_inside_clicks_are_all_on_the_object_whatever_the_answer():
    for answer in (constant(SMALL), constant(LARGE)):
        PromptedMasks(box=False, placements=("inside",)).update(sample(LARGE), answer)
        asks = [call[0] for call in answer.calls]
        assert [ask.labels.tolist() for ask in asks] == [[1], [1, 1], [1, 1, 1]]
        x, y = asks[-1].points.astype(int).T
        assert LARGE[y, x].all()
        assert len({tuple(point) for point in asks[-1].points.tolist()}) == 3
        assert all(ask.mask is None for ask in asks)


def test_farthest_clicks_are_in_the_middle():
    shown = rectangle(HW, 35, 10, 60, 30)
    predict = constant(shown)
    PromptedMasks(box=False, clicks=2, placements=("farthest",)).update(sample(LARGE), predict)
    inside = ndimage.distance_transform_edt(np.pad(LARGE, 1))[1:-1, 1:-1]
    (x0, y0), (x1, y1) = predict.calls[1][0].points.astype(int)
    assert inside[y0, x0] == inside.max()
    missed = ndimage.distance_transform_edt(np.pad(LARGE & ~shown, 1))[1:-1, 1:-1]
    assert missed[y1, x1] == missed.max()


def test_only_who_is_not_content_is_asked_again():
    predict = Recorder(lambda ask: Prediction((SMALL if len(ask.points) == 1 else LARGE)[None], np.ones(1), LOGITS))
    records = PromptedMasks(box=False).update(sample(SMALL, LARGE), predict)
    assert [len(call) for call in predict.calls] == [2, 1]
    assert [list(r.ious[f"random_{n}"] for n in (1, 2, 3)) for r in records] == [[1, 1, 1], [0, 1, 1]]


def test_small_objects_crowds_and_empty_masks_do_not_count():
    dot, speck, empty = rectangle(HW, 0, 0, 2, 1), rectangle(HW, 0, 0, 3, 1), np.zeros(HW, bool)
    masks = sample(dot, speck, SMALL, empty, LARGE, crowd=[4])
    found = PromptedMasks().update(masks, constant(SMALL))  # 0.001 of 2400 pixels is 2.4
    assert [record.instance for record in found] == [1, 2]
    assert [r.instance for r in PromptedMasks(min_share=0).update(masks, constant(SMALL))] == [0, 1, 2]


def test_without_objects_nothing_is_asked_and_there_are_no_means():
    predict = constant(SMALL)
    assert PromptedMasks().update(sample(), predict) == ()
    assert predict.images == 0
    assert PromptedMasks().finish(merge([(), ()])) == {"images": 0, "instances": 0}


def test_draws_depend_on_seed_image_and_object_only():
    stripes = [rectangle(HW, x, 0, x + 3, 40) for x in range(0, 60, 3)]

    def clicks(evaluation, *args, **options):
        predict = constant(np.zeros(HW, bool), np.ones(HW, bool))
        records = evaluation.update(sample(*args, **options), predict)
        return {r.instance: ask.points.tolist() for r, ask in zip(records, predict.calls[-1], strict=True)}

    every, some = PromptedMasks(box=False, per_image=0), PromptedMasks(box=False, per_image=8)
    assert clicks(every, *stripes) == clicks(every, *stripes)
    assert clicks(every, *stripes) != clicks(every, *stripes, name="b.jpg")
    assert clicks(every, *stripes) != clicks(PromptedMasks(box=False, per_image=0, seed=1), *stripes)
    chosen = clicks(some, *stripes)
    assert len(chosen) == 8
    assert chosen.items() <= {i: points for i, points in clicks(every, *stripes).items()}.items()
    names = [f"{i}.jpg" for i in range(40)]
    counts = np.bincount([i for name in names for i in clicks(some, *stripes, name=name)], minlength=20)
    assert counts.sum() == 320
    assert counts.min() >= 5  # 16 of 40 are expected for each of 20
    assert counts.max() <= 30


def test_means_over_objects_over_images_and_over_pixels():
    """SMALL (200 pixels) is always the answer: right for itself, and nothing of LARGE (600), so a union of 800."""
    evaluation, predict = PromptedMasks(clicks=0), constant(SMALL)
    parts = [evaluation.update(sample(SMALL, LARGE), predict), evaluation.update(sample(LARGE, name="b.jpg"), predict)]
    means = {"": 1 / 3, "_per_image": (1 / 2 + 0) / 2, "_pooled": 200 / (200 + 800 + 800)}
    wanted = {"box" + best + end: mean for best in ("", "_oracle") for end, mean in means.items()}
    assert evaluation.finish(merge(parts)) == pytest.approx({"images": 2, "instances": 3} | wanted)


def test_records_come_back_from_json():
    records = BOTH.update(sample(SMALL, LARGE), constant(SMALL))
    kept = [Record(*row) for row in json.loads(json.dumps(records))]
    assert BOTH.finish(kept) == BOTH.finish(records)
    assert [BOTH.value(record) for record in kept] == [1, 0]


def test_ious_of_masks():
    masks = np.stack([LARGE, SMALL, np.zeros(HW, bool), np.ones(HW, bool)])
    np.testing.assert_allclose(ious_of(masks, LARGE), [1, 0, 0, 0.25])
    with pytest.raises(ValueError, match=r"\(40, 60\) pixels, their target \(1, 60\)"):
        ious_of(masks, LARGE[:1])


class FakePredictor:
    """What of a Predictor is used."""

    def __init__(self, takes_masks):
        self.model = type("Model", (), {"takes_masks": takes_masks})
        self.calls = []

    def set_image(self, image):
        self.image = image

    def predict_many(self, prompts, multimask):
        self.calls.append((prompts, multimask))
        return [Prediction(SMALL[None], np.ones(1), np.ones((1, 2, 2))) for _ in prompts]


def test_a_predictor_gets_the_mask_before_where_it_takes_masks_and_decides_how_many_to_answer():
    sam, efficient, plain = FakePredictor(True), FakePredictor(False), FakePredictor(True)
    evaluation, masks = PromptedMasks(clicks=2), sample(LARGE)
    evaluation.update(masks, ask_predictor(sam))
    assert [prompts[0].mask is None for prompts, _ in sam.calls] == [True, True, False]  # box, one click, two clicks
    assert [multimask for _, multimask in sam.calls] == [None, None, None]
    assert np.array_equal(sam.image, masks.image)
    evaluation.update(masks, ask_predictor(efficient, multimask=True))
    assert [prompts[0].mask for prompts, _ in efficient.calls] == [None, None, None]
    assert [multimask for _, multimask in efficient.calls] == [True, True, True]
    evaluation.update(masks, ask_predictor(plain, feedback=False))
    assert [prompts[0].mask for prompts, _ in plain.calls] == [None, None, None]


@pytest.mark.parametrize("options", [{"box": False, "clicks": 0}, {"box": False, "placements": ()}, {"clicks": -1}])
def test_asking_nothing_is_refused(options):
    with pytest.raises(BadInput):
        PromptedMasks(**options)
