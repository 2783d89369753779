"""timm's VisionTransformer (DeiT's and MAE's encoder) into our Vit, and back."""

import jax
import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from conversion import timm_vit
from conversion.state import read_state
from sadist_jax.models.vit import Vit
from tests.parity import draw

TOKENS = 2e-4  # largest difference where the standard deviation is about 1 to 3, after 12 blocks
SIZES = {"ti": (192, 3), "s": (384, 6), "b": (768, 12)}


def drawn(model: VisionTransformer) -> VisionTransformer:
    state = {name: torch.from_numpy(draw.tensor(name, tuple(x.shape))) for name, x in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 224, 224, 3)).astype(np.float32)


def patches_of(model: VisionTransformer, image: np.ndarray) -> np.ndarray:
    """Tokens of the patches after the last block; a class token, if there is one, attends but is not given."""
    with torch.no_grad():
        tokens = model.forward_features(torch.from_numpy(image).permute(0, 3, 1, 2))
    return tokens[:, model.num_prefix_tokens :].numpy()


@pytest.mark.parametrize("size", SIZES)
def test_without_a_class_token_the_outputs_agree_both_ways(size, image, tmp_path):
    dim, heads = SIZES[size]
    options = {"class_token": False, "global_pool": "", "final_norm": False, "num_classes": 0}
    theirs = drawn(VisionTransformer(embed_dim=dim, num_heads=heads, **options))
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    state = read_state(tmp_path / "timm.pth")
    assert timm_vit.knows(state)
    vit, params = timm_vit.from_state(state, "timm.pth")
    assert vit == getattr(Vit, size)()
    expected = patches_of(theirs, image)
    ours, _ = jax.jit(vit.apply)(params, image)
    difference = np.abs(ours.reshape(expected.shape) - expected).max()
    print(f"{size}: {difference:.1e} of std {expected.std():.1f}")
    assert difference < TOKENS

    timm_vit.write(tmp_path / "ours.pth", vit, params)
    again = VisionTransformer(embed_dim=dim, num_heads=heads, **options)
    again.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True))
    assert all(torch.equal(x, theirs.state_dict()[name]) for name, x in again.state_dict().items())
