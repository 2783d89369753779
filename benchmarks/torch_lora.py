"""A step of WeSAM on the official SAM in eager PyTorch, as one writes it there: updates of rank 4, branches, losses.

The formulas are those that the paper means (sadist_jax/methods/weak_lora.py says what it leaves open); the lines are
ours. Of one image all of whose instances are real, two of them or more, and whose prompts are boxes.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

ALPHA, SMOOTH, TEMPERATURE = 0.8, 1.0, 0.3
WEIGHTS = {"focal": 20.0, "dice": 1.0, "iou": 1.0, "anchor": 1.0, "contrast": 1.0}


class Answers(NamedTuple):
    """embedding: (1, c, h, w). logits: (k, 4 h, 4 w). iou: (k,)."""

    embedding: torch.Tensor
    logits: torch.Tensor
    iou: torch.Tensor


class LowRank(nn.Module):
    """A fused qkv which, while `on`, adds x A B to its q and to its v. update: {"q.a": (inputs, rank), "q.b": ...}."""

    def __init__(self, qkv: nn.Linear, update: Mapping[str, np.ndarray]):
        super().__init__()
        self.qkv, self.on = qkv, True
        self.q, self.v = (
            nn.ParameterList([torch.from_numpy(update[f"{part}.{factor}"]) for factor in "ab"]) for part in "qv"
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.qkv(x)
        if self.on:
            third = y.shape[-1] // 3
            y[..., :third] += x @ self.q[0] @ self.q[1]
            y[..., 2 * third :] += x @ self.v[0] @ self.v[1]
        return y


class Again(nn.Module):
    """A block whose activations are not kept for the backward pass, but computed again."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.block, x, use_reentrant=False)


class Adapted:
    """An official model, frozen, with updates beside its blocks' qkv.

    updates: {"image_encoder.blocks.0.attn.qkv.lora.q.a": (inputs, rank), ...}; their scale is 1.
    chunk: instances that are decoded at once.
    again: blocks and chunks are computed again in the backward pass.
    """

    def __init__(self, sam: nn.Module, updates: Mapping[str, np.ndarray], chunk: int, *, again: bool):
        self.sam, self.chunk, self.again = sam.requires_grad_(False), chunk, again
        self.layers: list[LowRank] = []
        blocks = sam.image_encoder.blocks
        for i, block in enumerate(blocks):
            where = f"image_encoder.blocks.{i}.attn.qkv.lora."
            own = {name.removeprefix(where): value for name, value in updates.items() if name.startswith(where)}
            block.attn.qkv = LowRank(block.attn.qkv, own)
            self.layers.append(block.attn.qkv)
            if again:
                blocks[i] = Again(block)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that train."""
        return [parameter for layer in self.layers for parameter in layer.parameters() if parameter.requires_grad]

    @contextlib.contextmanager
    def anchor(self) -> Iterator[None]:
        """Within the block the model is as it was, and has no gradient."""
        for layer in self.layers:
            layer.on = False
        with torch.no_grad():
            yield
        for layer in self.layers:
            layer.on = True

    def answer(self, image: torch.Tensor, boxes: torch.Tensor) -> Answers:
        """image: uint8 (1, 3, h, w), without padding. boxes: (k, 4) xyxy of the frame."""
        embedding = self.sam.image_encoder(self.sam.preprocess(image))
        parts = [self._decode(embedding, some) for some in boxes.split(self.chunk)]
        logits, iou = (torch.cat(found) for found in zip(*parts, strict=True))
        return Answers(embedding, logits, iou)

    def _decode(self, embedding: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def some(embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            prompts = self.sam.prompt_encoder
            sparse, dense = prompts(points=None, boxes=boxes, masks=None)
            masks, iou = self.sam.mask_decoder(embedding, prompts.get_dense_pe(), sparse, dense, multimask_output=False)
            return masks[:, 0], iou[:, 0]

        return checkpoint(some, embedding, use_reentrant=False) if self.again else some(embedding)


def terms(student: Answers, teacher: Answers, anchor: Answers, size: tuple[int, int], side: int) -> dict:
    """The losses by name, without WEIGHTS. size: (h, w) of the content, in a frame of `side` pixels."""
    pseudo, old = teacher.logits.detach() > 0, anchor.logits > 0
    valid = content(size, side, pseudo.shape[-1])
    return {
        "focal": ALPHA * focal(student.logits, pseudo, valid),
        "dice": dice(student.logits, pseudo, valid),
        "iou": iou_error(student, pseudo, valid),
        "anchor": 0.5 * dice(student.logits, old, valid) + 0.5 * dice(teacher.logits, old, valid),
        "contrast": contrast(teacher, anchor, content(size, side, teacher.embedding.shape[-1])),
    }


def content(size: tuple[int, int], side: int, cells: int) -> torch.Tensor:
    """bool (cells, cells): where there is image, if only in part of a cell."""
    pixels = side // cells
    rows, columns = (torch.arange(cells) < -(-length // pixels) for length in size)
    return rows[:, None] & columns


def focal(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels of all instances."""
    entropy = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    loss = (1 - torch.exp(-entropy)) ** 2 * entropy
    return (loss * valid).sum() / (len(logits) * valid.sum())


def dice(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """One fraction for all instances."""
    p, t = logits.sigmoid() * valid, target & valid
    return 1 - (2 * (p * t).sum() + SMOOTH) / (p.sum() + t.sum() + SMOOTH)


def iou_error(answers: Answers, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the predicted IoU."""
    guess, target = (answers.logits.detach() > 0) & valid, target & valid
    true = (guess & target).sum((1, 2)) / (guess | target).sum((1, 2)).clamp(min=1)
    return F.mse_loss(answers.iou, true)


def contrast(live: Answers, anchor: Answers, valid: torch.Tensor) -> torch.Tensor:
    """InfoNCE of the instances that both have a cell of; 0 without any."""
    (x, seen), (y, held) = features(live, valid), features(anchor, valid)
    kept = seen & held
    scores = F.normalize(x[kept], dim=1) @ F.normalize(y[kept], dim=1).T / TEMPERATURE
    return F.cross_entropy(scores, torch.arange(len(scores)), reduction="sum") / kept.sum().clamp(min=1)


def features(answers: Answers, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean direction of the embedding in each instance (k, c), which instances have any cell)."""
    unit = F.normalize(answers.embedding[0], dim=0)
    logits = F.interpolate(answers.logits.detach()[None], unit.shape[1:], mode="bilinear")[0]
    cells = (logits > 0) & valid
    counts = cells.sum((1, 2))
    total = torch.einsum("khw,chw->kc", cells.float(), unit)
    return total / counts.clamp(min=1)[:, None], counts > 0


def stepper(
    model: Adapted, weak: torch.Tensor, strong: torch.Tensor, boxes: torch.Tensor, lr: float
) -> Callable[[], dict[str, np.ndarray]]:
    """-> the next step of Adam on this image, which gives its losses and the gradient's norm.

    weak, strong: uint8 (1, 3, h, w) of the content. boxes: (k, 4).
    """
    optimizer = torch.optim.Adam(model.parameters, lr=lr, fused=True)
    size, side = (weak.shape[2], weak.shape[3]), model.sam.image_encoder.img_size

    def step() -> dict[str, np.ndarray]:
        optimizer.zero_grad()
        with model.anchor():
            anchor = model.answer(weak, boxes)
        teacher, student = model.answer(weak, boxes), model.answer(strong, boxes)
        found = terms(student, teacher, anchor, size, side)
        loss = torch.stack([WEIGHTS[name] * value for name, value in found.items()]).sum()
        loss.backward()
        norm = nn.utils.get_total_norm([parameter.grad for parameter in model.parameters])
        optimizer.step()
        return {name: value.detach().numpy() for name, value in (found | {"loss": loss, "grad_norm": norm}).items()}

    return step
