"""What SAM promises besides its numbers, which tests/parity compares with the official code."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax import tree
from sadist_jax.models.mask_decoder import MaskDecoder, Upscale
from sadist_jax.models.prompt_encoder import PromptEncoder, add_padding_point
from sadist_jax.models.prompts import (
    BACKGROUND,
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    EMPTY,
    FOREGROUND,
    NOT_A_POINT,
    Prompts,
)
from sadist_jax.models.sam import Sam
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import table
from sadist_jax.ops.attention import FEW
from tests.parity import draw

SIDE = 64
ENCODER = VitDet(dim=32, depth=3, heads=2, global_blocks=(1,), window=3, patch=8, image_size=SIDE, out_dim=32)
SMALL = Sam(ENCODER, PromptEncoder(32), MaskDecoder(TwoWay(dim=32, mlp_dim=64), Upscale(32), iou_head_hidden_dim=32))

decode = jax.jit(SMALL.decode, static_argnames="tokens")
encode = jax.jit(SMALL.encode)


@pytest.fixture(scope="module")
def params():
    return jax.device_put(table.from_reference(SMALL.table(), draw.state(SMALL.table())))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def embedding(params, images):
    return encode(params, images)


def ragged() -> Prompts:
    """Two images, three prompts of one to three slots each."""
    rng = np.random.default_rng(1)
    labels = np.full((2, 3, 3), EMPTY, np.int32)
    labels[:, 0, :1] = FOREGROUND
    labels[:, 1, :2] = BOX_TOP_LEFT, BOX_BOTTOM_RIGHT
    labels[:, 2] = FOREGROUND, BACKGROUND, NOT_A_POINT
    points = rng.uniform(0, SIDE, (2, 3, 3, 2)).astype(np.float32)
    masks = rng.standard_normal((2, 3, SIDE // 2, SIDE // 2), np.float32)
    return Prompts(points, labels, masks, np.array([[True, False, True]] * 2))


@pytest.mark.parametrize(
    ("sam", "encoder", "weights", "tensors", "elements"),
    [
        (Sam.vit_b(), 89_670_912, 93_735_472, 314, 93_735_728),
        (Sam.vit_l(), 308_278_272, 312_342_832, 482, 312_343_088),
        (Sam.vit_h(), 637_026_048, 641_090_608, 594, 641_090_864),
    ],
    ids=["vit_b", "vit_l", "vit_h"],
)
def test_sizes_are_the_released_ones(sam, encoder, weights, tensors, elements):
    """Counted from the official code's state dicts; the elements include the Fourier matrix."""
    leaves = tree.flatten(sam.table())
    assert table.count(sam.image_encoder.table()) == encoder
    assert table.count(sam.table()) == weights
    assert len(leaves) == tensors
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves.values()) == elements


def test_a_ragged_batch_is_the_prompts_one_by_one(params, embedding):
    batch = ragged()
    logits, iou = decode(params, embedding, batch)
    assert logits.shape == (2, 3, 4, SIDE // 2, SIDE // 2)
    for i, p in np.ndindex(2, 3):
        slots = int((batch.labels[i, p] != EMPTY).sum())
        alone = Prompts(batch.points[i : i + 1, p : p + 1, :slots], batch.labels[i : i + 1, p : p + 1, :slots])
        if batch.has_mask[i, p]:
            alone = alone._replace(masks=batch.masks[i : i + 1, p : p + 1])
        expected, expected_iou = decode(params, embedding[i : i + 1], alone)
        np.testing.assert_allclose(logits[i, p], expected[0, 0], atol=1e-5)
        np.testing.assert_allclose(iou[i, p], expected_iou[0, 0], atol=1e-5)


def test_empty_slots_change_nothing_wherever_they_are_and_whatever_they_hold(params, embedding):
    batch = ragged()
    expected = decode(params, embedding, batch)
    points = np.full((2, 3, 5, 2), 1e5, np.float32)
    labels = np.full((2, 3, 5), EMPTY, np.int32)
    points[:, :, [1, 2, 4]], labels[:, :, [1, 2, 4]] = batch.points, batch.labels
    got = decode(params, embedding, batch._replace(points=points, labels=labels))
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)  # the sums have another order


def test_a_prompt_of_nothing_is_finite(params, embedding):
    nothing = Prompts(np.zeros((2, 1, 2, 2), np.float32), np.full((2, 1, 2), EMPTY, np.int32))
    assert all(np.isfinite(x).all() for x in decode(params, embedding, nothing))


def test_more_points_than_a_small_score_matrix_takes(params, embedding):
    """The choice of the attention's implementation depends on the number of tokens."""
    labels = np.full((1, 1, 2 * FEW), EMPTY, np.int32)
    labels[..., 0] = FOREGROUND
    points = np.full((1, 1, 2 * FEW, 2), 20, np.float32)
    many = decode(params, embedding[:1], Prompts(points, labels))
    one = decode(params, embedding[:1], Prompts(points[:, :, :1], labels[:, :, :1]))
    for ours, theirs in zip(many, one, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_mask_tokens_can_be_chosen(params, embedding):
    logits, iou = decode(params, embedding, ragged())
    some, some_iou = decode(params, embedding, ragged(), tokens=(3, 1))
    np.testing.assert_allclose(some, logits[:, :, jnp.array([3, 1])], atol=1e-5)
    np.testing.assert_allclose(some_iou, iou[:, :, jnp.array([3, 1])], atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "extra"),
    [
        ([FOREGROUND, EMPTY], NOT_A_POINT),
        ([BACKGROUND, FOREGROUND], NOT_A_POINT),
        ([NOT_A_POINT, EMPTY], NOT_A_POINT),
        ([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], EMPTY),
        ([FOREGROUND, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], EMPTY),
        ([EMPTY, EMPTY], EMPTY),
    ],
)
def test_points_without_a_box_get_a_padding_point(labels, extra):
    given = Prompts(jnp.full((1, 1, len(labels), 2), 9.0), jnp.array([[labels]]))
    padded = add_padding_point(given)
    assert padded.labels.tolist() == [[[*labels, extra]]]
    np.testing.assert_array_equal(padded.points[0, 0, -1], [0, 0])


def test_pixels_outside_the_content_do_not_matter_and_are_the_mean_colour(params, images):
    size = jnp.array([[40, SIDE], [SIDE, 25]])
    inside = np.stack([(np.arange(SIDE)[:, None] < h) & (np.arange(SIDE)[None] < w) for h, w in size.tolist()])
    embedding = encode(params, images, size)
    mean = np.where(inside[..., None], images, np.array([123.675, 116.28, 103.53], np.float32))
    np.testing.assert_allclose(encode(params, mean), embedding, atol=1e-4)
    white = np.where(inside[..., None], images, 255).astype(np.uint8)
    np.testing.assert_array_equal(encode(params, white, size), embedding)


def test_other_sizes_than_the_native_one(params):
    image = np.zeros((1, 48, 80, 3), np.uint8)
    prompt = Prompts(jnp.array([[[[70.0, 40.0]]]]), jnp.array([[[FOREGROUND]]]))
    logits, aux = jax.jit(SMALL.apply)(params, image, prompt)
    assert aux["embedding"].shape == (1, 6, 10, 32)
    assert logits.shape == (1, 1, 4, 24, 40)
    assert np.isfinite(logits).all()


def relative_error(ours, expected) -> float:
    return float(jnp.sqrt(jnp.square(ours - expected).mean()) / expected.std())


def test_bfloat16_is_near_float32_and_comes_out_as_float32(params, images, embedding):
    low = dataclasses.replace(SMALL, image_encoder=dataclasses.replace(ENCODER, dtype="bfloat16"))
    expected, _ = decode(params, embedding, ragged())
    logits, aux = jax.jit(low.apply)(params, images, ragged())
    assert {x.dtype for x in (logits, aux["embedding"], aux["iou"])} == {jnp.dtype("float32")}
    assert relative_error(aux["embedding"], embedding) < 0.03
    assert relative_error(logits, expected) < 0.06


def test_recomputing_blocks_gives_the_same_gradients(params, images):
    def gradient(remat):
        encoder = dataclasses.replace(ENCODER, remat=remat)
        sam = dataclasses.replace(SMALL, image_encoder=encoder)
        weights = np.random.default_rng(2).standard_normal((2, 8, 8, 32), np.float32)
        return jax.jit(jax.grad(lambda p: jnp.vdot(sam.encode(p, images), weights)))(params)["image_encoder"]

    saved, recomputed = (tree.flatten(gradient(remat)) for remat in (False, True))
    for name, expected in saved.items():
        assert np.abs(expected).max() > 0, name
        np.testing.assert_allclose(recomputed[name], expected, atol=1e-4 * np.abs(expected).max() + 1e-6, err_msg=name)
