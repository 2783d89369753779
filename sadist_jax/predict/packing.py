"""Prompts of users -> the arrays that models take, filled up to few shapes, so that few programs are compiled."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from sadist_jax.codecs.prompts import Prompt, check_box, check_points
from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam
from sadist_jax.models.prompts import BACKGROUND, BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY, FOREGROUND, Prompts
from sadist_jax.models.sam import Sam
from sadist_jax.predict.framing import Framing

BUCKETS = (1, 2, 4, 8, 16, 32, 64)  # what numbers of prompts, slots and images are filled up to


def pack(
    model: Sam | EfficientSam, framings: Sequence[Framing], prompts: Sequence[Sequence[Prompt]], grid: tuple[int, int]
) -> Prompts:
    """Ragged prompts of several images -> arrays of a few fixed shapes; what is not there is EMPTY.

    Args:
      framings: of each image. prompts: of each image, in pixels of the original.
      grid: (height, width) of the embedding.

    Raises:
      BadInput: a prompt is empty, malformed, outside its image, or of a kind or size that the model does not take.
    """
    rows = [[_slots(p, f) for p in some] for some, f in zip(prompts, framings, strict=True)]
    longest = max((len(labels) for row in rows for _, labels in row), default=1)
    if isinstance(model, EfficientSam) and model.slots and longest > model.slots:
        raise BadInput(
            f"this EfficientSAM takes up to {model.slots} points in a prompt, of which a box is two, and a prompt has "
            f"{longest}; leave some out"
        )
    slots, count = bucket(longest), bucket(max(len(row) for row in rows))
    points = np.zeros((len(rows), count, slots, 2), np.float32)
    labels = np.full((len(rows), count, slots), EMPTY, np.int32)
    for i, row in enumerate(rows):
        for j, (xy, kinds) in enumerate(row):
            points[i, j, : len(kinds)], labels[i, j, : len(kinds)] = xy, kinds
    return Prompts(jnp.asarray(points), jnp.asarray(labels), *_masks(model, prompts, count, grid))


def bucket(n: int) -> int:
    """The smallest bucket that holds n; beyond the largest, multiples of it."""
    return next((b for b in BUCKETS if b >= n), -(-n // BUCKETS[-1]) * BUCKETS[-1])


def _slots(prompt: Prompt, framing: Framing) -> tuple[np.ndarray, np.ndarray]:
    """Corners and points of one prompt in the frame, and their labels."""
    xy, kinds = np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
    if prompt.points is None and prompt.box is None and prompt.mask is None:
        raise BadInput("the prompt is empty; give points, a box or a mask")
    if prompt.points is not None:
        xy = check_points(prompt.points, framing.image)
        kinds = np.full(len(xy), FOREGROUND) if prompt.labels is None else np.asarray(prompt.labels)
        if kinds.shape != (len(xy),) or not np.isin(kinds, (BACKGROUND, FOREGROUND)).all():
            raise BadInput(
                f"labels must be {len(xy)} numbers, 1 (the object) or 0 (not the object), one for each point"
            )
    elif prompt.labels is not None:
        raise BadInput("there are labels without points; give points of the same number")
    if prompt.box is not None:
        xy = np.concatenate([check_box(prompt.box, framing.image).reshape(2, 2), xy])
        kinds = np.concatenate([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], kinds])
    return framing.points(xy), kinds.astype(np.int32)


def _masks(model, prompts, count, grid) -> tuple:
    """(masks, has_mask) of `Prompts`; () where there are none."""
    given = [
        (i, j, np.asarray(p.mask)) for i, row in enumerate(prompts) for j, p in enumerate(row) if p.mask is not None
    ]
    if not given:
        return ()
    if not model.takes_masks:
        raise BadInput("EfficientSAM takes no mask prompts; give points or a box")
    size = (4 * grid[0], 4 * grid[1])
    masks = np.zeros((len(prompts), count, *size), np.float32)
    has_mask = np.zeros((len(prompts), count), bool)
    for i, j, mask in given:
        if mask.shape not in (size, (1, *size)):
            raise BadInput(
                f"a mask prompt must be (1, {size[0]}, {size[1]}) logits, this one is {mask.shape}; give those of an "
                "earlier prediction of the same model"
            )
        masks[i, j], has_mask[i, j] = mask.reshape(size), True
    return jnp.asarray(masks), jnp.asarray(has_mask)
