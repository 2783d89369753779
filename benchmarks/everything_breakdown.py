"""Where the time of everything mode goes, and what it saves to upscale only the prompts whose predicted IoU passes.

    python -m benchmarks.everything_breakdown

The cases of benchmarks/everything.py, with thresholds that stop the work after a stage: no IoU passes, so that clicks
are only decoded to tokens; no stability passes, so that nothing is fetched; as they are. One interleaved run, medians;
a stage is the difference of two rows. Writes benchmarks/results/everything_breakdown.md.
"""

import argparse
import datetime
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import everything, machine
from benchmarks.case import Case
from sadist_jax import Predictor, pretrained
from sadist_jax.cli import use_compilation_cache
from sadist_jax.predict.everything import MaskGenerator
from sadist_jax.predict.grid import Everything

NONE = 1e9  # a threshold that nothing passes
ENCODED, DECODED, SCORED, WHOLE = "image encoded", "and clicks decoded", "and masks scored", "everything"
UPSCALED = "masks scored, of all prompts"  # whatever their predicted IoU


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that it runs; writes nothing")
    args = parser.parse_args(argv)
    use_compilation_cache()
    head = f"`python -m benchmarks.everything_breakdown --rounds {args.rounds}`, {datetime.date.today().isoformat()}."
    parts = [f"# Where the time of everything mode goes\n\n{head} {machine.describe()}.\n"]
    for case in everything.cases(tiny=args.tiny):
        parts.append(section(case, args.rounds))
        print(parts[-1], flush=True)
    if not args.tiny:
        (Path(__file__).parent / "results/everything_breakdown.md").write_text("\n".join(parts))


def section(case: Case, rounds: int) -> str:
    """Table of one case."""
    with tempfile.TemporaryDirectory() as folder:
        case.prepare(Path(folder), **case.options)
        stages = build(Path(folder), case.options["side"])
    for run in stages.values():
        run()  # compiles
    seconds = medians(stages, rounds)
    previous, rows = 0.0, []
    for name in (ENCODED, DECODED, SCORED, WHOLE):
        share = (seconds[name] - previous) / seconds[WHOLE]
        rows.append(f"| {name} | {seconds[name]:.2f} s | {share:.0%} |")
        previous = seconds[name]
    rows.append(f"| {UPSCALED} | {seconds[UPSCALED]:.2f} s | |")
    more = seconds[UPSCALED] - seconds[SCORED]
    saved = more / (seconds[WHOLE] + more)
    lines = [f"## {case.title}", "", "| up to and with | time | of it, this stage |", "|---|---|---|", *rows, ""]
    return "\n".join([*lines, f"Upscaling only prompts whose predicted IoU passes saves {saved:.0%} of the time.", ""])


def build(folder: Path, side: int) -> dict[str, Callable[[], Any]]:
    """Name of a row -> what is timed for it."""
    model, params = pretrained.load(folder / "weights.pth")
    photo, limits = everything.photo(), json.loads((folder / everything.THRESHOLDS).read_text())
    predictor = Predictor(model, params)

    def encode() -> None:
        predictor.set_image(photo)
        jax.block_until_ready(predictor.image_embedding)

    def generate(**changes: float) -> Callable[[], Any]:
        options = {"points_per_side": side, "points_per_batch": everything.CHUNK}
        generator = MaskGenerator(model, params, Everything(**options, **(limits | changes)), everything.FORM)
        return lambda: generator.generate(photo)

    return {
        ENCODED: encode,
        DECODED: generate(pred_iou_thresh=NONE),
        SCORED: generate(stability_score_thresh=NONE),
        WHOLE: generate(),
        UPSCALED: generate(pred_iou_thresh=0.0, stability_score_thresh=NONE),
    }


def medians(stages: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each, measured in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(rounds):
        for name, run in stages.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(some) for name, some in seconds.items()}


if __name__ == "__main__":
    main()
