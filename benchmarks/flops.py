"""Floating-point operations by formula: a multiplication and an addition of a matrix product are two; the rest is free.

XLA's own count takes the body of a loop once, however often it runs; shares of a device's peak (MFU) are taken of these
instead. What a program computes again to save memory does not count, as is usual for MFU.
"""

from sadist_jax.methods.sami import Sami
from sadist_jax.models.mask_decoder import NUM_MASKS, MaskDecoder
from sadist_jax.models.sami_decoder import CrossDecoder
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet

BACKWARD = 3  # forward and backward together: one product becomes three


def attention(queries: int, keys: int, dim: int) -> int:
    """Scores and their product with the values, all heads."""
    return 4 * queries * keys * dim


def blocks(tokens: int, dim: int, depth: int) -> int:
    """Pre-norm transformer blocks with an MLP of four times the width."""
    return depth * (24 * tokens * dim**2 + attention(tokens, tokens, dim))


def neck(tokens: int, dim: int, out: int) -> int:
    """A convolution of 1 x 1 and one of 3 x 3."""
    return 2 * tokens * (dim * out + 9 * out**2)


def vit(model: Vit, side: int) -> int:
    """All tokens of one image."""
    tokens = (side // model.patch) ** 2
    return 2 * tokens * 3 * model.patch**2 * model.dim + blocks(tokens, model.dim, model.depth)


def vit_det(model: VitDet, side: int) -> int:
    """One image, neck included; windows are computed with their filling."""
    grid, dim = side // model.patch, model.dim
    tokens, windows = grid**2, (-(-grid // model.window)) ** 2
    total = 2 * tokens * 3 * model.patch**2 * dim + neck(tokens, dim, model.out_dim)
    for i in range(model.depth):
        length, many = (grid, 1) if i in model.global_blocks else (model.window, windows)
        inside = many * length**2
        relative = 2 * inside * 2 * length * dim
        total += 8 * inside * dim**2 + 16 * tokens * dim**2 + many * attention(length**2, length**2, dim) + relative
    return total


def cross_decoder(model: CrossDecoder, kept: int) -> int:
    """SAMI's decoder for one image: queries are the hidden tokens, keys and values all of them."""
    tokens = model.grid**2
    hidden, dim = tokens - kept, model.dim
    block = (4 + 16) * hidden * dim**2 + 4 * tokens * dim**2 + attention(hidden, tokens, dim)
    return 2 * kept * model.in_dim * dim + model.depth * block + 2 * tokens * dim * model.out_dim


def sami_step(method: Sami) -> int:
    """Forward and backward of student and decoder for one image; the teacher is not in it."""
    student, decoder = method.student, method.decoder
    assert isinstance(student, Vit)
    embed = 2 * student.grid**2 * 3 * student.patch**2 * student.dim
    visible = blocks(method.kept, student.dim, student.depth)
    return BACKWARD * (embed + visible + cross_decoder(decoder, method.kept))


def mask_decoder(model: MaskDecoder, image_tokens: int, prompt_tokens: int) -> int:
    """One prompt of `prompt_tokens` points and corners; the small networks of the tokens are left out."""
    dim, half, pixels, tokens = model.dim, model.dim // 2, image_tokens, prompt_tokens + 1 + NUM_MASKS
    cross = 4 * dim * half * (tokens + pixels) + attention(tokens, pixels, half)
    own = 8 * tokens * dim**2 + attention(tokens, tokens, dim) + 4 * tokens * dim * model.two_way.mlp_dim
    upscale = 2 * pixels * (dim * dim + 4 * (dim // 4) * (dim // 2))
    masks = 2 * NUM_MASKS * 16 * pixels * dim // 8
    return model.two_way.depth * (own + 2 * cross) + cross + upscale + masks
