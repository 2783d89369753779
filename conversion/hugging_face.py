"""transformers' SamModel: a folder with config.json and model.safetensors (or pytorch_model.bin), or that file alone.

Names as in transformers 5 (models/sam). The Fourier matrix is in the model twice, and in a file once or twice.
"""

import json
from pathlib import Path

import numpy as np

from conversion.renaming import Pairs, rename, swapped, within
from conversion.state import FILES, State, read_json, weights_of
from sadist_jax import recognise
from sadist_jax.errors import BadInput
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit_det import VitDet
from sadist_jax.nn import table
from sadist_jax.ops.pixels import MEAN, STD
from sadist_jax.typing import Params
from sadist_jax.weights import safetensors

SHARED = "shared_image_embedding.positional_embedding"
TWIN = "prompt_encoder.shared_embedding.positional_embedding"

_HEAD = (("layers.0", "proj_in"), ("layers.1", "layers.0"), ("layers.2", "proj_out"))
NAMES: Pairs = (  # the official name, transformers' name
    ("image_encoder.pos_embed", "vision_encoder.pos_embed"),
    ("image_encoder.patch_embed.proj", "vision_encoder.patch_embed.projection"),
    ("image_encoder.blocks.{}.norm1", "vision_encoder.layers.{}.layer_norm1"),
    ("image_encoder.blocks.{}.norm2", "vision_encoder.layers.{}.layer_norm2"),
    ("image_encoder.blocks.{}.attn", "vision_encoder.layers.{}.attn"),
    ("image_encoder.blocks.{}.mlp", "vision_encoder.layers.{}.mlp"),
    ("image_encoder.neck.0", "vision_encoder.neck.conv1"),
    ("image_encoder.neck.1", "vision_encoder.neck.layer_norm1"),
    ("image_encoder.neck.2", "vision_encoder.neck.conv2"),
    ("image_encoder.neck.3", "vision_encoder.neck.layer_norm2"),
    ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", SHARED),
    ("prompt_encoder.point_embeddings", "prompt_encoder.point_embed"),
    ("prompt_encoder.not_a_point_embed", "prompt_encoder.not_a_point_embed"),
    ("prompt_encoder.no_mask_embed", "prompt_encoder.no_mask_embed"),
    ("prompt_encoder.mask_downscaling.0", "prompt_encoder.mask_embed.conv1"),
    ("prompt_encoder.mask_downscaling.1", "prompt_encoder.mask_embed.layer_norm1"),
    ("prompt_encoder.mask_downscaling.3", "prompt_encoder.mask_embed.conv2"),
    ("prompt_encoder.mask_downscaling.4", "prompt_encoder.mask_embed.layer_norm2"),
    ("prompt_encoder.mask_downscaling.6", "prompt_encoder.mask_embed.conv3"),
    ("mask_decoder.iou_token", "mask_decoder.iou_token"),
    ("mask_decoder.mask_tokens", "mask_decoder.mask_tokens"),
    *within(
        "mask_decoder.transformer.layers.{}.",
        "mask_decoder.transformer.layers.{}.",
        [(f"norm{i}", f"layer_norm{i}") for i in range(1, 5)],
    ),
    ("mask_decoder.transformer.norm_final_attn", "mask_decoder.transformer.layer_norm_final_attn"),
    ("mask_decoder.transformer", "mask_decoder.transformer"),
    ("mask_decoder.output_upscaling.0", "mask_decoder.upscale_conv1"),
    ("mask_decoder.output_upscaling.1", "mask_decoder.upscale_layer_norm"),
    ("mask_decoder.output_upscaling.3", "mask_decoder.upscale_conv2"),
    *within("mask_decoder.output_hypernetworks_mlps.{}.", "mask_decoder.output_hypernetworks_mlps.{}.", _HEAD),
    *within("mask_decoder.iou_prediction_head.", "mask_decoder.iou_prediction_head.", _HEAD),
)  # fmt: skip


def knows(state: State) -> bool:
    return "vision_encoder.patch_embed.projection.weight" in state


def reads(folder: Path) -> bool:
    """Whether the folder holds a SamModel: by the model_type in its config.json."""
    config = folder / "config.json"
    return config.exists() and read_json(config).get("model_type") == "sam"


def read(folder: Path) -> tuple[Sam, Params]:
    """(model, params) of what save_pretrained wrote."""
    path, state = weights_of(folder)
    return from_state(state, str(path))


def from_state(state: State, source: str) -> tuple[Sam, Params]:
    """(model, params). Raises BadInput where names or shapes are not those of a SamModel."""
    state = dict(state)
    twin = state.pop(TWIN, None)
    if twin is not None and not np.array_equal(twin, state.setdefault(SHARED, twin)):
        raise BadInput(f"{source}: {TWIN} and {SHARED} differ; they are one matrix in every SamModel")
    official = {name: np.asarray(x, np.float32) for name, x in rename(state, swapped(NAMES), source).items()}
    model = recognise.recognise({name: x.shape for name, x in official.items()}, source)
    assert isinstance(model, Sam)
    return model, table.from_reference(model.table(), official, source)


def write(path: Path, model: Sam, params: Params) -> None:
    """A folder for SamModel.from_pretrained and SamProcessor.from_pretrained."""
    if not isinstance(model, Sam) or not isinstance(model.image_encoder, VitDet):
        raise BadInput("transformers has no class for this model; SamModel is a SAM with a ViT (B, L, H)")
    path.mkdir(parents=True, exist_ok=True)
    state = rename(table.to_reference(model.table(), params), NAMES, "the model")
    safetensors.write(path / FILES[0], state, {"format": "pt"})
    (path / "config.json").write_text(json.dumps(config(model), indent=2) + "\n")
    (path / "preprocessor_config.json").write_text(json.dumps(processor(model), indent=2) + "\n")


def config(model: Sam) -> dict:
    encoder, decoder = model.image_encoder, model.mask_decoder
    assert isinstance(encoder, VitDet)
    vision = {
        "hidden_size": encoder.dim, "output_channels": encoder.out_dim, "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads, "image_size": encoder.image_size, "patch_size": encoder.patch,
        "window_size": encoder.window, "global_attn_indexes": list(encoder.global_blocks),
        "mlp_dim": 4 * encoder.dim, "num_pos_feats": encoder.out_dim // 2, "model_type": "sam_vision_model",
    }  # fmt: skip
    prompts = {
        "hidden_size": encoder.out_dim, "image_size": encoder.image_size, "patch_size": encoder.patch,
        "image_embedding_size": encoder.grid, "model_type": "sam_prompt_encoder",
    }  # fmt: skip
    masks = {
        "hidden_size": decoder.dim, "mlp_dim": decoder.two_way.mlp_dim, "num_hidden_layers": decoder.two_way.depth,
        "num_attention_heads": decoder.two_way.heads, "iou_head_hidden_dim": decoder.iou_head_hidden_dim,
        "model_type": "sam_mask_decoder",
    }  # fmt: skip
    parts = {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": masks}
    return {"architectures": ["SamModel"], "model_type": "sam", "dtype": "float32"} | parts


def processor(model: Sam) -> dict:
    side = model.image_size
    return {
        "image_processor_type": "SamImageProcessor",
        "processor_class": "SamProcessor",
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [mean / 255 for mean in MEAN],
        "image_std": [std / 255 for std in STD],
        "pad_size": {"height": side, "width": side},
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": side},
    }
