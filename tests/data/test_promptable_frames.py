import numpy as np
import pytest

from sadist_jax.data.order import generator
from sadist_jax.data.promptable_frames import PromptableFrames
from sadist_jax.data.sample import Masks, Sample, Unreadable, unlabelled
from sadist_jax.errors import BadInput
from sadist_jax.predict.framing import Framing
from tests.data.made import flat, noise, rectangle

HW = (40, 80)


def sample(masks, iscrowd=None, image=None):
    masks = np.array(masks, bool).reshape(-1, *HW)
    crowd = np.zeros(len(masks), bool) if iscrowd is None else np.array(iscrowd)
    return Sample(noise(*HW) if image is None else image, masks, crowd, np.full(len(masks), -1), "a.png")


def boxes(count):
    """Distinct 8 x 8 squares; the frame is half of the picture, so they are 4 x 4 there."""
    return [rectangle(HW, 8 * i, 8, 8 * i + 8, 16) for i in range(count)]


def test_a_row_has_the_shapes_of_the_contract():
    row = PromptableFrames(size=40, instances=3)(sample(boxes(2)), generator(0, 0))
    filler = PromptableFrames(size=40, instances=3).filler()
    shapes = {"image": (40, 40, 3), "size": (2,), "masks": (3, 40, 40), "instance": (3,), "weight": ()}
    types = {"image": np.uint8, "size": np.int32, "masks": np.uint8, "instance": bool, "weight": np.float32}
    for each in (row, filler):
        assert {name: np.shape(value) for name, value in each.items()} == shapes
        assert {name: value.dtype for name, value in each.items()} == types
    assert row["weight"] == 1
    assert filler["weight"] == 0
    assert not filler["instance"].any()


def test_content_is_at_the_top_left_and_masks_follow_it():
    row = PromptableFrames(size=40, instances=4)(sample(boxes(2), image=flat(9, *HW)), generator(0, 0))
    assert row["size"].tolist() == [20, 40]
    assert (row["image"][:20] == 9).all()
    assert not row["image"][20:].any()
    assert row["instance"].tolist() == [True, True, False, False]
    expected = {rectangle((40, 40), 4 * i, 4, 4 * i + 4, 8).tobytes() for i in range(2)}
    assert {mask.astype(bool).tobytes() for mask in row["masks"][:2]} == expected
    assert not row["masks"][2:].any()


def test_more_instances_than_rows_are_drawn_without_repetition_and_evenly():
    seen = np.zeros(6, int)
    for position in range(300):
        row = PromptableFrames(size=40, instances=2)(sample(boxes(6)), generator(0, position))
        columns = [int(np.flatnonzero(mask.any(axis=0))[0]) // 4 for mask in row["masks"]]
        assert len(set(columns)) == 2
        seen[columns] += 1
    assert seen.min() > 60  # 100 expected, standard deviation 8


def test_crowds_vanished_and_covering_masks_are_no_targets():
    masks = [
        rectangle(HW, 0, 0, 80, 40),  # covers everything
        rectangle(HW, 0, 0, 76, 40),  # covers 95 %
        rectangle(HW, 0, 0, 72, 40),  # covers 90 %
        rectangle(HW, 8, 8, 14, 16),  # 3 x 4 = 12 pixels of the frame
        rectangle(HW, 8, 8, 16, 16),  # 16 pixels
        rectangle(HW, 8, 8, 30, 30),  # a crowd
    ]
    crowd = [False, False, False, False, False, True]
    row = PromptableFrames(size=40, instances=6, min_area=16)(sample(masks, crowd), generator(0, 0))
    assert sorted(row["masks"].sum(axis=(1, 2), dtype=int).tolist()) == [0, 0, 0, 0, 16, 20 * 36]
    assert row["instance"].sum() == 2


@pytest.mark.parametrize("case", [sample([]), sample(boxes(1), [True]), sample([rectangle(HW, 0, 0, 1, 1)])])
def test_a_row_without_instances_has_weight_0_but_its_image(case):
    row = PromptableFrames(size=40, instances=2)(case, generator(0, 0))
    assert row["weight"] == 0
    assert not row["instance"].any()
    assert row["image"].any()
    assert row["size"].tolist() == [20, 40]


def test_only_the_masks_that_are_needed_are_decoded():
    decoded = []

    def decode(i):
        decoded.append(i)
        return boxes(6)[i]

    lazy = sample(boxes(6))._replace(masks=Masks("a.png", 6, decode))
    PromptableFrames(size=40, instances=2)(lazy, generator(0, 0))
    assert len(decoded) == 2


def test_a_broken_mask_makes_the_sample_unreadable():
    def decode(i):
        raise BadInput("annotation 5 is broken")

    lazy = sample(boxes(1))._replace(masks=Masks("a.png", 1, decode))
    with pytest.raises(Unreadable, match="annotation 5 is broken") as caught:
        PromptableFrames(size=40)(lazy, generator(0, 0))
    assert caught.value.path == "a.png"


@pytest.mark.parametrize("jitter", [None, (0.1, 2.0), (1.5, 1.5), (0.25, 0.25)])
def test_image_and_masks_move_together(jitter):
    thing = rectangle(HW, 20, 10, 60, 30)
    picture = flat(0, *HW) + np.uint8(200) * thing[..., None]
    flipped = set()
    for position in range(30):
        transform = PromptableFrames(size=64, instances=1, jitter=jitter, flip=True, min_area=1)
        row = transform(sample([thing], image=picture), generator(1, position))
        if not row["instance"][0]:
            continue
        h, w = row["size"]
        assert not row["image"][h:].any()
        assert not row["image"][:, w:].any()
        assert not row["masks"][:, h:].any()
        assert not row["masks"][:, :, w:].any()
        bright = row["image"][..., 0] > 100
        union = bright | (row["masks"][0] > 0)
        assert (bright & (row["masks"][0] > 0)).sum() >= 0.6 * union.sum()  # they differ in the edge's rounding
        flipped.add(row["masks"].tobytes())
    assert flipped


def test_flips_happen_half_of_the_time_for_image_and_masks():
    left = rectangle(HW, 0, 0, 40, 40)
    picture = flat(0, *HW) + np.uint8(200) * left[..., None]
    transform = PromptableFrames(size=80, instances=1, flip=True)
    rows = [transform(sample([left], image=picture), generator(0, p)) for p in range(200)]
    assert all((row["image"][10, 0, 0] > 100) == row["masks"][0, 10, 0] for row in rows)
    assert 70 <= sum(int(row["masks"][0, 10, 0]) for row in rows) <= 130
    still = PromptableFrames(size=80, instances=1)(sample([left], image=picture), generator(0, 0))
    assert np.array_equal(still["image"][:40], picture)


def test_stretch_fills_the_square_with_image_and_masks():
    left = rectangle(HW, 0, 0, 40, 40)
    picture = flat(0, *HW) + np.uint8(200) * left[..., None]
    row = PromptableFrames(size=40, instances=1, fit="stretch")(sample([left], image=picture), generator(0, 0))
    assert row["size"].tolist() == [40, 40]
    assert np.array_equal(row["masks"][0], rectangle((40, 40), 0, 0, 20, 40))
    assert np.array_equal(row["image"][..., 0] > 100, row["masks"][0])


def test_stretched_pictures_are_those_of_inference():
    """Without antialias: at a quarter of the width the middle two of four columns count. Rounded, to stay uint8."""
    picture = noise(40, 160)
    row = PromptableFrames(size=40, fit="stretch")(unlabelled(picture, "a"), generator(0, 0))
    expected = (picture[:, 1::4].astype(float) + picture[:, 2::4]) / 2
    np.testing.assert_allclose(row["image"], expected, atol=0.5)
    np.testing.assert_allclose(row["image"], Framing.of((40, 160), 40, "stretch").pixels(picture), atol=0.5001)


def test_unlabelled_pictures_pass_with_weight_0():
    assert PromptableFrames(size=40)(unlabelled(noise(*HW), "a"), generator(0, 0))["weight"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"instances": 0},
        {"min_area": 0},
        {"max_cover": 0.0},
        {"max_cover": 1.1},
        {"jitter": (0.0, 1.0)},
        {"jitter": (2.0, 1.0)},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(BadInput, match=next(iter(options))):
        PromptableFrames(**options)
