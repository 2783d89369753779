"""Measure promptable checkpoints on real photos next to a baseline that was never trained; writes a table for a card.

    python -m benchmarks.mini_teacher_card --bsds DIR --coco200 DIR
    python -m benchmarks.mini_teacher_card --bsds DIR --checkpoint sami=A.safetensors --checkpoint mae=B.pth --out OUT

Box, 1-click and 3-click mean IoU of the most confident mask (sadist_jax/evals/promptable.py says how it is clicked) on
the 200 photos of BSDS500's test split, regions of the median annotator, and on the val2017 half of coco200, panoptic
segments but crowds: at most eight of a photo, of at least 0.1 % of its area. coco200 is 200 photos of COCO 2017, half
of them of val2017, with their panoptic annotations in COCO's own layout. Differences are paired by object; their 95 %
intervals come from drawing images with replacement. The baseline (benchmarks/felzenszwalb.py) was tuned on BSDS500's
val split, for each kind of prompt. Writes OUT.json and OUT.md, benchmarks/results/sam_mini by default.
"""

import argparse
import dataclasses
import datetime
import functools
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.felzenszwalb import BOX, MORE_CLICKS, ONE_CLICK
from benchmarks.machine import available
from benchmarks.photo_sets import bsds500, coco200
from sadist_jax.cli import use_compilation_cache
from sadist_jax.data.sample import Reader, Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.bootstrap import bootstrap_difference, bootstrap_mean
from sadist_jax.evals.evaluation import evenly_spaced, merge
from sadist_jax.evals.promptable import (
    ORACLE,
    PromptedMasks,
    Record,
    ask_predictor,
    column,
    images_of,
    kinds_of,
)

BASELINE, FILLED = "felzenszwalb", "filled box"
BASELINES = {"box": BOX, "1 click": ONE_CLICK, "more clicks": MORE_CLICKS}
Candidate = Callable[[Sample], tuple[Record, ...]]


def main() -> None:
    args = parse()
    evaluation = PromptedMasks(placements=("random", "farthest") if args.farthest else ("random",), seed=args.seed)
    candidates = open_candidates(args, evaluation)
    begin, sets = time.monotonic(), {}
    for title, reader in open_sets(args):
        sets[title] = compare(title, reader, candidates, args.limit)
    card = {
        "command": command(args),
        "date": datetime.date.today().isoformat(),
        "machine": f"{available()} cores",
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "protocol": dataclasses.asdict(evaluation),
        "baseline": {kind: dataclasses.asdict(f) for kind, f in BASELINES.items()},
        "sets": sets,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(render(card))
    print(render(card))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bsds", type=Path, help="folder with images/test and groundTruth/test")
    parser.add_argument("--coco200", type=Path, help="folder with images/val2017 and panoptic_segmentation")
    parser.add_argument(
        "--checkpoint", action="append", metavar="[NAME=]PATH", help="what sadist_jax.load takes; may be repeated"
    )
    parser.add_argument("--no-checkpoint", action="store_true", help="the baseline alone")
    parser.add_argument("--no-baseline", action="store_true", help="the checkpoints alone")
    parser.add_argument(
        "--multimask",
        action=argparse.BooleanOptionalAction,
        help="three masks for all prompts, or one (default: as trained)",
    )
    parser.add_argument("--no-feedback", action="store_true", help="later clicks do not come with the mask before")
    parser.add_argument("--farthest", action="store_true", help="SAM's clicks in the middle as well")
    parser.add_argument("--limit", type=int, help="at most so many images of each set, evenly spaced, to try it out")
    parser.add_argument("--seed", type=int, default=0, help="of clicks and of the choice of objects")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sam_mini"))
    args = parser.parse_args()
    args.checkpoint = [] if args.no_checkpoint else args.checkpoint or ["sam_mini"]
    if not (args.bsds or args.coco200):
        parser.error("give --bsds DIR, --coco200 DIR, or both")
    return args


def command(args: argparse.Namespace) -> str:
    """What to type for these numbers, without the places of this machine."""
    words = ["python -m benchmarks.mini_teacher_card"]
    words += [f"--{name} DIR" for name in ("bsds", "coco200") if getattr(args, name)]
    words += [f"--checkpoint {name_of(c)}" for c in args.checkpoint]
    flags = ("no_checkpoint", "no_baseline", "no_feedback", "farthest")
    words += [f"--{name.replace('_', '-')}" for name in flags if getattr(args, name)]
    words += [] if args.multimask is None else ["--multimask" if args.multimask else "--no-multimask"]
    words += [f"--{name} {getattr(args, name)}" for name in ("limit", "seed") if getattr(args, name)]
    return " ".join(words)


def open_sets(args: argparse.Namespace) -> Iterator[tuple[str, Reader]]:
    if args.bsds:
        yield "BSDS500 test", bsds500(args.bsds, "test").open()
    if args.coco200:
        yield "coco200 val2017", coco200(args.coco200, "val2017").open()


def open_candidates(args: argparse.Namespace, evaluation: PromptedMasks) -> dict[str, Candidate]:
    """Name -> its records of a sample."""
    use_compilation_cache()
    found: dict[str, Candidate] = {}
    for text in args.checkpoint:
        name = name_of(text)
        if name in found:
            raise BadInput(f"two checkpoints are called {name}; give names, --checkpoint NAME=PATH")
        found[name] = open_checkpoint(text.partition("=")[2] or text, args, evaluation)
    if not args.no_baseline:
        found[BASELINE] = functools.partial(ask_baseline, evaluation)
        found[FILLED] = functools.partial(ask_filled, evaluation)
    return found


def name_of(checkpoint: str) -> str:
    name, has_name, _ = checkpoint.partition("=")
    return name if has_name else Path(checkpoint).name.split(".")[0]


def open_checkpoint(path: str, args: argparse.Namespace, evaluation: PromptedMasks) -> Candidate:
    from sadist_jax import Predictor, load

    predict = ask_predictor(Predictor(*load(path)), multimask=args.multimask, feedback=not args.no_feedback)
    return lambda sample: evaluation.update(sample, predict)


def ask_baseline(evaluation: PromptedMasks, sample: Sample) -> tuple[Record, ...]:
    """Each kind of prompt is answered with the numbers that are best for it."""
    box = dataclasses.replace(evaluation, clicks=0).update(sample, BOX)
    first = dataclasses.replace(evaluation, box=False, clicks=1).update(sample, ONE_CLICK)
    later = dataclasses.replace(evaluation, box=False).update(sample, MORE_CLICKS)
    return tuple(c._replace(areas=c.areas | b.areas | a.areas) for a, b, c in zip(box, first, later, strict=True))


def ask_filled(evaluation: PromptedMasks, sample: Sample) -> tuple[Record, ...]:
    filled, one_region = dataclasses.replace(BOX, inside=0.0), np.zeros(sample.image.shape[:2], np.int64)
    boxes = dataclasses.replace(evaluation, clicks=0)
    return boxes.update(sample, lambda image: functools.partial(filled.reply, one_region))


def compare(title: str, reader: Reader, candidates: dict[str, Candidate], limit: int | None) -> dict[str, Any]:
    """Scores of every candidate and differences of every pair on one set."""
    parts: dict[str, list] = {name: [] for name in candidates}
    seconds = dict.fromkeys(candidates, 0.0)
    chosen = evenly_spaced(len(reader), limit)
    for done, index in enumerate(chosen, 1):
        sample = reader[index]
        for name, candidate in candidates.items():
            begin = time.monotonic()
            parts[name].append(candidate(sample))
            seconds[name] += time.monotonic() - begin
        if done % 20 == 0 or done == len(chosen):
            spent = ", ".join(f"{name} {s:.0f} s" for name, s in seconds.items())
            print(f"{title}: {done} of {len(chosen)} images ({spent})", flush=True)
    records = {name: merge(found) for name, found in parts.items()}
    return {
        "images": len(chosen),
        "instances": len(next(iter(records.values()))),
        "seconds": {name: round(s, 1) for name, s in seconds.items()},
        "scores": {name: scores(found) for name, found in records.items()},
        "differences": [
            row for a, b in itertools.combinations(records, 2) if records[a] for row in differences(a, b, records)
        ],
    }


def scores(records: tuple[Record, ...]) -> dict[str, dict[str, float]]:
    """For each kind of prompt: the mean over objects with its interval, the mean over images, the oracle's mean."""
    images, found = images_of(records), {}
    for kind in kinds_of(records):
        values = column(records, kind)
        mean, low, high = bootstrap_mean(values, images)
        per_image = np.mean([values[images == image].mean() for image in np.unique(images)])
        oracle = column(records, kind + ORACLE).mean()
        numbers = {"miou": mean, "low": low, "high": high, "per_image": per_image, "oracle": oracle}
        found[kind] = {name: round(float(number), 5) for name, number in numbers.items()}
    return found


def differences(a: str, b: str, records: dict[str, tuple[Record, ...]]) -> list[dict[str, Any]]:
    """a minus b for each kind of prompt that both were asked."""
    first, second = records[a], records[b]
    if [r[:2] for r in first] != [r[:2] for r in second]:
        raise ValueError(f"{a} and {b} were not asked for the same objects")
    shared = [kind for kind in kinds_of(first) if kind in kinds_of(second)]
    found = {k: bootstrap_difference(column(first, k), column(second, k), images_of(first)) for k in shared}
    rounded = {kind: {end: round(n, 5) for end, n in interval._asdict().items()} for kind, interval in found.items()}
    return [{"a": a, "b": b, "kind": kind} | numbers for kind, numbers in rounded.items()]


def render(card: dict[str, Any]) -> str:
    """Markdown."""
    protocol = card["protocol"]
    lines = [
        "# Mean IoU for boxes and clicks",
        "",
        f"`{card['command']}`, {card['date']}, {card['machine']}, {card['minutes']:g} minutes.",
        "",
        "The most confident mask for a tight box, and after clicks: the first at random in the object, each later one",
        f"at random in what is still wrong. At most {protocol['per_image']} objects of an image, drawn at random among",
        f"those of at least {protocol['min_share']:.1%} of its area. Means over objects; differences are paired by",
        "object, with 95 % intervals from drawing images. The baseline's numbers are in felzenszwalb_tuning.md.",
    ]
    for title, found in card["sets"].items():
        names = list(found["scores"])
        lines += ["", f"## {title}: {found['images']} images, {found['instances']} objects", ""]
        lines += ["| prompt | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for kind in next(iter(found["scores"].values())):
            cells = [found["scores"][name].get(kind) for name in names]
            lines.append("| " + " | ".join([words(kind), *(f"{c['miou']:.3f}" if c else "" for c in cells)]) + " |")
        if found["differences"]:
            lines += ["", "| difference | prompt | mean | 95 % interval |", "|---|---|---|---|"]
        for row in found["differences"]:
            ends = f"{row['low']:+.3f} to {row['high']:+.3f}"
            lines.append(f"| {row['a']} − {row['b']} | {words(row['kind'])} | {row['mean']:+.3f} | {ends} |")
    return "\n".join(lines) + "\n"


def words(kind: str) -> str:
    """random_3 -> 3 clicks."""
    placement, _, number = kind.partition("_")
    if not number:
        return kind
    return f"{number} click{'s' * (number != '1')}" + (", farthest" if placement == "farthest" else "")


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        sys.exit(f"mini_teacher_card: {error}")
