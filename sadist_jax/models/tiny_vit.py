"""TinyViT as MobileSAM's image encoder: convolutions, then windowed attention in three stages, and SAM's neck.

Sources: Wu et al. 2022, "TinyViT" (arXiv:2207.10666); Zhang et al. 2023, "Faster Segment Anything" (arXiv:2306.14289),
whose last stage keeps the resolution, so that the embedding has SAM's stride of 16. Names are those of mobile_sam.pt.
Batch norms keep their statistics (see nn/conv_norm.py). The classification head is in the file and is not used.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from sadist_jax.nn import layers, table
from sadist_jax.nn.blocks import tower
from sadist_jax.nn.conv_norm import conv_norm, conv_norm_table
from sadist_jax.nn.neck import neck, neck_table
from sadist_jax.nn.table import Leaf, Table
from sadist_jax.ops.attention import attention
from sadist_jax.ops.precision import widen
from sadist_jax.ops.windows import partition, unpartition
from sadist_jax.typing import Array, Float, Key, Params

NORM_EPS = 1e-5
CLASSES = 1000  # of the head that is not used


@dataclasses.dataclass(frozen=True)
class Stage:
    """Blocks of one resolution. heads, window: 0 in the first stage, which has convolutions only."""

    dim: int
    depth: int
    heads: int = 0
    window: int = 0


@dataclasses.dataclass(frozen=True)
class TinyVit:
    """Sizes of the encoder; the defaults are those of mobile_sam.pt.

    strides: of the convolution between stages; MobileSAM's last is 1 and not 2.
    image_size: side in pixels that the checkpoint is made for; inputs may have any size.
    remat: recompute each block in the backward pass instead of saving its activations.
    """

    stages: tuple[Stage, ...] = (Stage(64, 2), Stage(128, 2, 4, 7), Stage(160, 6, 5, 14), Stage(320, 2, 10, 7))
    strides: tuple[int, ...] = (2, 2, 1)
    image_size: int = 1024
    out_dim: int = 256
    dtype: str = "float32"
    remat: bool = False

    @property
    def patch(self) -> int:
        """Pixels of the input for one token of the embedding, along a side."""
        return 4 * int(np.prod(self.strides))

    @property
    def grid(self) -> int:
        """Tokens along a side of the native input."""
        return self.image_size // self.patch

    def table(self) -> Table:
        first, last = self.stages[0].dim, self.stages[-1].dim
        stem = {"0": conv_norm_table(3, first // 2, 3), "2": conv_norm_table(first // 2, first, 3)}
        head = {"norm_head": layers.norm_table(last), "head": layers.dense_table(last, CLASSES)}
        unused = jax.tree.map(lambda leaf: dataclasses.replace(leaf, role="buffer"), head)
        stages = {str(i): self._stage_table(i) for i in range(len(self.stages))}
        return {"patch_embed": {"seq": stem}, "layers": stages, "neck": neck_table(last, self.out_dim)} | unused

    def _stage_table(self, i: int) -> Table:
        stage = self.stages[i]
        block = _window_block_table(stage) if stage.heads else _conv_block_table(stage.dim)
        blocks = {str(j): block for j in range(stage.depth)}
        if i == len(self.strides):
            return {"blocks": blocks}
        out = self.stages[i + 1].dim
        merge = {
            "conv1": conv_norm_table(stage.dim, out, 1),
            "conv2": conv_norm_table(out, out, 3, groups=out),
            "conv3": conv_norm_table(out, out, 1),
        }
        return {"blocks": blocks, "downsample": merge}

    def init(self, key: Key) -> Params:
        return table.init(self.table(), key)

    def apply(self, params: Params, x: Float[Array, "b H W 3"]) -> tuple[Float[Array, "b h w o"], dict[str, Array]]:
        """Normalised image -> (embedding, aux). H and W are multiples of the patch, of any size.

        aux: `patch`, `stage<i>` (before it is merged into the next), `pre_neck`: (b, h, w, c) maps.
        """
        stem = params["patch_embed"]["seq"]
        x = layers.gelu(conv_norm(stem["0"], x.astype(self.dtype), stride=2, padding=1))
        x = conv_norm(stem["2"], x, stride=2, padding=1)
        aux = {"patch": x}
        for i, stage in enumerate(self.stages):
            weights = params["layers"][str(i)]
            block = _window_block if stage.heads else _conv_block
            x, _ = tower(block, weights["blocks"], x, (stage,) * stage.depth, remat=self.remat)
            aux[f"stage{i}"] = x
            if i < len(self.strides):
                x = _merge(weights["downsample"], x, self.strides[i])
        aux["pre_neck"] = x
        return widen(neck(params["neck"], x)), aux


def _conv_block_table(dim: int) -> Table:
    return {
        "conv1": conv_norm_table(dim, 4 * dim, 1),
        "conv2": conv_norm_table(4 * dim, 4 * dim, 3, groups=4 * dim),
        "conv3": conv_norm_table(4 * dim, dim, 1),
    }


def _conv_block(params: Params, x: Float[Array, "b h w c"], stage: Stage) -> Float[Array, "b h w c"]:
    """MobileNet's inverted bottleneck (Howard et al. 2019), with an activation after the sum."""
    y = layers.gelu(conv_norm(params["conv1"], x))
    y = layers.gelu(conv_norm(params["conv2"], y, padding=1))
    return layers.gelu(x + conv_norm(params["conv3"], y))


def _merge(params: Params, x: Float[Array, "b h w c"], stride: int) -> Float[Array, "b H W o"]:
    x = layers.gelu(conv_norm(params["conv1"], x))
    x = layers.gelu(conv_norm(params["conv2"], x, stride=stride, padding=1))
    return conv_norm(params["conv3"], x)


def _mlp(dim: int) -> layers.Mlp:
    return layers.Mlp((dim, 4 * dim, dim), ("fc1", "fc2"))


def _window_block_table(stage: Stage) -> Table:
    dim, norm = stage.dim, layers.norm_table(stage.dim)
    attn: dict[str, Any] = {
        "norm": norm,
        "qkv": layers.dense_table(dim, 3 * dim),
        "proj": layers.dense_table(dim, dim),
        "attention_biases": Leaf((stage.heads, stage.window**2)),
    }
    mlp = {"norm": norm} | _mlp(dim).table()
    return {"attn": attn, "mlp": mlp, "local_conv": conv_norm_table(dim, dim, 3, groups=dim)}


def _window_block(params: Params, x: Float[Array, "b h w c"], stage: Stage) -> Float[Array, "b h w c"]:
    _, h, w, _ = x.shape
    # the filling joins the windows before the norm, unlike SAM's: its keys and values come from the norm's bias
    y = unpartition(_attention(params["attn"], partition(x, stage.window), stage), (h, w))
    x = conv_norm(params["local_conv"], x + y, padding=1)
    y = layers.layer_norm(params["mlp"]["norm"], x, NORM_EPS)
    return x + _mlp(stage.dim).apply(params["mlp"], y)


def _attention(params: Params, x: Float[Array, "n s s c"], stage: Stage) -> Float[Array, "n s s c"]:
    n, side, _, c = x.shape
    y = layers.layer_norm(params["norm"], x, NORM_EPS)
    # each head has its q, k and v side by side, unlike SAM's qkv
    qkv = layers.dense(params["qkv"], y).reshape(n, side * side, stage.heads, 3, c // stage.heads)
    bias = params["attention_biases"][:, offsets(stage.window)]
    y = attention(*(qkv[..., i, :] for i in range(3)), bias=bias)
    return layers.dense(params["proj"], y.reshape(n, side, side, c))


def offsets(window: int) -> np.ndarray:
    """(tokens, tokens) column of `attention_biases` for each pair: |rows apart| * window + |columns apart|."""
    row, col = np.divmod(np.arange(window**2), window)
    return abs(row[:, None] - row) * window + abs(col[:, None] - col)
