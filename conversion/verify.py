"""The original and ours on one photo, stage by stage: python -m conversion.verify SOURCE PHOTO.

SOURCE is what `python -m conversion` reads. The original needs its own library: segment-anything (and torchvision) for
a SAM as released, transformers for a folder of SamModel, keras-hub for a preset, timm for a plain ViT. MobileSAM and
EfficientSAM are on no package index, so there is nothing to run beside them.

Prints, for each stage, the largest difference and the original's standard deviation; exit code 1 where a stage differs
by more than LIMIT standard deviations.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from conversion import __main__ as conversion
from conversion import hugging_face, hugging_face_vit, keras_hub, timm_vit
from conversion.state import read_state
from sadist_jax.codecs.geometry import longest_side_shape, pad_to_square, resize_image
from sadist_jax.codecs.images import open_rgb
from sadist_jax.errors import BadInput
from sadist_jax.models.mask_decoder import MULTI
from sadist_jax.models.prompts import Prompts
from sadist_jax.models.sam import Sam
from sadist_jax.models.vit import Vit
from sadist_jax.models.vit_det import VitDet
from sadist_jax.ops.pixels import MEAN, STD, normalize
from sadist_jax.typing import Params

LIMIT = 1e-3  # of a stage's standard deviation: float32, 12 to 32 blocks
Stages = dict[str, np.ndarray]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m conversion.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("photo", type=Path, metavar="PHOTO")
    args = parser.parse_args(argv)
    try:
        found = differences(args.source, open_rgb(args.photo))
    except BadInput as error:
        print(f"conversion: {error}", file=sys.stderr)
        return 2
    print(f"{'stage':<12} {'largest difference':>18} {'original std':>13}")
    for name, (difference, std) in found.items():
        print(f"{name:<12} {difference:>18.1e} {std:>13.2f}")
    return 0 if all(difference <= LIMIT * std for difference, std in found.values()) else 1


def differences(source: Path, photo: np.ndarray) -> dict[str, tuple[float, float]]:
    """{stage: (largest difference, the original's standard deviation)}."""
    original = original_of(source)
    model, params = conversion.read(source)
    frame, size = framed(photo, model.image_size)
    theirs = original(source, model, frame, size)
    ours = (tokens_of if isinstance(model, Vit) else stages_of)(model, params, frame, size)
    return {name: (float(np.abs(ours[name] - x).max()), float(x.std())) for name, x in theirs.items()}


def original_of(source: Path) -> Callable[[Path, Any, np.ndarray, tuple[int, int]], Stages]:
    """What runs the original of this source."""
    if source.is_dir():
        if hugging_face_vit.reads(source):
            return transformers_tokens
        return transformers_stages if hugging_face.reads(source) else keras_hub_stages
    state = read_state(source) if source.exists() else {}
    if hugging_face.knows(state) or hugging_face_vit.knows(state):
        raise BadInput(f"{source} is a file of transformers without its config.json; name the folder")
    if timm_vit.knows(state):
        return timm_tokens
    model, _ = conversion.read(source)
    if not isinstance(model, Sam) or not isinstance(model.image_encoder, VitDet) or source.suffix == ".safetensors":
        raise BadInput(
            f"there is no package that runs {source}; verify takes SAM .pth, SamModel, SAM presets, plain ViTs"
        )
    return official_stages


def framed(photo: np.ndarray, side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """((1, side, side, 3) uint8, the content's height and width)."""
    size = longest_side_shape(photo.shape[:2], side)
    return pad_to_square(resize_image(photo, size), side)[None], size


def middle(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A click: points (1, 1, 2) xy, labels (1, 1)."""
    return np.array([[[size[1] / 2, size[0] / 2]]], np.float32), np.ones((1, 1), np.int32)


def stages_of(model: Sam, params: Params, frame: np.ndarray, size: tuple[int, int]) -> Stages:
    """Ours: every block, the embedding, three masks and their IoU for a click in the middle."""

    @jax.jit
    def run(params: Params) -> Mapping[str, jax.Array]:
        image = normalize(frame, np.array([size], np.int32))
        embedding, aux = model.image_encoder.apply(params["image_encoder"], image)
        points, labels = middle(size)
        logits, iou = model.decode(params, embedding, Prompts(points[None], labels[None]), MULTI)
        return aux | {"embedding": embedding, "logits": logits[0, 0], "iou": iou[0, 0]}

    return {name: np.asarray(x) for name, x in run(params).items()}


def tokens_of(model: Vit, params: Params, frame: np.ndarray, size: tuple[int, int]) -> Stages:
    """Ours: every block of a plain ViT."""
    _, aux = jax.jit(model.apply)(params, normalize(frame))
    return {name: np.asarray(x) for name, x in aux.items()}


def official_stages(source: Path, model: Sam, frame: np.ndarray, size: tuple[int, int]) -> Stages:
    torch, package = _library("torch", "torch"), _library("segment_anything", "segment-anything torch torchvision")
    sizes = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
    if model.image_encoder.dim not in sizes:
        raise BadInput(f"{source} is no SAM of a released size; segment-anything has builders for B, L and H only")
    sam = package.sam_model_registry[sizes[model.image_encoder.dim]](checkpoint=str(source)).eval()
    blocks = {f"block{i}": block for i, block in enumerate(sam.image_encoder.blocks)}
    points, labels = middle(size)
    with torch.no_grad():
        content = torch.from_numpy(frame[:, : size[0], : size[1]]).permute(0, 3, 1, 2)
        stages, embedding = _recorded(blocks, lambda: sam.image_encoder(sam.preprocess(content)))
        click = torch.from_numpy(points), torch.from_numpy(labels)
        sparse, dense = sam.prompt_encoder(points=click, boxes=None, masks=None)
        logits, iou = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, True)
    last = embedding.permute(0, 2, 3, 1).numpy()
    return stages | {"embedding": last, "logits": logits[0].numpy(), "iou": iou[0].numpy()}


def transformers_stages(source: Path, model: Sam, frame: np.ndarray, size: tuple[int, int]) -> Stages:
    torch, package = _library("torch", "torch"), _library("transformers", "transformers torch")
    sam = package.SamModel.from_pretrained(source).eval()
    blocks = {f"block{i}": block for i, block in enumerate(sam.vision_encoder.layers)}
    pixels = (frame - np.array(MEAN)) / np.array(STD)
    pixels[:, size[0] :] = pixels[:, :, size[1] :] = 0
    points, labels = middle(size)
    with torch.no_grad():
        pixels = torch.from_numpy(pixels).float().permute(0, 3, 1, 2)
        stages, embedding = _recorded(blocks, lambda: sam.get_image_embeddings(pixels))
        click = {"input_points": torch.from_numpy(points)[None], "input_labels": torch.from_numpy(labels)[None]}
        out = sam(**click, image_embeddings=embedding, multimask_output=True)
    last = embedding.permute(0, 2, 3, 1).numpy()
    return stages | {"embedding": last, "logits": out.pred_masks[0, 0].numpy(), "iou": out.iou_scores[0, 0].numpy()}


def keras_hub_stages(source: Path, model: Sam, frame: np.ndarray, size: tuple[int, int]) -> Stages:
    """keras-hub's preprocessing belongs to the user: the padding is 0 after normalisation, as in the official code."""
    hub = keras_hub.package()
    segmenter = hub.models.SAMImageSegmenter.from_preset(str(source))
    pixels = frame / 255
    pixels[:, size[0] :] = pixels[:, :, size[1] :] = np.array(MEAN) / 255  # what it subtracts
    points, labels = middle(size)
    points, labels = np.concatenate([points, np.zeros((1, 1, 2))], 1), np.concatenate([labels, [[-1]]], 1)
    embedding = np.asarray(segmenter.backbone.image_encoder(pixels))
    out = segmenter.predict({"images": pixels, "points": points, "labels": labels}, verbose=0)
    return {"embedding": embedding, "logits": out["masks"][0, 1:], "iou": out["iou_pred"][0, 1:]}


def timm_tokens(source: Path, model: Vit, frame: np.ndarray, size: tuple[int, int]) -> Stages:
    """timm's blocks on the patches alone: ours has no class token, which would take part in the attention."""
    torch, package = _library("torch", "torch"), _library("timm.models.vision_transformer", "timm torch torchvision")
    state = {name: torch.from_numpy(np.array(x, np.float32)) for name, x in read_state(source).items()}
    state["pos_embed"] = state["pos_embed"][:, -(model.grid**2) :]  # without the row of a class token
    vit = package.VisionTransformer(
        img_size=model.image_size, patch_size=model.patch, embed_dim=model.dim, depth=model.depth,
        num_heads=model.heads, class_token=False, global_pool="", final_norm=False, num_classes=0,
    )  # fmt: skip
    vit.load_state_dict({name: state[name] for name in vit.state_dict()})
    blocks = {f"block{i}": block for i, block in enumerate(vit.eval().blocks)}
    with torch.no_grad():
        image = torch.from_numpy(np.array(normalize(frame))).permute(0, 3, 1, 2)
        stages, _ = _recorded(blocks, lambda: vit.forward_features(image))
    return {name: x.reshape(1, model.grid, model.grid, model.dim) for name, x in stages.items()}


def transformers_tokens(source: Path, model: Vit, frame: np.ndarray, size: tuple[int, int]) -> Stages:
    """transformers' blocks on the patches alone, as `timm_tokens`."""
    torch, package = _library("torch", "torch"), _library("transformers", "transformers torch")
    vit = package.AutoModel.from_pretrained(source).eval()
    blocks = {f"block{i}": block for i, block in enumerate(vit.layers)}
    with torch.no_grad():
        image = torch.from_numpy(np.array(normalize(frame))).permute(0, 3, 1, 2)
        x = vit.embeddings.patch_embeddings(image) + vit.embeddings.position_embeddings[:, 1:]

        def run() -> None:
            y = x
            for block in vit.layers:
                y = block(y)

        stages, _ = _recorded(blocks, run)
    return {name: x.reshape(1, model.grid, model.grid, model.dim) for name, x in stages.items()}


def _recorded(modules: Mapping[str, Any], run: Callable[[], Any]) -> tuple[Stages, Any]:
    """(outputs of the torch modules, what `run` returns)."""
    outputs: Stages = {}

    def record(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            outputs[name] = (output[0] if isinstance(output, tuple) else output).numpy()

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    try:
        return outputs, run()
    finally:
        for handle in handles:
            handle.remove()


def _library(name: str, install: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadInput(f"the original needs {name} ({error}): pip install {install}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
