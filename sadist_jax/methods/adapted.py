"""A SAM of which a few leaves move, low-rank updates of its encoder or leaves chosen by name, and its single masks.

What `WeakLora`, `Tent` and `SupervisedLora` have in common, so that they differ in their losses alone.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sadist_jax import tree
from sadist_jax.adapt import lora
from sadist_jax.adapt.lora import Lora
from sadist_jax.errors import BadInput
from sadist_jax.models.mask_decoder import SINGLE
from sadist_jax.models.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, Prompts
from sadist_jax.models.sam import Sam
from sadist_jax.nn.table import Table
from sadist_jax.nn.whole import all_whole
from sadist_jax.ops.masks import area_downsample
from sadist_jax.ops.pixels import content
from sadist_jax.typing import Array, Batch, Bool, Float, Params

COARSE_LOGIT = 10.0  # of a coarse mask as a prompt, + inside and - outside: what SAM-2 makes of a mask it is given
DECODED = 4  # mask logits per token of the embedding, along a side


class Answers(NamedTuple):
    """What a model says to every prompt of a batch; `logits` at four times the embedding's resolution."""

    embedding: Float[Array, "b h w c"]
    logits: Float[Array, "b k H W"]
    iou: Float[Array, "b k"]


@dataclasses.dataclass(frozen=True)
class Adapted:
    """The model and which of its leaves train.

    lora: low-rank updates; None: none.
    train: patterns of leaves of the model itself that train (beside them), such as r"mask_decoder\\..*", or
      r".*norm\\d\\.(weight|bias)" for the norms; r".*" trains all. Buffers stay, whatever matches them.
    chunk: instances that are decoded at once. Where an image has more, the decoder goes from chunk to chunk, and again
      in the backward pass: so 40 instances at 1024 px need the memory of a few.

    Batch: size (B, 2); points float32 (B, K, P, 2), labels int32 (B, K, P) of models/prompts.py, a box being two
    points; coarse uint8 {0, 1} (B, K, S, S) where masks are prompts.
    """

    sam: Sam
    lora: Lora | None = Lora()
    train: tuple[str, ...] = ()
    chunk: int = 8

    def __post_init__(self):
        if self.chunk < 1:
            raise BadInput(f"method.model.chunk is {self.chunk}; it must be 1 or more")
        if not tree.flatten(self.tables()[0]):
            raise BadInput(
                "nothing of the model would train; give method.model.lora, or patterns to method.model.train"
            )

    @classmethod
    def tiny(cls, **options) -> tuple["Adapted", dict[str, np.ndarray]]:
        """A toy SAM and a batch of eight images with one or two instances, in which chunks do not fit evenly."""
        rows, cols = np.mgrid[:64, :64]
        discs = np.stack([(rows - 20 - i) ** 2 + (cols - 24) ** 2 < 144 for i in range(8)])[:, None]
        image = np.repeat(discs[:, 0, :, :, None] * np.uint8(200), 3, -1)
        centres = np.stack([np.full(8, 24), np.arange(20, 28)], -1)[:, None]  # xy
        boxes = np.stack([centres - 12, centres + 12], -2)
        batch = {
            "image": image,
            "strong": 255 - image,
            "size": np.tile(np.array([64, 56], np.int32), (8, 1)),
            "instance": np.array([[True, i % 2 == 0, False] for i in range(8)]),
            "points": np.repeat(boxes, 3, 1).astype(np.float32),
            "labels": np.tile(np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], np.int32), (8, 3, 1)),
            "masks": np.repeat(discs, 3, 1).astype(np.uint8),
            "index": np.arange(8, dtype=np.int32),
            "weight": np.ones(8, np.float32),
        }
        sam = Sam.mini(depth=2, dim=16, heads=2, global_blocks=(1,), image_size=64)
        return cls(sam, **{"chunk": 2, **options}), batch

    def tables(self) -> tuple[Table, Table]:
        """(leaves that train, the others); together the model with its low-rank updates."""
        base = self.sam.table()
        leaves = tree.flatten(base)
        whole = base if self.lora is None else lora.table(base, self.lora)
        moving = {name for name in tree.select(base, self.train) if leaves[name].role == "weight"}
        return tree.partition(whole, moving | set(lora.names(whole)))

    def answer(self, params: Params, image: Array, batch: Batch) -> Answers:
        """Mask 0 of every prompt of the batch in that view of its images: uint8 (B, S, S, 3).

        Raises BadInput where S is not the model's.
        """
        if image.shape[1] != self.sam.image_size:
            raise BadInput(
                f"pictures have {image.shape[1]} pixels and the model takes {self.sam.image_size}; set "
                f"data.transform.size to {self.sam.image_size}"
            )
        return self.decode(params, self.sam.encode(params, image, batch["size"]), batch)

    def decode(self, params: Params, embedding: Float[Array, "b h w c"], batch: Batch) -> Answers:
        """`answer`, from the embedding on."""

        def some(prompts: Prompts) -> tuple[Array, Array]:
            logits, iou = self.sam.decode(params, embedding, prompts, SINGLE)
            return logits[:, :, 0], iou[:, :, 0]

        prompts = _prompts(batch, DECODED * embedding.shape[2])
        if (rows := prompts.labels.shape[1]) <= self.chunk:
            return Answers(embedding, *some(prompts))
        params = {**params, "mask_decoder": all_whole(params["mask_decoder"])}  # once, not in each chunk
        parts = jax.tree.map(lambda x: _cut(x, self.chunk), prompts)
        logits, iou = jax.lax.map(jax.checkpoint(some), parts)
        return Answers(embedding, _join(logits, rows), _join(iou, rows))


def content_of(batch: Batch, shape: tuple[int, ...]) -> Bool[Array, "b h w"]:
    """Which pixels of a map of the frame, (h, w) of them, show the image and not the padding."""
    height, width = shape
    scale = batch["image"].shape[2] // width
    return content((height, width), -(-batch["size"] // scale))


def true_masks(batch: Batch, side: int) -> Bool[Array, "b k h w"]:
    """Ground truth at the resolution of the logits: set where half of a pixel is."""
    return area_downsample(batch["masks"], batch["masks"].shape[-1] // side) >= 0.5


def _prompts(batch: Batch, side: int) -> Prompts:
    """side: of a mask prompt, in pixels."""
    points, labels = batch["points"], batch["labels"]
    if "coarse" not in batch:
        return Prompts(points, labels)
    covered = area_downsample(batch["coarse"], batch["coarse"].shape[-1] // side) >= 0.5
    return Prompts(points, labels, jnp.where(covered, COARSE_LOGIT, -COARSE_LOGIT))


def _cut(x: Array, chunk: int) -> Array:
    """(B, K, ...) -> (chunks, B, chunk, ...), zeros behind."""
    x = jnp.pad(x, [(0, 0), (0, -x.shape[1] % chunk)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)


def _join(x: Array, rows: int) -> Array:
    """The way back from `_cut`, without the zeros."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :rows]
