"""Plain ViTs of timm, DeiT and MAE into our `Vit`, and our `Vit` into timm.

Their blocks have the same names and layouts (timm's vision_transformer.py, which DeiT and MAE use). What `Vit` has no
place for is left behind by name: the class token, the last norm, the heads, MAE's decoder. The row of the position
table that belongs to a class token stays: ours has it too. A table made for another number of tokens is resized when
the model is applied, so it comes over as it is, unless --image-size asks for another.

Two things to know of a released file: without its class token a ViT's outputs are others than those it was trained
with (it is a starting point, not the same function), and SAMI feeds ImageNet's mean and deviation, where some of
timm's and Google's ViTs were trained with 0.5 and 0.5.
"""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np

from conversion.state import State
from sadist_jax.errors import BadInput
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.nn.positions import resize_positions
from sadist_jax.typing import Params
from sadist_jax.weights import safetensors
from sadist_jax.weights.pth_writer import write_pth

KEYS = frozenset({"pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"})
HEAD_DIM = {1280: 80}  # of released ViTs by their channels (H); 64 of all others; the weights do not say
LEFT_BEHIND = re.compile(r"cls_token|norm\..*|fc_norm\..*|head\..*|mask_token|decoder_.*|neck\..*")


def knows(state: State) -> bool:
    return state.keys() >= KEYS


def from_state(state: State, source: str, heads: int = 0) -> tuple[Vit, Params]:
    """(model, params) of the encoder, without what `LEFT_BEHIND` names. Raises BadInput where anything else is odd.

    heads: 0: as in all released ViTs of that width, HEAD_DIM; the weights do not say.
    """
    if state["pos_embed"].ndim != 3:
        raise BadInput(f"{source} is no plain ViT but SAM's encoder alone: sadist_jax.load_part reads it")
    left = [name for name in state if LEFT_BEHIND.fullmatch(name)]
    state = {name: np.asarray(x, np.float32) for name, x in state.items() if name not in left}
    if left:
        print(f"left behind, because Vit has no place for it: {', '.join(sorted(left))}")
    if "dist_token" in state:
        raise BadInput(f"{source} is a distilled DeiT, with a token more than `Vit` has; take the plain DeiT's file")
    rows, dim = state["pos_embed"].shape[1:]
    grid, patch = math.isqrt(rows), state["patch_embed.proj.weight"].shape[-1]
    if rows == grid**2:  # no class token: ours has its row all the same
        state["pos_embed"] = np.concatenate([np.zeros((1, 1, dim), np.float32), state["pos_embed"]], 1)
    if not heads and dim % HEAD_DIM.get(dim, 64):
        raise BadInput(f"{source} has {dim} channels, which are no whole number of heads of 64: no released ViT has")
    depth = 1 + max(int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name)))
    model = Vit(dim, depth, heads or dim // HEAD_DIM.get(dim, 64), patch, grid * patch)
    return model, table.from_reference(model.table(), state, source)


def resized(model: Vit, params: Params, side: int) -> tuple[Vit, Params]:
    """The same for images of another side: the position table is resized bicubically, as `Vit` does when it is applied.

    A run's `starts` asks for the very shape: this makes a DeiT of 384 px a start for a student at 224 px.
    """
    if side < 1 or side % model.patch:
        raise BadInput(f"--image-size {side} is no multiple of the patches of {model.patch} px")
    token, rest = params["pos_embed"][:, :1], params["pos_embed"][:, 1:]
    grid = side // model.patch
    moved = resize_positions(rest.reshape(1, model.grid, model.grid, model.dim), (grid, grid))
    table = np.concatenate([token, np.asarray(moved).reshape(1, grid**2, model.dim)], 1)
    return dataclasses.replace(model, image_size=side), {**params, "pos_embed": table}


def write(path: Path, model: Vit, params: Params) -> None:
    """Ours as .safetensors, for a run's `starts`; otherwise a file for timm's VisionTransformer(class_token=False,
    global_pool="", final_norm=False, num_classes=0), which has no row for a class token in its position table.
    """
    state = table.to_reference(model.table(), params)
    if path.suffix == ".safetensors":
        safetensors.write(path, state, {"format": "sadist_jax"})
    elif path.suffix in (".pth", ".pt"):
        write_pth(path, state | {"pos_embed": state["pos_embed"][:, 1:]})
    else:
        raise BadInput(f"{path} must end in .pth, .pt or .safetensors")
