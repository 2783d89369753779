"""What `sadist eval` leaves: results.json, results.md, and a page with the best, the median and the worst cases."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sadist_jax.cli._eval_protocol import Contender, Protocol
from sadist_jax.data.names import printable
from sadist_jax.data.sample import Reader
from sadist_jax.errors import BadInput
from sadist_jax.evals.scoring import Scoring
from sadist_jax.train.report import Panel, Table, write_report
from sadist_jax.train.run import as_json
from sadist_jax.weights.files import replacing

JSON, MARKDOWN, PAGE = "results.json", "results.md", "report.html"
BEST, MEDIAN, WORST = "best", "median", "worst"


def write(
    job: Protocol,
    argv: Sequence[str],
    reader: Reader,
    scorings: Mapping[str, Scoring],
    contenders: Mapping[str, Contender],
) -> str:
    """Write the three files, with the command of `argv` in them; returns the tables as Markdown."""
    finished = {name: scoring.finish() for name, scoring in scorings.items()}
    records = {name: found for name, (found, _) in finished.items()}
    if not any(records.values()):
        raise BadInput(
            f"there is nothing to score: no object in any of the {len(reader)} images counts; check the truth"
        )
    numbers = {name: scoring.evaluation.finish(records[name]) for name, scoring in scorings.items()}
    tables = job.tables(numbers)
    bad = sorted({printable(sentence) for _, sentences in finished.values() for sentence in sentences})
    command = printable(shlex.join(["sadist", "eval", *argv]))
    content = {"command": command, "options": as_json(job), "scores": numbers, "unreadable": bad}
    text = "\n".join(markdown(table) for table in tables)
    for name, what in ((JSON, json.dumps(content, indent=1)), (MARKDOWN, f"`{command}`\n\n{printable(text)}")):
        with replacing(job.out / name) as file:
            file.write((what + "\n").encode())
    panels = [_panel(job, reader, name, records[name], scorings[name], contenders[name]) for name in scorings]
    write_report(
        job.out / PAGE,
        f"sadist eval {type(job).__name__.lower()}",
        tables=tables,
        panels=[panel for panel in panels if panel],
        notes=[f"Left out: {sentence}" for sentence in bad],
        details=[("Options", json.dumps(as_json(job), indent=2)), ("Command", command)],
    )
    return text


def markdown(table: Table) -> str:
    """A table as GitHub shows it."""
    lines = [f"## {table.title}", "", _row(table.header), "|---" * len(table.header) + "|", *map(_row, table.rows)]
    return "\n".join([*lines, "", *([table.note, ""] if table.note else [])])


def cases(records: Sequence[Any], values: Sequence[float], count: int) -> dict[str, list[Any]]:
    """The records that did best, around the median and worst, at most one of an image among each."""
    order = [records[i] for i in np.argsort(-np.asarray(values), kind="stable")]
    middle = sorted(range(len(order)), key=lambda i: abs(2 * i - len(order) + 1))
    ranked = {BEST: order, MEDIAN: [order[i] for i in middle], WORST: order[::-1]}
    return {kind: _one_an_image(some)[:count] for kind, some in ranked.items()}


def _one_an_image(records: Sequence[Any]) -> list[Any]:
    first: dict[str, Any] = {}
    for record in records:
        first.setdefault(record.image, record)
    return list(first.values())


def _panel(
    job: Protocol, reader: Reader, name: str, records: Sequence[Any], scoring: Scoring, contender: Contender
) -> Panel | None:
    """Contact sheet: what is true beside what was answered."""
    from sadist_jax.predict.overlay import panel

    value = scoring.evaluation.value
    chosen = cases(records, [value(r) for r in records], job.cases)
    where = {reader.name(index): index for index in scoring.indices}
    rows, labels = [], []
    for kind, some in chosen.items():
        for record in some:
            sample = reader[where[record.image]]
            rows.append(job.show(sample, record, contender.answer(sample)))
            labels.append(f"{kind}: {value(record):.2f}")
    if not rows:
        return None
    return Panel(f"{name}: best, median and worst", panel(rows, ("true", "answered"), labels))


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
