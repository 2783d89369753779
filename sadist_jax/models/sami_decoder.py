"""The decoders of masked pretraining: visible tokens in, a reconstruction of every token out.

`CrossDecoder` is SAMI's (Xiong et al. 2023, EfficientSAM, sec. 3.2): masked tokens are queries, visible features and
masked tokens are keys and values, and visible features go past the decoder. `JointDecoder` is MAE's (He et al. 2022):
self-attention over all tokens. Both end in one linear layer.

Where the SAMI paper is silent we follow MAE: 512 channels, 8 blocks, 16 heads, fixed sine-cosine positions, a norm
after the encoder and one before the last layer, pre-norm blocks. Masked tokens are updated from block to block, and
their current state serves as keys and values.
"""

import dataclasses

import jax
import jax.numpy as jnp

from sadist_jax.models.vit import NORM_EPS
from sadist_jax.nn import layers, table
from sadist_jax.nn.blocks import tower
from sadist_jax.nn.positions import sincos
from sadist_jax.nn.table import Leaf, Table
from sadist_jax.nn.whole import whole
from sadist_jax.ops.attention import attention
from sadist_jax.typing import Array, Float, Int, Params


@dataclasses.dataclass(frozen=True)
class CrossDecoder:
    """Sizes. in_dim: channels of the encoder; out_dim: of the target; grid: tokens along a side of the crop.

    remat: as of `Vit`. The decoder sees four times as many tokens as the student: most of a step's memory is its.
    """

    in_dim: int = 192
    out_dim: int = 256
    grid: int = 14
    dim: int = 512
    depth: int = 8
    heads: int = 16
    remat: bool = False

    def mlp(self) -> layers.Mlp:
        return layers.Mlp((self.dim, 4 * self.dim, self.dim), ("fc1", "fc2"), init=table.xavier_uniform)

    def table(self) -> Table:
        xavier, norm = table.xavier_uniform, layers.norm_table(self.dim)
        attn = {name: layers.dense_table(self.dim, self.dim, init=xavier) for name in ("q", "k", "v", "proj")}
        block = {"norm1": norm, "attn": attn, "norm2": norm, "mlp": self.mlp().table()}
        return {
            "encoder_norm": layers.norm_table(self.in_dim),
            "embed": layers.dense_table(self.in_dim, self.dim, init=xavier),
            "mask_token": Leaf((1, 1, self.dim), jax.nn.initializers.normal(0.02)),
            "pos_embed": Leaf((1, self.grid**2, self.dim), _positions, role="buffer"),
            "blocks": {str(i): block for i in range(self.depth)},
            "norm": norm,
            "head": layers.dense_table(self.dim, self.out_dim, init=xavier),
        }

    def apply(self, params: Params, visible: Float[Array, "b v c"], order: Int[Array, "b t"]) -> Float[Array, "b t o"]:
        """Encoder output of the visible tokens -> reconstruction of all tokens, in image order.

        order: a permutation of the tokens for each image; its first v entries are the visible ones, in their order.
        """
        seen, hidden = self._embed(params, visible, order)

        def block(weights, hidden, kind):
            return self._block(weights, hidden, jnp.concatenate([seen, hidden], 1))

        hidden, _ = tower(block, params["blocks"], hidden, (None,) * self.depth, remat=self.remat)
        return self._finish(params, jnp.concatenate([seen, hidden], 1), order)

    def _embed(self, params, visible, order):
        """-> (visible tokens, mask tokens), both in the decoder's channels and with positions."""
        x = layers.dense(params["embed"], layers.layer_norm(params["encoder_norm"], visible, NORM_EPS))
        positions = whole(params["pos_embed"][0], x.dtype)[order]
        kept = x.shape[1]
        return x + positions[:, :kept], params["mask_token"].astype(x.dtype) + positions[:, kept:]

    def _block(self, params, x, context):
        """Queries from x, keys and values from `context`; both pass the same norm."""
        q, kv = (layers.layer_norm(params["norm1"], y, NORM_EPS) for y in (x, context))
        heads = [(*y.shape[:2], self.heads, -1) for y in (q, kv, kv)]
        q, k, v = (
            layers.dense(params["attn"][name], y).reshape(shape)
            for name, y, shape in zip("qkv", (q, kv, kv), heads, strict=True)
        )
        x = x + layers.dense(params["attn"]["proj"], attention(q, k, v).reshape(x.shape))
        return x + self.mlp().apply(params["mlp"], layers.layer_norm(params["norm2"], x, NORM_EPS))

    def _finish(self, params, x, order):
        x = layers.dense(params["head"], layers.layer_norm(params["norm"], x, NORM_EPS))
        return jnp.take_along_axis(x, jnp.argsort(order, axis=1)[..., None], 1)


@dataclasses.dataclass(frozen=True)
class JointDecoder(CrossDecoder):
    """Self-attention over visible and masked tokens alike; the same parameters as `CrossDecoder`."""

    def apply(self, params: Params, visible: Float[Array, "b v c"], order: Int[Array, "b t"]) -> Float[Array, "b t o"]:
        """As `CrossDecoder.apply`."""
        x = jnp.concatenate(self._embed(params, visible, order), 1)

        def block(weights, x, kind):
            return self._block(weights, x, x)

        x, _ = tower(block, params["blocks"], x, (None,) * self.depth, remat=self.remat)
        return self._finish(params, x, order)


def _positions(key, shape, dtype=jnp.float32):
    del key
    return sincos(round(shape[1] ** 0.5), shape[2], first=False).astype(dtype)
