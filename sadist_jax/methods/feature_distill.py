"""A student's map of features learns a frozen SAM encoder's, on whole images: plain feature distillation.

The loss is SAMI's (Xiong et al. 2023, sec. 3.2) without masks and decoder; it is also how MobileSAM's encoder was made
(Zhang et al. 2023, arXiv 2306.14289, sec. 3.2: mean squared error to the image embedding of ViT-H). Any encoder is a
student: one of models/, or one of Keras or Flax by interop/.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import losses, tree
from sadist_jax.errors import BadInput
from sadist_jax.methods.method import Aux, Tables, Terms
from sadist_jax.methods.student import Encoder, Trained
from sadist_jax.methods.teacher import CachedFeatures, EncoderFeatures, SamFeatures
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import layers
from sadist_jax.ops.pixels import normalize
from sadist_jax.typing import Array, Batch, Float, Key, Params


@dataclasses.dataclass(frozen=True)
class FeatureDistill:
    """Hyper-parameters and parts.

    dim: channels of the student's map.
    grid: rows and columns of the targets; the teacher's map is resized to it (averaged where that shrinks it), and so
      is the student's, bilinearly, after a linear layer to the teacher's channels.

    Parameters: student.*, head.*; frozen: teacher.*; extra: the student's statistics, if it has any.
    Batch: image uint8 (B, R, R, 3), of sides that both encoders take; index, weight (B,).

    Dropout of a student that has it is drawn for the whole batch, from the key and the first sample's index: a foreign
    model takes one key for all samples.
    """

    student: Encoder
    teacher: SamFeatures | EncoderFeatures | CachedFeatures
    dim: int
    grid: int

    @classmethod
    def tiny(cls) -> tuple["FeatureDistill", dict[str, np.ndarray]]:
        """The method at toy size and a batch of eight images, for contract tests."""
        student = Vit(dim=16, depth=1, heads=2, patch=8, image_size=32)
        teacher = SamFeatures(VitDet(8, 2, 2, (1,), window=2, patch=8, image_size=64, out_dim=8))
        images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        batch = {"image": images, "index": np.arange(8, dtype=np.int32), "weight": np.ones(8, np.float32)}
        return cls(student, teacher, dim=16, grid=4), batch

    def table(self) -> Tables:
        student, teacher = self.student.table(), self.teacher.table()
        moved = {name for name, leaf in tree.flatten(student).items() if leaf.role == "stat"}
        stats, weights = tree.partition(student, moved)
        return {
            "params": {"student": weights, "head": layers.dense_table(self.dim, self.teacher.dim)},
            "frozen": {"teacher": teacher} if teacher else {},
            "extra": {"student": stats} if stats else {},
        }

    def loss(
        self, params: Params, frozen: Params, extra: Params, batch: Batch, key: Key, step: Array
    ) -> tuple[Terms, Aux]:
        """Mean squared error to the teacher's features, averaged over cells and images; see Method."""
        target = self.teacher.targets(frozen.get("teacher", {}), batch, self.grid)
        student = tree.merge(params["student"], extra.get("student", {}))
        image = normalize(batch["image"])
        if isinstance(self.student, Trained):
            features, aux = self.student.train(student, image, jax.random.fold_in(key, batch["index"][0]))
        else:
            features, aux = self.student.apply(student, image)
        guess = self._head(params["head"], features).astype(target.dtype)
        weight = batch["weight"]
        error = losses.feature_mse(guess, target).mean(1)
        similarity = (1 - losses.feature_cosine(guess, target)).mean(1)
        terms = {"feature_mse": ((error * weight).sum(), weight.sum(), 1.0)}
        metrics = {"similarity": ((similarity * weight).sum(), weight.sum())}
        moved = {"student": aux["stats"]} if aux.get("stats") else {}
        return terms, {"metrics": metrics, "moved": moved}

    def after_step(self, params: Params, extra: Params, step: Array) -> Params:
        return extra

    def _head(self, params: Params, features: Float[Array, "b h w c"]) -> Float[Array, "b t d"]:
        if features.shape[-1] != self.dim:
            raise BadInput(f"the student's map has {features.shape[-1]} channels, and dim is {self.dim}")
        x = layers.dense(params, features)
        b, h, w, d = x.shape
        if (h, w) != (self.grid, self.grid):
            x = jax.image.resize(x, (b, self.grid, self.grid, d), "bilinear")
        return jnp.reshape(x, (b, self.grid**2, d))
