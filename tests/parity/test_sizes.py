"""Inputs of another size than the weights were made for: relative positions as the official get_rel_pos resizes them.

The released model asserts nothing but adds absolute positions of one size only; the official modules run at any size
when those are replaced. They are resized bicubically here by PyTorch, as EfficientSAM does it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sadist_jax.models.sam import Sam
from sadist_jax.nn import table
from sadist_jax.nn.layers import gelu
from sadist_jax.ops.resize import resize, resize_axis
from tests.parity import draw, official
from tests.parity.cases import batch, cases

NATIVE = 512  # ViT-B's widths at half the depth and size: what is compared depends on neither
EMBEDDING, LOGITS = 1e-4, 5e-4
POSITIONS = 5e-5  # PyTorch computes source positions in float32, ours are exact: near 127 that is 1e-5 of a step
SAM = Sam.vit_b(depth=6, global_blocks=(2, 5), image_size=NATIVE)


@pytest.fixture(scope="module")
def state():
    return draw.state(SAM.table())


def at_size(state: dict[str, np.ndarray], grid: tuple[int, int]) -> torch.nn.Module:
    """The official model for another grid of patches, relative positions left in their native size."""
    model = official.build(SAM)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    positions = model.image_encoder.pos_embed.permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(positions, grid, mode="bicubic", align_corners=False)
    model.image_encoder.pos_embed = torch.nn.Parameter(resized.permute(0, 2, 3, 1))
    model.prompt_encoder.image_embedding_size = grid
    model.prompt_encoder.input_image_size = tuple(16 * n for n in grid)
    return model


@pytest.mark.parametrize("size", [(512, 512), (256, 384), (672, 448)])
def test_other_sizes_agree(state, photo, size):
    model = at_size(state, (size[0] // 16, size[1] // 16))
    params = table.from_reference(SAM.table(), state)
    frame = photo[: size[0], : size[1]]
    frame = np.pad(frame, [(0, n - m) for n, m in zip(size, frame.shape, strict=False)] + [(0, 0)])[None]

    pixels = (torch.from_numpy(frame).permute(0, 3, 1, 2) - model.pixel_mean) / model.pixel_std
    with torch.no_grad():
        expected = official.last(model.image_encoder(pixels))
    embedding = jax.jit(SAM.encode)(params, frame)
    assert expected.std() == pytest.approx(1, abs=0.3)
    assert np.abs(embedding - expected).max() < EMBEDDING

    prompts = {k: v for k, v in cases(min(size), 4).items() if v.mask is None}
    logits, iou = jax.jit(SAM.decode)(params, embedding, batch(list(prompts.values()), 4))
    for i, (name, case) in enumerate(prompts.items()):
        theirs, their_iou = official.decode(model, expected, case)
        print(f"{size} {name}: {np.abs(logits[0, i] - theirs).max():.1e}")
        assert np.abs(logits[0, i] - theirs).max() < LOGITS, name
        assert np.abs(iou[0, i] - their_iou).max() < LOGITS, name


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("old", "new"), [((14, 14), (64, 64)), ((64, 64), (14, 14)), ((7, 11), (16, 9)), ((5, 1), (3, 4))]
)
def test_resize_is_interpolate(old, new, method):
    x = np.random.default_rng(0).standard_normal((2, *old, 3)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(torch.from_numpy(x).permute(0, 3, 1, 2), new, mode=method)
    np.testing.assert_allclose(resize(jnp.array(x), new, method), official.last(theirs), atol=POSITIONS)


@pytest.mark.parametrize(("old", "new"), [(127, 27), (27, 127), (127, 63), (127, 191)])
def test_resize_axis_is_linear_interpolate(old, new):
    x = np.random.default_rng(0).standard_normal((old, 5)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(torch.from_numpy(x).T[None], new, mode="linear")[0].T
    np.testing.assert_allclose(resize_axis(jnp.array(x), new), theirs, atol=POSITIONS)


def test_gelu_is_torchs():
    x = np.linspace(-9, 9, 100_001, dtype=np.float32)
    theirs = torch.nn.functional.gelu(torch.from_numpy(x))
    np.testing.assert_allclose(gelu(jnp.array(x)), theirs, atol=2e-6)
