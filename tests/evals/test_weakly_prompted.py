"""What a model is asked with weak prompts, and how its answers are scored."""

import dataclasses
import json

import numpy as np
import pytest

from sadist_jax.codecs.prompts import Prediction, Prompt, box_of
from sadist_jax.data.sample import Sample
from sadist_jax.data.weak_frames import WeakFrames
from sadist_jax.errors import BadInput
from sadist_jax.evals.promptable import PER_IMAGE, Record
from sadist_jax.evals.weakly_prompted import AUTOMATIC, COARSE_LOGIT, WeaklyPrompted
from sadist_jax.methods import adapted
from sadist_jax.predict.framing import Framing
from tests.data.made import noise, rectangle

HW = (40, 64)
LEFT, RIGHT = rectangle(HW, 4, 4, 24, 14), rectangle(HW, 30, 8, 60, 38)  # 200 and 900 pixels
PROTOCOL = WeaklyPrompted(("box", "point", "coarse_box", "coarse"), size=64, logits=16)


def sample(*masks, name="a.png", crowd=()):
    iscrowd = np.isin(np.arange(len(masks)), crowd)
    return Sample(noise(*HW), np.stack(masks), iscrowd, np.full(len(masks), -1), name)


def answering(answer, heard=None):
    """A predict function whose single masks are answer(prompt)."""

    def reply(prompts):
        if heard is not None:
            heard.append(list(prompts))
        return [Prediction(answer(p)[None], np.ones(1), np.zeros((1, 16, 16))) for p in prompts]

    return lambda image: reply


def filled(prompt: Prompt) -> np.ndarray:
    x0, y0, x1, y1 = np.asarray(prompt.box, int)
    return rectangle(HW, x0, y0, x1 + 1, y1 + 1)


def asked(protocol, a):
    heard = []
    records = protocol.update(a, answering(lambda prompt: np.asarray(a.masks[0]), heard))
    return records, heard


def test_means_over_objects_and_over_images():
    two, one = sample(LEFT, RIGHT), sample(RIGHT, name="b.png")
    protocol = WeaklyPrompted(("box",), size=64, logits=16)
    records = [r for a in (two, one) for r in protocol.update(a, answering(lambda prompt: filled(prompt) & ~LEFT))]
    assert [(r.image, r.instance, r.areas["box"]) for r in records] == [
        ("a.png", 0, (0, 200)),
        ("a.png", 1, (900, 900)),
        ("b.png", 0, (900, 900)),
    ]
    assert records[0].share == pytest.approx(200 / (40 * 64))
    numbers = protocol.finish(records)
    assert (numbers["images"], numbers["instances"]) == (2, 3)
    assert numbers["box"] == pytest.approx(2 / 3)
    assert numbers["box" + PER_IMAGE] == pytest.approx((1 / 2 + 1) / 2)
    assert protocol.finish(()) == {"images": 0, "instances": 0}
    assert protocol.value(records[0]) == 0


def test_prompts_are_of_the_object_and_the_same_for_everyone():
    a = sample(LEFT, RIGHT)
    _, (boxes, points, coarse_boxes, coarse) = asked(PROTOCOL, a)
    _, again = asked(PROTOCOL, a)
    assert [p.box.tolist() for p in boxes] == [[4, 4, 23, 13], [30, 8, 59, 37]]
    for prompt, mask in zip(points, (LEFT, RIGHT), strict=True):
        x, y = prompt.points.astype(int).T
        assert prompt.labels.tolist() == [1] * 5 + [0] * 5
        assert mask[y, x].tolist() == [True] * 5 + [False] * 5
    assert all(np.array_equal(p.points, q.points) for p, q in zip(points, again[1], strict=True))
    # the polygon of a rectangle is the rectangle: columns 4..23 are cells 1..5 of 4 x 4 pixels
    for kind in (coarse_boxes, coarse):
        assert [p.box.tolist() for p in kind] == [p.box.tolist() for p in boxes]
    assert not any(p.mask is not None for p in coarse_boxes)
    cells = coarse[0].mask[0] > 0
    assert np.argwhere(cells).min(0).tolist() == [1, 1]
    assert np.argwhere(cells).max(0).tolist() == [3, 5]  # rows 12..15 are half covered, which counts
    assert np.unique(coarse[0].mask).tolist() == [-COARSE_LOGIT, COARSE_LOGIT]


def test_points_differ_between_objects_images_and_seeds():
    protocol = dataclasses.replace(PROTOCOL, kinds=("point",))
    _, ((one, two),) = asked(protocol, sample(LEFT, LEFT))
    _, ((third,),) = asked(protocol, sample(LEFT, name="b.png"))
    _, ((fourth,),) = asked(dataclasses.replace(protocol, seed=1), sample(LEFT))
    assert len({prompt.points.tobytes() for prompt in (one, two, third, fourth)}) == 4


def test_asks_as_data_weak_frames_trains():
    """A frame that shows the image unflipped, from an original of another size."""
    rows, cols = np.mgrid[:96, :120]
    disc = (rows - 40) ** 2 + (cols - 70) ** 2 < 30**2
    a = Sample(noise(96, 120), disc[None], np.zeros(1, bool), np.full(1, -1), "disc.png")
    framing = Framing.of((96, 120), 64, "pad")
    _, (boxes, _, coarse_boxes, coarse) = asked(PROTOCOL, a)

    def row(prompt):
        made = (WeakFrames(64, 1, prompt)(a, np.random.default_rng(seed)) for seed in range(50))
        return next(row for row in made if row["view"] == 0)

    batch = {name: np.asarray(value)[None] for name, value in row("coarse").items()}
    trained = np.asarray(adapted._prompts(batch, 16).masks)
    assert np.array_equal(coarse[0].mask, trained[0])
    assert np.allclose(framing.points(coarse_boxes[0].box.reshape(2, 2)), row("coarse_box")["points"][0], atol=1e-4)
    near = np.abs(framing.points(boxes[0].box.reshape(2, 2)) - row("box")["points"][0])
    assert near.max() <= 1  # tight at two resolutions
    assert COARSE_LOGIT == adapted.COARSE_LOGIT


def test_an_object_is_given_the_best_answer_to_automatic_prompts(tmp_path):
    path = tmp_path / "prompts.json"
    boxes = [{"box": [4, 4, 23, 8]}, {"box": [4, 4, 23, 12]}, {"box": [0, 0, 2, 2]}]
    path.write_text(json.dumps({"a.png": boxes, "none.png": []}))
    protocol = WeaklyPrompted((), str(path), size=64, logits=16)
    found = protocol.update(sample(LEFT, RIGHT), answering(filled))
    assert [r.areas for r in found] == [
        {AUTOMATIC: (180, 200)},
        {AUTOMATIC: (0, 1000)},
    ]  # none is near: the first, 20 x 5
    (record,) = protocol.update(sample(LEFT, name="none.png"), answering(filled))
    assert record.areas == {AUTOMATIC: (0, 200)}


def test_crowds_small_objects_and_too_many_are_left_out():
    small = rectangle(HW, 0, 0, 3, 3)
    everything = (small, LEFT, RIGHT, ~LEFT)
    protocol = WeaklyPrompted(("box",), size=32, logits=16, min_area=5)  # small has 2 x 2 pixels in half the size
    records = protocol.update(sample(*everything, crowd=[3]), answering(filled))
    assert [r.instance for r in records] == [1, 2]
    one = WeaklyPrompted(("box",), size=32, logits=16, per_image=1)
    drawn = {one.update(sample(*everything, name=f"{i}.png"), answering(filled))[0].instance for i in range(40)}
    assert drawn == {0, 1, 2, 3}
    assert protocol.update(sample(small), answering(filled)) == ()


def test_records_survive_json():
    (record,) = PROTOCOL.update(sample(LEFT), answering(lambda prompt: LEFT))
    again = Record(*json.loads(json.dumps(record)))
    assert PROTOCOL.finish([again]) == PROTOCOL.finish([record])
    assert box_of(LEFT).tolist() == [4, 4, 23, 13]


@pytest.mark.parametrize(
    "options", [{"kinds": ()}, {"size": 0}, {"size": 64, "logits": 48}, {"per_image": -1}, {"min_area": 0}]
)
def test_what_cannot_be(options):
    with pytest.raises(BadInput):
        WeaklyPrompted(**options)
