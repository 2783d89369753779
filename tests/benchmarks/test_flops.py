import jax
import numpy as np
import pytest

from benchmarks import flops
from sadist_jax.methods.sami import Sami
from sadist_jax.methods.teacher import CachedFeatures
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table


@pytest.mark.parametrize(("size", "gmac"), [("vit_b", 487), ("vit_l", 1491), ("vit_h", 2976)])
def test_sam_encoders_agree_with_the_table_of_tinysam(size, gmac):
    """Shu et al. 2023, "TinySAM", table of zero-shot segmentation: MACs of the encoders at 1024 px."""
    assert flops.vit_det(getattr(Sam, size)().image_encoder, 1024) / 2e9 == pytest.approx(gmac, rel=0.005)


def test_windows_are_counted_with_their_filling():
    """64 x 64 tokens fill 5 x 5 windows of 14: 4900 tokens go through a window block's attention."""
    encoder = Sam.vit_b().image_encoder
    windowed = flops.vit_det(encoder, 1024)
    without = flops.vit_det(encoder.__class__(depth=0, global_blocks=()), 1024)
    dim = 768
    window = 8 * 4900 * dim**2 + 16 * 4096 * dim**2 + 4 * 25 * 196**2 * dim + 2 * 4900 * 28 * dim
    whole = 24 * 4096 * dim**2 + 4 * 4096**2 * dim + 2 * 4096 * 128 * dim
    assert windowed - without == 8 * window + 4 * whole


@pytest.mark.parametrize(("size", "gmac"), [("s", 4.6), ("b", 17.5)])
def test_plain_vits_agree_with_the_table_of_swin(size, gmac):
    """Liu et al. 2021, "Swin Transformer", table 1 (a): DeiT-S and DeiT-B at 224 px."""
    assert flops.vit(getattr(Vit, size)(), 224) / 2e9 == pytest.approx(gmac, rel=0.02)


def test_a_training_step_is_three_forward_passes_of_the_visible_tokens_and_the_decoder():
    method = Sami.make(Vit.ti(), CachedFeatures(256))
    student = flops.vit(Vit.ti(), 224) - flops.blocks(196, 192, 12) + flops.blocks(49, 192, 12)
    assert flops.sami_step(method) == 3 * (student + flops.cross_decoder(method.decoder, 49))


def test_the_mask_decoder_agrees_with_the_count_of_the_program():
    """XLA counts element-wise work too, and nothing in a decoder of one prompt is in a loop."""
    decoder = Sam.vit_b().mask_decoder
    shapes = [(1, 1, 64, 64, 256), (64, 64, 256), (1, 1, 2, 256)]
    image, positions, prompt = (jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes)
    where = jax.ShapeDtypeStruct((1, 1, 2), bool)
    program = jax.jit(decoder.apply).lower(table.abstract(decoder.table()), image, positions, prompt, where)
    assert flops.mask_decoder(decoder, 4096, 2) == pytest.approx(program.cost_analysis()["flops"], rel=0.1)
