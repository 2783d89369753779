"""transformers' plain ViTs into our Vit: ViT-B as saved, with a head, spelt as inside the library; ViTMAE; DeiT."""

import jax
import numpy as np
import PIL.Image
import pytest
import torch
from transformers import DeiTConfig, DeiTModel, ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEForPreTraining

from conversion import __main__ as conversion
from conversion import verify
from sadist_jax.errors import BadInput
from sadist_jax.models.vit import Vit
from sadist_jax.weights import safetensors
from tests.parity import draw

TOKENS = 2e-4  # as in test_timm_vit.py


def saved(model, folder):
    """Drawn weights under the names that the files of the hub have."""
    state = {name: torch.from_numpy(draw.tensor(name, tuple(x.shape))) for name, x in model.state_dict().items()}
    model.load_state_dict(state)
    model.eval().save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    return saved(ViTForImageClassification(ViTConfig(num_labels=10)), folder), folder


def patches_of(body, image):
    """Tokens after the last block, of patches that see no class token."""
    with torch.no_grad():
        x = body.embeddings.patch_embeddings(torch.from_numpy(image).permute(0, 3, 1, 2))
        x = x + body.embeddings.position_embeddings[:, 1:]
        for layer in body.layers:
            x = layer(x)
    return x.numpy()


def assert_agree(body, source):
    vit, params = conversion.read(source)
    assert vit == Vit.b()
    image = np.random.default_rng(0).standard_normal((1, 224, 224, 3)).astype(np.float32)
    expected = patches_of(body, image)
    ours, _ = jax.jit(vit.apply)(params, image)
    difference = np.abs(ours.reshape(expected.shape) - expected).max()
    print(f"{source.name}: {difference:.1e} of std {expected.std():.1f}")
    assert difference < TOKENS


def test_vit_b_with_a_head_as_saved(classifier):
    model, folder = classifier
    names = safetensors.read(folder / "model.safetensors")[0]
    assert "vit.encoder.layer.0.attention.attention.query.weight" in names  # the hub's spelling
    assert_agree(model.vit, folder)


def test_spelt_as_inside_the_library(classifier, tmp_path):
    model, _ = classifier
    state = {name: x.numpy() for name, x in model.state_dict().items()}
    assert "vit.layers.0.attention.q_proj.weight" in state
    safetensors.write(tmp_path / "x.safetensors", state)
    assert_agree(model.vit, tmp_path / "x.safetensors")


def test_an_encoder_of_mae(tmp_path):
    model = saved(ViTMAEForPreTraining(ViTMAEConfig(decoder_num_hidden_layers=1)), tmp_path / "mae")
    assert_agree(model.vit, tmp_path / "mae")


def test_a_distilled_deit_is_refused(tmp_path):
    saved(DeiTModel(DeiTConfig(hidden_size=64, num_attention_heads=1, intermediate_size=256)), tmp_path / "deit")
    with pytest.raises(BadInput, match="is a distilled DeiT"):
        conversion.read(tmp_path / "deit")


def test_verify_runs_the_original(classifier, photo, tmp_path):
    PIL.Image.fromarray(photo).save(tmp_path / "photo.png")
    assert verify.main([str(classifier[1]), str(tmp_path / "photo.png")]) == 0
