"""Promptable segmentation: how SAM is trained, and EfficientSAM's second stage.

Source: Kirillov et al. 2023, "Segment Anything", app. A. Where it is silent, SAM-2's released training code decides:
dice with smoothing 1, focal averaged over pixels, IoU of the thresholded logits as the IoU head's target.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import losses
from sadist_jax.losses.segmentation import FOCAL_ALPHA, FOCAL_GAMMA
from sadist_jax.methods.clicks import Clicks
from sadist_jax.methods.method import Aux, Tables, Terms
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.mask_decoder import NUM_MASKS
from sadist_jax.models.prompts import Prompts
from sadist_jax.models.sam import Sam
from sadist_jax.ops.masks import area_downsample, mask_iou
from sadist_jax.ops.pixels import content
from sadist_jax.typing import Array, Batch, Bool, Float, Key, Params

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT = 20.0, 1.0, 1.0  # Kirillov et al. 2023, app. A
DECODED = 4  # mask logits per token of the embedding, along a side


@dataclasses.dataclass(frozen=True)
class Promptable:
    """Hyper-parameters.

    multimask: which rounds predict three masks and train the best of them. 'first': the first only, token 0 after
      that, as SAM; 'always': every round, as EfficientSAM, whose token 0 is untrained.
    box_multimask: whether a lone box counts as ambiguous (the paper does not say; SAM-2's configuration says no).
    iou_of: which predicted IoUs are trained: of 'all' masks in play (SAM-2's `supervise_all_iou`), or of the 'best'.
    remat: predict each round again in the backward pass: the activations of eleven decoders do not fit otherwise.

    Batch: image uint8 (B, S, S, 3), size (B, 2), masks {0, 1} (B, K, S, S), instance bool (B, K), index, weight (B,).
    Losses are taken at the resolution of the mask logits; a target pixel is set where half of its area is.
    """

    model: Sam | EfficientSam
    clicks: Clicks = Clicks()
    multimask: Literal["first", "always"] = "first"
    box_multimask: bool = False
    iou_of: Literal["all", "best"] = "all"
    focal_weight: float = FOCAL_WEIGHT
    focal_alpha: float = FOCAL_ALPHA
    focal_gamma: float = FOCAL_GAMMA
    dice_weight: float = DICE_WEIGHT
    iou_weight: float = IOU_WEIGHT
    remat: bool = True

    @classmethod
    def tiny(cls) -> tuple["Promptable", dict[str, np.ndarray]]:
        """The method with a toy SAM and a batch of eight images, for contract tests."""
        model = dataclasses.replace(Sam.mini(depth=2, dim=16, heads=2, global_blocks=(1,), image_size=64))
        rows, cols = np.mgrid[:64, :64]
        masks = np.stack([(rows - 20 - i) ** 2 + (cols - 24) ** 2 < 144 for i in range(8)])[:, None]
        batch = {
            "image": np.repeat(masks[:, 0, :, :, None] * np.uint8(200), 3, -1),
            "size": np.tile(np.array([64, 56], np.int32), (8, 1)),
            "masks": np.concatenate([masks, ~masks], 1).astype(np.uint8),
            "instance": np.array([[True, i % 2 == 0] for i in range(8)]),
            "index": np.arange(8, dtype=np.int32),
            "weight": np.ones(8, np.float32),
        }
        return cls(model, Clicks(rounds=3, quiet_rounds=1)), batch

    def table(self) -> Tables:
        return {"params": self.model.table(), "frozen": {}, "extra": {}}

    def loss(
        self, params: Params, frozen: Params, extra: Params, batch: Batch, key: Key, step: Array
    ) -> tuple[Terms, Aux]:
        """20 focal + dice + IoU regression, averaged over instances and rounds; see Method."""
        embedding = self.model.encode(params, batch["image"], batch["size"])
        scale = batch["masks"].shape[-1] // (DECODED * embedding.shape[2])
        target = area_downsample(batch["masks"], scale) >= 0.5
        _, _, height, width = target.shape
        valid = content((height, width), -(-batch["size"] // scale))
        real = batch["instance"] & (target & valid[:, None]).any((-2, -1))
        weight = real * batch["weight"][:, None]

        start_key, correct_key, quiet_key = jax.random.split(key, 3)
        start = jax.vmap(jax.vmap(lambda k, t, s: self.clicks.start(k, t, s, scale), (0, 0, None)))
        slots, labels, is_box = start(_keys(start_key, batch["index"], target.shape[1]), target, batch["size"])

        def one_round(carry, x):
            slots, labels, feedback = carry
            number, add = x
            logits, iou = self._decode(params, embedding, slots, labels, feedback, number > 0)
            first = (number == 0) & (~is_box | self.box_multimask)
            in_play = self._in_play(first)
            per_round = self._terms(logits, iou, target, valid, in_play)
            shown = jnp.where(in_play, iou, -jnp.inf).argmax(-1)[..., None, None, None]
            feedback = jax.lax.stop_gradient(jnp.take_along_axis(logits, shown, 2)[:, :, 0])
            keys = _keys(jax.random.fold_in(correct_key, number), batch["index"], target.shape[1])
            correct = jax.vmap(
                jax.vmap(self.clicks.correct, (0, 0, 0, None, None, 0, 0, None)), (0, 0, 0, 0, None, 0, 0, None)
            )
            slots, labels = correct(keys, feedback > 0, target, valid, scale, slots, labels, add)
            true_iou = mask_iou(feedback > 0, target, where=valid[:, None])
            return (slots, labels, feedback), per_round | {"shown_iou": true_iou}

        numbers = jnp.arange(self.clicks.rounds)
        carry = (slots, labels, jnp.zeros(target.shape, jnp.float32))
        one_round = jax.checkpoint(one_round) if self.remat else one_round
        _, rounds = jax.lax.scan(one_round, carry, (numbers, self.clicks.schedule(quiet_key)))

        total = weight.sum()
        coefficients = {"focal": self.focal_weight, "dice": self.dice_weight, "iou": self.iou_weight}
        terms = {name: ((rounds[name].mean(0) * weight).sum(), total, c) for name, c in coefficients.items()}
        shown = rounds["shown_iou"]
        metrics = {"iou_first": ((shown[0] * weight).sum(), total), "iou_last": ((shown[-1] * weight).sum(), total)}
        return terms, {"metrics": metrics}

    def after_step(self, params: Params, extra: Params, step: Array) -> Params:
        return extra

    def _decode(self, params, embedding, slots, labels, feedback, has_mask):
        if not self.model.takes_masks:
            return self.model.decode(params, embedding, Prompts(slots, labels))
        has_mask = jnp.broadcast_to(has_mask, labels.shape[:2])
        return self.model.decode(params, embedding, Prompts(slots, labels, feedback, has_mask))

    def _in_play(self, first: Bool[Array, "b k"]) -> Bool[Array, "b k 4"]:
        """Which mask tokens a prompt trains: 1, 2, 3 where it is ambiguous, else 0."""
        multi = jnp.ones_like(first) if self.multimask == "always" else first
        return multi[..., None] == (jnp.arange(NUM_MASKS) > 0)

    def _terms(
        self, logits: Float[Array, "b k 4 h w"], iou: Float[Array, "b k 4"], target: Bool[Array, "b k h w"],
        valid: Bool[Array, "b h w"], in_play: Bool[Array, "b k 4"],
    ) -> dict[str, Float[Array, "b k"]]:  # fmt: skip
        """Losses of the mask in play with the lowest mask loss: back-propagated through that one only."""
        target, where = target[:, :, None], valid[:, None, None]
        focal = losses.focal_mask(logits, target, alpha=self.focal_alpha, gamma=self.focal_gamma, where=where)
        dice = losses.dice(logits, target, where=where)
        regression = losses.iou_regression(iou, logits, target, where=where)
        mask_loss = self.focal_weight * focal + self.dice_weight * dice
        best = jnp.where(in_play, mask_loss, jnp.inf).argmin(-1)
        chosen = jax.nn.one_hot(best, NUM_MASKS)
        scored = in_play if self.iou_of == "all" else chosen
        picked = {"focal": (focal * chosen).sum(-1), "dice": (dice * chosen).sum(-1)}
        return picked | {"iou": (regression * scored).sum(-1) / scored.sum(-1)}


def _keys(key: Key, index: Array, instances: int) -> Key:
    """(B, K) keys: an instance's draw depends on its image's position in the stream and on its own row only."""
    rows = jnp.arange(instances)
    return jax.vmap(lambda i: jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(key, i), k))(rows))(index)
