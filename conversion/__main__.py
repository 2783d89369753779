"""Convert weights between this project and its neighbours: python -m conversion SOURCE TARGET.

SOURCE, recognised by its keys:
  SAM, MobileSAM and EfficientSAM as released (.pth, .pt, .pt.zip), and .safetensors of ours
  transformers' SamModel (a folder, its model.safetensors or pytorch_model.bin)
  a SAM preset of keras-hub (a folder)
  with --part student, or --part image_encoder: the ViT of a SAMI run's, or of an EfficientSAM's file
  a plain ViT of timm, DeiT or MAE (.pth, .safetensors), or of transformers (a folder or file): the encoder alone

TARGET:
  .pth, .pt         for the official code, or for timm where SOURCE is a plain ViT
  .safetensors      ours: sadist_jax.load, and a run's `starts` (a plain ViT: the latter only)
  a folder          with --to hf: for transformers' SamModel.from_pretrained
                    with --to keras-hub: for keras_hub.models.SAMImageSegmenter.from_preset
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import sadist_jax
from conversion import hugging_face, hugging_face_vit, keras_hub, timm_vit
from conversion.state import read_json, read_state
from sadist_jax import adapters, pretrained
from sadist_jax.adapt import lora
from sadist_jax.errors import BadInput
from sadist_jax.models.vit import Vit
from sadist_jax.nn import table
from sadist_jax.recognise import SUPPORTED

ENDINGS = (".pth", ".pt", ".safetensors")
FOLDERS = {"hf": hugging_face.write, "keras-hub": keras_hub.write}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m conversion", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("target", type=Path, metavar="TARGET")
    parser.add_argument("--part", default="", help="only what SOURCE, a file, has below this name: a plain ViT")
    parser.add_argument(
        "--adapter", type=Path, metavar="FILE", action="append", default=[],
        help="fuse these adapters of SOURCE into its kernels; may be repeated",
    )  # fmt: skip
    parser.add_argument("--image-size", type=int, help="of a plain ViT: resize its positions to images of that side")
    parser.add_argument("--to", choices=FOLDERS, help="what a folder is for")
    args = parser.parse_args(argv)
    try:
        if (args.target.suffix in ENDINGS) == bool(args.to):
            raise BadInput(
                f"--to {args.to} makes a folder, and {args.target} is the name of a file"
                if args.to
                else f"{args.target} must end in .pth, .pt or .safetensors, or be a folder: --to hf or --to keras-hub"
            )
        if args.target.exists():
            raise BadInput(f"{args.target} exists; delete it or name another target")
        model, params = read_part(args.source, args.part) if args.part else read(args.source)
        if args.adapter:
            params = lora.fuse(adapters.attached(params, args.adapter, str(args.source)))
        if args.image_size is not None:
            if not isinstance(model, Vit):
                raise BadInput(f"--image-size is for plain ViTs, and {args.source} is a {type(model).__name__}")
            model, params = timm_vit.resized(model, params, args.image_size)
        write(args.target, args.to, model, params)
    except BadInput as error:
        print(f"conversion: {error}", file=sys.stderr)
        return 2
    print(f"{args.target}: {type(model).__name__}, {table.count(model.table()) / 1e6:.1f} million weights")
    return 0


def read(source: Path) -> tuple[Any, Any]:
    """(model, params) of any source."""
    if source.is_dir():
        found = [module.read for module in (hugging_face, hugging_face_vit, keras_hub) if module.reads(source)]
        if not found:
            config = source / "config.json"
            kind = read_json(config).get("model_type", "") if config.exists() else ""
            raise BadInput(
                f"{source} is no SamModel and no plain ViT of transformers, and no SAM preset of keras-hub"
                + (f", but a {kind!r}" if kind else "")
                + f". Known: {SUPPORTED}, and these"
            )
        return found[0](source)
    if source.exists():
        state = read_state(source)
        for module in (hugging_face, hugging_face_vit, timm_vit):
            if module.knows(state):
                return module.from_state(state, str(source))
        del state
    return pretrained.read(source)


def read_part(source: Path, part: str) -> tuple[Vit, Any]:
    """(model, params) of the plain ViT that a file has below a name. Raises BadInput where there is none."""
    if not source.is_file():
        raise BadInput(f"--part takes something out of a file, and {source} is none")
    state = {name.removeprefix(f"{part}."): x for name, x in read_state(source).items() if name.startswith(f"{part}.")}
    if not timm_vit.knows(state):
        raise BadInput(f"{source} has no plain ViT below the name {part!r}")
    return timm_vit.from_state(state, f"{part} of {source}")


def write(target: Path, folder: str | None, model: Any, params: Any) -> None:
    if folder:
        FOLDERS[folder](target, model, params)
    elif isinstance(model, Vit):
        timm_vit.write(target, model, params)
    else:
        sadist_jax.save(target, model, params)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
