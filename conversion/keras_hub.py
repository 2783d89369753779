"""keras-hub's SAM presets, both ways: folders of SAMImageSegmenter.from_preset and save_to_preset.

Needs keras-hub, without TensorFlow: see README. Its layers keep arrays as ours do (channels last, (in, out)), but for
transposed convolutions. Its images are RGB in 0..1: the model itself subtracts the mean.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from conversion.state import read_json
from sadist_jax import tree
from sadist_jax.errors import BadInput
from sadist_jax.models.mask_decoder import MaskDecoder, Upscale
from sadist_jax.models.prompt_encoder import MASK_CHANNELS, PromptEncoder
from sadist_jax.models.sam import Sam
from sadist_jax.models.two_way import TwoWay
from sadist_jax.models.vit_det import VitDet
from sadist_jax.typing import Params

CLASSES = ("SAMBackbone", "SAMImageSegmenter")
REMEDY = "pip install keras kagglehub sentencepiece tokenizers regex grain && pip install --no-deps keras-hub"
POINTS = ("background_point_embed", "foreground_point_embed", "top_left_corner_embed", "bottom_right_corner_embed")


def reads(path: Path) -> bool:
    """Whether that is the folder of a SAM preset: by the class in its config.json."""
    config = path / "config.json"
    return config.exists() and read_json(config).get("class_name") in CLASSES


def read(path: Path) -> tuple[Sam, Params]:
    """(model, params) of a preset."""
    # not SAMBackbone.from_preset, which fails: alone, a backbone never builds its mask decoder
    backbone = package().models.SAMImageSegmenter.from_preset(str(path)).backbone
    return model_of(backbone), params_of(backbone)


def write(path: Path, model: Sam, params: Params) -> None:
    """A folder for keras_hub.models.SAMImageSegmenter.from_preset. Raises BadInput for a model it has no class for."""
    segmenter = build(model)
    fill(segmenter.backbone, params)
    segmenter.save_to_preset(str(path))


def build(model: Sam) -> Any:
    """keras-hub's SAMImageSegmenter of these sizes, untrained."""
    if not isinstance(model, Sam) or not isinstance(model.image_encoder, VitDet):
        raise BadInput("keras-hub has no class for this model; its SAM is the one with a ViT (B, L, H)")
    encoder, decoder = model.image_encoder, model.mask_decoder
    hub, side, grid = package(), encoder.image_size, encoder.grid
    images = hub.models.ViTDetBackbone(
        hidden_size=encoder.dim, num_layers=encoder.depth, intermediate_dim=4 * encoder.dim, num_heads=encoder.heads,
        global_attention_layer_indices=list(encoder.global_blocks), image_shape=(side, side, 3),
        patch_size=encoder.patch, num_output_channels=encoder.out_dim, window_size=encoder.window, dtype="float32",
    )  # fmt: skip
    prompts = hub.layers.SAMPromptEncoder(
        hidden_size=encoder.out_dim, image_embedding_size=(grid, grid), input_image_size=(side, side),
        mask_in_channels=MASK_CHANNELS, dtype="float32",
    )  # fmt: skip
    two_way = decoder.two_way
    masks = hub.layers.SAMMaskDecoder(
        hidden_size=two_way.dim, num_layers=two_way.depth, intermediate_dim=two_way.mlp_dim, num_heads=two_way.heads,
        embedding_dim=decoder.dim, iou_head_hidden_dim=decoder.iou_head_hidden_dim, dtype="float32",
    )  # fmt: skip
    backbone = hub.models.SAMBackbone(image_encoder=images, prompt_encoder=prompts, mask_decoder=masks, dtype="float32")
    return hub.models.SAMImageSegmenter(backbone=backbone)


def model_of(backbone: Any) -> Sam:
    """Our model with the sizes of a SAMBackbone."""
    images, masks = backbone.image_encoder, backbone.mask_decoder
    encoder = VitDet(
        images.hidden_size, images.num_layers, images.num_heads, tuple(images.global_attention_layer_indices),
        images.window_size, images.patch_size, images.image_shape[0], images.num_output_channels,
    )  # fmt: skip
    two_way = TwoWay(masks.hidden_size, masks.num_layers, masks.num_heads, masks.intermediate_dim)
    dim = encoder.out_dim
    decoder = MaskDecoder(two_way, Upscale(dim), iou_head_hidden_dim=masks.iou_head_hidden_dim)
    return Sam(encoder, PromptEncoder(dim), decoder)


def params_of(backbone: Any) -> Params:
    """Parameters of ours with the values of the backbone's variables."""
    flat = {name: np.asarray(_turn(name, variable.value)) for name, variable in variables(backbone)}
    rows = tree.flatten(model_of(backbone).table())
    problems = tree.difference({n: leaf.shape for n, leaf in rows.items()}, {n: x.shape for n, x in flat.items()})
    if problems:
        raise BadInput(f"this SAMBackbone is not built like keras-hub 0.32's:\n{problems}")
    return tree.unflatten({name: flat[name] for name in rows})


def fill(backbone: Any, params: Params) -> None:
    """Assign parameters of ours to the backbone's variables: all of them, or a ValueError."""
    flat, places = tree.flatten(params), dict(variables(backbone))
    held = {id(v) for v in [*backbone.variables, *backbone.mask_decoder.variables]}
    if flat.keys() != places.keys() or held != {id(v) for v in places.values()}:
        raise ValueError(f"not one place for each array: {sorted(flat.keys() ^ places.keys())}, {len(held)} variables")
    for name, variable in places.items():
        variable.assign(_turn(name, np.asarray(flat[name])))


def variables(backbone: Any) -> Iterator[tuple[str, Any]]:
    """(our name, keras variable) of everything that a SAMBackbone holds."""
    yield from _image_encoder(backbone.image_encoder)
    yield from _prompt_encoder(backbone.prompt_encoder)
    yield from _mask_decoder(backbone.mask_decoder)


def _image_encoder(encoder: Any) -> Iterator[tuple[str, Any]]:
    layers = {kind: [x for x in encoder.layers if type(x).__name__ == kind] for kind in map(_kind, encoder.layers)}
    yield "image_encoder.pos_embed", layers["AddPositionalEmbedding"][0].pos_embed
    yield from _leaves("image_encoder.patch_embed.proj", layers["ViTDetPatchingAndEmbedding"][0].projection)
    for i, block in enumerate(layers["WindowedTransformerEncoder"]):
        here, attention = f"image_encoder.blocks.{i}", block.attention
        yield f"{here}.attn.rel_pos_h", attention.add_decomposed_relative_pe.rel_pos_h
        yield f"{here}.attn.rel_pos_w", attention.add_decomposed_relative_pe.rel_pos_w
        yield from _leaves(f"{here}.attn.qkv", attention.qkv)
        yield from _leaves(f"{here}.attn.proj", attention.projection)
        yield from _leaves(f"{here}.norm1", block.layer_norm1)
        yield from _leaves(f"{here}.norm2", block.layer_norm2)
        yield from _leaves(f"{here}.mlp.lin1", block.mlp_block.dense_net.layers[0])
        yield from _leaves(f"{here}.mlp.lin2", block.mlp_block.dense_net.layers[2])
    for i, layer in enumerate(encoder.neck.layers):
        yield from _leaves(f"image_encoder.neck.{i}", layer)


def _prompt_encoder(encoder: Any) -> Iterator[tuple[str, Any]]:
    fourier = encoder.positional_embedding_layer.positional_encoding_gaussian_matrix
    yield "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", fourier
    for i, name in enumerate(POINTS):
        yield from _leaves(f"prompt_encoder.point_embeddings.{i}", getattr(encoder, name))
    for name in ("not_a_point_embed", "no_mask_embed"):
        yield from _leaves(f"prompt_encoder.{name}", getattr(encoder, name))
    for i in (0, 1, 3, 4, 6):
        yield from _leaves(f"prompt_encoder.mask_downscaling.{i}", encoder.mask_downscaler.layers[i])


def _mask_decoder(decoder: Any) -> Iterator[tuple[str, Any]]:
    yield from _leaves("mask_decoder.iou_token", decoder.iou_token)
    yield from _leaves("mask_decoder.mask_tokens", decoder.mask_tokens)
    for i, layer in enumerate(decoder.transformer.layers):
        here = f"mask_decoder.transformer.layers.{i}"
        yield from _attention(f"{here}.self_attn", layer.self_attention)
        yield from _attention(f"{here}.cross_attn_token_to_image", layer.cross_attention_token_to_image)
        yield from _attention(f"{here}.cross_attn_image_to_token", layer.cross_attention_image_to_token)
        for j in range(1, 5):
            yield from _leaves(f"{here}.norm{j}", getattr(layer, f"layer_norm{j}"))
        yield from _leaves(f"{here}.mlp.lin1", layer.mlp_block.mlp_block.layers[0])
        yield from _leaves(f"{here}.mlp.lin2", layer.mlp_block.mlp_block.layers[2])
    yield from _attention(
        "mask_decoder.transformer.final_attn_token_to_image", decoder.transformer.final_attention_token_to_image
    )
    yield from _leaves("mask_decoder.transformer.norm_final_attn", decoder.transformer.final_layer_norm)
    for i in (0, 1, 3):
        yield from _leaves(f"mask_decoder.output_upscaling.{i}", decoder.output_upscaling.layers[i])
    heads = {f"output_hypernetworks_mlps.{i}": mlp for i, mlp in enumerate(decoder.output_hypernetworks_mlps)}
    for name, mlp in (heads | {"iou_prediction_head": decoder.iou_prediction_head}).items():
        for i in range(3):
            yield from _leaves(f"mask_decoder.{name}.layers.{i}", mlp.mlp_block.layers[2 * i])


def _attention(name: str, layer: Any) -> Iterator[tuple[str, Any]]:
    for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "out")):
        yield from _leaves(f"{name}.{ours}_proj", getattr(layer, f"{theirs}_proj"))


def _leaves(name: str, layer: Any) -> Iterator[tuple[str, Any]]:
    """weight and bias of a dense layer, a convolution, a norm or an embedding."""
    kind = _kind(layer)
    weight, bias = {"LayerNormalization": ("gamma", "beta"), "Embedding": ("embeddings", None)}.get(
        kind, ("kernel", "bias")
    )
    yield f"{name}.weight", getattr(layer, weight)
    if bias is not None and getattr(layer, bias) is not None:
        yield f"{name}.bias", getattr(layer, bias)


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _turn(name: str, x: Any) -> Any:
    """Keras has (h, w, out, in) for a transposed convolution where ours has (h, w, in, out)."""
    return x.swapaxes(2, 3) if "output_upscaling" in name and x.ndim == 4 else x


def package() -> Any:
    """keras_hub, on the JAX backend. Raises BadInput where it is missing."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        import keras
        import keras_hub
    except ImportError as error:
        raise BadInput(f"keras-hub presets need keras-hub ({error}); {REMEDY}") from None
    if (backend := keras.backend.backend()) != "jax":
        raise BadInput(f"Keras runs on {backend} here, and this needs its JAX backend: set KERAS_BACKEND=jax")
    return keras_hub
