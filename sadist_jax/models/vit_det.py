"""SAM's image encoder: a ViT with windowed attention, decomposed relative positions and a convolutional neck.

Sources: Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet); Kirillov et al.
2023, "Segment Anything", app. A; names and details as in the released segment-anything checkpoints. Patches start as
in MAE (He et al. 2022), with whose weights SAM's encoder began; ours: all else from a truncated normal.
"""

import dataclasses

import jax.numpy as jnp

from sadist_jax.nn import layers, table
from sadist_jax.nn.blocks import tower
from sadist_jax.nn.neck import neck, neck_table
from sadist_jax.nn.positions import resize_positions
from sadist_jax.nn.table import Leaf, Table
from sadist_jax.nn.whole import whole
from sadist_jax.ops.attention import attention
from sadist_jax.ops.precision import widen
from sadist_jax.ops.resize import resize_axis
from sadist_jax.ops.windows import partition, unpartition
from sadist_jax.typing import Array, Float, Key, Params

NORM_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class VitDet:
    """Sizes of the encoder. `image_size` is the side of the square input that the position tables are made for.

    remat: recompute each block in the backward pass instead of saving its activations.
    """

    dim: int = 768
    depth: int = 12
    heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    window: int = 14
    patch: int = 16
    image_size: int = 1024
    out_dim: int = 256
    dtype: str = "float32"
    remat: bool = False

    @property
    def grid(self) -> int:
        """Tokens along a side of the native input."""
        return self.image_size // self.patch

    def mlp(self) -> layers.Mlp:
        return layers.Mlp((self.dim, 4 * self.dim, self.dim), ("lin1", "lin2"))

    def table(self) -> Table:
        blocks = {
            str(i): self._block_table(self.grid if i in self.global_blocks else self.window) for i in range(self.depth)
        }
        return {
            "pos_embed": Leaf((1, self.grid, self.grid, self.dim), table.trunc_normal),
            "patch_embed": {"proj": layers.conv_table(3, self.dim, self.patch, init=layers.xavier_patches)},
            "blocks": blocks,
            "neck": neck_table(self.dim, self.out_dim),
        }

    def _block_table(self, side: int) -> Table:
        relative = Leaf((2 * side - 1, self.dim // self.heads), table.trunc_normal)
        attn = {
            "rel_pos_h": relative,
            "rel_pos_w": relative,
            "qkv": layers.dense_table(self.dim, 3 * self.dim),
            "proj": layers.dense_table(self.dim, self.dim),
        }
        norm = layers.norm_table(self.dim)
        return {"norm1": norm, "attn": attn, "norm2": norm, "mlp": self.mlp().table()}

    def init(self, key: Key) -> Params:
        return table.init(self.table(), key)

    def apply(self, params: Params, x: Float[Array, "b H W 3"]) -> tuple[Float[Array, "b h w o"], dict[str, Array]]:
        """Normalised image -> (embedding, aux). H and W are multiples of the patch, of any size.

        aux: `patch` (after position embedding), `block<i>`, `pre_neck`: (b, h, w, dim) maps.
        Away from the native size, positions are resized bicubically and relative positions linearly.
        """
        x = layers.patch_conv(params["patch_embed"]["proj"], x.astype(self.dtype))
        _, h, w, _ = x.shape
        x = x + whole(resize_positions(params["pos_embed"], (h, w)), x.dtype)
        aux = {"patch": x}
        windows = [0 if i in self.global_blocks else self.window for i in range(self.depth)]
        x, blocks = tower(self._block, params["blocks"], x, windows, remat=self.remat)
        return widen(neck(params["neck"], x)), aux | blocks | {"pre_neck": x}

    def _block(self, params: Params, x: Float[Array, "b h w c"], window: int) -> Float[Array, "b h w c"]:
        _, h, w, _ = x.shape
        y = layers.layer_norm(params["norm1"], x, NORM_EPS)
        # the filling joins the windows after the norm and is not masked: its keys and values are the qkv bias
        y = partition(y, window) if window else y
        y = self._attention(params["attn"], y)
        x = x + (unpartition(y, (h, w)) if window else y)
        return x + self.mlp().apply(params["mlp"], layers.layer_norm(params["norm2"], x, NORM_EPS))

    def _attention(self, params: Params, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        qkv = layers.dense(params["qkv"], x).reshape(b, h, w, 3, self.heads, c // self.heads)
        q, k, v = (qkv[..., i, :, :] for i in range(3))
        # unscaled q: only the content term is divided by sqrt(head dim)
        rel_h = jnp.einsum("bhwnd,hrd->bhwnr", q, whole(relative_table(params["rel_pos_h"], h), q.dtype))
        rel_w = jnp.einsum("bhwnd,wrd->bhwnr", q, whole(relative_table(params["rel_pos_w"], w), q.dtype))
        q, k, v, rel_h, rel_w = (z.reshape(b, h * w, self.heads, -1) for z in (q, k, v, rel_h, rel_w))
        y = attention(q, k, v, relative=(rel_h, rel_w))
        return layers.dense(params["proj"], y.reshape(b, h, w, c))


def relative_table(rel_pos: Float[Array, "l d"], size: int) -> Float[Array, "size size d"]:
    """Embedding of each query-key offset along one axis; a table made for another size is resized linearly."""
    if rel_pos.shape[0] != 2 * size - 1:
        rel_pos = resize_axis(rel_pos, 2 * size - 1)
    offset = jnp.arange(size)[:, None] - jnp.arange(size)[None, :] + size - 1
    return rel_pos[offset]
