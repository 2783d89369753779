"""Models that compile in a moment, one of each family, with every tensor drawn."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import tree
from sadist_jax.adapt import lora
from sadist_jax.models.efficient_sam import EfficientSam, PointEncoder, decoder_of
from sadist_jax.models.mask_decoder import MaskDecoder, Upscale
from sadist_jax.models.prompt_encoder import PromptEncoder
from sadist_jax.models.prompts import Prompts
from sadist_jax.models.sam import Sam
from sadist_jax.models.tiny_vit import Stage, TinyVit
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import table
from tests.parity import draw

SAM = Sam(
    VitDet(dim=32, depth=2, heads=2, global_blocks=(1,), window=3, patch=8, image_size=64, out_dim=32),
    PromptEncoder(32),
    MaskDecoder(TwoWay(dim=32, mlp_dim=64), Upscale(32), iou_head_hidden_dim=48),
)
REMAT = dataclasses.replace(SAM, image_encoder=dataclasses.replace(SAM.image_encoder, remat=True))
MOBILE = dataclasses.replace(
    SAM,
    image_encoder=TinyVit((Stage(8, 1), Stage(8, 2, 2, 3), Stage(12, 1, 3, 2), Stage(16, 1, 2, 3)), (2, 1, 1), 64, 32),
)
EFFICIENT = EfficientSam(Vit(64, 2, 2, 8, 64), PointEncoder(32), decoder_of(32, 64, 48), image_size=64)


def params(model):
    """Every leaf drawn, also what starts at zero or one."""
    return table.from_reference(model.table(), draw.state(model.table()))


def adapters(model, spec, seed=0):
    """As after training: A and B drawn, so that the updates are about as large as what they are added to."""
    rng, (_, leaves) = np.random.default_rng(seed), lora.split(lora.table(model.table(), spec))

    def one(name, leaf):
        if name.endswith(".scale"):
            return np.float32(spec.scale)
        deviation = math.prod(leaf.shape[:-1]) ** -0.5 if name.endswith(".a") else 0.5
        return np.float32(deviation * rng.standard_normal(leaf.shape))

    return tree.map_named(one, leaves)


def logits(model, params) -> np.ndarray:
    """Of a click and a box on one noisy picture, all four masks."""
    side = model.image_size
    image = np.random.default_rng(1).integers(0, 256, (1, side, side, 3), np.uint8)
    points = jnp.array([[[[0.4, 0.3], [0.0, 0.0]], [[0.1, 0.2], [0.8, 0.7]]]]) * side
    prompts = Prompts(points, jnp.array([[[1, -2], [2, 3]]]))
    return np.asarray(jax.jit(model.apply)(params, image, prompts)[0])


def adapted(model, spec, seed=0):
    """Base and adapters, both drawn."""
    return lora.attach(params(model), adapters(model, spec, seed))
