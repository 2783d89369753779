"""What a finished run leaves: its weights, in the reference's names and layout, and a page that shows how it went."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from sadist_jax import adapters, pretrained, tree
from sadist_jax.adapt import lora
from sadist_jax.methods.adapted import Adapted
from sadist_jax.nn import table as leaves
from sadist_jax.parallel import hosts
from sadist_jax.recognise import Model
from sadist_jax.train import chart, optim, report, start
from sadist_jax.train import run as runs
from sadist_jax.train.log import METRICS
from sadist_jax.train.plan import Plan
from sadist_jax.train.run import Run
from sadist_jax.train.state import State
from sadist_jax.typing import Params
from sadist_jax.weights import safetensors

AVERAGE, REPORT, PICTURES = "average.safetensors", "report.html", "pictures"
ADAPTER, ADAPTED = "adapter.safetensors", "adapted.safetensors"
_NOT_DRAWN = {"step", "samples", "samples_per_second", "skipped"}


def export(run: Run, job: Plan, state: State, frozen: Params) -> None:
    """Write the parameters of the method, those that `freeze` holds and statistics too, and their average if kept.

    They are in the reference's layout. Of a method that trains one whole model, `sadist_jax.load` reads them; the file
    says which model it is. Of a method that moves some leaves of one, an `Adapted`, see `_save_adapted`: these are the
    weights that it trains, as WeSAM is evaluated, and never a teacher that averages them.
    """
    trees = {start.PARAMS: state.params, AVERAGE: optim.average(state.opt_state)}
    tables = job.method.table()
    moved = {name for name, leaf in tree.flatten(tables["extra"]).items() if leaf.role == "stat"}
    stats, table = (tree.partition(x, moved)[0] for x in (state.extra, tables["extra"]))
    table = tree.merge(tables["params"], table)
    for name, params in trees.items():
        if params is None:
            continue
        own, others = job.layout.rejoin(params, frozen)
        whole = jax.tree.map(hosts.fetch, tree.merge(own, stats))
        if hosts.index() == 0:
            metadata = {"format": "sadist_jax", "run": run.name, "step": str(int(state.step))} | description(job.method)
            safetensors.write(run.directory / name, leaves.to_reference(table, whole), metadata)
        model = getattr(job.method, "model", None)
        if isinstance(model, Adapted):
            together = jax.tree.map(hosts.fetch, tree.merge(own["model"], others["model"]))
            if hosts.index() == 0:
                own_name = "average_" * (name == AVERAGE) + _adapted_name(model)
                _save_adapted(run.directory / own_name, model, together)


def files(run: Run) -> list[str]:
    """Names of what a finished run leaves for users, in its directory."""
    model = getattr(run.method, "model", None)
    adapted = [_adapted_name(model)] if isinstance(model, Adapted) else []
    return [start.PARAMS, *[AVERAGE] * (run.optim.ema is not None), *adapted, REPORT]


def _adapted_name(model: Adapted) -> str:
    return ADAPTED if model.lora is None or model.train else ADAPTER


def _save_adapted(path: Path, model: Adapted, params: Params) -> None:
    """What users load: the adapters alone where nothing else trains, else the model with them in its kernels."""
    if model.lora is None or model.train:
        pretrained.save(path, model.sam, lora.fuse(params))
    else:
        adapters.save(path, model.sam, params, model.lora)


def description(method: object) -> dict[str, str]:
    """Metadata that names the model that a method trains; {} where it trains something else."""
    model = getattr(method, "model", None)
    return pretrained.description(model) if isinstance(model, Model) else {}


def save_pictures(directory: Path, pictures: Mapping[str, np.ndarray]) -> None:
    """Write pictures (H, W, 3) uint8 as pictures/<name>.png; a later one of the same name replaces the earlier."""
    for name, picture in pictures.items():
        path = directory / PICTURES / f"{name.replace('/', '-')}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.asarray(picture)).save(path)


def _tables(last: Mapping[str, float | None]) -> list[report.Table]:
    """Numbers called "<eval>/<column>/<row>" make a table for each eval; the others are listed."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, value in last.items():
        if name.count("/") == 2:
            title, column, row = name.split("/")
            found.setdefault(title, {}).setdefault(column, {})[row] = value
    tables = []
    for title, columns in found.items():
        rows = dict.fromkeys(row for numbers in columns.values() for row in numbers)
        cells = [(row, *(_shown(numbers.get(row)) for numbers in columns.values())) for row in rows]
        tables.append(report.Table(title, ("", *columns), cells))
    listed = [(name, _shown(value)) for name, value in last.items() if name.count("/") != 2]
    return [*tables, report.Table("At the end", ("number", "value"), listed)]


def _shown(value: float | None) -> float | str:
    return "-" if value is None else value


def write_report(run: Run) -> Path:
    """Tables of the last numbers, curves of all in metrics.jsonl, the newest pictures of the evals, and the config."""
    directory = run.directory
    records = [json.loads(line) for line in (directory / METRICS).read_text(encoding="utf-8").splitlines()]
    names = list(dict.fromkeys(name for record in records for name in record if name not in _NOT_DRAWN))
    last = {name: next(r[name] for r in reversed(records) if name in r) for name in names}
    series = {name: chart.read_series(directory / METRICS, name) for name in names}
    return report.write_report(
        directory / REPORT,
        run.name,
        summary=f"{type(run.method).__name__}, {run.steps} steps of {run.global_batch} samples.",
        tables=_tables(last),
        curves=[chart.Chart(name, [line], y_label=name) for name, line in series.items()],
        panels=[
            report.Panel(path.stem, np.asarray(Image.open(path).convert("RGB")))
            for path in sorted((directory / PICTURES).glob("*.png"))
        ],
        details=[("Config", json.dumps(runs.as_json(run), indent=2))],
    )
