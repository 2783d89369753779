"""Choose the numbers of the baseline in benchmarks/felzenszwalb.py on the val split of BSDS500.

    python -m benchmarks.felzenszwalb_tuning --bsds DIR

Scale and min_size are searched together at sigma 0.8 (the original's), then sigma for the best of each kind of prompt.
Writes the table to benchmarks/results/felzenszwalb_tuning.md; the constants are put into the source by hand.
"""

import argparse
import dataclasses
import functools
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.felzenszwalb import Felzenszwalb
from benchmarks.photo_sets import bsds500
from sadist_jax.data.sample import Sample
from sadist_jax.errors import BadInput
from sadist_jax.evals.promptable import PromptedMasks, Record

SCALES, MIN_SIZES = (30, 60, 100, 200, 300, 400, 600), (20, 50, 200)
SIGMA, OTHER_SIGMAS = 0.8, (0.5, 1.2)
INSIDE = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # 0: the filled box
CONTESTED = ("removed", "split")
BOX, CLICKS = PromptedMasks(clicks=0), PromptedMasks(box=False)
KINDS = ("box", "random_1", "random_3")
Scores = dict[tuple[str, Felzenszwalb], float]  # (kind, variant) -> mIoU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bsds", type=Path, required=True, help="folder with images/val and groundTruth/val")
    parser.add_argument("--every", type=int, default=1, help="use every n-th image (default: all)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/felzenszwalb_tuning.md"))
    args = parser.parse_args()
    try:
        reader = bsds500(args.bsds, "val").open()
    except BadInput as error:
        parser.error(str(error))
    samples = [reader[i] for i in range(0, len(reader), args.every)]
    scores = tune(samples)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(table(scores, len(samples), args.every))
    print(args.out.read_text())


def tune(samples: list[Sample]) -> Scores:
    """Scores of all that was tried."""
    scores: Scores = {}
    for scale in SCALES:
        for min_size in MIN_SIZES:
            scores |= _try(Felzenszwalb(scale, SIGMA, min_size), samples)
    found = {best(scores, kind) for kind in KINDS}
    for plain in {(f.scale, f.min_size) for f in found}:
        for sigma in OTHER_SIGMAS:
            scores |= _try(Felzenszwalb(plain[0], sigma, plain[1]), samples)
    return scores


def best(scores: Scores, kind: str) -> Felzenszwalb:
    return max((f for k, f in scores if k == kind), key=lambda f: scores[kind, f])


def _try(plain: Felzenszwalb, samples: Iterable[Sample]) -> Scores:
    """Every variant of one segmentation, which takes most of the time."""
    boxes = {dataclasses.replace(plain, inside=i): [] for i in INSIDE}
    clicks = {dataclasses.replace(plain, contested=c): [] for c in CONTESTED}
    begin = time.monotonic()
    for sample in samples:
        regions = plain.segment(sample.image)
        for tried, evaluation in ((boxes, BOX), (clicks, CLICKS)):
            for variant, records in tried.items():
                records += _ask(evaluation, sample, functools.partial(variant.reply, regions))
    scores = {("box", v): BOX.finish(records)["box"] for v, records in boxes.items()}
    for kind in ("random_1", "random_3"):
        scores |= {(kind, v): CLICKS.finish(records)[kind] for v, records in clicks.items()}
    line = " ".join(f"{kind} {max(s for (k, _), s in scores.items() if k == kind):.4f}" for kind in KINDS)
    print(f"{_name(plain)}: {line} ({time.monotonic() - begin:.0f} s)", flush=True)
    return scores


def _ask(evaluation: PromptedMasks, sample: Sample, reply) -> tuple[Record, ...]:
    return evaluation.update(sample, lambda image: reply)


def table(scores: Scores, images: int, every: int) -> str:
    """Markdown."""
    lines = [
        "# Numbers of the Felzenszwalb baseline",
        "",
        f"`python -m benchmarks.felzenszwalb_tuning --bsds DIR --every {every}`: mean IoU on {images} images",
        f"of BSDS500 val, at most {BOX.per_image} regions of each, drawn at random (the median annotator's, at least",
        f"{BOX.min_share:.1%} of the image). Box: the regions with more than a share of their area inside, cut off at",
        "the box; the share that is best is in brackets, and a share of 0 is the filled box. 3 clicks: regions with",
        "clicks of both kinds are removed, or split between the clicks.",
        "",
        "| scale | sigma | min_size | box | filled box | 1 click | 3 clicks, removed | 3 clicks, split |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for plain in sorted({(f.scale, f.sigma, f.min_size) for _, f in scores}):
        mine = {(k, f): s for (k, f), s in scores.items() if (f.scale, f.sigma, f.min_size) == plain}
        box = best(mine, "box")
        removed, split = (mine["random_3", Felzenszwalb(*plain, contested=c)] for c in ("removed", "split"))
        numbers = [f"{mine['box', box]:.4f} ({box.inside:g})", f"{mine['box', Felzenszwalb(*plain, inside=0.0)]:.4f}"]
        numbers += [f"{n:.4f}" for n in (mine["random_1", Felzenszwalb(*plain)], removed, split)]
        lines.append("| " + " | ".join([*(f"{n:g}" for n in plain), *numbers]) + " |")
    lines += ["", "Best:", ""]
    lines += [f"* {kind}: {_name(f)}, {scores[kind, f]:.4f}" for kind in KINDS for f in [best(scores, kind)]]
    return "\n".join(lines) + "\n"


def _name(f: Felzenszwalb) -> str:
    return f"scale {f.scale:g}, sigma {f.sigma:g}, min_size {f.min_size}, inside {f.inside:g}, {f.contested}"


if __name__ == "__main__":
    main()
