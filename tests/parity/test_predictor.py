"""Our Predictor against the official SamPredictor: resizing, prompts in original pixels, masks on original pixels."""

import jax
import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from sadist_jax.models.sam import Sam
from sadist_jax.nn import table
from sadist_jax.predict.predictor import Predictor, Prompt
from tests.parity import draw, official

EMBEDDING, LOGITS = 1e-4, 5e-4
FLIPPED = 1e-4  # share of pixels whose logit is so near zero that rounding decides
POINTS = np.array([[320.5, 180], [60, 350.25], [599, 0]])
BLOB = (4 - 25 * np.hypot(*(np.mgrid[:128, :128] / 128 - 0.4)))[None].astype(np.float32)
PROMPTS = {
    "point": Prompt(POINTS[:1], np.array([1])),
    "points with negatives": Prompt(POINTS, np.array([1, 0, 0])),
    "box": Prompt(box=np.array([101.5, 77, 480, 390.75])),
    "box and point": Prompt(POINTS[:1], np.array([1]), np.array([101.5, 77, 480, 390.75])),
    "mask": Prompt(mask=BLOB),
    "mask and points": Prompt(POINTS, np.array([1, 0, 1]), mask=BLOB),
}


@pytest.fixture(scope="module")
def predictors(photo):
    sam = Sam.mini()
    state = draw.state(sam.table())
    model = official.build(sam)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    theirs, ours = SamPredictor(model), Predictor(sam, jax.device_put(table.from_reference(sam.table(), state)))
    theirs.set_image(photo)
    ours.set_image(photo)
    return ours, theirs


def test_the_embedding_of_a_photo_agrees(predictors):
    ours, theirs = predictors
    expected = official.last(theirs.get_image_embedding())
    assert np.abs(ours.image_embedding - expected).max() < EMBEDDING


@pytest.mark.parametrize("multimask", [False, True])
def test_masks_on_the_photo_agree(predictors, photo, multimask):
    ours, theirs = predictors
    found = ours.predict_many(list(PROMPTS.values()), multimask)
    for (name, prompt), got in zip(PROMPTS.items(), found, strict=True):
        masks, ious, logits = theirs.predict(
            prompt.points, prompt.labels, prompt.box, prompt.mask, multimask_output=multimask
        )
        assert got.masks.shape == masks.shape == (3 if multimask else 1, *photo.shape[:2])
        assert 0.01 < masks.mean() < 0.99, name
        print(f"{name}: logits {np.abs(got.low_res_logits - logits).max():.1e}, {(got.masks != masks).sum()} pixels")
        assert np.abs(got.low_res_logits - logits).max() < LOGITS, name
        assert np.abs(got.ious - ious).max() < LOGITS, name
        assert (got.masks != masks).mean() < FLIPPED, name


def test_one_prompt_is_one_of_many(predictors):
    ours, _ = predictors
    many = ours.predict_many(list(PROMPTS.values()))
    for (name, prompt), expected in zip(PROMPTS.items(), many, strict=True):
        got = ours.predict(*prompt)
        np.testing.assert_allclose(got.low_res_logits, expected.low_res_logits, atol=1e-4, err_msg=name)
