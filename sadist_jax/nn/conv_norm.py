"""Convolution and batch norm as one layer, with the names of LeViT and TinyViT: `c` and `bn`.

The norm uses the running statistics of the checkpoint, in training too (they are frozen, as is usual when a detector or
a segmenter is fine-tuned); so both are one convolution whose weights are scaled, which is how it is computed.
"""

import jax.numpy as jnp

from sadist_jax.nn import layers
from sadist_jax.nn.table import Leaf, Table, ones
from sadist_jax.typing import Array, Float, Params

NORM_EPS = 1e-5


def conv_norm_table(inputs: int, outputs: int, kernel: int, *, groups: int = 1) -> Table:
    """`num_batches_tracked` is PyTorch's count of the batches that went into the statistics."""
    stat = {
        "running_mean": Leaf((outputs,), role="stat"),
        "running_var": Leaf((outputs,), ones, role="stat"),
        "num_batches_tracked": Leaf((), kind="count", role="stat"),
    }
    return {
        "c": layers.conv_table(inputs // groups, outputs, kernel, bias=False),
        "bn": layers.norm_table(outputs) | stat,
    }


def conv_norm(
    params: Params, x: Float[Array, "b h w i"], *, stride: int = 1, padding: int = 0
) -> Float[Array, "b H W o"]:
    """bn(c(x)); as many groups as inputs that the kernel does not see."""
    bn = params["bn"]
    scale = bn["weight"] / jnp.sqrt(bn["running_var"] + NORM_EPS)
    kernel = {"weight": params["c"]["weight"] * scale, "bias": bn["bias"] - bn["running_mean"] * scale}
    if "lora" in params["c"]:  # low-rank updates are of c, so the norm scales what they add too
        kernel["lora"] = {part: leaves | {"b": leaves["b"] * scale} for part, leaves in params["c"]["lora"].items()}
    return layers.conv(kernel, x, stride=stride, padding=padding)
