"""The plain ViT: SAMI's student, and EfficientSAM's image encoder without its neck.

Sources: Dosovitskiy et al. 2021 (ViT), Touvron et al. 2021 (Ti, S, B sizes), names as in EfficientSAM's checkpoints.
There is no class token and no final norm; EfficientSAM's position table keeps the row of a class token that its
pretraining had (197 = 1 + 14 * 14), so ours has that row too. Start values are MAE's (He et al. 2022): Xavier's for all
linear layers, sine-cosine positions; ours: the bias of the patches starts at 0.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sadist_jax.nn import layers, table
from sadist_jax.nn.blocks import tower
from sadist_jax.nn.positions import resize_positions, sincos_init
from sadist_jax.nn.table import Leaf, Table, xavier_uniform
from sadist_jax.nn.whole import whole
from sadist_jax.ops.attention import attention
from sadist_jax.typing import Array, Float, Int, Key, Params

NORM_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class Vit:
    """Sizes. `image_size` is the side that the position table is made for (224 in SAMI); inputs may have any size.

    remat: recompute each block in the backward pass instead of saving its activations.
    drop_path: rate of stochastic depth at the last block, see `draw_paths`; without keys nothing is dropped.
    """

    dim: int = 192
    depth: int = 12
    heads: int = 3
    patch: int = 16
    image_size: int = 224
    dtype: str = "float32"
    remat: bool = False
    drop_path: float = 0.0

    @classmethod
    def ti(cls, **sizes: Any) -> "Vit":
        return dataclasses.replace(cls(dim=192, heads=3), **sizes)

    @classmethod
    def s(cls, **sizes: Any) -> "Vit":
        return dataclasses.replace(cls(dim=384, heads=6), **sizes)

    @classmethod
    def b(cls, **sizes: Any) -> "Vit":
        return dataclasses.replace(cls(dim=768, heads=12), **sizes)

    @classmethod
    def mini(cls, **sizes: Any) -> "Vit":
        """For CPUs: 0.9 million parameters, 256 tokens of a 128 px crop, 1024 of a 256 px image."""
        return dataclasses.replace(cls(dim=128, depth=4, heads=2, patch=8, image_size=128), **sizes)

    @property
    def grid(self) -> int:
        """Tokens along a side at `image_size`."""
        return self.image_size // self.patch

    def mlp(self) -> layers.Mlp:
        return layers.Mlp((self.dim, 4 * self.dim, self.dim), ("fc1", "fc2"), init=xavier_uniform)

    def table(self) -> Table:
        norm = layers.norm_table(self.dim)
        attn = {
            "qkv": layers.dense_table(self.dim, 3 * self.dim, init=xavier_uniform),
            "proj": layers.dense_table(self.dim, self.dim, init=xavier_uniform),
        }
        block = {"norm1": norm, "attn": attn, "norm2": norm, "mlp": self.mlp().table()}
        return {
            "pos_embed": Leaf((1, 1 + self.grid**2, self.dim), sincos_init),
            "patch_embed": {"proj": layers.conv_table(3, self.dim, self.patch, init=layers.xavier_patches)},
            "blocks": {str(i): block for i in range(self.depth)},
        }

    def init(self, key: Key) -> Params:
        return table.init(self.table(), key)

    def apply(self, params: Params, x: Float[Array, "b H W 3"]) -> tuple[Float[Array, "b h w c"], dict[str, Array]]:
        """Normalised image of any size in patches -> (last block's map, aux with `patch` and `block<i>` maps)."""
        x = self.embed(params, x)
        b, h, w, c = x.shape
        out, aux = self.encode(params, x.reshape(b, h * w, c))
        maps = {name: tokens.reshape(b, h, w, c) for name, tokens in aux.items()}
        return out.reshape(b, h, w, c), {"patch": x} | maps

    def embed(self, params: Params, x: Float[Array, "b H W 3"]) -> Float[Array, "b h w c"]:
        """Patches with their positions; the table is resized bicubically away from its own size."""
        x = layers.patch_conv(params["patch_embed"]["proj"], x.astype(self.dtype))
        positions = params["pos_embed"][:, 1:].reshape(1, self.grid, self.grid, self.dim)
        _, h, w, _ = x.shape
        return x + whole(resize_positions(positions, (h, w)), x.dtype)

    def encode(
        self,
        params: Params,
        x: Float[Array, "b t c"],
        positions: Int[Array, "b t"] | None = None,
        keys: Key | None = None,
    ) -> tuple[Float[Array, "b t c"], dict[str, Array]]:
        """The blocks on any set of embedded tokens: all of an image, or the visible ones of a masked image.

        positions: where the tokens are; not needed, since `embed` has added that to them.
        keys: (b,), one a sample: drop residual branches at random, as in training. None: drop nothing.
        """
        blocks = params["blocks"]
        if keys is not None and self.drop_path:
            scales = self.draw_paths(keys)
            # drawn outside and handed in beside the weights: a recomputed block has the same draw, and a scan its own
            blocks = {name: weights | {"drop_path": scales[int(name)]} for name, weights in blocks.items()}
        return tower(self._block, blocks, x, (None,) * self.depth, remat=self.remat)

    def draw_paths(self, keys: Key) -> Float[Array, "depth 2 b"]:
        """Factor of each residual branch (attention, MLP) of each sample: 0 where dropped, else 1 / (1 - rate).

        Stochastic depth (Huang et al. 2016, arXiv:1603.09382): the rate rises linearly over the blocks, and the factor
        is 1 on average; from 0 at the first block to `drop_path` at the last, as in timm's and MAE's ViTs.
        """
        rate = self.drop_path * jnp.arange(self.depth)[:, None, None] / max(self.depth - 1, 1)
        draws = jax.vmap(lambda key: jax.random.uniform(key, (self.depth, 2)), out_axes=2)(keys)
        return jnp.where(draws < rate, 0, 1 / (1 - rate))

    def _block(self, params: Params, x: Float[Array, "b t c"], kind: None) -> Float[Array, "b t c"]:
        b, t, c = x.shape
        qkv = layers.dense(params["attn"]["qkv"], layers.layer_norm(params["norm1"], x, NORM_EPS))
        q, k, v = (qkv.reshape(b, t, 3, self.heads, c // self.heads)[:, :, i] for i in range(3))
        attended = layers.dense(params["attn"]["proj"], attention(q, k, v).reshape(b, t, c))
        x = x + _dropped(params, 0, attended)
        return x + _dropped(params, 1, self.mlp().apply(params["mlp"], layers.layer_norm(params["norm2"], x, NORM_EPS)))


def _dropped(params: Params, branch: int, x: Float[Array, "b t c"]) -> Float[Array, "b t c"]:
    """One residual branch of a block, times what `encode` has drawn for it."""
    return x * params["drop_path"][branch, :, None, None].astype(x.dtype) if "drop_path" in params else x
