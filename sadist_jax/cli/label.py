"""Find every object in a folder of pictures: COCO, SA-1B or label maps; the same again goes on after an interruption.

    sadist label photos --out labels                                   NAME.json for each picture, as SA-1B has them
    sadist label photos --out labels --form coco                       one instances.json
    sadist label photos --out labels --process 3 --processes 8         a share of the pictures, on another machine

A picture's file is written whole or not at all. Pictures that cannot be read are listed in quarantine.jsonl.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from sadist_jax.errors import BadInput
from sadist_jax.predict.grid import Everything
from sadist_jax.predict.labelling import Form, Labelling


@dataclasses.dataclass(frozen=True)
class Options:
    """Pictures are those in the folder and below it; other files are left alone."""

    photos: Annotated[Path, tyro.conf.Positional]
    """folder of pictures"""
    out: Path
    """folder of the labels"""
    form: Form = "sa1b"
    """sa1b: a JSON for each picture; coco: one JSON of all; maps: a 16-bit PNG for each picture"""
    checkpoint: str = "sam_mini"
    """weights: official .pth or .pt, .safetensors, or sam_mini, which comes with the package"""
    grid: Everything = Everything()
    """clicks and thresholds"""
    process: int = 0
    """which of `processes` this is"""
    processes: int = 1
    """how many share the work"""
    max_bad_fraction: float = 0.1
    """of the pictures that may be unreadable"""


def main(argv: Sequence[str]) -> int:
    """`argv`: the folder, then options. Returns the exit code."""
    options = tyro.cli(
        Options, args=list(argv), prog="sadist label", description=__doc__, config=(tyro.conf.AvoidSubcommands,)
    )
    if not 0 <= options.process < options.processes:
        raise BadInput(f"--process {options.process} must be 0 or more, and below --processes {options.processes}")
    if options.form == "maps" and options.out.resolve().is_relative_to(options.photos.resolve()):
        raise BadInput(f"--out {options.out} lies in {options.photos}, where its maps would be taken for photos")
    from sadist_jax.data.folder import Folder

    reader = Folder(str(options.photos)).open()
    if options.out.exists() and not options.out.is_dir():
        raise BadInput(f"--out {options.out} is a file; name a folder")

    import sadist_jax  # JAX, only once everything that needs no model is known to be right
    from sadist_jax import pretrained, tree
    from sadist_jax.predict.everything import MaskGenerator
    from sadist_jax.weights.digest import digest

    model, params = sadist_jax.load(options.checkpoint)
    grid = dataclasses.replace(options.grid, output_mode="coco_rle")
    about = {
        "model": pretrained.as_text(model), "weights": digest(tree.flatten(params)),
        "options": {k: v for k, v in dataclasses.asdict(grid).items() if k not in ("points_per_batch", "output_mode")},
    }  # fmt: skip
    labelling = Labelling(reader, options.out, options.form, about, options.max_bad_fraction)
    say = functools.partial(print, flush=True)  # a log file must show how far it is
    counts = labelling.run(MaskGenerator(model, params, grid).generate, options.process, options.processes, say)
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 0
