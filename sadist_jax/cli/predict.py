"""Click on a photo, or draw a box, and see the mask; or find everything in it.

    sadist predict photo.jpg --point 120,80                          a click on the object
    sadist predict photo.jpg --point 120,80 --point 30,40,0          and one on what is not the object
    sadist predict photo.jpg --box 20,30,200,180 --checkpoint runs/demo/student.safetensors

    sadist predict photo.jpg --everything --json-out photo.json      every object, by a grid of clicks

Writes the photo with the mask over it; --mask-out writes the mask itself. Prints the predicted IoU and the area of
every mask.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from sadist_jax.codecs.images import open_rgb
from sadist_jax.codecs.prompts import Prediction, Prompt, check_box, check_points
from sadist_jax.errors import BadInput
from sadist_jax.predict.grid import Everything

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclasses.dataclass(frozen=True)
class Options:
    """Coordinates are pixels of the photo, x to the right and y down, from the top left."""

    photo: Annotated[Path, tyro.conf.Positional]
    """picture to look at"""
    point: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """X,Y of a click on the object, or X,Y,0 beside it; may be repeated"""
    box: str | None = None
    """X0,Y0,X1,Y1 of a box around the object"""
    mask: Path | None = None
    """logits of an earlier prediction, from --logits-out, to be refined (SAM only)"""
    checkpoint: str = "sam_mini"
    """weights: official .pth or .pt, .safetensors, or sam_mini, which comes with the package"""
    multimask: bool | None = None
    """True: the best of three masks; False: a single one; None: as trained: three for a lone click and always from
    EfficientSAM, whose single one is untrained"""
    out: Path | None = None
    """picture to write, the photo with the mask over it; <photo>_overlay.png in the working directory if not given"""
    mask_out: Path | None = None
    """also write the mask: white on black, .png"""
    logits_out: Path | None = None
    """also write the low-resolution logits: .npy, for --mask"""
    everything: bool = False
    """find every object, instead of the one of a prompt; --mask-out is then a 16-bit map, 1 for the first mask"""
    grid: Everything = Everything()
    """of --everything: its clicks and thresholds"""
    json_out: Path | None = None
    """of --everything: also write the masks as SA-1B does: .json"""


def main(argv: Sequence[str]) -> int:
    """`argv`: the photo, then options. Returns the exit code."""
    options = tyro.cli(
        Options, args=list(argv), prog="sadist predict", description=__doc__, config=(tyro.conf.AvoidSubcommands,)
    )
    out = options.out or Path(f"{options.photo.stem}_overlay.png")
    _check_writable(out, "--out", _PICTURES)
    _check_writable(options.mask_out, "--mask-out", (".png",))
    _check_writable(options.logits_out, "--logits-out", (".npy",))
    _check_writable(options.json_out, "--json-out", (".json",))
    photo = open_rgb(options.photo)
    if options.everything:
        find_everything(options, photo, out)
        return 0
    if options.json_out is not None:
        raise BadInput("--json-out is for --everything; --mask-out and --logits-out write the mask of a prompt")
    prompt = read_prompt(options, photo.shape[:2])

    import sadist_jax  # JAX, only once everything that needs no model is known to be right

    model, params = sadist_jax.load(options.checkpoint)
    predictor = sadist_jax.Predictor(model, params)
    predictor.set_image(photo)
    prediction = predictor.predict(*prompt, multimask=options.multimask)
    best = int(prediction.ious.argmax())
    print("\n".join(describe(prediction, best)))
    _save(out, draw(photo, prompt, prediction.masks[best]))
    print(f"written: {out}")
    if options.mask_out is not None:
        _save(options.mask_out, prediction.masks[best])
        print(f"written: {options.mask_out}")
    if options.logits_out is not None:
        _save(options.logits_out, prediction.low_res_logits[best][None])
        print(f"written: {options.logits_out}")
    return 0


def find_everything(options: Options, photo: np.ndarray, out: Path) -> None:
    """Write the pictures and the JSON of everything mode. Raises BadInput for a prompt, which it does not take."""
    if options.point or options.box or options.mask or options.logits_out or options.multimask is not None:
        raise BadInput("--everything takes no prompt, --multimask or --logits-out; leave them out")

    import sadist_jax
    from sadist_jax.predict.everything import MaskGenerator
    from sadist_jax.predict.overlay import overlay_labels
    from sadist_jax.predict.sa1b import annotation_file, label_map
    from sadist_jax.weights import files

    records = MaskGenerator(*sadist_jax.load(options.checkpoint), options.grid).generate(photo)
    labels = label_map(photo.shape[:2], records)
    for i, record in enumerate(records, 1):
        print(f"{i:>4}  predicted IoU {record['predicted_iou']:.3f}  {record['area']:>9,} pixels")
    if not records:
        print("no mask is sure enough; lower --grid.pred-iou-thresh or --grid.stability-score-thresh")
    _save(out, overlay_labels(photo, labels.astype(int)))
    print(f"{len(records)} masks; written: {out}")
    if options.mask_out is not None:
        _save(options.mask_out, labels)
        print(f"written: {options.mask_out}")
    if options.json_out is not None:
        content = annotation_file(options.photo.name, photo.shape[:2], records)
        with files.replacing(options.json_out) as file:
            file.write(json.dumps(content).encode())
        print(f"written: {options.json_out}")


def read_prompt(options: Options, hw: tuple[int, int]) -> Prompt:
    """The prompt that the options describe, for a photo of (height, width) `hw`.

    Raises:
      BadInput: there is none, it is not made of numbers, or it lies outside the photo.
    """
    if not (options.point or options.box or options.mask):
        raise BadInput("there is no prompt; click with --point X,Y or draw a box with --box X0,Y0,X1,Y1")
    points = labels = box = None
    if options.point:
        clicks = [_numbers(text, "--point", "X,Y or X,Y,0", (2, 3)) for text in options.point]
        points = _within(options.photo, "--point", check_points, np.array([click[:2] for click in clicks]), hw)
        labels = np.array([click[2] if len(click) == 3 else 1 for click in clicks])
        if not np.isin(labels, (0, 1)).all():
            raise BadInput("the third number of --point is 1 (the object) or 0 (not the object)")
    if options.box:
        corners = np.array(_numbers(options.box, "--box", "X0,Y0,X1,Y1", (4,)))
        box = _within(options.photo, "--box", check_box, corners, hw)
    return Prompt(points, labels, box, None if options.mask is None else _read_logits(options.mask))


def _within(
    photo: Path, option: str, check: Callable[..., np.ndarray], values: np.ndarray, hw: tuple[int, int]
) -> np.ndarray:
    try:
        return check(values, hw)
    except BadInput as error:
        raise BadInput(f"{option} of {photo}: {error}; choose pixels inside it") from None


def describe(prediction: Prediction, best: int) -> list[str]:
    """A line for each mask."""
    lines = [f"{'mask':>4}  {'predicted IoU':>13}  {'pixels':>9}  {'of the photo':>12}"]
    for i, (mask, iou) in enumerate(zip(prediction.masks, prediction.ious, strict=True)):
        shown = "  <- shown" if i == best and len(prediction.masks) > 1 else ""
        lines.append(f"{i + 1:>4}  {iou:>13.3f}  {int(mask.sum()):>9,}  {mask.mean():>12.1%}{shown}")
    return lines


def draw(photo: np.ndarray, prompt: Prompt, mask: np.ndarray) -> np.ndarray:
    """The photo with the mask and the prompt over it, (H, W, 3) uint8."""
    from sadist_jax.predict.overlay import draw_prompt, overlay

    return draw_prompt(overlay(photo, mask), prompt)


def _numbers(text: str, option: str, form: str, lengths: tuple[int, ...]) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in lengths:
        raise BadInput(f"{option} {text!r} must be {form}: numbers with commas between them and no spaces")
    return numbers


def _read_logits(path: Path) -> np.ndarray:
    try:
        logits = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}; --mask reads what --logits-out has written") from None
    except (OSError, ValueError, EOFError):
        raise BadInput(f"{path} is no .npy file of numbers; --mask reads what --logits-out has written") from None
    if not isinstance(logits, np.ndarray) or logits.dtype.kind not in "fiu" or not np.isfinite(logits).all():
        raise BadInput(f"{path} holds no finite numbers; --mask reads what --logits-out has written")
    return logits.astype(np.float32)


def _check_writable(path: Path | None, option: str, endings: tuple[str, ...]) -> None:
    if path is None:
        return
    if path.suffix.lower() not in endings:
        raise BadInput(f"{option} {path} must end in {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise BadInput(f"{option} {path} cannot be written: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise BadInput(f"{option} {path} is a folder; name a file")


def _save(path: Path, array: np.ndarray) -> None:
    try:
        if path.suffix == ".npy":
            np.save(path, array)
        else:
            Image.fromarray(array).save(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror or error}); choose another file") from None
