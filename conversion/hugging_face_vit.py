"""Plain ViTs of transformers (ViT, ViTMAE) into our `Vit`: a folder, or its weights alone.

Two spellings are known: that of the hub's files, which transformers writes by default, and that of its version 5
inside. Query, key and value are three layers there and one with us; all else has another name, and becomes timm's.
"""

from pathlib import Path

import numpy as np

from conversion import timm_vit
from conversion.renaming import Pairs, rename
from conversion.state import State, read_json, weights_of
from sadist_jax.errors import BadInput
from sadist_jax.models.vit import Vit
from sadist_jax.typing import Params

MODELS = ("vit", "deit", "vit_mae")  # model_type of config.json; a DeiT has a token more, and is refused for it
BODIES = ("vit.", "deit.")  # what stands before the encoder's names where the model has a head
POSITIONS = "embeddings.position_embeddings"

HUB: Pairs = (
    ("encoder.layer.{}.attention.attention.query", "layers.{}.attention.q_proj"),
    ("encoder.layer.{}.attention.attention.key", "layers.{}.attention.k_proj"),
    ("encoder.layer.{}.attention.attention.value", "layers.{}.attention.v_proj"),
    ("encoder.layer.{}.attention.output.dense", "layers.{}.attention.o_proj"),
    ("encoder.layer.{}.intermediate.dense", "layers.{}.mlp.fc1"),
    ("encoder.layer.{}.output.dense", "layers.{}.mlp.fc2"),
    ("encoder.layer.{}", "layers.{}"),
)
HEADS = ("pooler", "classifier", "cls_classifier", "distillation_classifier")
KEPT = ("embeddings", "layers", "layernorm", "decoder", *HEADS)
NAMES: Pairs = (  # transformers' name, timm's; what timm_vit leaves behind gets a name by which it does
    (POSITIONS, "pos_embed"),
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.distillation_token", "dist_token"),
    ("layers.{}.attention.qkv", "blocks.{}.attn.qkv"),
    ("layers.{}.attention.o_proj", "blocks.{}.attn.proj"),
    ("layers.{}.layernorm_before", "blocks.{}.norm1"),
    ("layers.{}.layernorm_after", "blocks.{}.norm2"),
    ("layers.{}.mlp", "blocks.{}.mlp"),
    ("layernorm", "norm"),
    ("decoder", "decoder_"),
    *((head, f"head.{head}") for head in HEADS),
)


def knows(state: State) -> bool:
    return POSITIONS in _without_body(state)


def reads(folder: Path) -> bool:
    """Whether the folder holds a plain ViT: by the model_type in its config.json."""
    config = folder / "config.json"
    return config.exists() and read_json(config).get("model_type") in MODELS


def read(folder: Path) -> tuple[Vit, Params]:
    """(model, params) of the encoder that save_pretrained wrote."""
    config = read_json(folder / "config.json")
    if (activation := config.get("hidden_act", "gelu")) != "gelu":
        raise BadInput(f"{folder} has the activation {activation!r}; Vit has the exact GELU, 'gelu' in transformers")
    path, state = weights_of(folder)
    return from_state(state, str(path), int(config.get("num_attention_heads", 0)))


def from_state(state: State, source: str, heads: int = 0) -> tuple[Vit, Params]:
    """(model, params) of the encoder. Raises BadInput where names or shapes are not those of a plain ViT.

    heads: as of `timm_vit.from_state`.
    """
    same = tuple((name, name) for name in KEPT)
    fused = _fuse(rename(_without_body(state), (*HUB, *same), source), source)
    return timm_vit.from_state(rename(fused, NAMES, source), source, heads)


def _without_body(state: State) -> State:
    bodies = {name: next((body for body in BODIES if name.startswith(body)), "") for name in state}
    return {name.removeprefix(bodies[name]): value for name, value in state.items()}


def _fuse(state: State, source: str) -> State:
    """q_proj, k_proj and v_proj one below the other as qkv."""
    fused = {}
    for name, value in state.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        parts = [name.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if ".q_proj." not in name:
            fused[name] = value
        elif missing := [part for part in parts if part not in state]:
            raise BadInput(f"{source} has {name} but not {missing[0]}; download it again")
        else:
            fused[name.replace(".q_proj.", ".qkv.")] = np.concatenate([state[part] for part in parts])
    return fused
