"""Is a student better off with SAMI, with MAE, or with neither? The EfficientSAM paper's claim in miniature, on photos.

    python -m benchmarks.sami_vs_mae --bsds DIR --coco200 DIR      after an interruption, the same command goes on

For each seed, two encoders of configs/sami_mini.py are pretrained on the photos of BSDS500 train and coco200 train2017,
without their masks: one reconstructs sam_mini's features (SAMI, Xiong et al. 2023, sec. 3.2), one pixels (MAE, He et
al. 2022). Steps, batch, crops, hidden tokens and optimiser are the same; the decoders have the same sizes, MAE's
attends jointly. Then three students of configs/efficient_sam_mini.py, with those encoders and with a random one, are
fine-tuned on the same photos with their masks, for equally many steps on the same samples in the same order, and asked
for the regions of BSDS500 test. Prompt encoder and mask decoder start from sam_mini's in all of them.

Differences are paired by object and averaged over seeds; their 95 % intervals come from drawing images with
replacement: they are about these seeds, and how much seeds differ is beside them. "Drift" is how far the mean loss of a
run's last tenth is below that of the tenth before, of it. Since the learning rate has nearly reached 0 by then, a small
one says that the run has ended, not that a longer one would not be better. Students are trained on padded frames and
asked on stretched photos, as a Predictor shows an EfficientSAM them, all alike. Research-only photos: the weights are
for this comparison and are not shipped.
Writes OUT.json and OUT.md, benchmarks/results/sami_vs_mae by default.
"""

import argparse
import dataclasses
import datetime
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import sadist_jax
from benchmarks.machine import available
from benchmarks.mini_teacher_card import kinds_of, words
from benchmarks.photo_sets import bsds500, coco200
from sadist_jax.cli import use_compilation_cache
from sadist_jax.cli.demo import refuse_other_length
from sadist_jax.data.in_memory import InMemory
from sadist_jax.data.mix import Mix
from sadist_jax.errors import BadInput
from sadist_jax.evals.bootstrap import Interval, bootstrap_difference
from sadist_jax.evals.evaluation import evenly_spaced, merge
from sadist_jax.evals.promptable import PromptedMasks, Record, ask_predictor, column, images_of
from sadist_jax.methods.teacher import Pixels
from sadist_jax.models.sami_decoder import JointDecoder
from sadist_jax.train import config as configs
from sadist_jax.train import loop
from sadist_jax.train.checkpoint import CheckpointSpec
from sadist_jax.train.log import METRICS, LogSpec
from sadist_jax.train.run import Data, Run
from sadist_jax.train.start import PARAMS

SAMI, MAE, RANDOM = STARTS = ("SAMI", "MAE", "random")
PAIRS = ((SAMI, MAE), (SAMI, RANDOM), (MAE, RANDOM))
RECORDS = "records.json"
Records = dict[tuple[str, int], tuple[Record, ...]]  # of each (start, seed)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where the photos are, and how long everything is."""

    bsds: Path
    coco200: Path
    runs: Path
    seeds: int
    pretraining: int
    tuning: int
    limit: int | None = None

    def photos(self) -> InMemory:
        """Photos and masks for training: three hundred, so that they stay in memory."""
        return InMemory(Mix(((bsds500(self.bsds, "train"), 2.0), (coco200(self.coco200, "train2017"), 1.0))))

    def pretrained(self, start: str, seed: int) -> Run:
        """The run that makes an encoder: configs/sami_mini.py on these photos; for MAE with pixels as targets."""
        run = configs.make("sami_mini")[0]
        run = dataclasses.replace(run, data=Data(self.photos(), run.data.transform))
        if start == MAE:
            student, pixels, size = run.method.student, Pixels(run.method.student.patch), run.method.decoder
            decoder = JointDecoder(student.dim, pixels.dim, student.grid, size.dim, size.depth, size.heads)
            method = dataclasses.replace(run.method, decoder=decoder, teacher=pixels, loss_on="masked")
            run = dataclasses.replace(run, method=method, starts=())
        return self._lasting(run, f"{start}-{seed}-pretraining", seed, self.pretraining)

    def tuned(self, start: str, seed: int) -> Run:
        """The run that makes a student: configs/efficient_sam_mini.py on these photos."""
        encoder = None if start == RANDOM else str(self.pretrained(start, seed).directory)
        run = configs.load(configs.find("efficient_sam_mini")).config(encoder)
        run = dataclasses.replace(run, data=Data(self.photos(), run.data.transform))
        return self._lasting(run, f"{start}-{seed}-tuning", seed, self.tuning)

    def _lasting(self, run: Run, name: str, seed: int, steps: int) -> Run:
        return dataclasses.replace(
            run,
            name=name,
            out=str(self.runs / name),
            seed=seed,
            steps=steps,
            optim=dataclasses.replace(run.optim, warmup=steps // 20),
            checkpoint=CheckpointSpec(every=max(1, steps // 4), keep=1),
            log=LogSpec(every=max(1, steps // 50)),
        )


def main() -> None:
    plan, out = parse()
    use_compilation_cache()
    records: Records = {}
    for seed in range(plan.seeds):
        for start in STARTS:
            for run in ([] if start == RANDOM else [plan.pretrained(start, seed)]) + [plan.tuned(start, seed)]:
                refuse_other_length(run, "--pretraining or --tuning", "--runs")
                if not (run.directory / PARAMS).exists():
                    loop.train(run)
            records[start, seed] = measured(plan, plan.tuned(start, seed))
    result = {
        "command": f"python -m benchmarks.sami_vs_mae --bsds DIR --coco200 DIR --seeds {plan.seeds} "
        f"--pretraining {plan.pretraining} --tuning {plan.tuning}"
        + ("" if plan.limit is None else f" --limit {plan.limit}"),
        "date": datetime.date.today().isoformat(),
        "machine": f"{available()} cores",
        "images": len(set(images_of(records[SAMI, 0]))),
        "objects": len(records[SAMI, 0]),
        "batch": {"pretraining": plan.pretrained(SAMI, 0).global_batch, "tuning": plan.tuned(SAMI, 0).global_batch},
        "steps": {"pretraining": plan.pretraining, "tuning": plan.tuning},
        "scores": scores(records, plan.seeds),
        "differences": differences(records, plan.seeds),
        "drift": drifts(plan),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(render(result))
    print(render(result))


def parse() -> tuple[Plan, Path]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bsds", type=Path, required=True, help="folder with images and groundTruth")
    parser.add_argument("--coco200", type=Path, required=True, help="folder with images and panoptic_segmentation")
    parser.add_argument("--runs", type=Path, default=Path("runs/sami_vs_mae"), help="where the runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretraining", type=int, default=1000, help="steps")
    parser.add_argument("--tuning", type=int, default=600, help="steps")
    parser.add_argument("--limit", type=int, help="at most so many test images, to try it out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sami_vs_mae"))
    args = vars(parser.parse_args())
    out = args.pop("out")
    return Plan(**args), out


def measured(plan: Plan, run: Run) -> tuple[Record, ...]:
    """Records of a student on BSDS500 test; kept in the run's directory, with the question that they answer."""
    kept, evaluation = run.directory / RECORDS, PromptedMasks()
    question = json.loads(json.dumps({"limit": plan.limit, "evaluation": dataclasses.asdict(evaluation)}))
    if kept.exists() and (found := json.loads(kept.read_text()))["question"] == question:
        return tuple(Record(*row) for row in found["records"])
    records = answers(plan, run, evaluation)
    kept.write_text(json.dumps({"question": question, "records": records}))
    print(f"{run.name}: {evaluation.finish(records)}", flush=True)
    return records


def answers(plan: Plan, run: Run, evaluation: PromptedMasks) -> tuple[Record, ...]:
    reader = bsds500(plan.bsds, "test").open()
    predict = ask_predictor(sadist_jax.Predictor(*sadist_jax.load(run.directory / PARAMS)))
    return merge(evaluation.update(reader[i], predict) for i in evenly_spaced(len(reader), plan.limit))


def scores(records: Records, seeds: int) -> dict[str, dict[str, dict[str, Any]]]:
    """start -> kind of prompt -> mean IoU of each seed, their mean and standard deviation."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for start in STARTS:
        for kind in kinds_of(records[start, 0]):
            each = [float(column(records[start, seed], kind).mean()) for seed in range(seeds)]
            spread = statistics.stdev(each) if seeds > 1 else float("nan")
            found.setdefault(start, {})[kind] = {"each": each, "mean": statistics.mean(each), "sd": spread}
    return found


def differences(records: Records, seeds: int) -> list[dict[str, Any]]:
    """a minus b for each kind of prompt, of IoUs averaged over seeds, and the mean difference of every seed."""
    first, rows = records[SAMI, 0], []
    if any([r[:2] for r in found] != [r[:2] for r in first] for found in records.values()):
        raise ValueError("not all students were asked for the same objects")
    for a, b in PAIRS:
        for kind in kinds_of(first):
            one, two = (np.stack([column(records[start, s], kind) for s in range(seeds)]) for start in (a, b))
            interval: Interval = bootstrap_difference(one.mean(0), two.mean(0), images_of(first))
            rows.append({"a": a, "b": b, "kind": kind, "each": (one - two).mean(1).tolist(), **interval._asdict()})
    return rows


def drifts(plan: Plan) -> dict[str, list[float]]:
    """name of a stage -> drift of each seed's loss."""
    stages = {f"{start}, pretraining": [plan.pretrained(start, s) for s in range(plan.seeds)] for start in (SAMI, MAE)}
    stages |= {f"{start}, fine-tuning": [plan.tuned(start, s) for s in range(plan.seeds)] for start in STARTS}
    return {name: [drift(run.directory / METRICS, run.steps) for run in runs] for name, runs in stages.items()}


def drift(metrics: Path, steps: int) -> float:
    """1 - mean loss of the last tenth / mean loss of the tenth before."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    tenths = [
        [row["loss"] for row in rows if "loss" in row and steps * low < row["step"] <= steps * high]
        for low, high in ((0.8, 0.9), (0.9, 1.0))
    ]
    before, last = (statistics.mean(tenth) for tenth in tenths)
    return 1 - last / before


def render(result: Mapping[str, Any]) -> str:
    """Markdown."""
    steps, batch = result["steps"], result["batch"]
    lines = [
        "# SAMI, MAE or a random start",
        "",
        f"`{result['command']}`, {result['date']}, {result['machine']}.",
        "",
        f"Pretraining: {steps['pretraining']} steps of {batch['pretraining']} crops; fine-tuning: {steps['tuning']} "
        f"steps of {batch['tuning']} photos.",
        f"Mean IoU on {result['images']} photos of BSDS500 test, {result['objects']} regions, mean ± standard",
        "deviation over seeds; the most confident mask, prompts as in sam_mini.md.",
        "",
    ]
    kinds = list(result["scores"][SAMI])
    lines += ["| start | " + " | ".join(map(words, kinds)) + " |", "|---" * (len(kinds) + 1) + "|"]
    for start, found in result["scores"].items():
        cells = [f"{found[kind]['mean']:.3f} ± {found[kind]['sd']:.3f}" for kind in kinds]
        lines.append(f"| {start} | " + " | ".join(cells) + " |")
    lines += ["", "| difference | prompt | mean | 95 % interval | each seed |", "|---|---|---|---|---|"]
    for row in result["differences"]:
        ends = f"{row['low']:+.3f} to {row['high']:+.3f}"
        names = f"{row['a']} − {row['b']} | {words(row['kind'])}"
        lines.append(f"| {names} | {row['mean']:+.3f} | {ends} | {signed(row['each'], '+.3f')} |")
    lines += [
        "",
        "Intervals come from drawing images, for these seeds; the last column shows what another seed changes.",
        "",
        "| curve | drift of the loss over the last tenth, each seed |",
        "|---|---|",
    ]
    lines += [f"| {name} | {signed(each, '+.1%')} |" for name, each in result["drift"].items()]
    return "\n".join(lines) + "\n"


def signed(numbers: Sequence[float], form: str) -> str:
    return ", ".join(format(number, form) for number in numbers)


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        sys.exit(f"sami_vs_mae: {error}")
