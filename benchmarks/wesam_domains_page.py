"""The page of wesam_domains.py: the table, and what models made of objects before and after."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.wesam_domains_data import NUCLEI, POLYPS, THERMAL, domain
from benchmarks.wesam_domains_plan import DIRECT, SUPERVISED, TENT, WEAK, Cell, Plan, direct
from benchmarks.wesam_domains_table import render
from sadist_jax.evals.evaluation import evenly_spaced
from sadist_jax.predict.overlay import panel
from sadist_jax.predict.predictor import Predictor
from sadist_jax.train.before_after import draw
from sadist_jax.train.report import Panel, Table, write_report

SHOWN = (NUCLEI, POLYPS, THERMAL)
PICTURES = 3  # test images of a domain, evenly spaced, and one object of each, drawn at random
TITLES = {DIRECT: "before (Direct)", WEAK: "adapted", TENT: "TENT", SUPERVISED: "Supervised"}


def shown(plan: Plan) -> list[Cell]:
    """Cells whose masks are drawn: boxes, the first seed."""
    trained = [Cell(name, "box", method, 0) for name in SHOWN for method in (WEAK, TENT, SUPERVISED)]
    return [cell for cell in [*map(direct, SHOWN), *trained] if cell.domain in plan.domains]


def write(plan: Plan, result: Mapping[str, Any], models: Mapping[Cell, Predictor]) -> Path:
    """RUNS/report.html."""
    panels = []
    for name in SHOWN:
        here = {TITLES[cell.method]: predictor for cell, predictor in models.items() if cell.domain == name}
        if TITLES[WEAK] not in here:
            continue
        reader = domain(plan.data, name, "test").open()
        samples = (reader[i] for i in evenly_spaced(len(reader), PICTURES))
        if rows := draw(samples, plan.evaluation(direct(name)), here):
            sheet = panel(rows, ("truth", *here), cell=260)
            panels.append(Panel(name, sheet, "Boxes; numbers are IoUs. Objects were drawn, not chosen."))
    header = ("domain", "prompt", "Direct", "adapted", "TENT", "Supervised", "gain", "low", "high")
    rows = [_row(row) for row in result["cells"] if WEAK in row["scores"]]
    note = "Mean IoU over objects and seeds; gain is adapted minus Direct with its 95 % interval over images."
    return write_report(
        plan.runs / "report.html",
        "sam_mini adapts to other domains",
        summary=summary(result["cells"]),
        tables=[Table("Mean IoU on test images", header, rows, note)] if rows else [],
        panels=panels,
        details=[("All tables", render(result))],
        next_command=result["command"],
    )


def summary(cells: Sequence[Mapping[str, Any]]) -> str:
    """How many cells gain and lose, and of how many that is more than chance."""
    gains = [row["gain"] for row in cells if "gain" in row]
    better, worse = sum(g["low"] > 0 for g in gains), sum(g["high"] < 0 for g in gains)
    return (
        f"Of {len(gains)} pairs of domain and prompt, adaptation helps in {better} and harms in {worse}; in the others "
        "the 95 % interval has 0 in it."
    )


def _row(row: Mapping[str, Any]) -> list[object]:
    scores = [row["scores"].get(method) for method in (DIRECT, WEAK, TENT, SUPERVISED)]
    numbers = ["-" if s is None else f"{s['mean']:.3f}" for s in scores]
    return [row["domain"], row["prompt"], *numbers, *(f"{row['gain'][end]:+.3f}" for end in ("mean", "low", "high"))]
