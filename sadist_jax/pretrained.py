"""Files of weights in and out: recognise what a file holds, find its sizes, build the model."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam, PointEncoder, decoder_of
from sadist_jax.models.mask_decoder import MaskDecoder, Upscale
from sadist_jax.models.prompt_encoder import PromptEncoder
from sadist_jax.models.sam import Sam
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import table
from sadist_jax.typing import Params
from sadist_jax.weights import pth, safetensors
from sadist_jax.weights.pth_writer import write_pth

SHIPPED = Path(__file__).parent / "weights"  # sam_mini
VIT_HEAD_DIM = 64  # of every released EfficientSAM, and of our mini; the file does not say
FRAMES = {16: 1024, 8: 256}  # patch -> input side of an EfficientSAM: released, mini; the file does not say either

_SAM, _EFFICIENT_SAM = "prompt_encoder.not_a_point_embed.weight", "prompt_encoder.invalid_points.weight"
_SUPPORTED = "SAM (ViT-B, L, H and other sizes) and EfficientSAM, as official .pth, .pt, .pt.zip or as .safetensors"
Shapes = Mapping[str, tuple[int, ...]]


def load(path: str | Path) -> tuple[Sam | EfficientSam, Params]:
    """Read a checkpoint, recognise the model by its keys and shapes, and convert the parameters.

    Args:
      path: an official SAM `.pth`, an EfficientSAM `.pt` or `.pt.zip`, a `.safetensors` of ours with the same names, or
        the name of weights that come with the package: "sam_mini".

    Returns:
      (model, params): NumPy float32, in our layout, named as in the file.

    Raises:
      BadInput: the file is missing, damaged, malicious or of an unknown model; or keys are missing, unknown or of
        another shape, all of which are listed.

    Example:
      model, params = sadist_jax.load("sam_vit_b_01ec64.pth")
    """
    path = Path(path)
    shipped = SHIPPED / f"{path}.safetensors"
    if not path.exists() and path.suffix == "" and shipped.is_file():
        path = shipped
    state = safetensors.read(path)[0] if path.suffix == ".safetensors" else pth.read_pth(path)
    model = recognise({name: value.shape for name, value in state.items()}, str(path))
    state = {name: np.asarray(value, np.float32) for name, value in state.items()}
    return model, table.from_reference(model.table(), state, str(path))


def save(path: str | Path, model: Sam | EfficientSam, params: Params) -> None:
    """Write parameters so that the official code loads them: `.pth` / `.pt` for PyTorch, or `.safetensors`.

    An EfficientSAM's `.pt` has its state dict under "model", as released. Raises BadInput for another ending.
    """
    path, state = Path(path), table.to_reference(model.table(), params)
    if path.suffix == ".safetensors":
        safetensors.write(path, state, {"format": "sadist_jax", "model": type(model).__name__})
    elif path.suffix in (".pth", ".pt"):
        write_pth(path, state, "model" if isinstance(model, EfficientSam) else None)
    else:
        raise BadInput(f"{path} must end in .pth, .pt or .safetensors")


def recognise(shapes: Shapes, source: str) -> Sam | EfficientSam:
    """The model whose state dict has these shapes (PyTorch's layout). Raises BadInput where there is none."""
    build = {_SAM: _sam, _EFFICIENT_SAM: _efficient_sam}
    found = [make for key, make in build.items() if key in shapes]
    if not found:
        roots = sorted({name.split(".")[0] for name in shapes})
        hint = ""
        if "student" in roots:
            hint = "; it holds a pretraining run: start a promptable run from it, as configs/efficient_sam_ti.py does"
        raise BadInput(
            f"{source} is of no known model: its keys start with {', '.join(roots[:8])}{hint}. Known: {_SUPPORTED}"
        )
    try:
        return found[0](shapes)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        name = error.args[0] if isinstance(error, KeyError) else error
        raise BadInput(
            f"{source} lacks what tells a model's size ({name}); download the whole checkpoint again"
        ) from None


def _sam(shapes: Shapes) -> Sam:
    block = "image_encoder.blocks.{}.attn.rel_pos_h"
    _, grid, _, dim = shapes["image_encoder.pos_embed"]
    patch = shapes["image_encoder.patch_embed.proj.weight"][-1]
    depth = _depth(shapes, r"image_encoder\.blocks\.(\d+)\.")
    lengths = [shapes[block.format(i)][0] for i in range(depth)]
    head_dim = shapes[block.format(0)][1]
    global_blocks = tuple(i for i, length in enumerate(lengths) if length == 2 * grid - 1)
    windows = {(length + 1) // 2 for i, length in enumerate(lengths) if i not in global_blocks}
    if len(windows) > 1:
        raise ValueError(f"windows of several sizes, {sorted(windows)}")
    out_dim = shapes["image_encoder.neck.0.weight"][0]
    encoder = VitDet(
        dim, depth, dim // head_dim, global_blocks, windows.pop() if windows else grid, patch, grid * patch, out_dim
    )
    two_way = TwoWay(out_dim, mlp_dim=shapes["mask_decoder.transformer.layers.0.mlp.lin1.weight"][0])
    head_dim = shapes["mask_decoder.iou_prediction_head.layers.0.weight"][0]
    return Sam(encoder, PromptEncoder(out_dim), MaskDecoder(two_way, Upscale(out_dim), iou_head_hidden_dim=head_dim))


def _efficient_sam(shapes: Shapes) -> EfficientSam:
    _, rows, dim = shapes["image_encoder.pos_embed"]
    patch = shapes["image_encoder.patch_embed.proj.weight"][-1]
    grid = round((rows - 1) ** 0.5)
    depth = _depth(shapes, r"image_encoder\.blocks\.(\d+)\.")
    vit = Vit(dim, depth, dim // VIT_HEAD_DIM, patch, grid * patch)
    out_dim = shapes["image_encoder.neck.0.weight"][0]
    mlp_dim = shapes["mask_decoder.transformer.layers.0.mlp.layers.0.0.weight"][0]
    head_dim = shapes["mask_decoder.iou_prediction_head.layers.0.0.weight"][0]
    decoder = decoder_of(out_dim, mlp_dim, head_dim)
    return dataclasses.replace(EfficientSam(vit, PointEncoder(out_dim), decoder), image_size=FRAMES.get(patch, 1024))


def _depth(shapes: Shapes, pattern: str) -> int:
    found = {int(match[1]) for name in shapes if (match := re.match(pattern, name))}
    return 1 + max(found)
