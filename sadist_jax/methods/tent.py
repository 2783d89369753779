"""Entropy minimisation, the simplest adaptation without labels: the masks shall be sure of themselves.

Source: Wang et al. 2021, "Tent: Fully Test-Time Adaptation by Entropy Minimization", arXiv:2006.10726; "TENT" in the
tables of WeSAM (Zhang et al. 2024, arXiv:2312.03502), which does not say how it is carried over to SAM. Ours: the
entropy of the pixels of mask 0, averaged over content, instances and images. Wang et al. train the scales and shifts of
the norms; for that give `Adapted(sam, lora=None, train=NORMS)`. The default are the leaves that `WeakLora` trains.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from sadist_jax import losses, tree
from sadist_jax.methods.adapted import Adapted, content_of, true_masks
from sadist_jax.methods.mask_terms import averaged, collapsed, overlap
from sadist_jax.methods.method import Aux, Tables, Terms
from sadist_jax.typing import Array, Batch, Key, Params

NORMS = (r"image_encoder\.(.*\.norm\d|neck\.[13])\.(weight|bias)",)  # of SAM's image encoder


@dataclasses.dataclass(frozen=True)
class Tent:
    """Hyper-parameters: those of the model.

    Parameters: model.* (what trains); frozen: model.* (the rest).
    Batch: as `WeakLora`'s, without a strong view; masks, if there, are scored and nothing else.
    """

    model: Adapted

    @classmethod
    def tiny(cls) -> tuple["Tent", dict[str, np.ndarray]]:
        """The method at toy size, training norms, and a batch of eight images, for contract tests."""
        model, batch = Adapted.tiny(lora=None, train=NORMS)
        return cls(model), batch

    def table(self) -> Tables:
        moving, still = self.model.tables()
        return {"params": {"model": moving}, "frozen": {"model": still}, "extra": {}}

    def loss(
        self, params: Params, frozen: Params, extra: Params, batch: Batch, key: Key, step: Array
    ) -> tuple[Terms, Aux]:
        """Entropy of the masks, averaged over images; see Method.

        Metrics: `true_iou` with the ground truth, and which share of the masks is `pseudo_empty` or `pseudo_full`.
        """
        answers = self.model.answer(tree.merge(params["model"], frozen["model"]), batch["image"], batch)
        real, valid = batch["instance"], content_of(batch, answers.logits.shape[2:])
        weight = batch["weight"] * real.any(1)
        each = losses.mask_entropy(answers.logits, where=valid[:, None] & real[..., None, None])
        image = each.sum(1) / jnp.maximum(real.sum(1), 1)
        terms = averaged({"entropy": image}, weight, {"entropy": 1.0})
        masks, counted = answers.logits > 0, real * batch["weight"][:, None]
        metrics = collapsed(masks, valid, counted)
        if "masks" in batch:
            metrics["true_iou"] = overlap(masks, true_masks(batch, masks.shape[3]), valid, counted)
        return terms, {"metrics": metrics}

    def after_step(self, params: Params, extra: Params, step: Array) -> Params:
        return extra
