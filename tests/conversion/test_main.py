"""python -m conversion from end to end, on models small enough to draw in a moment."""

import json

import jax
import numpy as np
import pytest

import sadist_jax
from conversion import __main__, hugging_face
from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.train.start import Start, overlay
from sadist_jax.weights import safetensors
from sadist_jax.weights.pth import read_pth
from sadist_jax.weights.pth_writer import write_pth
from tests.parity import draw


def run(*arguments) -> int:
    return __main__.main([str(argument) for argument in arguments])


def same(ours, theirs) -> None:
    assert tree.flatten(ours).keys() == tree.flatten(theirs).keys()
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_to_transformers_and_back(tmp_path):
    sam, params = sadist_jax.load("sam_mini")
    assert run("sam_mini", tmp_path / "hf", "--to", "hf") == 0
    assert run(tmp_path / "hf", tmp_path / "ours.safetensors") == 0
    again, loaded = sadist_jax.load(tmp_path / "ours.safetensors")
    assert again == sam
    same(loaded, params)
    assert run(tmp_path / "hf" / "model.safetensors", tmp_path / "official.pth") == 0
    same(sadist_jax.load(tmp_path / "official.pth")[1], params)


def test_two_different_fourier_matrices_are_refused(tmp_path, capsys):
    sam, params = sadist_jax.load("sam_mini")
    hugging_face.write(tmp_path / "hf", sam, params)
    state, _ = safetensors.read(tmp_path / "hf" / "model.safetensors")
    state[hugging_face.TWIN] = state[hugging_face.SHARED] + 1
    safetensors.write(tmp_path / "x.safetensors", state)
    assert run(tmp_path / "x.safetensors", tmp_path / "y.pth") == 2
    assert "differ; they are one matrix" in capsys.readouterr().err
    assert not (tmp_path / "y.pth").exists()


@pytest.mark.parametrize("class_token", [True, False])
def test_a_plain_vit_leaves_its_heads_behind(tmp_path, class_token):
    vit = Vit(64, 2, 1, 8, 32)
    state = draw.state(vit.table())
    extra = {"norm.weight": np.ones(64, np.float32), "head.weight": np.ones((10, 64), np.float32)}
    if class_token:
        extra["cls_token"] = np.ones((1, 1, 64), np.float32)
    given = state | extra
    if not class_token:
        given["pos_embed"] = state["pos_embed"][:, 1:]
    write_pth(tmp_path / "timm.pth", given, "model")
    assert run(tmp_path / "timm.pth", tmp_path / "ours.safetensors") == 0
    rows = {"student": vit.table()}
    found = overlay([Start(r"student\.(.*)", str(tmp_path / "ours.safetensors"))], rows, tree.flatten(rows).keys())
    expected = tree.flatten(table.from_reference(vit.table(), state))
    row = slice(0 if class_token else 1, None)  # without a class token, its row is ours
    for name, value in expected.items():
        value, ours = (x[:, row] if name == "pos_embed" else x for x in (value, found[f"student.{name}"]))
        np.testing.assert_array_equal(ours, value)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ("sam_mini", "folder"),
            "folder must end in .pth, .pt or .safetensors, or be a folder: --to hf or --to keras-hub",
        ),
        (("sam_mini", "x.pth", "--to", "hf"), "--to hf makes a folder, and x.pth is the name of a file"),
        (("nothing.pth", "x.pth"), "nothing.pth"),
        (("sam_mini", "x.onnx"), r"x.onnx must end in .pth, .pt or .safetensors"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, why):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert why in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_target_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "x.pth").write_text("precious")
    assert run("sam_mini", tmp_path / "x.pth") == 2
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "x.pth").read_text() == "precious"


def test_a_model_that_transformers_has_no_class_for_is_refused(tmp_path, capsys):
    sam = Sam.mobile()
    params = table.from_reference(sam.table(), draw.state(sam.table()))
    sadist_jax.save(tmp_path / "mobile_sam.pt", sam, params)
    assert run(tmp_path / "mobile_sam.pt", tmp_path / "hf", "--to", "hf") == 2
    assert "transformers has no class for this model" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


def split(state, depth):
    """A plain ViT's state under the names of transformers' files on the hub, q, k and v apart."""
    names = {
        "norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
    }  # fmt: skip
    found = {
        "vit.embeddings.position_embeddings": state["pos_embed"],
        "vit.embeddings.cls_token": np.ones((1, 1, 64), np.float32),
        "vit.layernorm.weight": np.ones(64, np.float32),
        "classifier.weight": np.ones((10, 64), np.float32),
    }
    for part in ("weight", "bias"):
        found[f"vit.embeddings.patch_embeddings.projection.{part}"] = state[f"patch_embed.proj.{part}"]
        for i in range(depth):
            layer = f"vit.encoder.layer.{i}"
            for ours, theirs in names.items():
                found[f"{layer}.{theirs}.{part}"] = state[f"blocks.{i}.{ours}.{part}"]
            thirds = np.split(state[f"blocks.{i}.attn.qkv.{part}"], 3)
            for name, third in zip(("query", "key", "value"), thirds, strict=True):
                found[f"{layer}.attention.attention.{name}.{part}"] = third
    return found


def test_a_plain_vit_of_transformers_has_its_q_k_and_v_joined(tmp_path, capsys):
    vit = Vit(64, 2, 1, 8, 32)
    state = draw.state(vit.table())
    given = split(state, 2)
    safetensors.write(tmp_path / "hub.safetensors", given)
    assert run(tmp_path / "hub.safetensors", tmp_path / "ours.safetensors") == 0
    found, _ = safetensors.read(tmp_path / "ours.safetensors")
    assert found.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value, name)

    del given["vit.encoder.layer.1.attention.attention.key.bias"]
    safetensors.write(tmp_path / "part.safetensors", given)
    assert run(tmp_path / "part.safetensors", tmp_path / "x.safetensors") == 2
    assert "but not layers.1.attention.k_proj.bias" in capsys.readouterr().err


def test_heads_of_a_config_count_and_other_activations_are_refused(tmp_path):
    vit = Vit(64, 2, 4, 8, 32)
    config = {"model_type": "vit", "num_attention_heads": 4, "hidden_act": "gelu"}
    safetensors.write(tmp_path / "model.safetensors", split(draw.state(vit.table()), 2))
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert __main__.read(tmp_path)[0] == vit
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "quick_gelu"}))
    with pytest.raises(BadInput, match="has the activation 'quick_gelu'"):
        __main__.read(tmp_path)


def test_a_width_that_no_released_vit_has_is_refused(tmp_path, capsys):
    write_pth(tmp_path / "odd.pth", draw.state(Vit(48, 1, 2, 8, 32).table()))
    assert run(tmp_path / "odd.pth", tmp_path / "x.safetensors") == 2
    assert "48 channels, which are no whole number of heads of 64" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["student", "image_encoder"])
def test_the_vit_of_a_run_or_of_an_efficient_sam_goes_to_timm(tmp_path, capsys, part):
    vit = Vit(64, 2, 1, 8, 32)
    state = draw.state(vit.table())
    whole = {f"{part}.{name}": x for name, x in state.items()}
    whole |= {f"{part}.neck.0.weight": np.ones((8, 64, 1, 1), np.float32), "decoder.norm.bias": np.ones(8, np.float32)}
    safetensors.write(tmp_path / "params.safetensors", whole)
    assert run(tmp_path / "params.safetensors", tmp_path / "vit.pth", "--part", part) == 0
    found = read_pth(tmp_path / "vit.pth")
    assert found.keys() == state.keys()
    np.testing.assert_array_equal(found["blocks.1.mlp.fc2.weight"], state["blocks.1.mlp.fc2.weight"])
    assert run(tmp_path / "params.safetensors", tmp_path / "x.pth", "--part", "teacher") == 2
    assert "no plain ViT below the name 'teacher'" in capsys.readouterr().err


def test_positions_are_resized_as_the_model_resizes_them(tmp_path, capsys):
    vit = Vit(64, 1, 1, 8, 48)
    params = table.from_reference(vit.table(), draw.state(vit.table()))
    write_pth(tmp_path / "big.pth", draw.state(vit.table()))
    assert run(tmp_path / "big.pth", tmp_path / "small.safetensors", "--image-size", 32) == 0
    small = Vit(64, 1, 1, 8, 32)
    loaded = table.from_reference(small.table(), safetensors.read(tmp_path / "small.safetensors")[0])
    image = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(small.apply(loaded, image)[0], vit.apply(params, image)[0], rtol=1e-4, atol=1e-5)
    assert run(tmp_path / "big.pth", tmp_path / "x.pth", "--image-size", 33) == 2
    assert "no multiple of the patches of 8 px" in capsys.readouterr().err
    assert run("sam_mini", tmp_path / "x.pth", "--image-size", 32) == 2
    assert "--image-size is for plain ViTs" in capsys.readouterr().err
