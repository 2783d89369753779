"""Our Classifier against timm's VisionTransformer that pools the mean of its tokens: names and logits."""

import jax
import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from sadist_jax.models.classifier import Classifier
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.pretrained import save
from sadist_jax.weights import pth
from tests.parity import draw

OURS = Classifier(Vit(dim=128, depth=3, heads=2, patch=16, image_size=64), classes=7)
LOGITS = 2e-5  # of the logits' standard deviation; an encoder stage is held to 1e-4


@pytest.fixture(scope="module")
def params():
    return table.from_reference(OURS.table(), draw.state(OURS.table()))


def theirs(state) -> VisionTransformer:
    """With our weights: all but the position of a class token, which timm's model has not."""
    model = VisionTransformer(
        img_size=64, embed_dim=128, depth=3, num_heads=2, num_classes=7, class_token=False, global_pool="avg"
    )
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
    model.load_state_dict(tensors | {"pos_embed": tensors["pos_embed"][:, 1:]})  # strict: the same names
    return model.eval()


def logits_of(model, image):
    with torch.no_grad():
        return model(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()


def test_names_and_logits_agree(params, tmp_path):
    save(tmp_path / "ours.pth", OURS, params)
    image = np.random.default_rng(0).standard_normal((3, 64, 64, 3)).astype(np.float32)
    model = theirs(pth.read_pth(tmp_path / "ours.pth"))
    ours, expected = np.asarray(jax.jit(OURS.apply)(params, image)[0]), logits_of(model, image)
    difference = np.abs(ours - expected).max() / expected.std()
    print(f"{difference:.1e}")
    assert difference < LOGITS
    model.fc_norm.eps = 1e-1  # a planted mistake
    assert np.abs(ours - logits_of(model, image)).max() / expected.std() > 10 * LOGITS
