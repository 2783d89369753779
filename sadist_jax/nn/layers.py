"""The layers that SAM and its students are made of: a table and a function each, parameters in plain dicts.

Arrays are channels-last. A layer computes in the dtype of its input and casts its weights to it (a kernel in parts on
several devices is put together then, see `whole`); norms compute in at least float32. Weight names are PyTorch's:
`weight`, `bias`.

Low-rank updates (Hu et al. 2022, LoRA, arXiv:2106.09685) lie beside a kernel, by the outputs that they move:
`lora.<part>.a` (what one output sees, rank), `lora.<part>.b` (rank, outputs), `lora.<part>.scale` (). The layer
then has the kernel W + scale * A B, which is never made; `adapt/lora.py` makes the leaves. A part is "all", or one
third of a fused qkv: "q", "k", "v"; its b has two axes where q, k and v follow one another (SAM), and three, (rank,
heads, channels), where each head has its own side by side (TinyViT).
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sadist_jax import tree
from sadist_jax.nn.table import Initializer, Leaf, Table, ones, trunc_normal, xavier_uniform
from sadist_jax.nn.whole import whole
from sadist_jax.ops.precision import widen
from sadist_jax.typing import Array, Float, Key, Params

QKV, ALL = ("q", "k", "v"), "all"  # parts of a layer that have low-rank updates of their own


def gelu(x: Array) -> Array:
    """Exact (erf) GELU: what SAM and EfficientSAM use; jax.nn.gelu's default is the tanh approximation.

    Written as PyTorch computes it: jax.nn.gelu(approximate=False) takes erfc, which costs more on a CPU.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def dense_table(inputs: int, outputs: int, *, bias: bool = True, init: Initializer = trunc_normal) -> Table:
    weight = {"weight": Leaf((inputs, outputs), init, kind="dense")}
    return weight | {"bias": Leaf((outputs,))} if bias else weight


def dense(params: Params, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
    """x @ weight + bias over the last axis."""
    y = _adapted(params, lambda kernel: _matmul(x, whole(kernel, x.dtype)))
    return y + params["bias"].astype(x.dtype) if "bias" in params else y


def _matmul(x: Float[Array, "... i"], weight: Float[Array, "i o"]) -> Float[Array, "... o"]:
    """As one 2-D product: with more axes XLA's CPU backend is slower at the gradient of the weight."""
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], weight.shape[-1])


def _adapted(params: Params, apply: Callable[[Array], Float[Array, "... o"]]) -> Float[Array, "... o"]:
    """What `apply` makes of the kernel, plus the low-rank updates where there are some.

    apply: the layer as a function of its kernel. With the A of all parts side by side in the kernel's place it gives
    the few channels that one small product with their B spreads over the outputs.
    """
    y = apply(params["weight"])
    if "lora" not in params:
        return y
    parts = params["lora"].items()
    a = jnp.concatenate([part["a"] for _, part in parts], -1)
    b = jnp.concatenate([part["scale"] * _spread(name, part["b"]) for name, part in parts])
    return y + _matmul(apply(a), b.astype(y.dtype))


def _spread(name: str, b: Float[Array, "r ..."]) -> Float[Array, "r o"]:
    """B of one part over all outputs of the layer: zero at those of the other parts."""
    thirds = [b] if name == ALL else [b if name == part else jnp.zeros_like(b) for part in QKV]
    return jnp.stack(thirds, -2).reshape(len(b), -1)


def norm_table(channels: int) -> Table:
    return {"weight": Leaf((channels,), ones), "bias": Leaf((channels,))}


def layer_norm(params: Params, x: Float[Array, "... c"], eps: float) -> Float[Array, "... c"]:
    """Over the last axis: on maps, also SAM's LayerNorm2d. Biased variance, at least float32 inside."""
    return _normalise(params, x, (-1,), eps)


def group_norm(params: Params, x: Float[Array, "*b h w c"], eps: float) -> Float[Array, "*b h w c"]:
    """GroupNorm with one group: statistics over height, width and channels of one map, scale and shift per channel."""
    return _normalise(params, x, (-3, -2, -1), eps)


def _normalise(params: Params, x: Array, axes: tuple[int, ...], eps: float) -> Array:
    y = widen(x)
    y = y - y.mean(axes, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(axes, keepdims=True) + eps)
    return (y * params["weight"].astype(y.dtype) + params["bias"].astype(y.dtype)).astype(x.dtype)


def conv_table(
    inputs: int, outputs: int, kernel: int, *, bias: bool = True, init: Initializer = xavier_uniform
) -> Table:
    weight = {"weight": Leaf((kernel, kernel, inputs, outputs), init, kind="conv")}
    return weight | {"bias": Leaf((outputs,))} if bias else weight


def conv(params: Params, x: Float[Array, "*b h w i"], *, stride: int = 1, padding: int = 0) -> Float[Array, "*b H W o"]:
    """2-D convolution with PyTorch's explicit symmetric padding; any number of leading axes.

    A kernel for fewer inputs than x has is one in groups: with 1, a depthwise convolution. Groups take no low-rank
    updates (ValueError).
    """
    lead, groups = x.shape[:-3], x.shape[-1] // params["weight"].shape[2]
    if groups > 1 and "lora" in params:
        raise ValueError(f"a convolution in {groups} groups takes no low-rank updates")

    def apply(kernel: Array) -> Array:
        y = jax.lax.conv_general_dilated(
            x.reshape(-1, *x.shape[-3:]),
            whole(kernel, x.dtype),
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return y.reshape(*lead, *y.shape[1:])

    y = _adapted(params, apply)
    return y + params["bias"].astype(x.dtype) if "bias" in params else y


def xavier_patches(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Start values of a `patch_conv` as the linear layer that it is (He et al. 2022, MAE, models_mae.py).

    Uniform up to sqrt(6 / (p * p * inputs + outputs)); Xavier's rule for convolutions would count p * p * outputs.
    """
    return xavier_uniform(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)


def patchify(x: Float[Array, "*b h w c"], patch: int) -> Float[Array, "*b H W d"]:
    """Non-overlapping patches, each flattened in the order (row, column, channel)."""
    *lead, h, w, c = x.shape
    x = x.reshape(*lead, h // patch, patch, w // patch, patch, c)
    return jnp.moveaxis(x, -4, -3).reshape(*lead, h // patch, w // patch, patch * patch * c)


def patch_conv(params: Params, x: Float[Array, "*b h w i"]) -> Float[Array, "*b H W o"]:
    """Convolution whose stride is its kernel, as one matrix product over patches."""
    patches = patchify(x, params["weight"].shape[0])
    y = _adapted(params, lambda kernel: _matmul(patches, whole(kernel, x.dtype).reshape(-1, kernel.shape[-1])))
    return y + params["bias"].astype(x.dtype)


def up_table(inputs: int, outputs: int) -> Table:
    """Transposed convolution, kernel 2, stride 2."""
    return {"weight": Leaf((2, 2, inputs, outputs), xavier_uniform, kind="conv_transpose"), "bias": Leaf((outputs,))}


def up(params: Params, x: Float[Array, "*b h w i"]) -> Float[Array, "*b 2h 2w o"]:
    """Transposed convolution k2 s2: no outputs overlap, so each input pixel makes its own 2 x 2 block."""
    *lead, h, w, i = x.shape
    o = params["weight"].shape[-1]
    y = _adapted(params, lambda kernel: _matmul(x, jnp.moveaxis(whole(kernel, x.dtype), -2, 0).reshape(i, -1)))
    y = y.reshape(*lead, h, w, 2, 2, o)
    return jnp.moveaxis(y, -3, -4).reshape(*lead, 2 * h, 2 * w, o) + params["bias"].astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Mlp:
    """Dense layers with an activation between them; `names` are the reference's names of the layers."""

    sizes: tuple[int, ...]
    names: tuple[str, ...]
    activation: Callable[[Array], Array] = gelu
    init: Initializer = trunc_normal

    def table(self) -> Table:
        pairs = zip(self.names, self.sizes[:-1], self.sizes[1:], strict=True)
        return tree.unflatten({name: dense_table(i, o, init=self.init) for name, i, o in pairs})

    def apply(self, params: Params, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        for name in self.names[:-1]:
            x = self.activation(dense(tree.get(params, name), x))
        return dense(tree.get(params, self.names[-1]), x)


__all__ = [
    "Mlp", "conv", "conv_table", "dense", "dense_table", "gelu", "group_norm", "layer_norm", "norm_table",
    "patch_conv", "patchify", "up", "up_table", "xavier_patches",
]  # fmt: skip
