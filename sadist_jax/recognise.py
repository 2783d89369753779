"""Which model a state dict is of, by keys and shapes: SAM, MobileSAM, EfficientSAM, our classifiers.

Neighbours are refused by name.
"""

import math
import re
from collections.abc import Callable, Mapping

from sadist_jax.errors import BadInput
from sadist_jax.models.classifier import Classifier
from sadist_jax.models.efficient_sam import EfficientSam, PointEncoder, decoder_of
from sadist_jax.models.mask_decoder import MaskDecoder, Upscale
from sadist_jax.models.prompt_encoder import PromptEncoder
from sadist_jax.models.sam import Sam
from sadist_jax.models.tiny_vit import Stage, TinyVit
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet

Model = Sam | EfficientSam | Classifier  # what a file can hold as a whole

VIT_HEAD_DIM = 64  # of every released EfficientSAM, and of our mini; the weights do not say
FRAMES = {16: 1024, 8: 256}  # patch -> input side of an EfficientSAM: released, mini; the weights do not say either
_SAM, _EFFICIENT_SAM = "prompt_encoder.not_a_point_embed.weight", "prompt_encoder.invalid_points.weight"
_CLASSIFIER = "fc_norm.weight"
SUPPORTED = (
    "SAM (ViT-B, L, H and other sizes), MobileSAM and EfficientSAM, as official .pth, .pt, .pt.zip or as .safetensors, "
    "and the classifiers that are trained here"
)
_TINY_VIT = "image_encoder.patch_embed.seq.0.c.weight"
_NEIGHBOURS = {  # what a name starts with: what to say
    "student.": "; it holds a pretraining run: start a promptable run from it, as configs/efficient_sam_ti.py does",
    "vision_encoder.patch_embed": "; it is transformers' SamModel: python -m conversion makes a file of ours of it",
    "cls_token": "; it is a ViT with a class token: python -m conversion makes a file for a run's `starts` of it",
    "blocks.0.attn.qkv": "; it is a plain ViT: python -m conversion makes a file for a run's `starts` of it",
    "memory_attention.": "; it is a SAM 2, another architecture",
    "image_encoder.trunk.": "; it is a SAM 2, another architecture",
    "mask_decoder.hf_token": "; it is a SAM-HQ, with a token and features that SAM has not",
    "model.image_encoder.": "; it is what a run trained: take adapter.safetensors or adapted.safetensors beside it",
    "image_encoder.fuse_stage2": "; it is an EdgeSAM, whose RepViT encoder is not supported",
}
PARTS = {"image_encoder", "prompt_encoder", "mask_decoder"}
Shapes = Mapping[str, tuple[int, ...]]


def recognise(shapes: Shapes, source: str) -> Model:
    """The model whose state dict has these shapes (PyTorch's layout). Raises BadInput where there is none."""
    build: dict[str, Callable[[Shapes, str], Model]] = {_SAM: _sam, _EFFICIENT_SAM: _efficient_sam}
    build |= {_CLASSIFIER: _classifier}
    found = [make for key, make in build.items() if key in shapes]
    hints = (hint for name, hint in _NEIGHBOURS.items() if any(key.startswith(name) for key in shapes))
    hint = "" if _CLASSIFIER in shapes and "cls_token" not in shapes else next(hints, "")
    if "blocks.0.attn.rel_pos_h" in shapes:
        hint = "; it is SAM's image encoder alone: load_part takes that"
    roots = sorted({name.split(".")[0] for name in shapes})
    if not hint and set(roots) < PARTS:
        hint = f"; it holds no more of a SAM than {' and '.join(roots)}: load_part takes that"
    if hint or not found:
        raise BadInput(
            f"{source} is of no known model: its keys start with {', '.join(roots[:8])}{hint}. Known: {SUPPORTED}"
        )
    try:
        return found[0](shapes, source)
    except KeyError as error:
        raise BadInput(
            f"{source} lacks {error.args[0]}, or has it in an odd shape, and a model's size is read from it: it is cut "
            f"off (download it again), or a relative of SAM that is not known here. Known: {SUPPORTED}"
        ) from None


def _sam(shapes: Shapes, source: str) -> Sam:
    encoder = _tiny_vit(shapes) if _TINY_VIT in shapes else _vit_det(shapes, source)
    dim = encoder.out_dim
    two_way = TwoWay(dim, mlp_dim=_shape(shapes, "mask_decoder.transformer.layers.0.mlp.lin1.weight", 2)[0])
    hidden_dim = _shape(shapes, "mask_decoder.iou_prediction_head.layers.0.weight", 2)[0]
    return Sam(encoder, PromptEncoder(dim), MaskDecoder(two_way, Upscale(dim), iou_head_hidden_dim=hidden_dim))


def _tiny_vit(shapes: Shapes) -> TinyVit:
    """MobileSAM's encoder. Strides and input side are MobileSAM's: the weights do not say."""
    stages = []
    for i in range(len(TinyVit().stages)):
        block = f"image_encoder.layers.{i}.blocks"
        if i == 0:
            dim = _shape(shapes, f"{block}.0.conv3.c.weight", 4)[0]
            heads = window = 0
        else:
            dim = _shape(shapes, f"{block}.0.attn.proj.weight", 2)[0]
            heads, area = _shape(shapes, f"{block}.0.attn.attention_biases", 2)
            window = math.isqrt(area)
        stages.append(Stage(dim, _depth(shapes, block), heads, window))
    return TinyVit(tuple(stages), out_dim=_shape(shapes, "image_encoder.neck.0.weight", 4)[0])


def _vit_det(shapes: Shapes, source: str) -> VitDet:
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
    return VitDet(dim, depth, dim // head_dim, global_blocks, window, patch, grid * patch, out_dim)


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


def _classifier(shapes: Shapes, source: str) -> Classifier:
    _, rows, dim = _shape(shapes, "pos_embed", 3)
    patch, classes = _shape(shapes, "patch_embed.proj.weight", 4)[-1], _shape(shapes, "head.weight", 2)[0]
    grid = math.isqrt(rows - 1)
    if dim % VIT_HEAD_DIM or rows != 1 + grid**2:
        raise BadInput(
            f"{source} is of a ViT with {rows} positions of {dim} channels; classifiers of ours have 1 + side * side "
            f"positions and, where only a .safetensors of ours could say otherwise, heads of {VIT_HEAD_DIM} channels: "
            "python -m conversion makes a file for a run's `starts` of other ViTs"
        )
    return Classifier(Vit(dim, _depth(shapes, "blocks"), dim // VIT_HEAD_DIM, patch, grid * patch), classes)


def _shape(shapes: Shapes, name: str, axes: int) -> tuple[int, ...]:
    """Raises KeyError unless there is such an array with so many axes, none of them empty."""
    shape = shapes.get(name, ())
    if len(shape) != axes or 0 in shape:
        raise KeyError(name)
    return tuple(shape)


def _depth(shapes: Shapes, blocks: str = "image_encoder.blocks") -> int:
    found = {int(match[1]) for name in shapes if (match := re.match(rf"{re.escape(blocks)}\.(\d+)\.", name))}
    if not found:
        raise KeyError(blocks)
    return 1 + max(found)
