"""Where EfficientSAM departs from SAM; its numbers are compared in test_efficient_sam_golden.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.models.efficient_sam import EfficientSam, PointEncoder, decoder_of, fill_slots
from sadist_jax.models.prompts import (
    BACKGROUND,
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    EMPTY,
    FOREGROUND,
    NOT_A_POINT,
    Prompts,
)
from sadist_jax.models.vit import Vit
from sadist_jax.nn import fourier, table
from tests.parity import draw

SIDE = 64
SMALL = EfficientSam(
    Vit(dim=32, depth=2, heads=2, patch=8, image_size=32), PointEncoder(32), decoder_of(32, 64, 32), image_size=SIDE
)
MASKED = dataclasses.replace(SMALL, slots=0)

decode = jax.jit(SMALL.decode)
decode_masked = jax.jit(MASKED.decode)


@pytest.fixture(scope="module")
def params():
    return jax.device_put(table.from_reference(SMALL.table(), draw.state(SMALL.table())))


@pytest.fixture(scope="module")
def embedding(params):
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    return jax.jit(SMALL.encode)(params, image)


def prompt(labels: list[int], points: np.ndarray | None = None) -> Prompts:
    if points is None:
        points = np.random.default_rng(2).uniform(0, SIDE, (len(labels), 2))
    return Prompts(jnp.array(points, jnp.float32)[None, None], jnp.array(labels, jnp.int32)[None, None])


@pytest.mark.parametrize(
    ("model", "encoder", "elements"),
    [(EfficientSam.ti(), 6_163_840, 10_223_204), (EfficientSam.s(), 22_353_664, 26_413_028)],
    ids=["ti", "s"],
)
def test_sizes_are_the_released_ones(model, encoder, elements):
    made = model.table()
    assert table.count(made["image_encoder"]) == encoder
    assert table.count(made) == elements
    assert len(tree.flatten(made)) == 278


def test_released_slots_are_six_points_in_front_then_invalid_ones():
    given = prompt([EMPTY, FOREGROUND, EMPTY, BOX_TOP_LEFT], np.arange(8).reshape(4, 2))
    filled = fill_slots(given, 6)
    assert filled.labels.tolist() == [[[FOREGROUND, BOX_TOP_LEFT, *[NOT_A_POINT] * 4]]]
    assert filled.points.tolist() == [[[[2, 3], [6, 7], *[[-1, -1]] * 4]]]


def test_points_beyond_six_are_dropped(params, embedding):
    eight = prompt([FOREGROUND] * 8)
    six = Prompts(eight.points[:, :, :6], eight.labels[:, :, :6])
    for ours, expected in zip(decode(params, embedding, eight), decode(params, embedding, six), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_where_empty_slots_are_masked_they_do_not_matter_and_more_than_six_points_do(params, embedding):
    one = prompt([FOREGROUND])
    points = jnp.concatenate([jnp.full((1, 1, 3, 2), 50.0), one.points], 2)
    padded = Prompts(points, jnp.array([[[EMPTY] * 3 + [FOREGROUND]]]))
    for ours, expected in zip(
        decode_masked(params, embedding, padded), decode_masked(params, embedding, one), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
    released = decode(params, embedding, one)[0]
    assert not np.allclose(decode_masked(params, embedding, one)[0], released, atol=1e-3)
    eight = prompt([FOREGROUND] * 8)
    other = eight._replace(points=eight.points.at[0, 0, 7].add(20))
    changed = decode_masked(params, embedding, eight)[0] - decode_masked(params, embedding, other)[0]
    assert np.abs(changed).max() > 1e-3


def test_the_embeddings_of_points(params):
    """Label 0 adds nothing to its position; an invalid point keeps its position; negative coordinates are -1."""
    p = params["prompt_encoder"]
    labels = [BACKGROUND, FOREGROUND, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, NOT_A_POINT]
    points = np.array([[3, 4], [5, 6], [7, 8], [9, 10], [-30, -1]], np.float32)
    tokens, there = SMALL.prompt_encoder.points(p, jnp.array(points), jnp.array(labels), (SIDE, SIDE))
    positions = fourier.encode_pixels(p["pe_layer"], jnp.maximum(points, -1), (SIDE, SIDE))
    names = (None, "point_embeddings", "bbox_top_left_embeddings", "bbox_bottom_right_embeddings", "invalid_points")
    for token, position, name in zip(tokens, positions, names, strict=True):
        np.testing.assert_allclose(token, position + (0 if name is None else p[name]["weight"][0]), atol=1e-6)
    assert there.all()


def test_mask_prompts_are_refused(params, embedding):
    with pytest.raises(ValueError, match="no mask prompts"):
        SMALL.decode(params, embedding, prompt([FOREGROUND])._replace(masks=jnp.zeros((1, 1, 32, 32))))


def test_a_batch_is_its_images_and_prompts_one_by_one(params):
    images = np.random.default_rng(3).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    points = np.random.default_rng(4).uniform(0, SIDE, (2, 3, 2, 2)).astype(np.float32)
    labels = np.array([[FOREGROUND, EMPTY], [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], [FOREGROUND, FOREGROUND]])
    batch = Prompts(points, np.broadcast_to(labels, (2, 3, 2)).astype(np.int32))
    apply = jax.jit(SMALL.apply)
    logits, aux = apply(params, images, batch)
    for i, p in np.ndindex(2, 3):
        alone = jax.tree.map(lambda x, i=i, p=p: x[i : i + 1, p : p + 1], batch)
        expected, expected_aux = apply(params, images[i : i + 1], alone)
        np.testing.assert_allclose(logits[i, p], expected[0, 0], atol=1e-5)
        np.testing.assert_allclose(aux["iou"][i, p], expected_aux["iou"][0, 0], atol=1e-5)
