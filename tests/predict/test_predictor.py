import dataclasses

import jax
import numpy as np
import pytest

from sadist_jax.codecs.prompts import Prompt
from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.predict import predictor as module
from sadist_jax.predict.framing import Framing
from sadist_jax.predict.packing import bucket, pack
from sadist_jax.predict.predictor import Predictor, wants_three

SAM = Sam.mini(dim=32, depth=1, heads=1, global_blocks=(0,), image_size=64)
STUDENT = dataclasses.replace(
    EfficientSam.mini(), image_encoder=Vit.mini(dim=64, heads=1, depth=1, image_size=32), image_size=64
)
CLICK, BOX = Prompt(np.array([[20, 10]])), Prompt(box=np.array([5, 5, 30, 20]))
CLICKS = Prompt(np.array([[20, 10], [3, 4]]), np.array([1, 0]))
HINTED = Prompt(np.array([[20, 10]]), mask=np.zeros((1, 32, 32), np.float32))


def drawn(model):
    """Random parameters, without compiling anything."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), table.abstract(model.table()))


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module", params=["sam", "efficient_sam"])
def predictor(request):
    model = SAM if request.param == "sam" else STUDENT
    return Predictor(model, drawn(model))


def same(found, expected):
    for name in ("ious", "low_res_logits"):  # rounding depends on how many are decoded at once
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-3, rtol=1e-4)
    assert found.masks.shape == expected.masks.shape
    assert (found.masks != expected.masks).mean() < 1e-3


@pytest.mark.parametrize(
    ("model", "prompt", "three"),
    [
        (SAM, CLICK, True),
        (SAM, CLICKS, False),
        (SAM, BOX, False),
        (SAM, HINTED, False),
        (SAM, CLICK._replace(box=BOX.box), False),
        (STUDENT, CLICK, True),
        (STUDENT, CLICKS, True),
        (STUDENT, BOX, True),
    ],
)
def test_three_masks_for_what_is_ambiguous_or_where_the_single_one_is_untrained(model, prompt, three):
    assert wants_three(model, prompt) is three


def test_prompts_of_all_kinds_are_answered_in_their_order(predictor):
    predictor.set_image(photo(30, 40))
    prompts = [BOX, CLICK, CLICKS, CLICK]
    many = predictor.predict_many(prompts)
    wanted = [3 if wants_three(predictor.model, prompt) else 1 for prompt in prompts]
    assert [len(found.masks) for found in many] == [len(found.ious) for found in many] == wanted
    for prompt, found in zip(prompts, many, strict=True):
        assert found.masks.shape[1:] == (30, 40)
        assert 0 < found.masks.mean() < 1
        same(found, predictor.predict(*prompt))
        assert np.array_equal(found.best, found.masks[found.ious.argmax()])
    for forced, count in ((True, 3), (False, 1)):
        assert [len(found.masks) for found in predictor.predict_many(prompts, multimask=forced)] == [count] * 4


def test_many_images_are_as_one_at_a_time(predictor, monkeypatch):
    """Five images of two shapes: a full chunk and one that is filled up; the image that was set stays."""
    images = [photo(h, w, i) for i, (h, w) in enumerate([(30, 40), (30, 40), (50, 33), (30, 40), (50, 33)])]
    prompts = [[CLICK, BOX], [], [CLICKS], [BOX, CLICK], [CLICK]]
    encoded = []
    monkeypatch.setattr(module, "_encode", lambda *args, run=module._encode: encoded.append(len(args[2])) or run(*args))
    predictor.set_image(images[0])
    before = predictor.image_embedding
    found = predictor.predict_images(images, prompts)
    assert encoded == [1, module.IMAGES, module.IMAGES]
    assert predictor.image_embedding is before
    assert [len(row) for row in found] == [len(row) for row in prompts]
    for image, row, answers in zip(images, prompts, found, strict=True):
        predictor.set_image(image)
        for answer, expected in zip(answers, predictor.predict_many(row), strict=True):
            assert answer.masks.shape[1:] == image.shape[:2]
            same(answer, expected)


def test_no_image_and_no_prompt_have_no_answers(predictor):
    assert predictor.predict_images([], []) == []
    predictor.set_image(photo(30, 40))
    assert predictor.predict_many([]) == []


def test_coordinates_of_a_stretched_image_scale_by_axis():
    """A 20 x 80 photo in a frame of 64: x times 0.8, y times 3.2, corners of the box first."""
    framing = Framing.of((20, 80), STUDENT.image_size, STUDENT.fit)
    packed = pack(STUDENT, [framing], [[Prompt(np.array([[40, 10]]), box=np.array([10, 5, 70, 15]))]], (8, 8))
    np.testing.assert_allclose(packed.points[0, 0, :3], [[8, 16], [56, 48], [32, 32]], rtol=1e-6)
    assert packed.labels[0, 0].tolist() == [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, 1, EMPTY]
    assert packed.masks is None


def test_more_points_than_an_efficient_sam_has_slots_are_refused():
    predictor = Predictor(STUDENT, drawn(STUDENT))
    predictor.set_image(photo(30, 40))
    points = np.arange(14).reshape(7, 2)
    assert len(predictor.predict(points[:4], box=BOX.box).masks) == 3
    for prompt in (Prompt(points), Prompt(points[:5], box=BOX.box)):
        with pytest.raises(
            BadInput, match="takes up to 6 points in a prompt, of which a box is two, and a prompt has 7"
        ):
            predictor.predict(*prompt)
    masked = dataclasses.replace(STUDENT, slots=0)
    framing = Framing.of((30, 40), masked.image_size, masked.fit)
    assert pack(masked, [framing], [[Prompt(points)]], (8, 8)).points.shape == (1, 1, 8, 2)


def test_buckets_hold_what_is_put_in():
    assert [bucket(n) for n in (0, 1, 2, 3, 5, 64, 65, 129)] == [1, 1, 2, 4, 8, 64, 128, 192]


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        (Prompt(), "the prompt is empty"),
        (BOX._replace(labels=np.array([1])), "labels without points"),
        (Prompt(np.array([[1, 2]]), np.array([1, 0])), "labels must be 1 numbers"),
        (Prompt(np.array([[1, 2]]), np.array([3])), r"1 \(the object\) or 0"),
        (Prompt(np.array([1, 2])), r"points must be \(n, 2\)"),
        (Prompt(np.array([[40, 2]])), "outside the image"),
        (Prompt(mask=np.zeros((1, 8, 8))), r"a mask prompt must be \(1, 32, 32\) logits, this one is \(1, 8, 8\)"),
    ],
)
def test_bad_prompts_are_one_sentence(prompt, why):
    predictor = Predictor(SAM, drawn(SAM))
    predictor.set_image(photo(30, 40))
    with pytest.raises(BadInput, match=why):
        predictor.predict(*prompt)


def test_bad_use_is_one_sentence():
    predictor = Predictor(STUDENT, drawn(STUDENT))
    with pytest.raises(BadInput, match="no image is set"):
        predictor.predict(*CLICK)
    with pytest.raises(BadInput, match="there are 1 images and prompts for 2"):
        predictor.predict_images([photo(30, 40)], [[CLICK], [CLICK]])
    predictor.set_image(photo(30, 40))
    with pytest.raises(BadInput, match="EfficientSAM takes no mask prompts"):
        predictor.predict(*HINTED)
