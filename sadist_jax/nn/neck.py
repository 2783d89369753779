"""The convolutional neck between a ViT and SAM's decoder; EfficientSAM has the same."""

from sadist_jax.nn import layers
from sadist_jax.nn.table import Table
from sadist_jax.typing import Array, Float, Params

NORM_EPS = 1e-6


def neck_table(inputs: int, outputs: int) -> Table:
    return {
        "0": layers.conv_table(inputs, outputs, 1, bias=False),
        "1": layers.norm_table(outputs),
        "2": layers.conv_table(outputs, outputs, 3, bias=False),
        "3": layers.norm_table(outputs),
    }


def neck(params: Params, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
    """1 x 1 convolution, norm, 3 x 3 convolution, norm."""
    x = layers.layer_norm(params["1"], layers.conv(params["0"], x), NORM_EPS)
    return layers.layer_norm(params["3"], layers.conv(params["2"], x, padding=1), NORM_EPS)
