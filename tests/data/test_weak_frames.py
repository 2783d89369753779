import dataclasses
import json
import pickle

import numpy as np
import pytest

from sadist_jax.codecs.geometry import scale_points
from sadist_jax.data import weak_frames
from sadist_jax.data.order import generator
from sadist_jax.data.sample import Sample, unlabelled
from sadist_jax.data.weak_frames import WeakFrames
from sadist_jax.data.weak_prompts import BOTTOM_RIGHT, EMPTY, TOP_LEFT, coarse_box, coarse_mask
from sadist_jax.errors import BadInput
from tests.data.made import flat, noise, rectangle

HW = (40, 80)
TURNS = {0: (), 1: (1,), 2: (0,), 3: (0, 1)}  # axes of a picture that each view turns


def sample(masks, iscrowd=None, image=None):
    masks = np.array(masks, bool).reshape(-1, *HW)
    crowd = np.zeros(len(masks), bool) if iscrowd is None else np.array(iscrowd)
    return Sample(noise(*HW) if image is None else image, masks, crowd, np.full(len(masks), -1), "a.png")


def boxes(count):
    return [rectangle(HW, 8 * i, 8, 8 * i + 8, 16) for i in range(count)]


SHAPE = rectangle(HW, 4, 2, 24, 20) | rectangle(HW, 10, 20, 14, 30)  # other in every view
KINDS = ["box", "point", "coarse", "coarse_box"]


@pytest.mark.parametrize("prompt", KINDS)
def test_a_row_has_the_shapes_of_the_contract(prompt):
    frames = WeakFrames(size=40, instances=3, prompt=prompt)
    slots = {"box": 2, "point": 10, "coarse": 2, "coarse_box": 2}[prompt]
    expected = {
        "image": ((40, 40, 3), np.uint8),
        "strong": ((40, 40, 3), np.uint8),
        "size": ((2,), np.int32),
        "view": ((), np.int32),
        "points": ((3, slots, 2), np.float32),
        "labels": ((3, slots), np.int32),
        "masks": ((3, 40, 40), np.uint8),
        "instance": ((3,), bool),
        "weight": ((), np.float32),
    } | ({"coarse": ((3, 40, 40), np.uint8)} if prompt == "coarse" else {})
    row = frames(sample(boxes(2)), generator(0, 0))
    for each in (row, frames.filler()):
        assert {name: (np.shape(value), value.dtype) for name, value in each.items()} == expected
    assert (row["weight"], frames.filler()["weight"]) == (1, 0)
    assert row["instance"].tolist() == [True, True, False]
    assert (row["labels"][2] == EMPTY).all()
    assert not row["points"][2].any()
    assert not row["masks"][2].any()


def test_everything_is_in_the_same_view():
    """At the picture's own size, so that nothing is resampled."""
    frames, seen = WeakFrames(size=80, instances=1), set()
    for position in range(40):
        picture = noise(*HW)
        row = frames(sample([SHAPE], image=picture), generator(0, position))
        view = int(row["view"])
        seen.add(view)
        np.testing.assert_array_equal(row["image"][:40], np.flip(picture, TURNS[view]))
        mask = np.flip(SHAPE, TURNS[view])
        np.testing.assert_array_equal(row["masks"][0, :40], mask)
        rows, cols = np.nonzero(mask)
        box = [cols.min(), rows.min(), cols.max(), rows.max()]
        assert row["points"][0].ravel().tolist() == box
        assert not row["image"][40:].any()
        assert not row["strong"][40:].any()
        assert row["size"].tolist() == [40, 80]
    assert seen == {0, 1, 2, 3}


def test_the_strong_view_is_made_of_the_weak_one(monkeypatch):
    """Of its content only: padding would count in an equalised histogram."""
    seen = []

    def inverted(image, rng):
        seen.append(image)
        return 255 - image

    monkeypatch.setattr(weak_frames, "strong_view", inverted)
    row = WeakFrames(size=40, instances=1)(sample(boxes(1)), generator(0, 3))
    np.testing.assert_array_equal(seen[0], row["image"][:20])
    np.testing.assert_array_equal(row["strong"][:20], 255 - row["image"][:20])


def test_masks_follow_the_resized_picture():
    row = WeakFrames(size=40, instances=4)(sample(boxes(2), image=flat(9, *HW)), generator(0, 0))
    assert (row["image"][:20] == 9).all()
    expected = {
        np.flip(rectangle((20, 40), 4 * i, 4, 4 * i + 4, 8), TURNS[int(row["view"])]).tobytes() for i in range(2)
    }
    assert {mask[:20].astype(bool).tobytes() for mask in row["masks"][:2]} == expected


def test_points_lie_in_the_object_and_in_the_rest_of_the_content():
    for position in range(20):
        row = WeakFrames(size=40, instances=2, prompt="point")(sample([SHAPE, SHAPE]), generator(0, position))
        for k in range(2):
            x, y = row["points"][k].astype(int).T
            assert row["masks"][k, y, x].tolist() == [1] * 5 + [0] * 5
            assert (y < 20).all()  # padding is no place for a click
            assert row["labels"][k].tolist() == [1] * 5 + [0] * 5


class Reading(list):
    def name(self, index):
        return self[index].name


def test_pictures_without_masks_are_refused_before_the_run():
    without = Reading(unlabelled(noise(8, 8), f"{i}.png") for i in range(40))
    with pytest.raises(BadInput, match=r"none of 16 pictures has a mask to take a point from \(0.png, ...\)"):
        WeakFrames(80, prompt="point").check(without)
    WeakFrames(80).check(Reading([*without[:20], sample([SHAPE])]))  # the last one is looked at


def test_coarse_prompts_are_those_of_the_mask_in_the_frame():
    coarse = WeakFrames(size=80, instances=1, prompt="coarse")(sample([SHAPE]), generator(0, 1))
    np.testing.assert_array_equal(coarse["coarse"][0, :40], coarse_mask(coarse["masks"][0, :40] > 0))
    assert coarse["points"][0].ravel().tolist() == coarse_box(coarse["masks"][0, :40] > 0).tolist()
    assert coarse["labels"].tolist() == [[TOP_LEFT, BOTTOM_RIGHT]]
    assert (coarse["coarse"] != coarse["masks"]).any()
    box = WeakFrames(size=80, instances=1, prompt="coarse_box")(sample([SHAPE]), generator(0, 1))
    assert box["points"][0].ravel().tolist() == coarse_box(box["masks"][0, :40] > 0).tolist()


def test_more_instances_than_rows_are_drawn_without_repetition_and_evenly():
    seen = np.zeros(6, int)
    for position in range(300):
        row = WeakFrames(size=80, instances=2)(sample(boxes(6)), generator(0, position))
        first = {1: 79, 3: 79}.get(int(row["view"]), 0)  # x of the picture's first column
        columns = [int(np.abs(box[[0, 2]] - first).min()) // 8 for box in row["points"].reshape(-1, 4)]
        assert len(set(columns)) == 2
        seen[columns] += 1
    assert seen.min() > 60  # 100 expected, standard deviation 8


def test_crowds_and_vanished_masks_are_no_instances():
    """At half the size, the nearest neighbour takes what has an odd row and an odd column in the view."""
    pixels, frames = [rectangle(HW, 11, 11, 12, 12), rectangle(HW, 10, 10, 11, 11)], WeakFrames(size=40, instances=5)
    for position in range(12):
        row = frames(sample([*pixels, *boxes(1)], [False, False, True]), generator(0, position))
        # 11 is odd as it is and 79 - 10 turned; turned on one axis only, both are gone
        assert row["instance"].sum() == {0: 1, 3: 1, 1: 0, 2: 0}[int(row["view"])]
        assert row["weight"] == row["instance"].any()
    assert frames(sample(boxes(2), [True, True]), generator(0, 0))["weight"] == 0
    larger = dataclasses.replace(frames, min_area=17)
    assert larger(sample(boxes(2)), generator(0, 0))["weight"] == 0  # 4 x 4 pixels each


def test_pictures_without_instances_pass_with_weight_0():
    row = WeakFrames(size=40)(unlabelled(noise(*HW), "a"), generator(0, 0))
    assert row["weight"] == 0
    assert row["image"].any()
    assert row["size"].tolist() == [20, 40]


@pytest.mark.parametrize("prompt", KINDS)
def test_masks_at_the_border_and_over_everything_and_grey_pictures(prompt):
    grey = np.repeat(noise(*HW)[..., :1], 3, 2)
    masks = [np.ones(HW, bool), rectangle(HW, 0, 0, 80, 2), rectangle(HW, 78, 0, 80, 40)]
    row = WeakFrames(size=40, instances=3, prompt=prompt)(sample(masks, image=grey), generator(0, 0))
    assert row["instance"].all()
    assert (row["points"] >= 0).all()
    assert (row["points"] <= [39, 19]).all()


def test_a_row_follows_from_its_generator_also_in_another_process():
    frames = WeakFrames(size=40, instances=2, prompt="point")
    rows = [f(sample(boxes(5)), generator(1, p)) for f, p in ((frames, 7), (pickle.loads(pickle.dumps(frames)), 7))]
    other = frames(sample(boxes(5)), generator(1, 8))
    for name, value in rows[0].items():
        np.testing.assert_array_equal(value, rows[1][name])
    assert (rows[0]["points"] != other["points"]).any()


def automatic(tmp_path, prompts):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"a.png": prompts}))
    return WeakFrames(size=40, instances=3, prompt="automatic", prompts=str(path))


def test_automatic_prompts_are_those_of_the_file_in_the_view(tmp_path):
    frames = automatic(tmp_path, [{"box": [10, 4, 29, 13]}, {"points": [[70, 30], [2, 2]], "labels": [1, 0]}])
    for position in range(12):
        row = frames(sample([]), generator(0, position))
        assert "masks" not in row
        assert {n: v.shape for n, v in row.items()} == {n: v.shape for n, v in frames.filler().items()}
        assert row["instance"].tolist() == [True, True, False]
        k = int((row["labels"][:, 0] == EMPTY).argmin())  # the row of the box: they are in random order
        across, down = int(row["view"]) & 1, int(row["view"]) & 2
        x = [79 - 29, 79 - 10] if across else [10, 29]
        y = [39 - 13, 39 - 4] if down else [4, 13]
        expected = scale_points(np.array([[x[0], y[0]], [x[1], y[1]]]), HW, (20, 40))
        np.testing.assert_array_equal(row["points"][k, :2], expected)
        click = [(79 - 70) / 2 if across else 35, (39 - 30) / 2 if down else 15]
        assert row["points"][1 - k, 2].tolist() == click
        assert row["labels"][1 - k, :5].tolist() == [EMPTY, EMPTY, 1, 0, EMPTY]


def test_more_automatic_prompts_than_rows_and_none(tmp_path):
    frames = automatic(tmp_path, [{"points": [[i, 0]]} for i in range(9)])
    seen = {tuple(row) for p in range(30) for row in frames(sample([]), generator(0, p))["points"][:, 2].tolist()}
    assert len(seen) > 9
    row = automatic(tmp_path, [])(sample([]), generator(0, 0))
    assert (row["instance"].any(), row["weight"]) == (False, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"instances": 0},
        {"min_area": 0},
        {"prompt": "scribble"},
        {"prompt": "automatic"},
        {"prompts": "a.json"},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(BadInput, match=next(iter(options))):
        WeakFrames(**options)
