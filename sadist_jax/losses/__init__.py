"""Losses as plain functions of arrays: predictions and targets first, everything else by keyword.

Each reduces only the axes that its definition sums; leading axes (image, prompt, mask, token) stay, so weighting,
choosing the best of three masks and averaging belong to the caller. `where=` broadcasts to the elements: what it
leaves out touches neither value nor gradient, and where it leaves out everything the loss is 0. Arithmetic is float32
whatever comes in. Importing this package needs jax and nothing else.

Example: SAM's mask loss, 20 focal + dice, of three predicted masks for each of two prompts; best of three.

    >>> import jax.numpy as jnp
    >>> from sadist_jax import losses
    >>> target = jnp.zeros((2, 1, 8, 8)).at[..., 2:6, 2:6].set(1)      # (prompt, 1, H, W), broadcasts over the masks
    >>> logits = jnp.stack([8 * target[:, 0] - 4, -4 * jnp.ones((2, 8, 8)), jnp.zeros((2, 8, 8))], axis=1)
    >>> loss = 20 * losses.focal_mask(logits, target) + losses.dice(logits, target)
    >>> loss.shape
    (2, 3)
    >>> jnp.argmin(loss, axis=1).tolist()
    [0, 0]
"""

from sadist_jax.losses.classification import softmax_cross_entropy
from sadist_jax.losses.distill import feature_cosine, feature_mse
from sadist_jax.losses.segmentation import dice, focal_mask, iou_regression, sigmoid_focal
from sadist_jax.losses.weak import instance_contrast, instance_contrast_pooled, mask_entropy

__all__ = [
    "dice",
    "feature_cosine",
    "feature_mse",
    "focal_mask",
    "instance_contrast",
    "instance_contrast_pooled",
    "iou_regression",
    "mask_entropy",
    "sigmoid_focal",
    "softmax_cross_entropy",
]
