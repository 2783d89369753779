"""Line charts as inline SVG, drawn here so that a report needs no plotting library and no network."""

import dataclasses
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 14, 10, 42  # margins of the plotting area
SMOOTH_FROM = 100  # a restless series with this many points also gets its running mean
MOST_POINTS = 400  # longer series are averaged in groups


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: `x` and `y` of equal length; values that are not finite leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A titled set of lines over common axes; `log` makes the y axis logarithmic (values <= 0 are then left out)."""

    title: str
    series: Sequence[Series]
    x_label: str = "step"
    y_label: str = "loss"
    log: bool = False
    note: str = ""


def read_series(path: Path | str, key: str, name: str | None = None) -> Series:
    """Values of `key` over "step" in a metrics.jsonl; lines without it are passed over."""
    x, y = [], []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                break  # a kill may leave half a line at the end
            record = json.loads(line)
            if record.get(key) is not None:
                x.append(record["step"])
                y.append(record[key])
    return Series(name or key, x, y)


def draw(chart: Chart) -> str:
    """The chart as a <figure> of HTML; colours come from the CSS variables --ink, --grid and --line0 to --line5."""
    lines = [(series.name, *_points(series, chart.log)) for series in chart.series]
    drawn = [(name, x, y) for name, x, y in lines if len(x)]
    swatches = "".join(
        f'<li><i style="background:var(--line{i % 6})"></i>{html.escape(name)}{"" if len(x) else " (no values)"}</li>'
        for i, (name, x, _) in enumerate(lines)
    )
    parts = [f"<figcaption><b>{html.escape(chart.title)}</b></figcaption>", f'<ul class="legend">{swatches}</ul>']
    if drawn:
        parts.append(_svg(chart, lines))
    smoothed = any(_is_restless(y) for _, _, y in lines)
    notes = [chart.note, "Thin: values; thick: running mean." if smoothed else ""]
    if any(notes):
        parts.append(f'<p class="note">{html.escape(" ".join(filter(None, notes)))}</p>')
    return f'<figure class="chart">{"".join(parts)}</figure>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], at most `most`."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(m for m in (1, 2, 5, 10, 20) if (high - low) / (step * m) <= most - 1)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Powers of ten within [low, high]; with their multiples where there are few, evenly spaced numbers where none."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [
            f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p * (1 + 1e-9) and f * 10.0**p <= high
        ]
        if len(found) <= most:
            return found if len(found) >= 2 else ticks(low, high, 4)
    return found[:: math.ceil(len(found) / most)]


def label(value: float) -> str:
    """Short text of a tick: 20000 -> 20k, 0.00001 -> 1e-5."""
    if abs(value) >= 1000 and value % 100 == 0:
        return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k"
    if 0 < abs(value) < 1e-3:
        return f"{value:.2e}".replace(".00e", "e").replace("0e", "e").replace("e-0", "e-")
    return f"{value:.4g}".replace("e+0", "e")


def running_mean(y: np.ndarray, window: int) -> np.ndarray:
    """Mean over the `window` (odd) values around each; fewer at the ends."""
    total = np.cumsum(np.concatenate([[0.0], y]))
    i = np.arange(len(y))
    first, last = np.maximum(i - window // 2, 0), np.minimum(i + window // 2 + 1, len(y))
    return (total[last] - total[first]) / (last - first)


def _points(series: Series, log: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(series.x, float), np.asarray(series.y, float)
    good = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not log))
    x, y = x[good], y[good]
    if len(x) > MOST_POINTS:
        starts = np.arange(0, len(x), -(-len(x) // MOST_POINTS))
        counts = np.diff(np.append(starts, len(x)))
        x, y = np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts
    return x, y


def _is_restless(y: np.ndarray) -> bool:
    """Long, and up and down several times its range in all: a training loss, not a learning rate."""
    return len(y) >= SMOOTH_FROM and float(np.abs(np.diff(y)).sum()) > 4 * float(np.ptp(y))


def _svg(chart: Chart, lines: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    x_low, x_high, y_low, y_high = _limits(lines, chart.log)
    scale = np.log10 if chart.log else np.asarray

    def place(x, y):
        u = LEFT + (np.asarray(x, float) - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        v = (scale(y) - scale(y_low)) / (scale(y_high) - scale(y_low))
        return np.round(u, 1), np.round(HEIGHT - BOTTOM - v * (HEIGHT - TOP - BOTTOM), 1)

    parts = [_axes(chart, place, ticks(x_low, x_high), (log_ticks if chart.log else ticks)(y_low, y_high))]
    for i, (name, x, y) in enumerate(lines):
        if len(x) == 1:
            u, v = place(x, y)
            parts.append(f'<circle cx="{u[0]}" cy="{v[0]}" r="3.5" fill="var(--line{i % 6})"/>')
            continue
        curves = [(y, "thin"), (running_mean(y, len(y) // 25 | 1), "thick")] if _is_restless(y) else [(y, "thick")]
        for values, kind in curves:
            path = " ".join(f"{u:g},{v:g}" for u, v in zip(*place(x, values), strict=True))
            title = f"<title>{html.escape(name)}</title>"
            parts.append(f'<polyline class="{kind}" points="{path}" stroke="var(--line{i % 6})">{title}</polyline>')
    text = html.escape(f"{chart.title}: {chart.y_label} over {chart.x_label}")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text}">{"".join(parts)}</svg>'


def _limits(lines: Sequence[tuple[str, np.ndarray, np.ndarray]], log: bool) -> tuple[float, float, float, float]:
    x, y = np.concatenate([x for _, x, _ in lines]), np.concatenate([y for _, _, y in lines])
    x_low, x_high, y_low, y_high = float(x.min()), float(x.max()), float(y.min()), float(y.max())
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    if 0 < x_low < 0.1 * x_high:
        x_low = 0.0
    if log:
        edge = max(math.log10(y_high / y_low) * 0.05, 0.02)
        return x_low, x_high, y_low * 10**-edge, y_high * 10**edge
    edge = (y_high - y_low) * 0.05 or abs(y_high) * 0.05 or 0.5
    return x_low, x_high, 0.0 if 0 <= y_low < 0.3 * y_high else y_low - edge, y_high + edge


def _axes(chart: Chart, place, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
    base, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in y_ticks:
        v = float(place(0, value)[1])
        parts.append(f'<path class="grid" d="M{LEFT} {v}H{right}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{v + 4:g}" text-anchor="end">{label(value)}</text>')
    for value in x_ticks:
        u = float(place(value, y_ticks[0])[0])
        parts.append(f'<path class="axis" d="M{u} {base}v4"/>')
        parts.append(f'<text x="{u}" y="{base + 18}" text-anchor="middle">{label(value)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {base}H{right}"/>')
    middle = (TOP + base) / 2
    parts.append(
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(chart.x_label)}</text>'
    )
    turned = f'transform="rotate(-90 13 {middle})" text-anchor="middle"'
    scale = f"{chart.y_label} (log scale)" if chart.log else chart.y_label
    parts.append(f'<text x="13" y="{middle}" {turned}>{html.escape(scale)}</text>')
    return "".join(parts)
