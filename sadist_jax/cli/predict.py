"""Click on a photo, or draw a box, and see the mask; or find everything in photos.

    sadist predict photo.jpg --point 120,80                          a click on the object
    sadist predict photo.jpg --point 120,80 --point 30,40,0          and one on what is not the object
    sadist predict photo.jpg --box 20,30,200,180 --checkpoint runs/demo/student.safetensors
    sadist predict photo.jpg --box 20,30,200,180 --box 5,5,60,50     two objects
    sadist predict photo.jpg --point 120,80 --checkpoint sam.pth --adapter runs/mine/adapter.safetensors

    sadist predict photo.jpg --everything --json-out photo.json      every object, by a grid of clicks
    sadist predict a.jpg b.jpg --everything --out found              NAME_overlay.png, NAME_mask.png, NAME.json

Writes the photo with the mask over it; --mask-out writes the mask itself. Prints the predicted IoU and the area of
every mask.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from sadist_jax.cli._predict_files import Files, files_of_one, files_of_several, save
from sadist_jax.cli._prompts import read_prompts
from sadist_jax.cli._terminal import say
from sadist_jax.codecs.images import decode, open_rgb
from sadist_jax.codecs.prompts import Prediction, Prompt
from sadist_jax.data.names import first_five
from sadist_jax.errors import BadInput
from sadist_jax.predict.grid import Everything


@dataclasses.dataclass(frozen=True)
class Options:
    """Coordinates are pixels of the photo, x to the right and y down, from the top left."""

    photos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """picture to look at; several with --everything"""
    point: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """X,Y of a click on the object, or X,Y,0 beside it; may be repeated"""
    box: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """X0,Y0,X1,Y1 of a box around the object; repeated, without clicks, each is an object of its own"""
    mask: Path | None = None
    """logits of an earlier prediction, from --logits-out, to be refined (SAM only)"""
    checkpoint: str = "sam_mini"
    """weights: official .pth or .pt, .safetensors, or sam_mini, which comes with the package"""
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """file of adapters of these weights, such as a LoRA run leaves; repeated, they act together"""
    multimask: bool | None = None
    """True: the best of three masks; False: a single one; None: as trained: three for a lone click and always from
    EfficientSAM, whose single one is untrained"""
    out: Path | None = None
    """picture to write, the photo with the mask over it; <photo>_overlay.png in the working directory if not given.
    Of several photos: folder of everything that is written"""
    mask_out: Path | None = None
    """also write the mask: white on black, .png; of several objects a 16-bit map, 1 for the first"""
    logits_out: Path | None = None
    """also write the low-resolution logits of one object: .npy, for --mask"""
    everything: bool = False
    """find every object, instead of those of prompts"""
    grid: Everything = Everything()
    """of --everything: its clicks and thresholds"""
    json_out: Path | None = None
    """also write the masks as SA-1B does: .json"""


def main(argv: Sequence[str]) -> int:
    """`argv`: the photos, then options. Returns the exit code."""
    options = tyro.cli(
        Options, args=list(argv), prog="sadist predict", description=__doc__, config=(tyro.conf.AvoidSubcommands,)
    )
    if not options.photos:
        raise BadInput("there is no photo; name one: sadist predict photo.jpg --point X,Y")
    given = (options.mask_out, options.logits_out, options.json_out)
    if options.everything and (
        options.point or options.box or options.mask or options.logits_out or options.multimask is not None
    ):
        raise BadInput("--everything takes no prompt, --multimask or --logits-out; leave them out")
    if len(options.photos) == 1:
        files = [files_of_one(options.photos[0], options.out, *given)]
    elif not options.everything:
        raise BadInput("clicks and boxes are pixels of one photo; name one, or find objects in all with --everything")
    elif any(given):
        raise BadInput("--mask-out and --json-out name the file of one photo; of several, --out has all in one folder")
    else:
        files = files_of_several(options.photos, options.out)
    from sadist_jax.parallel import devices  # JAX, only once everything that needs no model is known to be right

    devices.every()
    if options.everything:
        find_everything(options, files)
    else:
        answer_prompts(options, files[0])
    return 0


def answer_prompts(options: Options, files: Files) -> None:
    """Write what the prompts find in the one photo."""
    photo = open_rgb(options.photos[0])
    prompts = read_prompts(options.photos[0], photo.shape[:2], options.point, options.box, options.mask)
    if len(prompts) > 1 and files.logits:
        raise BadInput("--logits-out is for one prompt, and there are several --box; leave it out")

    from sadist_jax import adapters  # JAX, only once everything that needs no model is known to be right
    from sadist_jax.predict.overlay import draw_prompt, overlay
    from sadist_jax.predict.predictor import Predictor
    from sadist_jax.predict.sa1b import prompted_record

    predictor = Predictor(*adapters.load_adapted(options.checkpoint, options.adapter))
    predictor.set_image(photo)
    predictions = predictor.predict_many(prompts, options.multimask)
    records = [prompted_record(q, p.best, p.ious.max()) for q, p in zip(prompts, predictions, strict=True)]
    if len(prompts) > 1:
        describe_all(records)
        write_all(files, options.photos[0], photo, records, prompts)
        return
    (prediction,) = predictions
    best = int(prediction.ious.argmax())
    say("\n".join(describe(prediction, best)))
    logits = prediction.low_res_logits[best][None]
    write(files, draw_prompt(overlay(photo, prediction.best), prompts[0]), prediction.best, logits)
    write_json(files, options.photos[0], photo, records)


def find_everything(options: Options, files: Sequence[Files]) -> None:
    """Write what everything mode finds in each photo.

    Raises BadInput, when all others are done, for photos that cannot be read.
    """
    bad: dict[Path, BadInput] = {}
    for path in options.photos:  # by their first bytes, before anything slow
        try:
            decode(path, lambda image: image.size)
        except BadInput as error:
            bad[path] = error
    if len(bad) == len(options.photos):
        raise _left_out(bad, options.photos)

    from sadist_jax import adapters
    from sadist_jax.predict.everything import MaskGenerator

    generator = MaskGenerator(*adapters.load_adapted(options.checkpoint, options.adapter), options.grid)
    for path, places in zip(options.photos, files, strict=True):
        if path in bad:
            continue
        try:
            photo = open_rgb(path)
        except BadInput as error:
            bad[path] = error
            continue
        records = generator.generate(photo)
        if len(files) == 1:
            describe_all(records)
        if not records:
            say("no mask is sure enough; lower --grid.pred-iou-thresh or --grid.stability-score-thresh")
        write_all(places, path, photo, records)
    if bad:
        raise _left_out(bad, options.photos)


def _left_out(bad: Mapping[Path, BadInput], photos: Sequence[Path]) -> BadInput:
    first = next(iter(bad.values()))
    if len(photos) == 1:
        return first
    names = first_five([str(path) for path in bad])
    return BadInput(f"{len(bad)} of {len(photos)} photos cannot be read and are left out: {names}; the first: {first}")


def write_all(
    files: Files, path: Path, photo: np.ndarray, records: Sequence[Mapping[str, Any]], prompts: Sequence[Prompt] = ()
) -> None:
    """Several objects: their colours over the photo, a map of their numbers, JSON."""
    from sadist_jax.predict.overlay import draw_prompt, overlay_labels
    from sadist_jax.predict.sa1b import label_map

    labels = label_map(photo.shape[:2], records)
    picture = overlay_labels(photo, labels.astype(int))
    for prompt in prompts:
        picture = draw_prompt(picture, prompt)
    write(files, picture, labels, None, f"{len(records)} masks; ")
    write_json(files, path, photo, records)


def write(files: Files, picture: np.ndarray, mask: np.ndarray, logits: np.ndarray | None, head: str = "") -> None:
    """The pictures and the logits that are asked for."""
    save(files.overlay, picture)
    say(f"{head}written: {files.overlay}")
    if files.mask is not None:
        save(files.mask, mask)
        say(f"written: {files.mask}")
    if files.logits is not None and logits is not None:
        save(files.logits, logits)
        say(f"written: {files.logits}")


def write_json(files: Files, path: Path, photo: np.ndarray, records: Sequence[Mapping[str, Any]]) -> None:
    """The records, where they are asked for."""
    from sadist_jax.predict.sa1b import annotation_file, described

    if files.json is not None:
        save(files.json, annotation_file(described(path.name, photo.shape[:2]), records))
        say(f"written: {files.json}")


def describe_all(records: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each object."""
    for i, record in enumerate(records, 1):
        say(f"{i:>4}  predicted IoU {record['predicted_iou']:.3f}  {record['area']:>9,} pixels")


def describe(prediction: Prediction, best: int) -> list[str]:
    """A line for each mask of one object."""
    found = [f"{'mask':>4}  {'predicted IoU':>13}  {'pixels':>9}  {'of the photo':>12}"]
    for i, (mask, iou) in enumerate(zip(prediction.masks, prediction.ious, strict=True)):
        shown = "  <- shown" if i == best and len(prediction.masks) > 1 else ""
        found.append(f"{i + 1:>4}  {iou:>13.3f}  {int(mask.sum()):>9,}  {mask.mean():>12.1%}{shown}")
    return found
