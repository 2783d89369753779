"""Distil a small student from the packaged teacher and compare the two: the whole road in minutes, without a download.

    sadist demo --out runs/demo      after an interruption, the same command goes on

Three ordinary runs, described by configs/sami_mini.py and configs/efficient_sam_mini.py, only shorter:

1. sami: a small ViT learns to reconstruct the features of sam_mini's encoder, on embedded photos and generated scenes;
2. student: the ViT becomes the encoder of an EfficientSAM, which learns to segment scenes on clicks and boxes;
3. without_sami: the same with an encoder that starts at random; same steps, same scenes in the same order.

Then teacher and students answer the same boxes and clicks on scenes and photos that no student has seen.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rich.box
import rich.console
import rich.table
import tyro
from PIL import Image

import sadist_jax
from sadist_jax.cli import _demo_report
from sadist_jax.codecs.prompts import Prompt
from sadist_jax.data.package_photos import PackagePhotos
from sadist_jax.data.sample import Sample
from sadist_jax.data.scene_source import SceneSource
from sadist_jax.errors import BadInput
from sadist_jax.evals.bootstrap import bootstrap_difference
from sadist_jax.evals.evaluation import merge
from sadist_jax.evals.promptable import PromptedMasks, Record, ask_predictor, column, images_of
from sadist_jax.nn import table as leaves
from sadist_jax.predict import overlay
from sadist_jax.predict.predictor import Predictor
from sadist_jax.train import begin, loop
from sadist_jax.train import config as configs
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.log import LogSpec
from sadist_jax.train.run import Run
from sadist_jax.train.start import PARAMS

SAMI_STEPS, TUNING_STEPS = 200, 80  # with --scale 1
SCENES, OBJECTS = 24, 4  # to compare on: scenes, and objects asked for in each
REPEATS = 9  # of a timing
KINDS = {"box": "box", "random_1": "1 click", "random_3": "3 clicks"}
TEACHER, STUDENT, WITHOUT = "teacher (sam_mini)", "student", "student without SAMI"
HEADER = ("", "parameters", *KINDS.values(), "ms/image")
PROMPTS = {  # one object of each held-out photo
    "astronaut.png": Prompt(points=np.array([[404.0, 440.0]]), labels=np.array([1])),
    "chelsea.png": Prompt(box=np.array([118.0, 82.0, 216.0, 146.0])),
    "coffee.png": Prompt(box=np.array([76.0, 16.0, 476.0, 386.0])),
    "rocket.jpg": Prompt(points=np.array([[323.0, 250.0]]), labels=np.array([1])),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What can be chosen."""

    out: Path = Path("runs/demo")
    """directory for the three runs, student.safetensors, student.pth, panel.png and report.html"""
    scale: float = 1.0
    """factor on the steps of training: 0.1 shows quickly how it goes, 10 makes a better student"""


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    options = tyro.cli(Options, args=list(argv), prog="sadist demo", description=__doc__)
    if not 0 < options.scale < 1e4:
        raise BadInput(f"--scale is {options.scale}; it must be a factor above 0")
    began, (model, params) = time.perf_counter(), sadist_jax.load("sam_mini")
    stages = plan(options)
    try:
        for run in stages.values():
            refuse_other_length(run)
            loop.train(run)
        models = {TEACHER: (model, params)}
        models |= {name: sadist_jax.load(stages[name].directory / PARAMS) for name in (STUDENT, WITHOUT)}
        for ending in ("safetensors", "pth"):
            sadist_jax.save(options.out / f"student.{ending}", *models[STUDENT])
        predictors = {name: Predictor(*each) for name, each in models.items()}
        print("comparing on held-out scenes and photos ...")
        records = compare(predictors, held_out_scenes())
        photos = PackagePhotos("held_out").open()
        sheet = draw_panel(predictors, [photos[i] for i in range(len(photos))])
    except KeyboardInterrupt:
        print(f"stopped; `sadist demo --out {options.out} --scale {options.scale:g}` goes on from the last checkpoint")
        raise
    Image.fromarray(sheet).save(options.out / "panel.png")
    rows = summarise(records, predictors, {name: milliseconds(predictor) for name, predictor in predictors.items()})
    conclusion, next_command = verdict(records), write_example(options.out)
    objects = f"{len(records[TEACHER])} objects in {SCENES} generated scenes with exact masks"
    page = _demo_report.Page(stages, HEADER, rows, objects, conclusion, sheet, next_command)
    page.write(options.out / "report.html")
    show(rows, conclusion, options.out, next_command, time.perf_counter() - began)
    return 0


def plan(options: Options) -> dict[str, Run]:
    """The three runs in their order; each is what its config describes, but shorter."""
    sami = configs.load(configs.find("sami_mini")).config
    tuning = configs.load(configs.find("efficient_sam_mini")).config
    pretrained = options.out / "sami"
    return {
        "sami": shorten(sami(), pretrained, SAMI_STEPS * options.scale),
        STUDENT: shorten(tuning(str(pretrained)), options.out / "student", TUNING_STEPS * options.scale),
        WITHOUT: shorten(tuning(None), options.out / "without_sami", TUNING_STEPS * options.scale),
    }


def shorten(run: Run, out: Path, steps: float) -> Run:
    """`run` with so many steps, a tenth of them warm-up, five checkpoints and twenty lines of log."""
    steps = max(2, round(steps))
    return dataclasses.replace(
        run,
        name=f"demo {out.name}",
        out=str(out),
        steps=steps,
        optim=dataclasses.replace(run.optim, warmup=steps // 10),
        checkpoint=CheckpointSpec(every=max(1, steps // 5), keep=1),
        log=LogSpec(every=max(1, steps // 20)),
    )


def refuse_other_length(run: Run, length: str = "--scale", place: str = "--out") -> None:
    """A run goes on only where it was planned with as many steps: the learning rate follows their number.

    length, place: the options that set the number of steps and the directory.
    """
    config = run.directory / begin.CONFIG
    if config.exists() and json.loads(config.read_text(encoding="utf-8"))["steps"] != run.steps:
        raise BadInput(f"{run.directory} holds a run with another {length}; use that again or choose another {place}")


def held_out_scenes() -> list[Sample]:
    """Scenes with exact masks, on surfaces that students were not trained on."""
    scenes = SceneSource(256, seed=2**20, count=4 * SCENES, objects=(8, 12), photos=PackagePhotos("held_out")).open()
    # equally many objects everywhere, so that few shapes are compiled
    rich_ones = (sample for i in range(len(scenes)) if len((sample := scenes[i]).masks) >= OBJECTS)
    return [sample for sample, _ in zip(rich_ones, range(SCENES), strict=False)]


def compare(predictors: Mapping[str, Predictor], samples: Sequence[Sample]) -> dict[str, tuple[Record, ...]]:
    """Scores of every model for the same boxes and clicks on the same objects."""
    evaluation = PromptedMasks(per_image=OBJECTS)
    return {
        name: merge(evaluation.update(sample, ask_predictor(predictor)) for sample in samples)
        for name, predictor in predictors.items()
    }


def milliseconds(predictor: Predictor) -> float:
    """Median time from an image of the model's own size to the masks of one click, once everything is compiled."""
    side, times = predictor.model.image_size, []
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    for _ in range(1 + REPEATS):
        begin = time.perf_counter()
        predictor.set_image(image)
        predictor.predict(points=np.full((1, 2), side / 2))
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times[1:])


def summarise(
    records: Mapping[str, Sequence[Record]], predictors: Mapping[str, Predictor], times: Mapping[str, float]
) -> list[tuple[str, ...]]:
    """Rows of the table, as HEADER names its columns."""
    return [
        (
            name,
            f"{leaves.count(predictor.model.table()) / 1e6:.2f} M",
            *(f"{column(records[name], kind).mean():.3f}" for kind in KINDS),
            f"{times[name]:.0f}",
        )
        for name, predictor in predictors.items()
    ]


def verdict(records: Mapping[str, Sequence[Record]]) -> str:
    """What SAMI brought, with the interval."""
    parts = []
    for kind, title in KINDS.items():
        a, b = (column(records[name], kind) for name in (STUDENT, WITHOUT))
        gain = bootstrap_difference(a, b, images_of(records[STUDENT]))
        parts.append(f"{title} {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})")
    return f"mIoU with SAMI minus without: {', '.join(parts)}; 95 % intervals over scenes, one seed."


def draw_panel(predictors: Mapping[str, Predictor], photos: Sequence[Sample]) -> np.ndarray:
    """A row for each photo: the prompt, then every model's most confident mask."""
    rows = []
    for photo in photos:
        prompt, row = PROMPTS[photo.name], []
        for predictor in predictors.values():
            predictor.set_image(photo.image)
            mask = predictor.predict(*prompt).best
            row.append(overlay.draw_prompt(overlay.overlay(photo.image, mask), prompt))
        rows.append([overlay.draw_prompt(photo.image, prompt), *row])
    return overlay.panel(rows, ("prompt", *predictors), cell=300)


def write_example(out: Path) -> str:
    """Put a photo beside the student; -> the command that clicks on it."""
    photos = PackagePhotos("held_out").open()
    names = [photos.name(i) for i in range(len(photos))]
    Image.fromarray(photos[names.index("coffee.png")].image).save(out / "coffee.png")
    weights, picture = out / "student.safetensors", out / "overlay.png"
    return f"sadist predict {out}/coffee.png --checkpoint {weights} --point 300,180 --out {picture}"


def show(rows: list[tuple[str, ...]], conclusion: str, out: Path, next_command: str, seconds: float) -> None:
    """The table, where everything is, and what to type next."""
    console = rich.console.Console(highlight=False, soft_wrap=True)
    sheet = rich.table.Table(*HEADER, box=rich.box.SIMPLE_HEAD, title="mean IoU on held-out scenes")
    for row in rows:
        sheet.add_row(*row)
    sheet.columns[0].no_wrap = True
    for one in sheet.columns[1:]:
        one.justify = "right"
    console.print(sheet)
    for line in (
        conclusion,
        f"student: {out}/student.safetensors, and {out}/student.pth for the official PyTorch code",
        f"look at: {out}/report.html and {out}/panel.png",
        f"next: {next_command}",
        f"{seconds:.0f} s",
    ):
        console.print(line, markup=False)
