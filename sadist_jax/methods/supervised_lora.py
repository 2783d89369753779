"""The upper bound of weak adaptation: the same leaves, prompts and losses as `WeakLora`, with the true masks.

Source: Zhang et al. 2024, arXiv:2312.03502 (WeSAM), "Supervised" of its tables, which the author calls the same code
with ground truth, after lightning-sam; that one trains on plain images, hence the weak view.
"""

import dataclasses
from typing import Literal

import numpy as np

from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.methods.adapted import Adapted, content_of, true_masks
from sadist_jax.methods.mask_terms import MaskTerms, averaged, overlap
from sadist_jax.methods.method import Aux, Tables, Terms
from sadist_jax.typing import Array, Batch, Key, Params


@dataclasses.dataclass(frozen=True)
class SupervisedLora:
    """Hyper-parameters. view: which image it looks at, 'weak' as here, or 'strong' as the student of `WeakLora`.

    Parameters: model.* (what trains); frozen: model.* (the rest).
    Batch: as `WeakLora`'s, with masks uint8 {0, 1} (B, K, S, S); instances that vanish at the resolution of the mask
    logits do not count.
    """

    model: Adapted
    masks: MaskTerms = MaskTerms()
    view: Literal["weak", "strong"] = "weak"

    @classmethod
    def tiny(cls) -> tuple["SupervisedLora", dict[str, np.ndarray]]:
        """The method at toy size and a batch of eight images, for contract tests."""
        model, batch = Adapted.tiny()
        return cls(model), batch

    def table(self) -> Tables:
        moving, still = self.model.tables()
        return {"params": {"model": moving}, "frozen": {"model": still}, "extra": {}}

    def loss(
        self, params: Params, frozen: Params, extra: Params, batch: Batch, key: Key, step: Array
    ) -> tuple[Terms, Aux]:
        """20 focal + dice + IoU, averaged over images; the metric `true_iou` is the mean over instances. See Method."""
        if "masks" not in batch:
            raise BadInput(
                "SupervisedLora needs true masks, which automatic prompts come without; choose another prompt"
            )
        image = batch["image" if self.view == "weak" else "strong"]
        answers = self.model.answer(tree.merge(params["model"], frozen["model"]), image, batch)
        valid = content_of(batch, answers.logits.shape[2:])
        target = true_masks(batch, answers.logits.shape[3])
        real = batch["instance"] & (target & valid[:, None]).any((-2, -1))
        weight = batch["weight"] * real.any(1)
        terms = averaged(self.masks(answers, target, valid, real), weight, self.masks.weights)
        found = overlap(answers.logits > 0, target, valid, real * batch["weight"][:, None])
        return terms, {"metrics": {"true_iou": found}}

    def after_step(self, params: Params, extra: Params, step: Array) -> Params:
        return extra
