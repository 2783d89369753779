"""Where masked pretraining gets its targets: features of a frozen SAM encoder, or the pixels themselves (MAE)."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn.layers import patchify
from sadist_jax.nn.table import Table
from sadist_jax.ops.pixels import normalize
from sadist_jax.ops.precision import widen
from sadist_jax.typing import Array, Float, Params, UInt8

TARGET_EPS = 1e-6  # MAE's, for targets normalised per token


@dataclasses.dataclass(frozen=True)
class SamFeatures:
    """Features of SAM's image encoder, computed on the fly.

    The EfficientSAM paper (sec. 3.2, before eq. 1) makes targets of "features from SAM image encoder" for the student's
    own N tokens, hence the defaults: after the neck, and the teacher sees the student's crop at the student's
    resolution. Ours: for a side that is not its own, its position table is resized bicubically and its tables of
    relative positions linearly (the paper does not say how; to cut out their middle, or to enlarge the crop to the
    native size, are other readings).

    at: 'neck' (256 channels) or 'pre_neck' (the ViT's own channels).
    side: resolution in pixels that the teacher sees; None: the crop's own. 1024 feeds it at its native size, and its
      64 x 64 features are averaged down to the student's tokens.
    normalise: 'none' (the paper mentions nothing), or 'token': each target to mean 0, variance 1 over channels.
    """

    encoder: VitDet
    at: Literal["neck", "pre_neck"] = "neck"
    side: int | None = None
    normalise: Literal["none", "token"] = "none"

    @property
    def dim(self) -> int:
        """Channels of a target."""
        return self.encoder.out_dim if self.at == "neck" else self.encoder.dim

    def table(self) -> Table:
        return {"image_encoder": self.encoder.table()}

    def targets(self, frozen: Params, image: UInt8[Array, "b h w 3"], grid: int) -> Float[Array, "b t d"]:
        """Targets for the grid x grid tokens of a crop in RGB, 0..255; no gradient."""
        x = normalize(image)
        if self.side is not None and x.shape[1] != self.side:
            x = jax.image.resize(x, (x.shape[0], self.side, self.side, 3), "bilinear")
        neck, aux = self.encoder.apply(frozen["image_encoder"], x)
        features = neck if self.at == "neck" else widen(aux["pre_neck"])
        b, h, _, c = features.shape
        if h != grid:
            features = jax.image.resize(features, (b, grid, grid, c), "bilinear")  # antialiased when it shrinks
        return jax.lax.stop_gradient(_standardise(features.reshape(b, grid * grid, c), self.normalise))


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The crop's own patches: with `JointDecoder` and the loss on masked tokens, SAMI's method is MAE (He et al. 2022).

    normalise: 'token' is MAE's norm_pix_loss.
    """

    patch: int = 16
    normalise: Literal["none", "token"] = "token"

    @property
    def dim(self) -> int:
        """Channels of a target."""
        return 3 * self.patch**2

    def table(self) -> Table:
        return {}

    def targets(self, frozen: Params, image: UInt8[Array, "b h w 3"], grid: int) -> Float[Array, "b t d"]:
        """Flattened patches in the order (row, column, colour) of a crop in RGB, 0..255."""
        patches = patchify(normalize(image), self.patch)
        if patches.shape[1] != grid:
            raise ValueError(f"patches of {self.patch} px make {patches.shape[1]} a side, the student has {grid}")
        return _standardise(patches.reshape(image.shape[0], grid * grid, -1), self.normalise)


def _standardise(x: Array, normalise: str) -> Array:
    if normalise == "none":
        return x
    # MAE divides by the unbiased variance
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(jnp.var(x, -1, ddof=1, keepdims=True) + TARGET_EPS)
