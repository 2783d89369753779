"""SAMI: masked image pretraining that reconstructs the features of SAM's encoder.

Source: Xiong et al. 2023, "EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment Anything", sec. 3.2,
eq. 1. With `Pixels`, `JointDecoder` and loss_on='masked' it is MAE (He et al. 2022) without a class token.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import losses
from sadist_jax.methods.method import Aux, Tables, Terms
from sadist_jax.methods.student import TokenEncoder
from sadist_jax.methods.teacher import CachedFeatures, EncoderFeatures, FrameFeatures, Pixels, SamFeatures
from sadist_jax.models.sami_decoder import CrossDecoder, JointDecoder
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.ops.pixels import normalize
from sadist_jax.typing import Array, Batch, Int, Key, Params

Features = SamFeatures | FrameFeatures | EncoderFeatures | CachedFeatures


@dataclasses.dataclass(frozen=True)
class Sami:
    """Hyper-parameters and parts.

    student: a Vit of ours, or any encoder that can leave tokens out (interop/flax.py has one of NNX).
    mask_ratio: share of tokens that the student does not see (paper: 0.75; 0.5 and 0.85 in its ablation).
    distance: 'mse' (paper), or 'cosine' (its ablation, 0.4 to 0.7 points of top-1 worse).
    loss_on: 'all' tokens (paper, eq. 1), or the 'masked' ones only, as MAE.

    Parameters: student.* (the names of EfficientSAM's encoder below image_encoder), decoder.*; frozen: teacher.*.
    Batch: image uint8 (B, R, R, 3), R = student.image_size; index, weight (B,).
    """

    student: TokenEncoder
    decoder: CrossDecoder | JointDecoder
    teacher: Features | Pixels
    mask_ratio: float = 0.75
    distance: Literal["mse", "cosine"] = "mse"
    loss_on: Literal["all", "masked"] = "all"

    def __post_init__(self):
        expected = (self.student.dim, self.teacher.dim, self.student.grid)
        got = (self.decoder.in_dim, self.decoder.out_dim, self.decoder.grid)
        if expected != got:
            raise ValueError(
                f"the decoder's (in_dim, out_dim, grid) = {got} must be {expected}: student's dim, teacher's, grid"
            )
        if not 0 < self.kept < self.student.grid**2:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} leaves {self.kept} of {self.student.grid**2} tokens visible"
            )

    @classmethod
    def make(cls, student: TokenEncoder, teacher: Features, **options) -> "Sami":
        """SAMI with the paper's decoder (8 blocks of 512 channels), sized to fit."""
        return cls(student, CrossDecoder(student.dim, teacher.dim, student.grid), teacher, **options)

    @classmethod
    def tiny(cls) -> tuple["Sami", dict[str, np.ndarray]]:
        """The method at toy size and a batch of eight crops, for contract tests."""
        student = Vit(dim=16, depth=2, heads=2, patch=8, image_size=32)
        teacher = SamFeatures(VitDet(8, 2, 2, (1,), window=2, patch=8, image_size=64, out_dim=8))
        crops = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        batch = {"image": crops, "index": np.arange(8, dtype=np.int32), "weight": np.ones(8, np.float32)}
        return cls(student, CrossDecoder(16, 8, 4, dim=16, depth=2, heads=2), teacher), batch

    @property
    def grid(self) -> int:
        """Targets along a side."""
        return self.student.grid

    @property
    def kept(self) -> int:
        """Visible tokens of a crop."""
        return int(self.student.grid**2 * (1 - self.mask_ratio))

    def table(self) -> Tables:
        teacher = self.teacher.table()
        params = {"student": self.student.table(), "decoder": self.decoder.table()}
        return {"params": params, "frozen": {"teacher": teacher} if teacher else {}, "extra": {}}

    def loss(
        self, params: Params, frozen: Params, extra: Params, batch: Batch, key: Key, step: Array
    ) -> tuple[Terms, Aux]:
        """Distance to the teacher's features, averaged over tokens and images; see Method."""
        target = self.teacher.targets(frozen.get("teacher", {}), batch, self.student.grid)
        order = self.shuffle(key, batch["index"])
        tokens = self.student.embed(params["student"], normalize(batch["image"]))
        tokens = tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])
        visible = jnp.take_along_axis(tokens, order[:, : self.kept, None], 1)
        visible, _ = self.student.encode(params["student"], visible, order[:, : self.kept])
        guess = self.decoder.apply(params["decoder"], visible, order)

        distance = losses.feature_mse if self.distance == "mse" else losses.feature_cosine
        error = distance(guess.astype(target.dtype), target)
        hidden = jnp.argsort(order, axis=1) >= self.kept
        counted = hidden if self.loss_on == "masked" else jnp.ones_like(hidden)
        weight = batch["weight"]
        total = (jnp.where(counted, error, 0).sum(1) / counted.sum(1) * weight).sum()
        name = f"feature_{self.distance}"
        similarity = 1 - losses.feature_cosine(guess.astype(target.dtype), target)
        at_hidden = (jnp.where(hidden, similarity, 0).sum(1) / hidden.sum(1) * weight).sum()
        return {name: (total, weight.sum(), 1.0)}, {"metrics": {"masked_similarity": (at_hidden, weight.sum())}}

    def after_step(self, params: Params, extra: Params, step: Array) -> Params:
        return extra

    def shuffle(self, key: Key, index: Int[Array, " b"]) -> Int[Array, "b t"]:
        """A random order of the tokens for each sample; the first `kept` are visible."""
        tokens = self.student.grid**2
        return jax.vmap(lambda i: jax.random.permutation(jax.random.fold_in(key, i), tokens))(index)
