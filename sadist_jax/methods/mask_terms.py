"""SAM's three losses between the masks of an image and what they should be; the unit is the image, not the instance.

Source: Zhang et al. 2024, arXiv:2312.03502 (WeSAM): 20 focal + dice; its released code adds the error of the predicted
IoU. There the focal loss is averaged over all pixels of all instances of an image, and dice has one fraction for all of
them together. Its smoothing counts pixels of the mask logits here, a sixteenth of the frame's.
"""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from sadist_jax import losses
from sadist_jax.methods.adapted import Answers
from sadist_jax.methods.method import Terms
from sadist_jax.ops.masks import mask_iou
from sadist_jax.typing import Array, Bool, Float

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT = 20.0, 1.0, 1.0
FOCAL_ALPHA = 0.8  # of background pixels as well as of foreground ones: WeSAM's is a plain factor
RELEASED_IOU_THRESHOLD = 0.5  # of the logits, which reads as if they were probabilities

PerImage = Float[Array, " b"]
Smoothing = float | Literal["instances"]


@dataclasses.dataclass(frozen=True)
class MaskTerms:
    """Weights, and what the released code does otherwise.

    focal_alpha, dice_smooth: "instances" for the number of instances of the image, which the released code hands over
      in the place of both by a slip of positional arguments.
    iou_threshold: the true IoU, which the predicted one is to be, is that of logits above it.
    """

    focal_weight: float = FOCAL_WEIGHT
    dice_weight: float = DICE_WEIGHT
    iou_weight: float = IOU_WEIGHT
    focal_alpha: Smoothing = FOCAL_ALPHA
    dice_smooth: Smoothing = 1.0
    iou_threshold: float = 0.0

    @classmethod
    def released(cls) -> "MaskTerms":
        """As the released code has them."""
        return cls(focal_alpha="instances", dice_smooth="instances", iou_threshold=RELEASED_IOU_THRESHOLD)

    def __call__(
        self, answers: Answers, target: Bool[Array, "b k h w"], valid: Bool[Array, "b h w"], real: Bool[Array, "b k"]
    ) -> dict[str, PerImage]:
        """The losses of each image by name: those of `weights`.

        valid: pixels that count. real: instances that do; an image without any has 0 everywhere.
        """
        count = real.sum(1)
        focal = focal_of_all(answers.logits, target, valid, real)
        dice = dice_of_all(answers.logits, target, valid, real, _number(self.dice_smooth, count))
        # beyond the threshold is above 0 once it is taken away; no gradient passes here
        above = answers.logits - self.iou_threshold
        error = losses.iou_regression(answers.iou, above, target, where=valid[:, None])
        iou = jnp.where(real, error, 0).sum(1) / jnp.maximum(count, 1)
        return {"focal": _number(self.focal_alpha, count) * focal, "dice": dice, "iou": iou}

    @property
    def weights(self) -> dict[str, float]:
        """Coefficients of the losses."""
        return {"focal": self.focal_weight, "dice": self.dice_weight, "iou": self.iou_weight}


def focal_of_all(
    logits: Float[Array, "b k h w"], target: Bool[Array, "b k h w"], valid: Bool[Array, "b h w"],
    real: Bool[Array, "b k"],
) -> PerImage:  # fmt: skip
    """Mean of (1 - p_t)^2 (-log p_t) over all pixels that count of all real instances of an image."""
    where = _flat(valid[:, None] & real[..., None, None])
    return losses.focal_mask(_flat(logits), _flat(target), alpha=None, where=where)


def dice_of_all(
    logits: Float[Array, "b k h w"], target: Bool[Array, "b k h w"], valid: Bool[Array, "b h w"],
    real: Bool[Array, "b k"], smooth: Any = 1.0,
) -> PerImage:  # fmt: skip
    """1 - (2 sum p t + s) / (sum p + sum t + s), over all pixels that count of all real instances of an image.

    smooth: s, a number or one for each image.
    """
    where = _flat(valid[:, None] & real[..., None, None])
    return losses.dice(_flat(logits), _flat(target), smooth=smooth, where=where)


def averaged(values: dict[str, PerImage], weight: PerImage, coefficients: dict[str, float]) -> Terms:
    """Terms of a method (methods/method.py): the mean over images; `weight` must depend on the batch alone."""
    return {name: ((value * weight).sum(), weight.sum(), coefficients[name]) for name, value in values.items()}


def overlap(
    masks: Bool[Array, "b k h w"], target: Bool[Array, "b k h w"], valid: Bool[Array, "b h w"],
    weight: Float[Array, "b k"],
) -> tuple[Array, Array]:  # fmt: skip
    """A metric of a method, (total, weight): the mean IoU of the instances whose target has any pixel that counts."""
    valid = valid[:, None]
    weight = weight * (target & valid).any((-2, -1))
    return (mask_iou(masks, target, where=valid) * weight).sum(), weight.sum()


def collapsed(
    masks: Bool[Array, "b k h w"], valid: Bool[Array, "b h w"], weight: Float[Array, "b k"]
) -> dict[str, tuple[Array, Array]]:
    """Metrics of a method that makes pseudo-labels (train/collapse.py): the shares that are empty, and full."""
    empty, full = ~(masks & valid[:, None]).any((-2, -1)), (masks | ~valid[:, None]).all((-2, -1))
    return {f"pseudo_{name}": ((are * weight).sum(), weight.sum()) for name, are in (("empty", empty), ("full", full))}


def _flat(x: Array) -> Array:
    """(b, k, h, w) -> (b, k h, w): all instances as one mask."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _number(choice: Smoothing, count: Array) -> Any:
    return count if choice == "instances" else choice
