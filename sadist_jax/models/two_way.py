"""The two-way transformer of SAM's mask decoder: prompt tokens and image tokens attend to each other.

Source: Kirillov et al. 2023, app. A, fig. 14; details as released by segment-anything and by EfficientSAM, which
differ: see `TwoWay`.
"""

import dataclasses
from collections.abc import Callable

import jax

from sadist_jax.nn import layers
from sadist_jax.nn.table import Table, xavier_uniform
from sadist_jax.ops.attention import attention
from sadist_jax.typing import Array, Bool, Float, Params

NORM_EPS = 1e-5


@dataclasses.dataclass(frozen=True)
class TwoWay:
    """Sizes and released differences.

    mlp_names, activation: SAM ('lin1', 'lin2'), ReLU; EfficientSAM ('layers.0.0', 'fc'), GELU.
    first_residual: EfficientSAM keeps the residual around the first layer's self-attention, SAM has none there.
    positions_stay: EfficientSAM adds the tokens' positions into the tokens themselves before the second layer's
      self-attention, so that they also enter its values and the residual; SAM adds them to queries and keys only.
    """

    dim: int = 256
    depth: int = 2
    heads: int = 8
    mlp_dim: int = 2048
    mlp_names: tuple[str, str] = ("lin1", "lin2")
    activation: Callable[[Array], Array] = jax.nn.relu
    first_residual: bool = False
    positions_stay: bool = False

    def mlp(self) -> layers.Mlp:
        return layers.Mlp((self.dim, self.mlp_dim, self.dim), self.mlp_names, self.activation)

    def table(self) -> Table:
        norm, cross = layers.norm_table(self.dim), _attention_table(self.dim, self.dim // 2)
        layer = {
            "self_attn": _attention_table(self.dim, self.dim),
            "norm1": norm,
            "cross_attn_token_to_image": cross,
            "norm2": norm,
            "mlp": self.mlp().table(),
            "norm3": norm,
            "cross_attn_image_to_token": cross,
            "norm4": norm,
        }
        return {
            "layers": {str(i): layer for i in range(self.depth)},
            "final_attn_token_to_image": cross,
            "norm_final_attn": norm,
        }

    def apply(
        self,
        params: Params,
        tokens: Float[Array, "b p t c"],
        image: Float[Array, "b q s c"],
        image_positions: Float[Array, "s c"],
        where: Bool[Array, "b p t"],
    ) -> tuple[Float[Array, "b p t c"], Float[Array, "b p s c"]]:
        """Tokens of p prompts for each of b images; `where` says which are there.

        q is p, or 1 where the prompts share the image tokens: then the first layer's projections of the image are made
        once for all prompts.
        """
        positions = tokens
        for i in range(self.depth):
            layer = params["layers"][str(i)]
            tokens, image = self._layer(layer, tokens, image, positions, image_positions, where, i == 0)
        cross = params["final_attn_token_to_image"]
        read = self._attend(cross, tokens + positions, image + image_positions, image)
        return layers.layer_norm(params["norm_final_attn"], tokens + read, NORM_EPS), image

    def _layer(self, params, tokens, image, positions, image_positions, where, first):
        own = params["self_attn"]
        if first:
            read = self._attend(own, tokens, tokens, tokens, where)
            tokens = tokens + read if self.first_residual else read
        elif self.positions_stay:
            tokens = tokens + positions
            tokens = tokens + self._attend(own, tokens, tokens, tokens, where)
        else:
            placed = tokens + positions
            tokens = tokens + self._attend(own, placed, placed, tokens, where)
        tokens = layers.layer_norm(params["norm1"], tokens, NORM_EPS)

        cross = params["cross_attn_token_to_image"]
        tokens = tokens + self._attend(cross, tokens + positions, image + image_positions, image)
        tokens = layers.layer_norm(params["norm2"], tokens, NORM_EPS)

        tokens = tokens + self.mlp().apply(params["mlp"], tokens)
        tokens = layers.layer_norm(params["norm3"], tokens, NORM_EPS)

        cross = params["cross_attn_image_to_token"]
        image = image + self._attend(cross, image + image_positions, tokens + positions, tokens, where)
        return tokens, layers.layer_norm(params["norm4"], image, NORM_EPS)

    def _attend(self, params, q, k, v, where=None):
        """Multi-head attention over (..., tokens, channels); `where` masks keys."""
        q, k, v = (layers.dense(params[f"{name}_proj"], x) for name, x in (("q", q), ("k", k), ("v", v)))
        q, k, v = (x.reshape(*x.shape[:-1], self.heads, -1) for x in (q, k, v))
        out = attention(q, k, v, where=where)
        return layers.dense(params["out_proj"], out.reshape(*out.shape[:-2], -1))


def _attention_table(dim: int, inner: int) -> Table:
    """`inner`: channels of q, k and v; SAM halves them in cross-attention."""
    into = {f"{name}_proj": layers.dense_table(dim, inner, init=xavier_uniform) for name in "qkv"}
    return into | {"out_proj": layers.dense_table(inner, dim, init=xavier_uniform)}
