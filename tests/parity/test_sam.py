"""SAM ViT-B, L and H at full size against the official implementation: same file, same photo, same prompts.

ViT-B is also compared stage by stage, in bfloat16, and with three planted mistakes that the comparison must catch.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sadist_jax.models import vit_det
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import fourier, layers, table
from sadist_jax.ops.attention import attention
from sadist_jax.ops.pixels import normalize
from sadist_jax.ops.windows import partition
from sadist_jax.weights.pth import read_pth
from tests.parity import draw, official
from tests.parity.cases import Case, batch, cases

SIDE, MASKS, SLOTS = 1024, 256, 5
EMBEDDING, LOGITS, IOU, STAGE = 1e-4, 5e-4, 1e-4, 1e-4  # largest differences where the standard deviation is about 1
BFLOAT16 = 0.03  # root mean square difference from float32, relative; the embedding of 12 blocks at 8 bits of mantissa
PROMPTS = cases(SIDE, MASKS)
STAGES = {  # ours: the official module whose output it is
    "block0": "image_encoder.blocks.0",  # windowed
    "block2": "image_encoder.blocks.2",  # global
    "block11": "image_encoder.blocks.11",
}
HYPERNETWORK = "output_hypernetworks_mlps.2"
DECODER = ("transformer.layers.0", "transformer", "output_upscaling", HYPERNETWORK, "iou_prediction_head")


class Both(NamedTuple):
    """One size: our model and weights; the photo's frame and its content's size; what the official code made of it."""

    sam: Sam
    params: Any
    frame: np.ndarray
    size: tuple[int, int]
    embedding: np.ndarray
    decoded: dict[str, tuple[np.ndarray, np.ndarray]]
    stages: dict[str, np.ndarray]

    def encode(self, sam: Sam | None = None) -> np.ndarray:
        size = jnp.array([self.size], jnp.int32)
        return np.asarray(jax.jit((sam or self.sam).encode)(self.params, self.frame, size))


def compare(size: str, photo: np.ndarray, folder: Path, stages: bool) -> Both:
    """Official code first, and gone before ours begins: two ViT-H fit into memory, their activations would not."""
    sam = official.RELEASED[size]()
    path = official.save(draw.state(sam.table()), folder / f"sam_{size}.pth")
    model = official.released(size, path)
    frame, content = official.fit(photo, SIDE)
    outputs = {}
    names = [*STAGES.values(), "image_encoder.patch_embed"] if stages else []
    with official.recording(model, *names) as recorded:
        embedding = official.encode(model, frame, content)
    if stages:
        outputs = {ours: recorded[theirs].numpy() for ours, theirs in STAGES.items()}
        outputs["patch"] = (recorded["image_encoder.patch_embed"] + model.image_encoder.pos_embed).detach().numpy()
    decoded = {name: official.decode(model, embedding, case) for name, case in PROMPTS.items()}
    if stages:
        outputs |= decoder_stages(model, embedding, PROMPTS["mask, points and box"])
    del model, recorded
    params = jax.device_put(table.from_reference(sam.table(), read_pth(path)))
    path.unlink()
    return Both(sam, params, frame, content, embedding, decoded, outputs)


def decoder_stages(model, embedding: np.ndarray, case: Case) -> dict[str, np.ndarray]:
    names = ("prompt_encoder", *(f"mask_decoder.{name}" for name in DECODER))
    with official.recording(model, *names) as recorded:
        official.decode(model, embedding, case)
    sparse, dense = recorded["prompt_encoder"]
    layer, transformer, upscaling, network, iou = (recorded[name] for name in names[1:])
    return {
        "sparse": sparse.numpy(),
        "dense": official.last(dense),
        "layer 0 tokens": layer[0].numpy(),
        "layer 0 image": layer[1].numpy(),
        "tokens": transformer[0].numpy(),
        "image": transformer[1].numpy(),
        "upscaled": official.last(upscaling),
        "hypernetwork 2": network.numpy(),
        "iou": iou.numpy(),
    }


def distance(ours, theirs: np.ndarray) -> float:
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


def check_embedding(both: Both, ours: np.ndarray) -> None:
    assert both.embedding.std() == pytest.approx(1, abs=0.3)
    assert distance(ours, both.embedding) < EMBEDDING


def check_decoder(both: Both, embedding: np.ndarray) -> None:
    """All prompts in one call of ours, ragged; one by one in the official code."""
    prompts = batch(list(PROMPTS.values()), SLOTS)
    logits, iou = jax.jit(both.sam.decode)(both.params, embedding, prompts)
    assert np.std([both.decoded[name][0] for name in PROMPTS]) == pytest.approx(1, abs=0.3)
    for i, (name, (theirs, their_iou)) in enumerate(both.decoded.items()):
        print(f"{name}: logits {distance(logits[0, i], theirs):.1e}, iou {distance(iou[0, i], their_iou):.1e}")
        assert distance(logits[0, i], theirs) < LOGITS, name
        assert distance(iou[0, i], their_iou) < IOU, name


@pytest.fixture(scope="module")
def vit_b(photo, tmp_path_factory) -> Both:
    return compare("vit_b", photo, tmp_path_factory.mktemp("vit_b"), stages=True)


def test_vit_b_agrees(vit_b):
    embedding = vit_b.encode()
    print(f"embedding {distance(embedding, vit_b.embedding):.1e}")
    check_embedding(vit_b, embedding)
    check_decoder(vit_b, embedding)


@pytest.mark.timeout(3600)  # ViT-H takes 200 seconds of a core, which a busy machine spreads
@pytest.mark.parametrize("size", ["vit_l", "vit_h"])
def test_larger_sizes_agree(size, photo, tmp_path):
    both = compare(size, photo, tmp_path, stages=False)
    embedding = both.encode()
    print(f"embedding {distance(embedding, both.embedding):.1e}")
    check_embedding(both, embedding)
    check_decoder(both, embedding)


def test_vit_b_encoder_agrees_at_every_stage(vit_b):
    def stages(params, frame, size):
        return vit_b.sam.image_encoder.apply(params, normalize(frame, size))[1]

    ours = jax.jit(stages)(vit_b.params["image_encoder"], vit_b.frame, jnp.array([vit_b.size]))
    for name in ("patch", *STAGES):
        print(f"{name}: {distance(ours[name], vit_b.stages[name]):.1e} of std {vit_b.stages[name].std():.1f}")
        assert distance(ours[name], vit_b.stages[name]) < STAGE, name


def test_vit_b_decoder_agrees_at_every_stage(vit_b):
    sam, expected = vit_b.sam, vit_b.stages
    encoder, decoder = vit_b.params["prompt_encoder"], vit_b.params["mask_decoder"]
    case = batch([PROMPTS["mask, points and box"]], SLOTS)
    sparse, where = sam.prompt_encoder.points(encoder, case.points[0], case.labels[0], (SIDE, SIDE))
    assert bool(where.all())
    dense = sam.prompt_encoder.masks(encoder, case.masks[0])

    own = [decoder["iou_token"]["weight"], decoder["mask_tokens"]["weight"]]
    tokens = jnp.concatenate([*own, sparse[0]])[None, None]
    there = jnp.ones(tokens.shape[:-1], bool)
    image = (vit_b.embedding + dense).reshape(1, 1, -1, 256)
    positions = fourier.encode_grid(encoder["pe_layer"], (64, 64)).reshape(-1, 256)
    weights, two_way = decoder["transformer"], sam.mask_decoder.two_way
    first = two_way._layer(weights["layers"]["0"], tokens, image, tokens, positions, there, True)
    tokens, image = two_way.apply(weights, tokens, image, positions, there)
    ours = {
        "sparse": sparse,
        "dense": dense,
        "layer 0 tokens": first[0][0],
        "layer 0 image": first[1][0],
        "tokens": tokens[0],
        "image": image[0],
        "upscaled": sam.mask_decoder.upscale.apply(decoder, image.reshape(1, 64, 64, 256)),
        "hypernetwork 2": sam.mask_decoder._kernel(decoder, 2, tokens[0, :, 3]),
        "iou": sam.mask_decoder.iou_head().apply(decoder["iou_prediction_head"], tokens[0, :, 0]),
    }
    for name, value in ours.items():
        print(f"{name}: {distance(value, expected[name]):.1e} of std {expected[name].std():.1f}")
        assert distance(value, expected[name]) < STAGE, name


def test_vit_b_in_bfloat16(vit_b):
    ours = vit_b.encode(Sam.vit_b(dtype="bfloat16"))
    assert ours.dtype == np.float32
    error = np.sqrt(np.square(ours - vit_b.embedding).mean()) / vit_b.embedding.std()
    print(f"bfloat16: relative error {error:.4f}")
    assert error < BFLOAT16


def tanh_gelu(monkeypatch):
    approximate = functools.partial(jax.nn.gelu, approximate=True)
    mlp = VitDet.mlp
    monkeypatch.setattr(VitDet, "mlp", lambda self: dataclasses.replace(mlp(self), activation=approximate))


def masked_window_padding(monkeypatch):
    def masked(q, k, v, *, relative):
        windows = partition(jnp.ones((1, 64, 64, 1), bool), 14).reshape(-1, 14 * 14)
        return attention(q, k, v, relative=relative, where=windows if len(q) == len(windows) else None)

    monkeypatch.setattr(vit_det, "attention", masked)


def scaled_query_in_relative_positions(monkeypatch):
    def scaled(q, k, v, *, relative):
        return attention(q, k, v, relative=tuple(x * q.shape[-1] ** -0.5 for x in relative))

    monkeypatch.setattr(vit_det, "attention", scaled)


@pytest.mark.parametrize("plant", [tanh_gelu, masked_window_padding, scaled_query_in_relative_positions])
def test_a_planted_mistake_fails_the_check(vit_b, monkeypatch, plant):
    plant(monkeypatch)
    ours = vit_b.encode(Sam.vit_b())
    print(f"{plant.__name__}: {distance(ours, vit_b.embedding):.1e}")
    with pytest.raises(AssertionError, match=r"assert .* < 0\.0001"):
        check_embedding(vit_b, ours)


def test_the_gelu_mistake_is_in_the_program(monkeypatch):
    """A patch that reached nothing would pass for a mistake that the check cannot see."""
    exact = VitDet().mlp().activation(jnp.float32(1.5))
    tanh_gelu(monkeypatch)
    assert VitDet().mlp().activation(jnp.float32(1.5)) != exact == layers.gelu(jnp.float32(1.5))
