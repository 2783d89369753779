"""Where a student gets its targets: features of a frozen SAM encoder, computed or cached, or the pixels (MAE).

What the teacher looks at (its view) is a choice that the EfficientSAM paper does not settle. `SamFeatures` sees the
student's own crop; `FrameFeatures` the whole image at the teacher's native size, whose features are then cropped.
`CachedFeatures` reads what `sadist features` made with either. `FlipFeatures` are for the anchor of `WeakLora`.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from sadist_jax.errors import BadInput
from sadist_jax.methods.student import Encoder
from sadist_jax.models.tiny_vit import TinyVit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn.layers import patchify
from sadist_jax.nn.table import Table
from sadist_jax.ops.pixels import normalize
from sadist_jax.ops.precision import widen
from sadist_jax.typing import Array, Batch, Float, Params

TARGET_EPS = 1e-6  # MAE's, for targets normalised per token


@dataclasses.dataclass(frozen=True)
class SamFeatures:
    """Features that SAM's image encoder makes of the student's crop.

    The EfficientSAM paper (sec. 3.2, before eq. 1) makes targets of "features from SAM image encoder" for the student's
    own N tokens, hence the defaults: after the neck, and the teacher sees the student's crop at the student's
    resolution. Ours: for a side that is not its own, its position table is resized bicubically and its tables of
    relative positions linearly (the paper does not say how; to cut out their middle, or to enlarge the crop to the
    native size, are other readings).

    at: 'neck' (256 channels) or 'pre_neck' (the ViT's own channels).
    side: resolution in pixels that the teacher sees; None: the crop's own. 1024 feeds it at its native size, and its
      64 x 64 features are averaged down to the student's tokens.
    normalise: 'none' (the paper mentions nothing), or 'token': each target to mean 0, variance 1 over channels.

    Batch: image uint8 (B, R, R, 3).
    """

    encoder: VitDet | TinyVit
    at: Literal["neck", "pre_neck"] = "neck"
    side: int | None = None
    normalise: Literal["none", "token"] = "none"

    @property
    def dim(self) -> int:
        """Channels of a target."""
        return _dim(self.encoder, self.at)

    def table(self) -> Table:
        return {"image_encoder": self.encoder.table()}

    def features(self, frozen: Params, batch: Batch, grid: int) -> Float[Array, "b g g d"]:
        """What a cache keeps: the map, resized to the grid."""
        x = normalize(batch["image"])
        if self.side is not None and x.shape[1] != self.side:
            x = jax.image.resize(x, (x.shape[0], self.side, self.side, 3), "bilinear")
        return _resized(_encode(self.encoder, self.at, frozen, x), grid)

    def targets(self, frozen: Params, batch: Batch, grid: int) -> Float[Array, "b t d"]:
        """Targets for the grid x grid tokens of the crops; no gradient."""
        return _finish(self.features(frozen, batch, grid), self.normalise)


@dataclasses.dataclass(frozen=True)
class FrameFeatures:
    """Features that SAM's image encoder makes of the whole image, cropped along with the student's view.

    The teacher sees what it was trained for: the longest side resized to its native size, padding to the right and
    below (the issue of interpolated positions does not arise), and each image has to be seen only once.

    at, normalise: as for `SamFeatures`.

    Batch: frame uint8 (B, S, S, 3), size (B, 2) of its content, rows and columns (B, grid, cells): see
    data.sami_views.FrameCrops.
    """

    encoder: VitDet | TinyVit
    at: Literal["neck", "pre_neck"] = "neck"
    normalise: Literal["none", "token"] = "none"

    @property
    def dim(self) -> int:
        """Channels of a target."""
        return _dim(self.encoder, self.at)

    def table(self) -> Table:
        return {"image_encoder": self.encoder.table()}

    def features(self, frozen: Params, batch: Batch, grid: int) -> Float[Array, "b h w d"]:
        """What a cache keeps: the map of the whole frame."""
        return _encode(self.encoder, self.at, frozen, normalize(batch["frame"], batch["size"]))

    def targets(self, frozen: Params, batch: Batch, grid: int) -> Float[Array, "b t d"]:
        """Targets for the grid x grid tokens of the crops; no gradient."""
        features = self.features(frozen, batch, grid)
        features = jnp.einsum("bgh,bhwd->bgwd", batch["rows"], features, precision="highest")
        features = jnp.einsum("bgw,bhwd->bhgd", batch["columns"], features, precision="highest")
        return _finish(features, self.normalise)


@dataclasses.dataclass(frozen=True)
class FlipFeatures:
    """Embeddings of the whole image in each of its four weak views: what a cache keeps for the anchor of `WeakLora`.

    Batch: frame uint8 (B, 4, S, S, 3), size (B, 2) of its content: see data.weak_frames.WeakViews.
    """

    encoder: VitDet | TinyVit

    def table(self) -> Table:
        return {"image_encoder": self.encoder.table()}

    def features(self, frozen: Params, batch: Batch, grid: int) -> Float[Array, "b 4 h w d"]:
        """What a cache keeps: the maps of the whole frame, as they are, one view after another."""

        def view(frame: Array) -> Array:
            return _encode(self.encoder, "neck", frozen, normalize(frame, batch["size"]))

        return jnp.moveaxis(jax.lax.map(view, jnp.moveaxis(batch["frame"], 1, 0)), 0, 1)


@dataclasses.dataclass(frozen=True)
class EncoderFeatures:
    """Features that any frozen encoder makes of the student's crop: a model of Keras or Flax by interop/, say.

    dim: channels of its map. normalise: as for `SamFeatures`.

    Batch: image uint8 (B, R, R, 3).
    """

    encoder: Encoder
    dim: int
    normalise: Literal["none", "token"] = "none"

    def table(self) -> Table:
        return self.encoder.table()

    def targets(self, frozen: Params, batch: Batch, grid: int) -> Float[Array, "b t d"]:
        """Targets for the grid x grid tokens of the crops; no gradient."""
        features, _ = self.encoder.apply(frozen, normalize(batch["image"]))
        return _finish(_resized(features, grid), self.normalise)


@dataclasses.dataclass(frozen=True)
class CachedFeatures:
    """Features that `sadist features` has computed: nothing of the teacher is in memory.

    dim: channels of a target.
    normalise: as for `SamFeatures`.

    Batch: target (B, grid, grid, dim): see data.sami_views.CachedCrops and FixedCrops, over data.features.WithFeatures.
    """

    dim: int = 256
    normalise: Literal["none", "token"] = "none"

    def table(self) -> Table:
        return {}

    def targets(self, frozen: Params, batch: Batch, grid: int) -> Float[Array, "b t d"]:
        """Targets for the grid x grid tokens of the crops. Raises BadInput where the cache has others."""
        target = batch["target"]
        if target.shape[1:] != (grid, grid, self.dim):
            raise BadInput(f"the cached features are {target.shape[1:]}, the method needs {(grid, grid, self.dim)}")
        return _finish(target.astype(jnp.float32), self.normalise)


def _dim(encoder: VitDet | TinyVit, at: str) -> int:
    if at == "neck":
        return encoder.out_dim
    return encoder.dim if isinstance(encoder, VitDet) else encoder.stages[-1].dim


def _encode(encoder: VitDet | TinyVit, at: str, frozen: Params, x: Float[Array, "b h w 3"]) -> Float[Array, "b h w d"]:
    neck, aux = encoder.apply(frozen["image_encoder"], x)
    return neck if at == "neck" else widen(aux["pre_neck"])


def _resized(features: Float[Array, "b h w d"], grid: int) -> Float[Array, "b g g d"]:
    b, h, w, d = features.shape
    if (h, w) == (grid, grid):
        return features
    return jax.image.resize(features, (b, grid, grid, d), "bilinear")  # antialiased when it shrinks


def _finish(features: Float[Array, "b h w d"], normalise: str) -> Float[Array, "b t d"]:
    b, h, w, d = features.shape
    return jax.lax.stop_gradient(_standardise(features.reshape(b, h * w, d), normalise))


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

    def targets(self, frozen: Params, batch: Batch, grid: int) -> Float[Array, "b t d"]:
        """Flattened patches in the order (row, column, colour) of the crops."""
        patches = patchify(normalize(batch["image"]), self.patch)
        if patches.shape[1] != grid:
            raise ValueError(f"patches of {self.patch} px make {patches.shape[1]} a side, the student has {grid}")
        return _standardise(patches.reshape(patches.shape[0], grid * grid, -1), self.normalise)


def _standardise(x: Array, normalise: str) -> Array:
    if normalise == "none":
        return x
    # MAE divides by the unbiased variance
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(jnp.var(x, -1, ddof=1, keepdims=True) + TARGET_EPS)
