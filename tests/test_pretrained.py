"""Which model a file holds: read where the file says so, recognised by shapes where it does not, refused otherwise."""

import dataclasses
import json
import zipfile

import jax
import numpy as np
import pytest

import sadist_jax
from sadist_jax import pretrained, tree
from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam, PointEncoder, decoder_of
from sadist_jax.models.mask_decoder import MaskDecoder, Upscale
from sadist_jax.models.prompt_encoder import PromptEncoder
from sadist_jax.models.sam import Sam
from sadist_jax.models.tiny_vit import Stage, TinyVit
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import table
from sadist_jax.pretrained import load, load_part, save
from sadist_jax.recognise import recognise
from sadist_jax.train import outcome
from sadist_jax.weights import safetensors

TINY_SAM = Sam(
    VitDet(dim=32, depth=2, heads=2, global_blocks=(1,), window=3, patch=8, image_size=64, out_dim=32),
    PromptEncoder(32),
    MaskDecoder(TwoWay(dim=32, mlp_dim=64), Upscale(32), iou_head_hidden_dim=48),
)
TINY = EfficientSam(Vit(64, 1, 1, 8, 32), PointEncoder(32), decoder_of(32, 64, 48), image_size=256)
TINY_MOBILE = dataclasses.replace(
    TINY_SAM,
    image_encoder=TinyVit((Stage(8, 1), Stage(8, 2, 2, 3), Stage(12, 1, 3, 2), Stage(16, 1, 2, 3)), out_dim=32),
)
OTHER_SAM = dataclasses.replace(
    TINY_SAM,
    image_encoder=dataclasses.replace(TINY_SAM.image_encoder, dtype="bfloat16", remat=True),
    mask_decoder=dataclasses.replace(TINY_SAM.mask_decoder, two_way=TwoWay(dim=32, heads=4, mlp_dim=64)),
)
OTHER = dataclasses.replace(
    TINY, image_encoder=Vit(64, 1, 4, 4, 32, dtype="bfloat16", remat=True), image_size=96, slots=0
)


def shapes(model):
    return {name: leaf.reference_shape for name, leaf in tree.flatten(model.table()).items()}


def drawn(model):
    rng = np.random.default_rng(0)

    def one(leaf):
        return np.float32(rng.normal(size=leaf.shape) if leaf.shape else rng.integers(1000))

    return jax.tree.map(one, table.abstract(model.table()))


def same(params, expected):
    assert tree.flatten(params).keys() == tree.flatten(expected).keys()
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize(
    "model",
    [
        Sam.vit_b(), Sam.vit_l(), Sam.vit_h(), Sam.mobile(), Sam.mini(),
        EfficientSam.ti(), EfficientSam.s(), EfficientSam.mini(),
    ],
    ids=["vit_b", "vit_l", "vit_h", "mobile", "sam_mini", "ti", "s", "efficient_sam_mini"],
)  # fmt: skip
def test_released_models_are_recognised_by_their_shapes(model):
    assert recognise(shapes(model), "x.pth") == model


def test_official_shapes_are_those_of_the_papers():
    """Kirillov et al. 2023 and Li et al. 2022: ViT-H has 32 blocks of 1280 channels, heads of 80, 14 x 14 windows."""
    encoder = recognise(shapes(Sam.vit_h()), "x.pth").image_encoder
    assert (encoder.depth, encoder.dim, encoder.heads, encoder.window, encoder.image_size) == (32, 1280, 16, 14, 1024)
    assert encoder.global_blocks == (7, 15, 23, 31)
    student = recognise(shapes(EfficientSam.s()), "x.pt")
    assert (student.image_encoder.dim, student.image_encoder.heads, student.image_size) == (384, 6, 1024)


def test_the_shipped_weights_load_by_name():
    model, params = load("sam_mini")
    assert model == Sam.mini()
    assert tree.flatten(params)["image_encoder.pos_embed"].shape == (1, 32, 32, 192)


@pytest.mark.parametrize("model", [OTHER_SAM, OTHER], ids=["sam", "efficient_sam"])
def test_safetensors_keep_every_field(tmp_path, model):
    assert recognise_or_none(model) != model
    params = drawn(model)
    save(tmp_path / "x.safetensors", model, params)
    again, loaded = load(tmp_path / "x.safetensors")
    assert again == model
    assert hash(again) == hash(model)
    same(loaded, params)


def recognise_or_none(model):
    try:
        return recognise(shapes(model), "x")
    except BadInput:
        return None


@pytest.mark.parametrize(("model", "ending"), [(TINY_SAM, "pth"), (TINY_MOBILE, "pt"), (TINY, "pth"), (TINY, "pt")])
def test_pth_keeps_what_is_recognised(tmp_path, model, ending):
    params = drawn(model)
    save(tmp_path / f"x.{ending}", model, params)
    again, loaded = load(tmp_path / f"x.{ending}")
    assert again == model
    same(loaded, params)


def test_pth_warns_where_the_model_would_come_back_as_another(tmp_path):
    for i, model in enumerate((OTHER, dataclasses.replace(TINY, slots=0))):
        with pytest.warns(
            UserWarning, match=rf"{i}\.pth cannot say how its EfficientSam differs .* keep a .safetensors"
        ):
            save(tmp_path / f"{i}.pth", model, drawn(model))
    half = dataclasses.replace(TINY, image_encoder=dataclasses.replace(TINY.image_encoder, dtype="bfloat16"))
    save(tmp_path / "x.pth", half, drawn(half))  # how it computes is no matter of weights: no warning


def test_a_zipped_pt_is_read_through(tmp_path):
    params = drawn(TINY)
    save(tmp_path / "tiny.pt", TINY, params)
    with zipfile.ZipFile(tmp_path / "tiny.pt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "tiny.pt", "tiny.pt")
    model, loaded = load(tmp_path / "tiny.pt.zip")
    assert model == TINY
    same(loaded, params)


def without(model, *names):
    return {name: shape for name, shape in shapes(model).items() if not name.startswith(names)}


BLOCKS = "image_encoder.blocks"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"head.weight": (2, 3)}, r"x.pth is of no known model: its keys start with head\. Known: SAM"),
        ({"student.pos_embed": (1,), "decoder.x": (2,)}, "it holds a pretraining run: start a promptable run from it"),
        (without(TINY_SAM, BLOCKS), f"x.pth lacks {BLOCKS}, .*download it again"),
        (without(TINY, BLOCKS), f"x.pth lacks {BLOCKS}, "),
        (without(TINY_SAM, f"{BLOCKS}.0.attn.rel_pos_h"), rf"lacks {BLOCKS}\.0\.attn\.rel_pos_h"),
        (without(TINY, "image_encoder.pos_embed"), "lacks image_encoder.pos_embed"),
        (
            shapes(TINY_SAM) | {"image_encoder.pos_embed": (64, 32)},
            "image_encoder.pos_embed, or has it in an odd shape",
        ),
        (shapes(TINY_SAM) | {f"{BLOCKS}.0.attn.rel_pos_h": (5, 0)}, "rel_pos_h, or has it in an odd shape"),
        (
            shapes(Sam.mini()) | {f"{BLOCKS}.0.attn.rel_pos_h": (13, 64)},
            "its blocks have windows of 7, 8 tokens; only encoders with windows of one size are supported",
        ),
        (
            shapes(OTHER),
            "an EfficientSAM with patches of 4 and 64 channels.* save it with sadist_jax.save as .safetensors",
        ),
        (shapes(dataclasses.replace(TINY, image_encoder=Vit(96, 1, 3, 8, 32))), "patches of 8 and 96 channels"),
    ],
)
def test_what_cannot_be_recognised_is_refused(found, why):
    with pytest.raises(BadInput, match=why):
        recognise(found, "x.pth")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "x describes its model in a way that this version of sadist_jax does not read"),
        ('{"class": "Unet"}', "load it with the version that wrote it"),
        ('{"class": "Sam", "colour": 1}', "colour"),
        ('{"class": "TwoWay", "activation": {"function": "system"}}', "system"),
        ('{"class": "Vit"}', "x describes a Vit and no whole model"),
        ("[1]", "x describes a list"),
    ],
)
def test_a_description_that_is_not_understood_is_refused(text, why):
    with pytest.raises(BadInput, match=why):
        pretrained.described(text, "x")


def test_a_description_and_weights_that_disagree_list_the_difference(tmp_path):
    metadata = pretrained.description(TINY)
    safetensors.write(tmp_path / "x.safetensors", {"head.bias": np.zeros(3, np.float32)}, metadata)
    with pytest.raises(BadInput, match=r"unknown: head\.bias \(3,\)"):
        load(tmp_path / "x.safetensors")


def test_fields_that_a_description_lacks_are_the_default():
    """So that files outlive a new field."""
    text = json.dumps({"class": "EfficientSam", "slots": 0})
    assert pretrained.described(text, "x") == dataclasses.replace(EfficientSam(), slots=0)


def test_names_and_endings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"there is no file sam_mni, .* come with the package, only sam_mini"):
        load("sam_mni")
    with pytest.raises(BadInput, match=r"nowhere\.pth"):
        load("nowhere.pth")
    with pytest.raises(BadInput, match=r"x\.bin must end in \.pth, \.pt or \.safetensors"):
        sadist_jax.save("x.bin", TINY, drawn(TINY))


def test_a_run_says_which_model_it_trained(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Method:
        model: EfficientSam

        def table(self):
            return {"params": self.model.table(), "frozen": {}, "extra": {}}

    metadata = outcome.description(Method(OTHER))
    assert pretrained.described(metadata["fields"], "x") == OTHER
    assert outcome.description(object()) == {}


@pytest.mark.parametrize("prefix", ["", "image_encoder."])
def test_a_part_is_loaded_by_name_and_refused_otherwise(tmp_path, prefix):
    params = drawn(TINY_SAM)
    encoder = table.to_reference(TINY_SAM.table()["image_encoder"], params["image_encoder"])
    safetensors.write(tmp_path / "part.safetensors", {prefix + name: x for name, x in encoder.items()}, {})
    same(load_part(tmp_path / "part.safetensors", TINY_SAM, "image_encoder"), params["image_encoder"])
    with pytest.raises(BadInput, match="missing: iou_token"):
        load_part(tmp_path / "part.safetensors", TINY_SAM, "mask_decoder")
    with pytest.raises(BadInput, match="has no part 'encoder', only image_encoder, prompt_encoder, mask_decoder"):
        load_part(tmp_path / "part.safetensors", TINY_SAM, "encoder")
    with pytest.raises(BadInput, match="is of no known model"):
        load(tmp_path / "part.safetensors")


def test_a_part_comes_out_of_a_whole_file_too(tmp_path):
    params = drawn(TINY_SAM)
    save(tmp_path / "whole.pth", TINY_SAM, params)
    same(load_part(tmp_path / "whole.pth", TINY_SAM, "mask_decoder"), params["mask_decoder"])


def test_a_file_of_one_part_is_recognised_as_that():
    some = {name: shape for name, shape in shapes(Sam.vit_b()).items() if name.startswith("image_encoder.")}
    with pytest.raises(BadInput, match="it holds no more of a SAM than image_encoder: load_part takes that"):
        recognise(some, "encoder.pth")


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ("memory_attention.layers.0.norm1.weight", "SAM 2"),
        ("image_encoder.trunk.blocks.0.attn.qkv.weight", "SAM 2"),
        ("mask_decoder.hf_token.weight", "SAM-HQ"),
        ("image_encoder.fuse_stage2.0.weight", "EdgeSAM"),
    ],
)
def test_relatives_are_refused_by_name(extra, name):
    """Names of the released files; each has a SAM's prompt encoder and decoder too."""
    mixed = {key: shape for key, shape in shapes(Sam.vit_b()).items() if not key.startswith("image_encoder.")}
    with pytest.raises(BadInput, match=f"it is an? {name}, .*Known: SAM"):
        recognise(mixed | {extra: (8, 8)}, "x.pth")


def test_an_unknown_relative_is_told_what_is_known():
    mixed = {key: shape for key, shape in shapes(Sam.vit_b()).items() if not key.startswith("image_encoder.")}
    with pytest.raises(BadInput, match=r"lacks image_encoder.*a relative of SAM that is not known here\. Known: SAM"):
        recognise(mixed | {"image_encoder.backbone.stem.weight": (8, 3, 3, 3)}, "x.pth")
