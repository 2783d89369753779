"""Fine-tuning on class labels, with label smoothing and mixup: how a pretrained encoder is judged on ImageNet.

Source: Xiong et al. 2023, "EfficientSAM", sec. 4.1: 100 epochs with RandAugment (data/class_crops.py), label smoothing
0.1 and mixup 0.8. The paper does not say how tokens become one feature (ours: their mean, as MAE), and names neither
CutMix, drop path nor random erasing: the first and the last are left out, drop path is a field of the `Vit`.

Mixup (Zhang et al. 2018, arXiv:1710.09412): images and targets of two rows become l * own + (1 - l) * partner's,
l ~ Beta(a, a), the same l for both rows of a pair. Row i of the first half of the rows is paired with row i of the
second. However a batch is dealt out into micro-batches (train/step.py takes every k-th row), halves of a micro-batch
are parts of the halves of the batch, so accumulation, devices and hosts do not change who is mixed with whom; and l
comes from the position of the pair's first row. Ours: an l for each pair (timm, and so MAE, draws one a batch).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import losses
from sadist_jax.errors import BadInput
from sadist_jax.methods.method import Aux, Tables, Terms
from sadist_jax.models.classifier import Classifier
from sadist_jax.models.vit import Vit
from sadist_jax.ops.beta import beta_quantile
from sadist_jax.ops.pixels import normalize
from sadist_jax.typing import Array, Batch, Float, Int, Key, Params


@dataclasses.dataclass(frozen=True)
class Supervised:
    """Hyper-parameters and parts.

    label_smoothing: share e of the target that is spread over all classes: (1 - e) * one_hot + e / classes.
    mixup: a of Beta(a, a), for every pair; 0: off. On, a micro-batch must have an even number of rows.

    Parameters: the model's own, without a prefix; a SAMI run starts them by
    `Start(r"(?!fc_norm|head).*", "runs/sami_s", "student.")`.
    Batch: image uint8 (B, R, R, 3), label int32 (B,) in 0..classes - 1, index, weight (B,). A mixed row keeps its own
    weight, so that the sum of weights depends on the batch alone; a row of weight 0 is mixed with nothing.
    """

    model: Classifier
    label_smoothing: float = 0.1
    mixup: float = 0.8

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise BadInput(f"method.label_smoothing is {self.label_smoothing}; it must be from 0 to below 1")
        if self.mixup < 0:
            raise BadInput(f"method.mixup is {self.mixup}; it must be above 0, or 0 for none")

    @classmethod
    def tiny(cls) -> tuple["Supervised", dict[str, np.ndarray]]:
        """The method at toy size and a batch of eight images, for contract tests."""
        model = Classifier(Vit(dim=16, depth=2, heads=2, patch=8, image_size=32, drop_path=0.1), classes=3)
        images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        labels = np.arange(8, dtype=np.int32) % 3
        rows = {"index": np.arange(8, dtype=np.int32), "weight": np.ones(8, np.float32)}
        return cls(model), {"image": images, "label": labels} | rows

    def table(self) -> Tables:
        return {"params": self.model.table(), "frozen": {}, "extra": {}}

    def loss(
        self, params: Params, frozen: Params, extra: Params, batch: Batch, key: Key, step: Array
    ) -> tuple[Terms, Aux]:
        """Cross-entropy averaged over images; see Method.

        The metric `accuracy` counts the classes of the larger share of what is seen, which is a mixture: below what the
        model reaches on whole images, and above it early on, where mixtures are of one class.
        """
        mix_key, drop_key = jax.random.split(key)
        image, target = self.mix(mix_key, batch)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(drop_key, batch["index"])
        logits, _ = self.model.apply(params, image, keys)
        weight = batch["weight"]
        entropy = losses.softmax_cross_entropy(logits, target)
        hit = logits.argmax(-1) == target.argmax(-1)
        terms = {"cross_entropy": ((entropy * weight).sum(), weight.sum(), 1.0)}
        return terms, {"metrics": {"accuracy": ((hit * weight).sum(), weight.sum())}}

    def after_step(self, params: Params, extra: Params, step: Array) -> Params:
        return extra

    def mix(self, key: Key, batch: Batch) -> tuple[Float[Array, "b H W 3"], Float[Array, "b classes"]]:
        """(normalised images, targets), both mixed with those of the partner where mixup is on."""
        image, target = batch["image"], self.targets(batch["label"])
        if not self.mixup:
            return normalize(image), target
        share = self.shares(key, batch["index"], batch["weight"])

        def blend(own: Array, other: Array) -> Array:
            part = share.reshape(-1, *[1] * (own.ndim - 1))
            return part * own + (1 - part) * other

        # a partner may lie on another device: it travels as bytes
        return blend(normalize(image), normalize(_partner(image))), blend(target, _partner(target))

    def targets(self, label: Int[Array, " b"]) -> Float[Array, "b classes"]:
        """Smoothed labels (Szegedy et al. 2016, arXiv:1512.00567, sec. 7)."""
        spread = self.label_smoothing / self.model.classes
        return (1 - self.label_smoothing) * jax.nn.one_hot(label, self.model.classes) + spread

    def shares(self, key: Key, index: Int[Array, " b"], weight: Float[Array, " b"]) -> Float[Array, " b"]:
        """l: how much of each row stays its own, the same for both rows of a pair; 1 where one of them is a filler.

        Raises BadInput for an odd number of rows, one of which would have no partner.
        """
        half, odd = divmod(len(index), 2)
        if odd:
            raise BadInput(
                f"mixup pairs the rows of a batch, and {len(index)} of them are odd; make global_batch / "
                "optim.accumulate even, or give --method.mixup 0"
            )

        def draw(position: Array) -> Array:
            return jax.random.uniform(jax.random.fold_in(key, position))

        share = jnp.tile(beta_quantile(jax.vmap(draw)(index[:half]), self.mixup), 2)
        return jnp.where((weight > 0) & (_partner(weight) > 0), share, 1.0)


def _partner(rows: Array) -> Array:
    """The row that each row is paired with: the two halves change places."""
    return rows.reshape(2, -1, *rows.shape[1:])[::-1].reshape(rows.shape)
