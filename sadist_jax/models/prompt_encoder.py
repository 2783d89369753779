"""SAM's prompt encoder: clicks and boxes become tokens, a coarse mask becomes a map that is added to the embedding.

Source: Kirillov et al. 2023, app. A; details as in the released segment-anything.
"""

import dataclasses

import jax
import jax.numpy as jnp

from sadist_jax.models.prompts import BOX_TOP_LEFT, EMPTY, NOT_A_POINT, Prompts
from sadist_jax.nn import fourier, layers
from sadist_jax.nn.table import Leaf, Table
from sadist_jax.typing import Array, Bool, Float, Int, Params

MASK_CHANNELS = 16  # released default of mask_in_chans


@dataclasses.dataclass(frozen=True)
class PromptEncoder:
    """dim: channels of the embedding and of the tokens."""

    dim: int = 256

    def table(self) -> Table:
        token = {"weight": Leaf((1, self.dim), jax.nn.initializers.normal(1.0))}
        quarter = MASK_CHANNELS // 4
        downscaling = {
            "0": layers.conv_table(1, quarter, 2),
            "1": layers.norm_table(quarter),
            "3": layers.conv_table(quarter, MASK_CHANNELS, 2),
            "4": layers.norm_table(MASK_CHANNELS),
            "6": layers.conv_table(MASK_CHANNELS, self.dim, 1),
        }
        return {
            "pe_layer": fourier.fourier_table(self.dim),
            "point_embeddings": {str(i): token for i in range(4)},
            "not_a_point_embed": token,
            "mask_downscaling": downscaling,
            "no_mask_embed": token,
        }

    def points(
        self, params: Params, points: Float[Array, "*b n 2"], labels: Int[Array, "*b n"], frame: tuple[int, int]
    ) -> tuple[Float[Array, "*b n c"], Bool[Array, "*b n"]]:
        """Slots -> (tokens, which are there). `frame`: (height, width) in pixels of the model's input."""
        positions = fourier.encode_pixels(params["pe_layer"], points, frame)
        kinds = jnp.concatenate([params["point_embeddings"][str(i)]["weight"] for i in range(4)])
        tokens = positions + kinds[jnp.clip(labels, 0, 3)]
        tokens = jnp.where((labels == NOT_A_POINT)[..., None], params["not_a_point_embed"]["weight"][0], tokens)
        return tokens, labels != EMPTY

    def masks(self, params: Params, masks: Float[Array, "*b h w"]) -> Float[Array, "*b h/4 w/4 c"]:
        """Mask logits -> map to be added to the embedding."""
        p = params["mask_downscaling"]
        x = layers.patch_conv(p["0"], masks[..., None])
        x = layers.gelu(layers.layer_norm(p["1"], x, 1e-6))
        x = layers.patch_conv(p["3"], x)
        return layers.patch_conv(p["6"], layers.gelu(layers.layer_norm(p["4"], x, 1e-6)))

    def no_mask(self, params: Params) -> Float[Array, " c"]:
        """What is added to the embedding where there is no mask."""
        return params["no_mask_embed"]["weight"][0]


def add_padding_point(prompts: Prompts) -> Prompts:
    """SAM's rule: points without a box are followed by one point (0, 0) that is 'not a point'."""
    labels = prompts.labels
    has_box = (labels >= BOX_TOP_LEFT).any(-1, keepdims=True)
    has_point = ((labels >= NOT_A_POINT) & (labels < BOX_TOP_LEFT)).any(-1, keepdims=True)
    extra = jnp.where(has_point & ~has_box, NOT_A_POINT, EMPTY).astype(labels.dtype)
    origin = jnp.zeros_like(prompts.points[..., :1, :])
    return prompts._replace(
        points=jnp.concatenate([prompts.points, origin], -2), labels=jnp.concatenate([labels, extra], -1)
    )
