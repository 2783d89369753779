"""report.html: what a run did, on one page that needs nothing else, neither a server nor the network."""

import base64
import dataclasses
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import sadist_jax
from sadist_jax.train import chart


@dataclasses.dataclass(frozen=True)
class Table:
    """Numbers may be given as text with their spread, such as "0.712 ± 0.004"; they are aligned right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Panel:
    """A picture: (H, W, 3) uint8 RGB, embedded in the page."""

    title: str
    image: np.ndarray
    note: str = ""


def write_report(
    path: Path | str,
    title: str,
    *,
    summary: str = "",
    tables: Sequence[Table] = (),
    curves: Sequence[chart.Chart] = (),
    panels: Sequence[Panel] = (),
    notes: Sequence[str] = (),
    details: Sequence[tuple[str, str]] = (),
    next_command: str = "",
) -> Path:
    """Write the page and return its path; folders are made, an older report is replaced at once and never half.

    Args:
      path: the file to write.
      title: heading of the page.
      summary: one or two sentences under it: what came out.
      tables, curves, panels: shown in this order, each in the order given.
      notes: paragraphs: how things were measured, what did not work.
      details: (heading, text) pairs, folded away: the config, the log.
      next_command: what to type next.
    """
    sections = []
    if tables:
        sections += [_table(table) for table in tables]
    if curves:
        sections.append(
            f'<section><h2>Curves</h2><div class="charts">{"".join(map(chart.draw, curves))}</div></section>'
        )
    sections += [_panel(panel) for panel in panels]
    if notes:
        sections.append(f"<section><h2>Notes</h2>{''.join(f'<p>{html.escape(note)}</p>' for note in notes)}</section>")
    if details:
        folded = (
            f"<details><summary>{html.escape(k)}</summary><pre>{html.escape(v)}</pre></details>" for k, v in details
        )
        sections.append(f"<section>{''.join(folded)}</section>")
    if next_command:
        sections.append(f"<section><h2>Next</h2><pre><code>{html.escape(next_command)}</code></pre></section>")
    lead = f'<p class="lead">{html.escape(summary)}</p>' if summary else ""
    page = _PAGE.format(
        title=html.escape(title), style=_STYLE, lead=lead, body="\n".join(sections), version=sadist_jax.__version__
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(page, encoding="utf-8")
    os.replace(part, path)
    return path


def _table(table: Table) -> str:
    def row(cells: Sequence[object], tag: str, numeric: Sequence[bool]) -> str:
        marks = ['class="number"' if number else "" for number in numeric]
        return f"<tr>{''.join(f'<{tag} {m}>{_text(c)}</{tag}>' for c, m in zip(cells, marks, strict=True))}</tr>"

    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.header)
    numeric = [all(_is_number(cell) for cell in column) and bool(column) for column in columns]
    body = "".join(row(cells, "td", numeric) for cells in table.rows)
    inside = f"<table><thead>{row(table.header, 'th', numeric)}</thead><tbody>{body}</tbody></table>"
    return f'<section><h2>{html.escape(table.title)}</h2><div class="wide">{inside}</div>{_note(table.note)}</section>'


def _panel(panel: Panel) -> str:
    source = _data_url(np.asarray(panel.image))
    picture = f'<img src="{source}" alt="{html.escape(panel.title)}" loading="lazy">'
    return f'<section><h2>{html.escape(panel.title)}</h2><div class="wide">{picture}</div>{_note(panel.note)}</section>'


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>' if text else ""


def _text(cell: object) -> str:
    return html.escape(f"{cell:.4g}" if isinstance(cell, float) else str(cell))


def _is_number(cell: object) -> bool:
    """Numbers, and text that starts with one ("0.71 ± 0.02", "3.4 M", "-1 %") or says there is none ("-")."""
    if isinstance(cell, int | float | np.number):
        return True
    text = str(cell).lstrip("+-−<>≈ ")
    return text[:1].isdigit() or text == ""


def _data_url(image: np.ndarray) -> str:
    """PNG, or JPEG where that is less than half as large: photos."""
    files = {}
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 90, "subsampling": 0})):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind, **options)
        files[kind] = buffer.getvalue()
    kind = "jpeg" if 2 * len(files["jpeg"]) < len(files["png"]) else "png"
    return f"data:image/{kind};base64,{base64.b64encode(files[kind]).decode('ascii')}"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1>{lead}</header>
<main>
{body}
</main>
<footer>written by sadist_jax {version}</footer>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1f2328; --soft: #5c6470; --grid: #e4e7eb; --axis: #9aa2ad; --code: #f4f5f7;
  --line0: #1e6fd0; --line1: #d9730d; --line2: #13855c; --line3: #a3419e; --line4: #c0392b; --line5: #6b7280; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171b; --ink: #e6e9ed; --soft: #9aa4b1; --grid: #2a3038; --axis: #616b78; --code: #1d2228;
  --line0: #5aa2f5; --line1: #f0a04b; --line2: #4cc38f; --line3: #d98ad4; --line4: #f07b6e; --line5: #a8b0bb; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 2rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.015em; }
h2 { margin: 2.6rem 0 0.8rem; font-size: 1.15rem; line-height: 1.3; }
p { margin: 0.5rem 0; max-width: 44rem; }
.lead { margin-top: 0.7rem; font-size: 1.1rem; color: var(--soft); }
.note, footer { color: var(--soft); font-size: 0.875rem; }
footer { margin-top: 3rem; padding-top: 0.8rem; border-top: 1px solid var(--grid); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.95rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.45rem 1.1rem 0.45rem 0; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--grid); }
th { color: var(--soft); font-weight: 600; font-size: 0.85rem; vertical-align: bottom;
  border-bottom-color: var(--axis); }
.number { text-align: right; padding-left: 1.1rem; }
tbody tr:hover { background: var(--code); }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
pre { margin: 0.5rem 0; padding: 0.8rem 1rem; overflow-x: auto; border-radius: 6px; background: var(--code);
  font: 0.875rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
details { margin: 0.6rem 0; } summary { cursor: pointer; font-weight: 600; }
.charts { display: grid; gap: 1.5rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.chart { margin: 0; max-width: 36rem; }
.chart svg { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--grid); } .axis { stroke: var(--axis); fill: none; }
polyline { fill: none; stroke-linejoin: round; stroke-linecap: round; }
.thick { stroke-width: 2; } .thin { stroke-width: 1; opacity: 0.3; }
.legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; margin: 0.2rem 0 0.4rem; padding: 0; list-style: none;
  font-size: 0.875rem; color: var(--soft); }
.legend i { display: inline-block; width: 0.9rem; height: 0.2rem; margin-right: 0.4rem; border-radius: 2px;
  vertical-align: middle; }
@media (max-width: 40rem) { body { padding-top: 1.4rem; } h1 { font-size: 1.5rem; }
  .chart text { font-size: 15px; } td:first-child { white-space: normal; min-width: 8rem; }
  .wide img { max-width: none; width: 44rem; } th, td { padding-right: 0.8rem; } .number { padding-left: 0.4rem; } }
@media print { body { max-width: none; } .wide { overflow: visible; } }
"""
