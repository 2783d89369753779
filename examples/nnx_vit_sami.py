"""An NNX ViT of your own under SAMI: `embed` and `encode(tokens, positions)` are all that the method asks for.

Command: sadist train examples/nnx_vit_sami.py
Needs: the extra `demo` for the photos.
Hardware: two CPU cores, a minute.
"""

import jax
from flax import nnx

from sadist_jax.data.in_memory import InMemory
from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.data.sami_crops import SamiCrops
from sadist_jax.interop.flax import NnxTokens
from sadist_jax.methods.sami import Sami
from sadist_jax.methods.teacher import SamFeatures
from sadist_jax.models.sam import Sam
from sadist_jax.models.sami_decoder import CrossDecoder
from sadist_jax.train.optim import Optim
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import Start

SIDE, PATCH, DIM, DEPTH, HEADS = 128, 8, 64, 2, 4


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(DIM, rngs=rngs), nnx.LayerNorm(DIM, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, DIM, decode=False, rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(DIM, 4 * DIM, rngs=rngs), nnx.Linear(4 * DIM, DIM, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(nnx.gelu(self.fc1(self.norm2(x))))


class Vit(nnx.Module):
    """Its positions are added in `encode`, to whichever tokens it is given."""

    def __init__(self, rngs: nnx.Rngs):
        self.patches = nnx.Conv(3, DIM, (PATCH, PATCH), strides=PATCH, rngs=rngs)
        self.places = nnx.Embed((SIDE // PATCH) ** 2, DIM, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(DEPTH)])

    def embed(self, x: jax.Array) -> jax.Array:
        return self.patches(x)

    def encode(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        x = tokens + self.places(positions)
        for block in self.blocks:
            x = block(x)
        return x


def config() -> Run:
    student = NnxTokens.of(Vit(nnx.Rngs(0)), dim=DIM, grid=SIDE // PATCH, image_size=SIDE)
    teacher = SamFeatures(Sam.mini().image_encoder)
    decoder = CrossDecoder(DIM, teacher.dim, student.grid, dim=64, depth=1, heads=4)
    return Run(
        name="nnx_vit_sami",
        method=Sami(student, decoder, teacher),
        data=Data(InMemory(PackagePhotos("train")), SamiCrops(SIDE)),
        steps=100,
        global_batch=8,
        optim=Optim(lr=3e-3, warmup=10),
        starts=(Start(r"teacher\.(.*)", "sam_mini"),),
    )
