"""What was measured, as one JSON file a case and one page of tables for all of them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from benchmarks.interleave import Result, Score

QUIET = 0.1  # cores taken by others, on average, above which a table is headed as noisy

INTRODUCTION = """\
# Side by side with PyTorch

Each contender is a process of its own; in every round each has one turn, one after another, while the others sleep.
float32, the same number of threads for all. What they compute is compared before it is timed.

* time: the least over the rounds. ratio: of a turn to the first row's turn of the same round, median (least to
  largest); smaller is faster. CPU ratio: the same for the seconds of all cores together.
* memory: the largest resident size of the process during one more run, after the rounds; in brackets, by how much that
  is more than before the run (libraries, weights and inputs are there before).
"""


def record(case: Case, result: Result, about: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a case's JSON file. about: command, date, machine, cores, others."""
    return {
        "title": case.title,
        "repeat": case.repeat,
        "options": dict(case.options),
        **about,
        "versions": result.versions,
        "differences": result.differences,
        "rows": {name: row._asdict() | _measured(result.scores[name]) for name, row in result.rows.items()},
    }


def _measured(score: Score) -> dict[str, Any]:
    memory = score.memory and score.memory._asdict()
    return {"memory": memory, "died": score.died, "turns": [turn._asdict() for turn in score.turns]}


def write(folder: Path, name: str, contents: Mapping[str, Any]) -> None:
    """Put a case's JSON into folder/speed and write folder/speed.md anew from all that are there."""
    cases = folder / "speed"
    cases.mkdir(parents=True, exist_ok=True)
    (cases / f"{name}.json").write_text(json.dumps(contents, indent=1) + "\n")
    every = [json.loads(file.read_text()) for file in sorted(cases.glob("*.json"))]
    (folder / "speed.md").write_text("\n".join([INTRODUCTION, *map(section, every)]))


def section(contents: Mapping[str, Any]) -> str:
    """One case as Markdown."""
    others = contents["others"]
    noisy = others is not None and others > QUIET
    table = [["", "time", "ratio", "CPU ratio", "memory, MiB", "rounds"]]
    table += [_cells(name, row) for name, row in contents["rows"].items()]
    busy = "unknown" if others is None else f"{others:.2f}"
    difference = max(contents["differences"].values(), default=0)
    versions = ", ".join(f"{name} {version}" for name, version in contents["versions"].items())
    return "\n".join([
        f"## {contents['title']}{' (noisy: others used the machine too)' if noisy else ''}",
        "",
        *_markdown(table),
        "",
        f"`{contents['command']}`, {contents['date']}. {contents['machine']}, {contents['cores']} used; others kept"
        f" {busy} cores busy meanwhile. {versions}. Largest difference of outputs: {difference:.1e}.",
        "",
    ])  # fmt: skip


def _cells(name: str, row: Mapping[str, Any]) -> list[str]:
    def number(value: float | None, shown: str) -> str:
        return "" if value is None else format(value, shown)

    name = f"{name}; died {row['died']}".replace("|", "/") if row["died"] else name
    ratio = number(row["ratio"], ".2f")
    if row["low"] != row["high"]:
        ratio += f" ({row['low']:.2f} to {row['high']:.2f})"
    memory = row["memory"]
    size = f"{memory['peak'] / 2**20:.0f} ({(memory['peak'] - memory['rest']) / 2**20:.0f})" if memory else ""
    return [name, _seconds(row["wall"]), ratio, number(row["cpu_ratio"], ".2f"), size, str(row["rounds"])]


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def _markdown(rows: Iterable[list[str]]) -> list[str]:
    head, *rest = rows
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] + ["---:"] * (len(head) - 1), *rest]]
