"""The official PyTorch SAM (pip segment-anything): built, loaded and run; arrays come out channels-last."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from segment_anything import modeling, sam_model_registry
from segment_anything.utils.transforms import ResizeLongestSide

from sadist_jax.models.sam import Sam
from tests.parity.cases import Case

RELEASED = {"vit_b": Sam.vit_b, "vit_l": Sam.vit_l, "vit_h": Sam.vit_h}


def save(state: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write the official file format: a flat state dict."""
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    return path


def released(size: str, path: Path) -> modeling.Sam:
    """The released model of that size, by the official builder, which loads strictly."""
    # every tensor is about to be read; drawing start values for ViT-H first would take long
    skip = dict.fromkeys(("kaiming_uniform_", "uniform_", "normal_"), lambda tensor, *_, **__: tensor)
    with mock.patch.multiple(torch.nn.init, **skip):
        return sam_model_registry[size](checkpoint=str(path))


def build(sam: Sam) -> modeling.Sam:
    """The official classes with the sizes of `sam`, untrained."""
    encoder, decoder = sam.image_encoder, sam.mask_decoder
    image = modeling.ImageEncoderViT(
        img_size=encoder.image_size, patch_size=encoder.patch, embed_dim=encoder.dim, depth=encoder.depth,
        num_heads=encoder.heads, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), out_chans=encoder.out_dim,
        use_rel_pos=True, window_size=encoder.window, global_attn_indexes=encoder.global_blocks,
    )  # fmt: skip
    grid, side = (encoder.grid,) * 2, (encoder.image_size,) * 2
    prompt = modeling.PromptEncoder(sam.prompt_encoder.dim, grid, side, mask_in_chans=16)
    two_way = modeling.TwoWayTransformer(
        decoder.two_way.depth, decoder.two_way.dim, decoder.two_way.heads, decoder.two_way.mlp_dim
    )
    mask = modeling.MaskDecoder(
        transformer_dim=decoder.dim, transformer=two_way, iou_head_hidden_dim=decoder.iou_head_hidden_dim
    )
    return modeling.Sam(image, prompt, mask).eval()


def fit(image: np.ndarray, side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """RGB uint8 -> (1, side, side, 3) uint8, longest side resized by the official code; its height and width there."""
    image = ResizeLongestSide(side).apply_image(image)
    frame = np.zeros((1, side, side, 3), np.uint8)
    frame[0, : image.shape[0], : image.shape[1]] = image
    return frame, image.shape[:2]


def encode(model: modeling.Sam, frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(1, h, w, c) embedding of what `fit` made, official normalisation and padding included."""
    content = torch.from_numpy(frame[:, : size[0], : size[1]]).permute(0, 3, 1, 2)
    with torch.no_grad():
        return last(model.image_encoder(model.preprocess(content)))


def decode(model: modeling.Sam, embedding: np.ndarray, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Logits (4, h, w) and predicted IoU (4,) of one prompt."""
    with torch.no_grad():
        logits, iou = predict(model, torch.from_numpy(embedding).permute(0, 3, 1, 2), case)
    return logits.numpy(), iou.numpy()


def predict(model: modeling.Sam, embedding: torch.Tensor, case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """One prompt as SamPredictor.predict_torch runs it: the single mask, then the three of the multimask output."""
    prompts = model.prompt_encoder
    points = None if case.points is None else (one(case.points), one(case.labels))
    mask = None if case.mask is None else one(case.mask[None])
    sparse, dense = prompts(points=points, boxes=one(case.box), masks=mask)
    pairs = [
        model.mask_decoder(embedding, prompts.get_dense_pe(), sparse, dense, multimask_output=several)
        for several in (False, True)
    ]
    logits, iou = (torch.cat(parts, 1)[0] for parts in zip(*pairs, strict=True))
    return logits, iou


def one(array: np.ndarray | None) -> torch.Tensor | None:
    """A batch of one."""
    return None if array is None else torch.from_numpy(array)[None]


def last(x: torch.Tensor) -> np.ndarray:
    """Channels last: (b, c, h, w) -> (b, h, w, c)."""
    return x.detach().permute(0, 2, 3, 1).numpy()


@contextmanager
def recording(model: torch.nn.Module, *names: str) -> Iterator[dict[str, torch.Tensor]]:
    """Within the block, the latest outputs of the modules of these names."""
    outputs = {}

    def record(name):
        return lambda module, arguments, output: outputs.update({name: output})

    handles = [model.get_submodule(name).register_forward_hook(record(name)) for name in names]
    yield outputs
    for handle in handles:
        handle.remove()
