"""Weights for comparisons: every tensor a function of its name and shape, none of them zero or one throughout.

Zero-initialised tensors (biases, relative and absolute positions) and norms are drawn like all others; otherwise a
swapped or forgotten one would not show. Scales keep activations, scores and outputs of the order of one.
"""

import zlib

import numpy as np

from sadist_jax import tree
from sadist_jax.nn.table import Table

# Whole parts of a name, not pieces of them: "token" is also in "cross_attn_token_to_image", "embed" in "patch_embed".
# Cross-attention with weights of this size has scores of hundreds and multiplies rounding by a thousand.
TOKENS = {
    "pos_embed", "mask_token", "point_embeddings", "not_a_point_embed", "no_mask_embed", "iou_token", "mask_tokens",
    "invalid_points", "bbox_top_left_embeddings", "bbox_bottom_right_embeddings",
}  # fmt: skip


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 array of `shape` (PyTorch's layout) for the parameter called `name`."""
    if name.endswith("num_batches_tracked"):
        return np.array(zlib.crc32(name.encode()) % 2**24, np.int64)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    mean, std = _moments(name, shape)
    x = rng.standard_normal(shape, np.float32)
    x *= np.float32(std)
    x += np.float32(mean)
    return x


def _moments(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    leaf = name.rpartition(".")[2]
    if "gaussian_matrix" in name:
        return 0, 1
    if "rel_pos" in leaf:
        return 0, 0.7 * shape[1] ** -0.5  # scores of unit-variance queries: 0.7 for rows and for columns
    if leaf == "attention_biases":
        return 0, 0.7
    if leaf == "running_mean":
        return 0, 0.2
    if TOKENS & set(name.split(".")):
        return 0, 0.5
    if leaf == "bias":
        return 0.02, 0.1
    if len(shape) == 1:
        return 1, 0.2  # norm, its running variance too
    return 0, np.prod(shape[1:]) ** -0.5


def state(table: Table) -> dict[str, np.ndarray]:
    """The reference state dict of a model, {name: array in PyTorch's layout}."""
    return {name: tensor(name, leaf.reference_shape) for name, leaf in tree.flatten(table).items()}
