"""Files of weights in and out: read or recognise which model a file holds, build it, convert its parameters."""

import dataclasses
import json
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sadist_jax.errors import BadInput
from sadist_jax.models.efficient_sam import EfficientSam, PointEncoder, decoder_of
from sadist_jax.models.mask_decoder import MaskDecoder, Upscale
from sadist_jax.models.prompt_encoder import PromptEncoder
from sadist_jax.models.sam import Sam
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import layers, table
from sadist_jax.typing import Params
from sadist_jax.weights import pth, safetensors
from sadist_jax.weights.pth_writer import write_pth

SHIPPED = Path(__file__).parent / "weights"  # sam_mini
VIT_HEAD_DIM = 64  # of every released EfficientSAM, and of our mini; the weights do not say
FRAMES = {16: 1024, 8: 256}  # patch -> input side of an EfficientSAM: released, mini; the weights do not say either

_SAM, _EFFICIENT_SAM = "prompt_encoder.not_a_point_embed.weight", "prompt_encoder.invalid_points.weight"
_SUPPORTED = "SAM (ViT-B, L, H and other sizes) and EfficientSAM, as official .pth, .pt, .pt.zip or as .safetensors"
_DESCRIPTION = "fields"  # its name in the metadata of a .safetensors
_PARTS: dict[str, Callable[..., Any]] = {
    part.__name__: part
    for part in (Sam, VitDet, PromptEncoder, MaskDecoder, TwoWay, Upscale, EfficientSam, Vit, PointEncoder)
}
_FUNCTIONS = {"relu": jax.nn.relu, "gelu": layers.gelu}  # activations
Shapes = Mapping[str, tuple[int, ...]]


def load(path: str | Path) -> tuple[Sam | EfficientSam, Params]:
    """Read a checkpoint, find out which model it is of, and convert the parameters.

    A `.safetensors` of `save` or of a run says which; others are recognised by their keys and shapes, and what these
    do not tell is as in the released models (of an EfficientSAM: heads of 64 channels, input side, six slots).

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
    path = _found(Path(path))
    state, metadata = safetensors.read(path) if path.suffix == ".safetensors" else (pth.read_pth(path), {})
    if _DESCRIPTION in metadata:
        model = described(metadata[_DESCRIPTION], str(path))
    else:
        model = recognise({name: value.shape for name, value in state.items()}, str(path))
    state = {name: np.asarray(value, np.float32) for name, value in state.items()}
    return model, table.from_reference(model.table(), state, str(path))


def save(path: str | Path, model: Sam | EfficientSam, params: Params) -> None:
    """Write parameters so that the official code loads them: `.pth` / `.pt` for PyTorch, or `.safetensors`.

    A `.safetensors` also holds the model, so that `load` gives the same one. A `.pth` cannot: a warning says so where
    `load` would take its model for another. An EfficientSAM's `.pt` has its state dict under "model", as released.
    Raises BadInput for another ending.
    """
    path, state = Path(path), table.to_reference(model.table(), params)
    if path.suffix == ".safetensors":
        safetensors.write(path, state, {"format": "sadist_jax"} | description(model))
    elif path.suffix in (".pth", ".pt"):
        if _differs(model, {name: value.shape for name, value in state.items()}):
            warnings.warn(
                f"{path} cannot say how its {type(model).__name__} differs from the released ones, and load() would "
                "take it for another; keep a .safetensors too",
                stacklevel=2,
            )
        write_pth(path, state, "model" if isinstance(model, EfficientSam) else None)
    else:
        raise BadInput(f"{path} must end in .pth, .pt or .safetensors")


def description(model: Sam | EfficientSam) -> dict[str, str]:
    """Metadata from which `load` builds an equal model: its class, and all fields as JSON."""
    return {"model": type(model).__name__, _DESCRIPTION: json.dumps(_plain(model))}


def described(text: str, source: str) -> Sam | EfficientSam:
    """The model of a `description`. Raises BadInput where the text is damaged or of another version."""
    try:
        model = json.loads(text, object_hook=_part)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(
            f"{source} describes its model in a way that this version of sadist_jax does not read ({error}); load it "
            "with the version that wrote it, or save it again"
        ) from None
    if not isinstance(model, Sam | EfficientSam):
        raise BadInput(f"{source} describes a {type(model).__name__} and no whole model. Known: {_SUPPORTED}")
    return model


def recognise(shapes: Shapes, source: str) -> Sam | EfficientSam:
    """The model whose state dict has these shapes (PyTorch's layout). Raises BadInput where there is none."""
    build: dict[str, Callable[[Shapes, str], Sam | EfficientSam]] = {_SAM: _sam, _EFFICIENT_SAM: _efficient_sam}
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
        return found[0](shapes, source)
    except KeyError as error:
        raise BadInput(
            f"{source} lacks {error.args[0]}, or has it in an odd shape, and a model's size is read from it; download "
            "the whole checkpoint again"
        ) from None


def _found(path: Path) -> Path:
    """The file of that path, or the shipped weights of that name."""
    if path.exists() or path.suffix:
        return path
    shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}
    if str(path) in shipped:
        return shipped[str(path)]
    raise BadInput(
        f"there is no file {path}, and no weights of that name come with the package, only {', '.join(shipped)}"
    )


def _differs(model: Sam | EfficientSam, shapes: Shapes) -> bool:
    """Whether `recognise` would take the model for another; how it computes (dtype, remat) is no matter of weights."""

    def sizes(value: Any) -> Any:
        return json.loads(
            json.dumps(_plain(value)),
            object_hook=lambda part: {k: v for k, v in part.items() if k not in ("dtype", "remat")},
        )

    try:
        return sizes(recognise(shapes, "")) != sizes(model)
    except BadInput:
        return True


def _plain(value: Any) -> Any:
    """Dataclasses and functions as JSON can hold them; `_part` is the way back."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__} | fields
    if callable(value):
        return {"function": next(name for name, function in _FUNCTIONS.items() if function is value)}
    return value


def _part(fields: dict[str, Any]) -> Any:
    if "function" in fields:
        return _FUNCTIONS[fields["function"]]
    part = _PARTS[fields.pop("class")]
    return part(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})


def _sam(shapes: Shapes, source: str) -> Sam:
    block = "image_encoder.blocks.{}.attn.rel_pos_h"
    _, grid, _, dim = _shape(shapes, "image_encoder.pos_embed", 4)
    patch = _shape(shapes, "image_encoder.patch_embed.proj.weight", 4)[-1]
    depth = _depth(shapes)
    lengths = [_shape(shapes, block.format(i), 2)[0] for i in range(depth)]
    head_dim = _shape(shapes, block.format(0), 2)[1]
    global_blocks = tuple(i for i, length in enumerate(lengths) if length == 2 * grid - 1)
    windows = sorted({(length + 1) // 2 for i, length in enumerate(lengths) if i not in global_blocks})
    if len(windows) > 1:
        raise BadInput(
            f"{source} is of an unknown SAM: its blocks have windows of {', '.join(map(str, windows))} tokens; only "
            "encoders with windows of one size are supported"
        )
    out_dim = _shape(shapes, "image_encoder.neck.0.weight", 4)[0]
    window = windows[0] if windows else grid
    encoder = VitDet(dim, depth, dim // head_dim, global_blocks, window, patch, grid * patch, out_dim)
    two_way = TwoWay(out_dim, mlp_dim=_shape(shapes, "mask_decoder.transformer.layers.0.mlp.lin1.weight", 2)[0])
    hidden_dim = _shape(shapes, "mask_decoder.iou_prediction_head.layers.0.weight", 2)[0]
    return Sam(encoder, PromptEncoder(out_dim), MaskDecoder(two_way, Upscale(out_dim), iou_head_hidden_dim=hidden_dim))


def _efficient_sam(shapes: Shapes, source: str) -> EfficientSam:
    _, rows, dim = _shape(shapes, "image_encoder.pos_embed", 3)
    patch = _shape(shapes, "image_encoder.patch_embed.proj.weight", 4)[-1]
    if patch not in FRAMES or dim % VIT_HEAD_DIM:
        raise BadInput(
            f"{source} is of an EfficientSAM with patches of {patch} and {dim} channels, whose input side or heads are "
            "unknown, because it is of no released size; save it with sadist_jax.save as .safetensors, which says so"
        )
    grid = round((rows - 1) ** 0.5)
    vit = Vit(dim, _depth(shapes), dim // VIT_HEAD_DIM, patch, grid * patch)
    out_dim = _shape(shapes, "image_encoder.neck.0.weight", 4)[0]
    mlp_dim = _shape(shapes, "mask_decoder.transformer.layers.0.mlp.layers.0.0.weight", 2)[0]
    hidden_dim = _shape(shapes, "mask_decoder.iou_prediction_head.layers.0.0.weight", 2)[0]
    return EfficientSam(vit, PointEncoder(out_dim), decoder_of(out_dim, mlp_dim, hidden_dim), FRAMES[patch])


def _shape(shapes: Shapes, name: str, axes: int) -> tuple[int, ...]:
    """Raises KeyError unless there is such an array with so many axes, none of them empty."""
    shape = shapes.get(name, ())
    if len(shape) != axes or 0 in shape:
        raise KeyError(name)
    return tuple(shape)


def _depth(shapes: Shapes) -> int:
    found = {int(match[1]) for name in shapes if (match := re.match(r"image_encoder\.blocks\.(\d+)\.", name))}
    if not found:
        raise KeyError("image_encoder.blocks")
    return 1 + max(found)
