"""The log of a training as a page to look at: self-contained HTML with one SVG plot per quantity."""

import html
import json
from itertools import cycle
from pathlib import Path
from typing import Any

from deblur_cli.errors import InputError

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, _TOP = 860, 260, 64, 110, 28, 12
_COLOURS = ("#2a6fb0", "#c2571a", "#2b8a57", "#8a4fb5")
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Training log: {name}</title><style>
:root {{ color-scheme: light dark; --ink: light-dark(#1c1f23, #e6e8eb); --rule: light-dark(#d8dce1, #3a4048); }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 56rem; margin: 2rem auto;
 padding: 0 1rem }}
h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1rem; margin: 1.6rem 0 .2rem }} svg {{ width: 100%; height: auto }}
text {{ font: 12px system-ui, sans-serif; fill: var(--ink) }} .rule {{ stroke: var(--rule) }}
</style><h1>Training log: {name}</h1><p>{summary}</p>{plots}</html>
"""


def write_log_page(run: Path) -> Path:
    """Write `log.html` beside the `log.jsonl` of a training folder; the path of the page.

    Raises:
        InputError: there is no log, or it is empty or damaged.
    """
    path = run / "log.jsonl"
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        page = _build_page(run.resolve().name, records)
    except FileNotFoundError as fault:
        raise InputError(f"{path}: no training log there") from fault
    except (ValueError, KeyError, IndexError) as fault:
        raise InputError(f"{path}: the training log is empty or damaged") from fault
    target = run / "log.html"
    target.write_text(page, encoding="utf-8")
    return target


def _build_page(name: str, records: list[dict[str, Any]]) -> str:
    last = records[-1]
    summary = f"{last['step']} steps in {last['elapsed'] / 60:.1f} of {last['budget'] / 60:.1f} minutes"
    plots = [_plot("Loss", {"loss": [(r["elapsed"] / 60, r["loss"]) for r in records]})]
    plots += [_plot(title, _follow(records, title)) for title in last["figures"]]
    plots.append(_plot("Patches per second", {"speed": [(r["elapsed"] / 60, r["photos_per_second"]) for r in records]}))
    return _PAGE.format(name=html.escape(name), summary=summary, plots="".join(plots))


def _follow(records: list[dict[str, Any]], title: str) -> dict[str, list[tuple[float, float]]]:
    """Name -> (minutes, value) of every figure under a title, once per look at the validation data."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for name, value in record["figures"].get(title, {}).items():
            line = lines.setdefault(name, [])
            if not line or line[-1][1] != value:
                line.append((record["elapsed"] / 60, value))
    return lines


def _plot(title: str, series: dict[str, list[tuple[float, float]]]) -> str:
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    low, high = min(y for _, y in points), max(y for _, y in points)
    high = high if high > low else low + 1e-6
    end = max(max(x for x, _ in points), 1e-6)

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / end * (_WIDTH - _LEFT - _RIGHT)
        return across, _TOP + (high - y) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_axes(low, high, end)]
    for (name, line), colour in zip(series.items(), cycle(_COLOURS), strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        end_x, end_y = place(*line[-1])
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        label = f"{html.escape(name)} {line[-1][1]:.3g}"
        parts.append(f'<text x="{end_x + 6:.0f}" y="{end_y + 4:.0f}" style="fill:{colour}">{label}</text>')
    box = f"0 0 {_WIDTH} {_HEIGHT}"
    heading = html.escape(title)
    return f'<h2>{heading}</h2><svg viewBox="{box}" role="img" aria-label="{heading}">{"".join(parts)}</svg>'


def _axes(low: float, high: float, end: float) -> str:
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    marks = []
    for step in range(5):
        y = floor - step / 4 * (floor - _TOP)
        value = low + step / 4 * (high - low)
        marks.append(f'<line class="rule" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    marks.append(f'<text x="{_LEFT}" y="{_HEIGHT - 6}">0</text>')
    marks.append(f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{end:.1f} minutes</text>')
    return "".join(marks)
