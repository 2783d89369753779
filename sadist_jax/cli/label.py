"""Find every object in a folder of pictures, or masks for given boxes; the same again goes on after an interruption.

    sadist label photos --out labels                                   NAME.json for each picture, as SA-1B has them
    sadist label photos --out labels --form coco                       one instances.json
    sadist label val2017 --annotations instances_val2017.json --out labels --form coco       the images of a COCO file
    sadist label val2017 --annotations boxes.json --prompt boxes --out labels --form coco    its boxes become masks
    sadist label photos --out labels --process 3 --processes 8         a share of the pictures, on another machine
    sadist label photos --out prompts --form prompts                   prompts.json, to adapt a model without a label
    sadist label mine.py --out prompts --form prompts                  the pictures of a config, as its run sees them

A picture's file is written whole or not at all. Pictures that cannot be read are listed in quarantine.jsonl. Labels
never take the place of a file that no run of the same job wrote: the folder of SA-1B needs another one for --out.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sadist_jax.cli._share import share
from sadist_jax.cli._terminal import say
from sadist_jax.data.coco_pictures import CocoBoxes, CocoPictures, CocoPicturesReader
from sadist_jax.data.folder import Folder
from sadist_jax.data.sample import Reader
from sadist_jax.errors import BadInput
from sadist_jax.predict.grid import Everything
from sadist_jax.predict.labelling import MERGED, QUARANTINE, Form, Generate, Labelling
from sadist_jax.train.stop import Stop


@dataclasses.dataclass(frozen=True)
class Options:
    """Pictures are those in the folder and below it; other files are left alone."""

    photos: Annotated[Path, tyro.conf.Positional]
    """folder of pictures; with --annotations, the folder that its file names start from; or a config, NAME.py, whose
    run's pictures these are, under the names that it has for them"""
    out: Path
    """folder of the labels"""
    form: Form = "sa1b"
    """sa1b: a JSON for each picture; coco: one JSON of all; maps: a 16-bit PNG for each picture, i for its i-th mask;
    prompts: one JSON of all, a box and a click for each mask, as WeakFrames(prompt="automatic") reads them"""
    annotations: Path | None = None
    """COCO file: only its images are labelled, and keep their ids in the labels"""
    prompt: Literal["everything", "boxes"] = "everything"
    """everything: a grid of clicks finds objects; boxes: each box of --annotations gets a mask and keeps its id,
    category and bbox (crowds, and boxes outside their picture, are left out)"""
    checkpoint: str | None = None
    """weights: official .pth or .pt, .safetensors; sam_mini, which comes with the package, if none is named"""
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """file of adapters of these weights, such as a LoRA run leaves; repeated, they act together"""
    grid: Everything = Everything()
    """of --prompt everything: clicks and thresholds"""
    process: int | None = None
    """which of `processes` this is, from 0; else SADIST_PROCESS, or what Slurm's srun says"""
    processes: int | None = None
    """how many share the work; else SADIST_PROCESSES, or what Slurm's srun says"""
    max_bad_fraction: float = 0.1
    """of the pictures that may be unreadable"""


def main(argv: Sequence[str]) -> int:
    """`argv`: the folder, then options. Returns the exit code."""
    options = tyro.cli(
        Options, args=list(argv), prog="sadist label", description=__doc__, config=(tyro.conf.AvoidSubcommands,)
    )
    process, processes = share(options.process, options.processes)
    with Stop() as stop:
        return _label(options, process, processes, stop)


def _label(options: Options, process: int, processes: int, stop: Stop) -> int:
    _check(options)
    reader = _open(options)
    if processes > 1:
        say(f"process {process} of {processes}")
    if isinstance(reader, CocoPicturesReader) and any(reader.left_out.values()):
        say("left out: " + ", ".join(f"{count} {what}" for what, count in reader.left_out.items()))

    from sadist_jax import adapters, pretrained  # JAX, only once everything that needs no model is known to be right
    from sadist_jax.parallel import devices

    devices.every()
    model, params = adapters.load_adapted(options.checkpoint or "sam_mini", options.adapter)
    about = pretrained.identity(model, params)
    generate, how = _generate(options, reader, model, params)
    categories = reader.categories if isinstance(reader, CocoPicturesReader) and options.prompt == "boxes" else None
    labelling = Labelling(reader, options.out, options.form, about | how, options.max_bad_fraction, categories)
    counts = labelling.run(stop.before_each(generate), process, processes, say)
    say(", ".join(f"{count} {what}" for what, count in counts.items()))
    written = options.out / MERGED["prompts"]
    if options.form == "prompts" and written.exists() and not any(json.loads(written.read_text("utf-8")).values()):
        say(
            f"{written} has no prompt; lower --grid.pred-iou-thresh and --grid.stability-score-thresh for another --out"
        )
    if counts["bad"]:
        say(f"to have the bad ones labelled too, repair them, delete {QUARANTINE} in --out and run the same again")
    return 0


def _check(options: Options) -> None:
    """Raises BadInput for options that do not go together, before anything is read."""
    if options.form == "maps" and options.out.resolve().is_relative_to(options.photos.resolve()):
        raise BadInput(f"--out {options.out} lies in {options.photos}, where its maps would be taken for photos")
    if options.out.exists() and not options.out.is_dir():
        raise BadInput(f"--out {options.out} is a file; name a folder")
    if not 0 <= options.max_bad_fraction <= 1:
        raise BadInput(f"--max-bad-fraction {options.max_bad_fraction:g} must be between 0 and 1")
    if options.prompt == "boxes" and options.annotations is None:
        raise BadInput("--prompt boxes needs the file that has them: --annotations FILE.json")
    if options.prompt == "boxes" and options.grid != Everything():
        raise BadInput("--grid is of --prompt everything, boxes need none; leave one of the two out")
    if options.prompt == "boxes" and options.form == "prompts":
        raise BadInput("--form prompts is of --prompt everything: boxes are prompts already; leave one of the two out")
    if options.annotations is not None and _is_config(options.photos):
        raise BadInput(f"{options.photos} is a config, which has data of its own; leave --annotations out")
    if options.checkpoint is None and _is_config(options.photos):
        raise BadInput(f"{options.photos} is a config; name the weights that its run starts from: --checkpoint FILE")
    if options.form == "maps" and _is_config(options.photos):
        raise BadInput(f"--form maps is of folders of photos, and {options.photos} is a config; name its folder")


def _is_config(path: Path) -> bool:
    """NAME.py, or NAME.py:VALUE."""
    return path.name.partition(":")[0].endswith(".py") and not path.is_dir()


def _open(options: Options) -> Reader:
    if _is_config(options.photos):
        from sadist_jax.train import config

        return config.make_run(str(options.photos))[0].data.source.open()
    if options.annotations is None:
        return Folder(str(options.photos)).open()
    source = CocoBoxes if options.prompt == "boxes" else CocoPictures
    return source(str(options.annotations), str(options.photos)).open()


def _generate(options: Options, reader: Any, model: Any, params: Any) -> tuple[Generate, dict[str, Any]]:
    """(what makes the records of a picture, what they depend on beside the weights)."""
    from sadist_jax.predict.box_masks import masks_of_boxes
    from sadist_jax.predict.everything import MaskGenerator
    from sadist_jax.predict.predictor import Predictor

    if options.prompt == "boxes":
        predictor = Predictor(model, params)
        return lambda index, image: masks_of_boxes(predictor, image, reader.boxes(index)), {"prompt": "boxes"}
    generator = MaskGenerator(model, params, options.grid, "coco_rle")
    return lambda index, image: generator.generate(image), {"options": options.grid.identity()}
