"""Promptable segmentation: how SAM is trained, and EfficientSAM's second stage.

Source: Kirillov et al. 2023, "Segment Anything", app. A. Where it is silent, SAM-2's released training code decides:
dice with smoothing 1, focal averaged over pixels, IoU of the thresholded logits as the IoU head's target.

Ours: losses and IoU targets are taken at the resolution of the mask logits, averaged over the rounds, and leave the
padding out; SAM-2 upsamples the logits to the frame, sums over the rounds and counts the whole frame.

Left out of SAM's recipe: drop path in the encoder, dropout in the decoder, layer-wise decay of the learning rate.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import losses
from sadist_jax.errors import BadInput
from sadist_jax.losses.segmentation import FOCAL_ALPHA, FOCAL_GAMMA
from sadist_jax.methods.clicks import Clicks
from sadist_jax.methods.method import Aux, Tables, Terms
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.mask_decoder import NUM_MASKS
from sadist_jax.models.prompts import Prompts
from sadist_jax.models.sam import Sam
from sadist_jax.nn.whole import all_whole
from sadist_jax.ops.masks import area_downsample, mask_iou, mask_to_box
from sadist_jax.ops.pixels import content
from sadist_jax.ops.similarity import similarity_to_mask
from sadist_jax.typing import Array, Batch, Bool, Float, Int, Key, Params

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT = 20.0, 1.0, 1.0  # Kirillov et al. 2023, app. A
DECODED = 4  # mask logits per token of the embedding, along a side
POOLED_SCALE, POOLED_CENTRE = 10.0, 0.5  # logit: scale * (cosine - centre), so 5 for equal, -5 for orthogonal ones


@dataclasses.dataclass(frozen=True)
class Promptable:
    """Hyper-parameters.

    multimask: which rounds predict three masks and train the best of them. 'first': the first only, token 0 after
      that, as SAM; 'always': every round, as EfficientSAM, whose token 0 is untrained.
    box_multimask: whether a lone box counts as ambiguous (the paper does not say; SAM-2's configuration says no).
    iou_of: which predicted IoUs are trained: of 'all' masks in play (SAM-2's `supervise_all_iou`), or of the 'best'.
    pooled_weight: ours, for encoders that start from scratch: of a loss that asks the embedding itself to be alike
      inside an instance and unlike outside, see `_pooled`; 0: SAM's recipe.
    remat: predict each round again in the backward pass: the activations of eleven decoders do not fit otherwise. False
      also unrolls the rounds: a loop would copy what each of them keeps.

    Batch: image uint8 (B, S, S, 3), size (B, 2), masks {0, 1} (B, K, S, S), instance bool (B, K), index, weight (B,).
    A target pixel, of the size of a mask logit, is set where half of its area is.
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
    pooled_weight: float = 0.0
    remat: bool = True

    def __post_init__(self):
        slots = self.model.slots if isinstance(self.model, EfficientSam) else 0
        if slots and self.clicks.most_points > slots:
            raise BadInput(
                f"prompts of {self.clicks} come to {self.clicks.most_points} points, but the model reads {slots} and "
                f"would never see the later clicks; lower clicks.rounds, or set model.slots to 0 for any number"
            )

    @classmethod
    def tiny(cls) -> tuple["Promptable", dict[str, np.ndarray]]:
        """The method with a toy SAM and a batch of eight images, for contract tests."""
        model = Sam.mini(depth=2, dim=16, heads=2, global_blocks=(1,), image_size=64)
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
        rounds = self._rounds(params, embedding, batch, target, valid, key)

        total = weight.sum()
        coefficients = {"focal": self.focal_weight, "dice": self.dice_weight, "iou": self.iou_weight}
        terms = {name: ((rounds[name].mean(0) * weight).sum(), total, c) for name, c in coefficients.items()}
        shown = rounds["shown_iou"]
        metrics = {"iou_first": ((shown[0] * weight).sum(), total), "iou_last": ((shown[-1] * weight).sum(), total)}
        if self.pooled_weight:
            pooled, iou, seen = self._pooled(embedding, batch["masks"], batch["size"])
            weight = weight * seen
            terms["pooled"] = ((pooled * weight).sum(), weight.sum(), self.pooled_weight)
            metrics["iou_pooled"] = ((iou * weight).sum(), weight.sum())
        return terms, {"metrics": metrics}

    def after_step(self, params: Params, extra: Params, step: Array) -> Params:
        return extra

    def _rounds(
        self, params: Params, embedding: Float[Array, "b h w c"], batch: Batch, target: Bool[Array, "b k H W"],
        valid: Bool[Array, "b H W"], key: Key,
    ) -> dict[str, Float[Array, "n b k"]]:  # fmt: skip
        """For each of n rounds: the losses by name, and `shown_iou` of the mask that the next click looks at."""
        scale = batch["masks"].shape[-1] // target.shape[-1]
        start_key, correct_key, quiet_key = jax.random.split(key, 3)
        params = all_whole({name: part for name, part in params.items() if name != "image_encoder"})  # for all rounds
        start = jax.vmap(jax.vmap(lambda k, t, b, s: self.clicks.start(k, t, b, s, scale), (0, 0, 0, None)))
        keys = _keys(start_key, batch["index"], target.shape[1])
        slots, labels, is_box = start(keys, target, mask_to_box(batch["masks"]), batch["size"])

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
                jax.vmap(self.clicks.correct, (0, 0, 0, None, None, 0, 0, 0)), (0, 0, 0, 0, None, 0, 0, 0)
            )
            slots, labels = correct(keys, feedback > 0, target, valid, scale, slots, labels, add)
            true_iou = mask_iou(feedback > 0, target, where=valid[:, None])
            return (slots, labels, feedback), per_round | {"shown_iou": true_iou}

        numbers = jnp.arange(self.clicks.rounds)
        quiet_keys = _keys(quiet_key, batch["index"], target.shape[1])
        clicked = jnp.moveaxis(jax.vmap(jax.vmap(self.clicks.schedule))(quiet_keys), -1, 0)
        carry = (slots, labels, jnp.zeros(target.shape, jnp.float32))
        one_round = jax.checkpoint(one_round) if self.remat else one_round
        _, rounds = jax.lax.scan(one_round, carry, (numbers, clicked), unroll=not self.remat)
        return rounds

    def _decode(self, params, embedding, slots, labels, feedback, has_mask):
        if not self.model.takes_masks:
            return self.model.decode(params, embedding, Prompts(slots, labels))
        has_mask = jnp.broadcast_to(has_mask, labels.shape[:2])
        return self.model.decode(params, embedding, Prompts(slots, labels, feedback, has_mask))

    def _in_play(self, first: Bool[Array, "b k"]) -> Bool[Array, "b k 4"]:
        """Which mask tokens a prompt trains: 1, 2, 3 where it is ambiguous, else 0."""
        multi = jnp.ones_like(first) if self.multimask == "always" else first
        return multi[..., None] == (jnp.arange(NUM_MASKS) > 0)

    def _pooled(
        self, embedding: Float[Array, "b h w c"], masks: Array, size: Int[Array, "b 2"]
    ) -> tuple[Float[Array, "b k"], Float[Array, "b k"], Bool[Array, "b k"]]:
        """Binary cross-entropy plus dice of masks that need no decoder, their IoU, and which instances have any token.

        A token is predicted to belong to an instance if it is more like the instance's mean token than POOLED_CENTRE;
        it does belong if half of its patch is covered.
        """
        _, height, width, _ = embedding.shape
        patch = masks.shape[-1] // width
        cover, where = area_downsample(masks, patch), content((height, width), -(-size // patch))[:, None]
        logits = POOLED_SCALE * (similarity_to_mask(embedding, cover) - POOLED_CENTRE)
        target = (cover >= 0.5) & where
        loss = losses.focal_mask(logits, target, alpha=None, gamma=0, where=where)
        loss = loss + losses.dice(logits, target, where=where)
        return loss, mask_iou(logits > 0, target, where=where), target.any((-2, -1))

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
