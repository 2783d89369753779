"""Does WeSAM help where sam_mini meets pictures unlike its own? Nuclei, polyps, udders in infrared, corrupted COCO.

    python -m benchmarks.wesam_domains --data DIR --tune             first: learning rates and numbers of steps
    python -m benchmarks.wesam_domains --data DIR --minutes 60       as often as it takes: it goes on where it stopped
    python -m benchmarks.wesam_domains --data DIR --tune --prompts box --methods train-decoder train-all \
        --rates 1e-4 3e-4
    python -m benchmarks.wesam_domains --data DIR --domains nuclei polyps thermal --prompts box \
        --methods weak tent supervised released average ablations --out benchmarks/results/wesam_ablations
    python -m benchmarks.wesam_domains --data DIR --minutes 0        the tables of what is there, and nothing else
    python -m benchmarks.wesam_domains --data DIR --methods weak --lr 1e-3 --seeds 1 --out OUT     a third of the rate

A cell is a domain, a kind of prompt, a method and a seed: sam_mini adapts as in configs/wesam_mini.py, and is asked for
the objects of the domain's test images (benchmarks/wesam_domains_data.py has the splits), which nobody was trained on
and by which nothing was chosen: the weights are those after the last step. All models get the same prompts, and the
masks count on the pixels of the original (sadist_jax/evals/weakly_prompted.py). "coarse" is a polygon as a mask, with
its box; "coarse_box", what WeSAM's released code makes of it, its box alone. "automatic" prompts are what sam_mini
itself finds in everything mode; an object is then given the best of the answers to all prompts of its image, and there
are no true masks to supervise.

Hyper-parameters are chosen on a fold of the training images of one domain, nuclei, for each method by itself, by the
mean over box, point and coarse (or those of --prompts), a run each, and used everywhere (RUNS/tuned-METHOD.json). A
row of the ablation has those of the whole method, unless it was tuned: other weights want other rates.
Differences to Direct, sam_mini as it is, are paired by object and averaged over seeds; their 95 % intervals come from
drawing images with replacement. Research-only photos: no weights and no page of this is shipped.
Writes OUT.json and OUT.md, benchmarks/results/wesam_domains by default, and RUNS/report.html with pictures.
"""

import argparse
import dataclasses
import itertools
import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import sadist_jax
from benchmarks import wesam_domains_page, wesam_domains_table
from benchmarks.wesam_domains_data import DOMAINS, NUCLEI, domain
from benchmarks.wesam_domains_plan import (
    ABLATIONS,
    ACROSS,
    ASKED,
    DIRECT,
    MAIN,
    METHODS,
    NONE,
    PROMPTS,
    RECORDS,
    SAM,
    TUNED,
    WEAK,
    Cell,
    Hyper,
    Plan,
    direct,
    keep,
)
from sadist_jax import adapters, tree
from sadist_jax.cli import use_compilation_cache
from sadist_jax.cli._share import share
from sadist_jax.data.in_memory import InMemory
from sadist_jax.errors import BadInput
from sadist_jax.evals.evaluation import evenly_spaced, merge
from sadist_jax.evals.promptable import Predict, Record, ask_predictor
from sadist_jax.evals.weakly_prompted import AUTOMATIC, WeaklyPrompted
from sadist_jax.predict.predictor import Predictor
from sadist_jax.train import loop, outcome
from sadist_jax.train.log import METRICS
from sadist_jax.train.run import Evaluation
from sadist_jax.train.start import PARAMS

LEFT = (outcome.ADAPTER, outcome.ADAPTED)  # by a run that has ended
RATES, LENGTHS = (1e-4, 3e-4, 1e-3, 3e-3), (50, 100, 200)  # what --tune tries


@dataclasses.dataclass(frozen=True)
class OnFold:
    """Validation in between: mean IoU of the objects of `source` for one kind of prompt."""

    source: InMemory
    evaluation: WeaklyPrompted

    def __call__(self, method, params, frozen, extra) -> dict[str, float]:
        predictor = Predictor(SAM, tree.merge(params["model"], frozen["model"]))
        records = answers(self.source, self.evaluation, ask_predictor(predictor, multimask=False))
        return {"iou": self.evaluation.finish(records)[self.evaluation.kinds[0]]}


def main() -> None:
    args = parse()
    plan = Plan(**{field.name: args[field.name] for field in dataclasses.fields(Plan)})
    use_compilation_cache()
    if args["tune"]:
        tune(plan, args["rates"], args["lengths"])
        return
    process, processes = share(args["process"], args["processes"])
    work(plan, args["minutes"], (process, processes))
    if processes > 1:  # the tables want what the others have done, too
        return
    found = collect(plan)
    result = wesam_domains_table.result(plan, found, pixels(plan, {cell.domain for cell in found}))
    args["out"].parent.mkdir(parents=True, exist_ok=True)
    args["out"].with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    args["out"].with_suffix(".md").write_text(wesam_domains_table.render(result))
    print(wesam_domains_table.render(result))
    models = {cell: open_model(plan, cell) for cell in wesam_domains_page.shown(plan) if is_done(plan, cell)}
    print(wesam_domains_page.write(plan, result, models))


def parse() -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of dsb2018_nuclei, cvc_clinicdb, ...")
    parser.add_argument("--runs", type=Path, default=Path("runs/wesam_domains"), help="where everything is kept")
    parser.add_argument("--domains", nargs="+", default=DOMAINS, metavar="NAME", help=", ".join(DOMAINS))
    parser.add_argument("--prompts", nargs="+", default=PROMPTS, choices=(*PROMPTS, "coarse_box"))
    parser.add_argument("--methods", nargs="+", default=MAIN, choices=(*METHODS, "ablations"), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, help="another rate than tuned")
    parser.add_argument("--steps", type=int, help="another number than tuned")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no cell is begun after so many")
    parser.add_argument("--process", type=int, help="which of --processes that share the cells this is, from 0")
    parser.add_argument("--processes", type=int, help="how many there are; the tables are made by a call without these")
    parser.add_argument("--limit", type=int, help="at most so many test images, to try it out")
    parser.add_argument("--grid", type=int, default=16, help="clicks a side, for automatic prompts")
    parser.add_argument("--tune", action="store_true", help="choose hyper-parameters for --methods, and stop")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="that --tune tries")
    parser.add_argument("--tiny", action="store_true", help="two steps, two images, one seed: does it run at all?")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/wesam_domains"))
    args = vars(parser.parse_args()) | {"lengths": LENGTHS}
    chosen = [name for given in args["methods"] for name in (ABLATIONS if given == "ablations" else [given])]
    args |= {"methods": tuple(chosen)} | {name: tuple(args[name]) for name in ("domains", "prompts", "rates")}
    if args["tiny"]:
        small = {"steps": 2, "limit": 2, "seeds": 1, "grid": 4, "rates": RATES[:1], "lengths": (1, 2)}
        args |= small | {"runs": Path("runs/wesam_domains_tiny"), "out": Path("runs/wesam_domains_tiny/result")}
    return args


def work(plan: Plan, minutes: float, share: tuple[int, int] = (0, 1)) -> None:
    """Measure what is not there yet, cell by cell, until the time is up; share: (which process, of how many)."""
    process, processes = share
    mine = list(plan.cells())[process::processes]
    begin, todo = time.monotonic(), [cell for cell in mine if not is_done(plan, cell)]
    for number, cell in enumerate(todo, 1):
        if (time.monotonic() - begin) / 60 >= minutes:
            print(f"{len(todo) - number + 1} cells are left; the same command goes on", flush=True)
            return
        began = time.monotonic()
        numbers = measure(plan, cell)
        pace = (time.monotonic() - begin) / number / 60
        line = ", ".join(f"{kind} {numbers[kind]:.3f}" for kind in PROMPTS if kind in numbers)
        left = f"{pace * (len(todo) - number):.0f} minutes left"
        print(f"{number}/{len(todo)} {cell.name}: {line}; {time.monotonic() - began:.0f} s, {left}", flush=True)


def measure(plan: Plan, cell: Cell) -> dict[str, float]:
    """Train, if need be, and ask; the records stay in the directory of the cell."""
    evaluation = plan.evaluation(cell)
    if evaluation.prompts is not None:
        plan.make_prompts(cell.domain, "test")
    if cell.prompt == AUTOMATIC:
        plan.make_prompts(cell.domain, "train")
    times = [time.monotonic()]
    if cell.method != DIRECT and not any((plan.directory(cell) / name).exists() for name in LEFT):
        loop.train(plan.run(cell))
    times.append(time.monotonic())
    predict = ask_predictor(open_model(plan, cell), multimask=False)
    records = answers(domain(plan.data, cell.domain, "test"), evaluation, predict, plan.limit)
    times.append(time.monotonic())
    kept = {"question": question(plan, cell), "records": records, "taught": taught(plan, cell, predict)}
    kept |= {"seconds": np.diff(times).round(1).tolist()}
    keep(plan.directory(cell) / RECORDS, kept)
    return evaluation.finish(records)


def taught(plan: Plan, cell: Cell, predict: Predict) -> dict[str, float]:
    """Mean IoU on the training images: of Direct, the masks that the teacher begins with; of WEAK, those at the end."""
    kinds = [kind for kind in ASKED if cell.prompt in (NONE, kind)]
    if cell.method not in ACROSS or not kinds:
        return {}
    evaluation = plan.evaluation(cell, kinds)
    records = answers(domain(plan.data, cell.domain, "train"), evaluation, predict, plan.limit)
    return {kind: evaluation.finish(records)[kind] for kind in kinds}


def answers(
    source: InMemory, evaluation: WeaklyPrompted, predict: Predict, limit: int | None = None
) -> tuple[Record, ...]:
    """Records of a set, or of at most `limit` images of it."""
    reader = source.open()
    return merge(evaluation.update(reader[i], predict) for i in evenly_spaced(len(reader), limit))


def pixels(plan: Plan, names: Iterable[str]) -> wesam_domains_table.Pixels:
    """Of every test image."""
    readers = {name: domain(plan.data, name, "test").open() for name in names}
    samples = ((name, reader[i]) for name, reader in readers.items() for i in range(len(reader)))
    return {(name, sample.name): sample.image.shape[0] * sample.image.shape[1] for name, sample in samples}


def open_model(plan: Plan, cell: Cell) -> Predictor:
    directory = plan.directory(cell)
    if (directory / outcome.ADAPTED).exists():
        return Predictor(*sadist_jax.load(directory / outcome.ADAPTED))
    files = [] if cell.method == DIRECT else [directory / outcome.ADAPTER]
    return Predictor(*adapters.load_adapted("sam_mini", files))


def question(plan: Plan, cell: Cell) -> dict[str, Any]:
    """What records are an answer to."""
    asked = dataclasses.asdict(plan.evaluation(cell)) | {"prompts": plan.grid, "limit": plan.limit}
    return json.loads(json.dumps(asked))


def is_done(plan: Plan, cell: Cell) -> bool:
    kept = plan.directory(cell) / RECORDS
    return kept.exists() and json.loads(kept.read_text())["question"] == question(plan, cell)


def collect(plan: Plan) -> wesam_domains_table.Found:
    """The records of all cells that are done, whichever methods and seeds were asked for now."""
    everything = dataclasses.replace(plan, methods=tuple(METHODS))
    return {
        cell: tuple(Record(*row) for row in json.loads((plan.directory(cell) / RECORDS).read_text())["records"])
        for cell in everything.cells()
        if is_done(plan, cell)
    }


def tune(plan: Plan, rates: tuple[float, ...], lengths: tuple[int, ...]) -> None:
    """Try all on a fold of nuclei; since the rate stays after its warm-up, a long run begins as the short ones do.

    Writes RUNS/tuned-METHOD.json: [learning rate, steps]. Direct is told beside them, without any step.
    """
    for method in plan.methods:
        prompts = [prompt for prompt in plan.prompts if prompt != AUTOMATIC]
        tried = {rate: np.mean([fold_scores(plan, p, method, rate, lengths) for p in prompts], 0) for rate in rates}
        best = max(itertools.product(rates, range(len(lengths))), key=lambda at: tried[at[0]][at[1]])
        before = np.mean([direct_score(plan, prompt) for prompt in prompts])
        print(f"\n{method}: mean IoU on the fold, {before:.4f} before, after {', '.join(map(str, lengths))} steps")
        for rate, scores in tried.items():
            print(f"  lr {rate:g}: " + ", ".join(f"{score:.4f}" for score in scores))
        print(f"  chosen: lr {best[0]:g}, {lengths[best[1]]} steps", flush=True)
        keep(plan.runs / TUNED.format(method), Hyper(best[0], lengths[best[1]]))


def direct_score(plan: Plan, prompt: str) -> float:
    """Mean IoU of sam_mini as it is on the fold."""
    predict = ask_predictor(open_model(plan, direct(NUCLEI)), multimask=False)
    evaluation = plan.evaluation(Cell(NUCLEI, prompt, WEAK, 0), (prompt,))
    return evaluation.finish(answers(domain(plan.data, NUCLEI, "validation"), evaluation, predict))[prompt]


def fold_scores(plan: Plan, prompt: str, method: str, rate: float, lengths: tuple[int, ...]) -> list[float]:
    """Mean IoU on the fold after each of the lengths."""
    cell = Cell(NUCLEI, prompt, method, 0)
    run = plan.run(cell, Hyper(rate, lengths[-1]), "fit")
    evaluation = plan.evaluation(cell, (prompt,))
    onfold = OnFold(domain(plan.data, NUCLEI, "validation"), evaluation)
    if not (run.directory / PARAMS).exists():
        evals = (Evaluation("validation", lengths[0], onfold),)
        loop.train(dataclasses.replace(run, evals=evals))
    rows = [json.loads(line) for line in (run.directory / METRICS).read_text().splitlines()]
    scores = {row["step"]: row["validation/iou"] for row in rows if "validation/iou" in row}
    return [scores[length] for length in lengths]


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        sys.exit(f"wesam_domains: {error}")
