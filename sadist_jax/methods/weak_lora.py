"""WeSAM: a SAM adapts itself to a new domain from prompts alone, without source data and without masks.

Source: Zhang et al. 2024, "Improving the Generalization of Segmentation Foundation Model under Distribution Shift via
Weakly Supervised Adaptation", arXiv:2312.03502, and its released code. Three branches answer the same prompts:

    anchor    the model as it was, on the weak view; frozen
    teacher   the model, on the weak view: its masks (logits > 0) are the pseudo-labels, without gradient
    student   the same model, on the strong view: learns them

    loss = 20 focal + dice + IoU          student to the teacher's masks
         + 0.5 dice + 0.5 dice            student, and teacher, to the anchor's masks
         + contrast                       features of the teacher's instances to those of the anchor's

so that the teacher has a gradient too, through the last two lines. An instance's feature is the mean, over the cells
that its branch's own mask covers, of embeddings of unit length.

`WeakLora(...)` is the method as the paper means it; `WeakLora.released(...)` does as the released code: the focal
loss's alpha and dice's smoothing are the number of instances, true IoUs are of logits above 0.5, the contrast is one
fraction for all instances of an image, in which instances with an empty mask take part as zero vectors, and an image
with one instance has none.

Ours, in both: pixels are those of the mask logits, and padding does not count (released: logits enlarged to the whole
padded frame); images are normalised as SAM wants them (released: not at all); the mean over the images of a batch
(released: the sum, with one image on a GPU). Ours, in the default: InfoNCE by rows for the contrast, as the name in the
paper says; its equation was not to be had here, and all versions of the code are pooled; and the background as one more
instance where an image has only one, as the author answers users whose contrast stays at 0.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import losses, tree
from sadist_jax.losses.weak import TEMPERATURE
from sadist_jax.methods.adapted import Adapted, Answers, content_of, true_masks
from sadist_jax.methods.mask_terms import MaskTerms, PerImage, averaged, collapsed, dice_of_all, overlap
from sadist_jax.methods.method import Aux, Tables, Terms
from sadist_jax.nn.table import Leaf
from sadist_jax.ops.pooling import mean_direction
from sadist_jax.ops.resize import resize
from sadist_jax.typing import Array, Batch, Bool, Float, Key, Params

AVERAGE_DECAY = 0.999  # in the released configuration, which does not use it


@dataclasses.dataclass(frozen=True)
class WeakLora:
    """Hyper-parameters.

    anchor_weight, contrast_weight: 0 leaves the term out; with both 0, self-training alone, which drifts.
    contrast: InfoNCE by 'rows', or the 'pooled' fraction of the released code; see losses/weak.py.
    background: when the rest of the image is one more instance: where there is 'one' other (with 'rows', one whose mask
      covers a cell in both branches), 'always', or 'never'.
    teacher: 'shared': the student's own weights. 'average': an exponential average of them, whose every step keeps
      `decay`; it has no gradient, so the anchor and contrast terms take the student in its place.

    Parameters: model.* (what trains); frozen: model.* (the rest), anchor.* (the old values of those leaves of the model
    itself that train: start them from the same file, `Start(r"(?:model|anchor)\\.((?!.*lora).*)", FILE)`); extra:
    average.* with the second teacher, which begins at the student's first weights by itself, and `begun`.
    Batch: what data/weak_frames.py makes: image and strong uint8 (B, S, S, 3), instance bool (B, K), index, weight
    (B,), and the prompts of `Adapted`; anchor (B, h, w, c), if there, is the anchor's embedding of the weak view, kept
    from before; masks (B, K, S, S), if there, are scored and nothing else.
    """

    model: Adapted
    masks: MaskTerms = MaskTerms()
    anchor_weight: float = 1.0
    contrast_weight: float = 1.0
    contrast: Literal["rows", "pooled"] = "rows"
    temperature: float = TEMPERATURE
    background: Literal["one", "always", "never"] = "one"
    teacher: Literal["shared", "average"] = "shared"
    decay: float = AVERAGE_DECAY

    @classmethod
    def released(cls, model: Adapted, **options: Any) -> "WeakLora":
        """The losses of the released code at commit 5ac493f (August 2024).

        The paper's own numbers are older: until July 2024 focal's entropy was averaged before it was modulated, and the
        features were weighted by raw logits.
        """
        return cls(model, **{"masks": MaskTerms.released(), "contrast": "pooled", "background": "never", **options})

    @classmethod
    def tiny(cls) -> tuple["WeakLora", dict[str, np.ndarray]]:
        """The method at toy size, with all of its parts, and a batch of eight images, for contract tests."""
        model, batch = Adapted.tiny(train=(r"mask_decoder\.iou_prediction_head\..*",))
        return cls(model, teacher="average"), batch

    def table(self) -> Tables:
        moving, still = self.model.tables()
        names = tree.flatten(self.model.sam.table())
        anchor, _ = tree.partition(moving, set(names))
        return {
            "params": {"model": moving},
            "frozen": {"model": still} | ({"anchor": anchor} if anchor and self._anchored else {}),
            "extra": {"average": moving, "begun": Leaf((), role="buffer")} if self.teacher == "average" else {},
        }

    def loss(
        self, params: Params, frozen: Params, extra: Params, batch: Batch, key: Key, step: Array
    ) -> tuple[Terms, Aux]:
        """20 focal + dice + IoU + anchor + contrast, averaged over images; see Method.

        Metrics, of the teacher's masks: `true_iou` with the ground truth, `agreement` with the anchor's masks, and
        which share is `pseudo_empty` or `pseudo_full`.
        """
        live = tree.merge(params["model"], frozen["model"])
        student = self.model.answer(live, batch["strong"], batch)
        if self.teacher == "shared":
            teacher = regular = self.model.answer(live, batch["image"], batch)
        else:
            begun = extra["begun"] > 0
            slow = jax.tree.map(lambda new, old: jnp.where(begun, old, new), params["model"], extra["average"])
            teacher = self.model.answer(tree.merge(jax.lax.stop_gradient(slow), frozen["model"]), batch["image"], batch)
            regular = student
        pseudo = jax.lax.stop_gradient(teacher.logits > 0)
        real, valid = batch["instance"], content_of(batch, pseudo.shape[2:])
        weight = batch["weight"] * real.any(1)

        terms = averaged(self.masks(student, pseudo, valid, real), weight, self.masks.weights)
        each = real * batch["weight"][:, None]
        metrics = collapsed(pseudo, valid, each)
        if "masks" in batch:
            metrics["true_iou"] = overlap(pseudo, true_masks(batch, pseudo.shape[3]), valid, each)
        if self._anchored:
            anchor = self._anchor(frozen, batch)
            held = self._held(student, regular, anchor, valid, real, batch)
            terms |= averaged(held, weight, {"anchor": self.anchor_weight, "contrast": self.contrast_weight})
            metrics["agreement"] = overlap(pseudo, anchor.logits > 0, valid, each)
        return terms, {"metrics": metrics}

    def after_step(self, params: Params, extra: Params, step: Array) -> Params:
        if self.teacher == "shared":
            return extra

        def mix(old: Array, new: Array) -> Array:
            return jnp.where(extra["begun"] > 0, self.decay * old + (1 - self.decay) * new, new)

        average = jax.tree.map(mix, extra["average"], params["model"])
        return {"average": average, "begun": jnp.ones_like(extra["begun"])}

    @property
    def _anchored(self) -> bool:
        return bool(self.anchor_weight or self.contrast_weight)

    def _anchor(self, frozen: Params, batch: Batch) -> Answers:
        """What the model said before any step."""
        base = tree.merge(frozen["model"], frozen.get("anchor", {}))
        if "anchor" in batch:
            return self.model.decode(base, batch["anchor"].astype(jnp.float32), batch)
        return self.model.answer(base, batch["image"], batch)

    def _held(
        self, student: Answers, regular: Answers, anchor: Answers, valid: Bool[Array, "b h w"],
        real: Bool[Array, "b k"], batch: Batch,
    ) -> dict[str, PerImage]:  # fmt: skip
        """The terms that hold the model to the anchor."""
        terms, masks = {}, anchor.logits > 0
        if self.anchor_weight:
            both = [dice_of_all(answers.logits, masks, valid, real) for answers in (student, regular)]
            terms["anchor"] = 0.5 * both[0] + 0.5 * both[1]
        if self.contrast_weight:
            terms["contrast"] = self._contrast(regular, anchor, real, batch)
        return terms

    def _contrast(self, live: Answers, anchor: Answers, real: Bool[Array, "b k"], batch: Batch) -> PerImage:
        x, seen = self._features(live, real, batch)
        y, held = self._features(anchor, real, batch)
        told = real if self.contrast == "pooled" else real & (seen & held)[:, :-1]  # apart, by their features
        wanted = {"one": told.sum(1) == 1, "always": real.any(1), "never": jnp.zeros(len(real), bool)}[self.background]
        where = jnp.concatenate([told, wanted[:, None]], 1)
        if self.contrast == "pooled":
            return losses.instance_contrast_pooled(x, y, temperature=self.temperature, where=where[..., None])
        where = where & seen & held
        rows = losses.instance_contrast(x, y, temperature=self.temperature, where=where[..., None])
        return rows.sum(1) / jnp.maximum(where.sum(1), 1)

    def _features(
        self, answers: Answers, real: Bool[Array, "b k"], batch: Batch
    ) -> tuple[Float[Array, "b k+1 c"], Bool[Array, "b k+1"]]:
        """(feature of every instance and, last, of the background; which of them have any cell)."""
        _, height, width, _ = answers.embedding.shape
        logits = jnp.moveaxis(jax.lax.stop_gradient(answers.logits), 1, -1)
        inside = jnp.moveaxis(resize(logits, (height, width)) > 0, -1, 1) & real[..., None, None]
        rest = ~inside.any(1, keepdims=True)
        masks = jnp.concatenate([inside, rest], 1) & content_of(batch, (height, width))[:, None]
        return mean_direction(answers.embedding, masks), masks.any((-2, -1))
