"""SAM's mask decoder: two-way transformer, 4 x upscaling, one small network per mask token, predicted IoU.

Source: Kirillov et al. 2023, app. A. Mask token 0 is the single mask, tokens 1, 2 and 3 are the multimask output.
"""

import dataclasses

import jax
import jax.numpy as jnp

from sadist_jax import tree
from sadist_jax.models.two_way import TwoWay
from sadist_jax.nn import layers, table
from sadist_jax.nn.table import Leaf, Table
from sadist_jax.ops.precision import wide, widen
from sadist_jax.typing import Array, Bool, Float, Params

NUM_MASKS = 4
SINGLE, MULTI = (0,), (1, 2, 3)  # mask tokens
DecoderInputs = tuple[Array, Array, Array, Array]  # image, positions, prompt tokens, which of them are there


@dataclasses.dataclass(frozen=True)
class Upscale:
    """Two transposed convolutions, 4 x in all; SAM norms each pixel between them, EfficientSAM the whole map."""

    dim: int = 256
    names: tuple[str, str, str] = ("output_upscaling.0", "output_upscaling.1", "output_upscaling.3")
    whole_map_norm: bool = False

    def table(self) -> Table:
        first, norm, second = self.names
        quarter = self.dim // 4
        parts = {first: layers.up_table(self.dim, quarter), norm: layers.norm_table(quarter)}
        return parts | {second: layers.up_table(quarter, self.dim // 8)}

    def apply(self, params: Params, x: Float[Array, "*b h w c"]) -> Float[Array, "*b 4h 4w d"]:
        first, norm, second = (tree.get(params, name) for name in self.names)
        x = layers.up(first, x)
        x = layers.group_norm(norm, x, 1e-5) if self.whole_map_norm else layers.layer_norm(norm, x, 1e-6)
        return layers.gelu(layers.up(second, layers.gelu(x)))


@dataclasses.dataclass(frozen=True)
class MaskDecoder:
    """Parts of the decoder; `head_names` are the reference's names of the layers of its small networks."""

    two_way: TwoWay = TwoWay()
    upscale: Upscale = Upscale()
    head_names: tuple[str, str, str] = ("layers.0", "layers.1", "layers.2")
    iou_head_hidden_dim: int = 256

    @property
    def dim(self) -> int:
        return self.two_way.dim

    def hypernetwork(self) -> layers.Mlp:
        sizes = (self.dim, self.dim, self.dim, self.dim // 8)
        return layers.Mlp(sizes, self.head_names, self.two_way.activation, table.xavier_uniform)

    def iou_head(self) -> layers.Mlp:
        sizes = (self.dim, self.iou_head_hidden_dim, self.iou_head_hidden_dim, NUM_MASKS)
        return layers.Mlp(sizes, self.head_names, self.two_way.activation, table.xavier_uniform)

    def table(self) -> Table:
        normal = jax.nn.initializers.normal(1.0)  # torch.nn.Embedding's
        parts = {
            "transformer": self.two_way.table(),
            "iou_token": {"weight": Leaf((1, self.dim), normal)},
            "mask_tokens": {"weight": Leaf((NUM_MASKS, self.dim), normal)},
            "output_hypernetworks_mlps": {str(i): self.hypernetwork().table() for i in range(NUM_MASKS)},
            "iou_prediction_head": self.iou_head().table(),
        }
        return tree.unflatten(parts | self.upscale.table())

    def apply(
        self,
        params: Params,
        image: Float[Array, "b q h w c"],
        image_positions: Float[Array, "h w c"],
        prompt: Float[Array, "b p n c"],
        where: Bool[Array, "b p n"],
        tokens: tuple[int, ...] = (*SINGLE, *MULTI),
    ) -> tuple[Float[Array, "b p m H W"], Float[Array, "b p m"]]:
        """p prompts for each of b images -> (mask logits at four times the image's resolution, predicted IoU).

        Args:
          image: embedding plus dense prompt; q is p, or 1 where the prompts share it.
          prompt: sparse prompt tokens; where: which of them are there.
          tokens: mask tokens to decode, static.
        """
        sequence, pixels = self.attend(params, image, image_positions, prompt, where)
        return self.masks(params, sequence, pixels, tokens), self.iou(params, sequence, tokens)

    def attend(
        self,
        params: Params,
        image: Float[Array, "b q h w c"],
        image_positions: Float[Array, "h w c"],
        prompt: Float[Array, "b p n c"],
        where: Bool[Array, "b p n"],
    ) -> tuple[Float[Array, "b p t c"], Float[Array, "b p h w c"]]:
        """The transformer, as far as it is the same for all masks: (tokens, image tokens), for `masks` and `iou`."""
        b, q, h, w, c = image.shape
        p = prompt.shape[1]
        own = jnp.concatenate([params["iou_token"]["weight"], params["mask_tokens"]["weight"]]).astype(image.dtype)
        where = jnp.concatenate([jnp.ones((b, p, len(own)), bool), where], -1)
        flat = (image.reshape(b, q, h * w, c), image_positions.reshape(h * w, c).astype(image.dtype))
        own = jnp.broadcast_to(own, (b, p, *own.shape))
        sequence = jnp.concatenate([own, prompt.astype(image.dtype)], -2)
        sequence, pixels = self.two_way.apply(params["transformer"], sequence, *flat, where)
        return sequence, pixels.reshape(b, p, h, w, c)

    def masks(
        self,
        params: Params,
        sequence: Float[Array, "b p t c"],
        pixels: Float[Array, "b p h w c"],
        tokens: tuple[int, ...] = (*SINGLE, *MULTI),
    ) -> Float[Array, "b p m H W"]:
        """Mask logits of the chosen mask tokens, at four times the resolution of `pixels`."""
        pixels = self.upscale.apply(params, pixels)
        kernels = jnp.stack([self._kernel(params, i, sequence[:, :, 1 + i]) for i in tokens], -2)
        return jnp.einsum("bpmd,bphwd->bpmhw", kernels, pixels, preferred_element_type=wide(pixels))

    def iou(
        self, params: Params, sequence: Float[Array, "b p t c"], tokens: tuple[int, ...] = (*SINGLE, *MULTI)
    ) -> Float[Array, "b p m"]:
        """Predicted IoU of the chosen mask tokens, unbounded; it needs no mask."""
        iou = self.iou_head().apply(params["iou_prediction_head"], sequence[:, :, 0])
        return widen(iou)[..., jnp.array(tokens)]

    def _kernel(self, params: Params, i: int, token: Float[Array, "b p c"]) -> Float[Array, "b p d"]:
        return self.hypernetwork().apply(params["output_hypernetworks_mlps"][str(i)], token)
