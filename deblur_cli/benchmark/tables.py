"""The summary as text: cells for a terminal, lines for a pipe, Markdown, CSV. Pure: records in, text out."""

import csv
import io
import math
from collections.abc import Sequence

from deblur_cli.benchmark.compare import Change
from deblur_cli.benchmark.records import BenchmarkReport, ImageScore, ModelSummary
from deblur_cli.system.wording import count

_ARROWS = {"higher": "↑", "lower": "↓"}
_COSTS = ("s/MP", "RAM MB", "VRAM MB", "params M", "GMAC/MP")
_NONE = "-"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Rows = list[list[str]]


def summary_rows(report: BenchmarkReport) -> tuple[list[str], Rows]:
    """Heading and one row per data set and model; columns without any value are left out, but for metrics."""
    heading = ["dataset", "model", *(f"{row.name}{_ARROWS.get(row.direction, '')}" for row in report.metrics), *_COSTS]
    rows = [_summary_row(report, model) for model in report.models]
    first_cost = len(heading) - len(_COSTS)
    kept = [index for index in range(len(heading)) if index < first_cost or any(row[index] != _NONE for row in rows)]
    return [heading[index] for index in kept], [[row[index] for index in kept] for row in rows]


def change_rows(changes: Sequence[Change]) -> tuple[list[str], Rows]:
    """Heading and one row per comparison."""
    heading = ["dataset", "model", "metric", "photos", "before", "after", "change", "95% interval", "verdict"]
    rows = [
        [
            change.dataset,
            change.model,
            change.metric,
            str(change.paired.count),
            format_score(change.paired.before),
            format_score(change.paired.after),
            f"{change.paired.difference:+.4f}",
            f"{change.paired.low:+.4f}..{change.paired.high:+.4f}",
            change.verdict,
        ]
        for change in changes
    ]
    return heading, rows


def note_lines(report: BenchmarkReport) -> list[str]:
    """Every reason once, with the rows it holds for."""
    places: dict[tuple[str, str], list[str]] = {}
    for model in report.models:
        for column, note in model.notes.items():
            places.setdefault((column, note), []).append(f"{model.dataset}/{model.name}")
    return [f"{column}: {note} [{', '.join(rows)}]" for (column, note), rows in places.items()]


def to_markdown(report: BenchmarkReport) -> str:
    """The report for people who read text: table, protocols, notes, environment."""
    heading, rows = summary_rows(report)
    lines = ["# Benchmark", "", f"`{report.command}`", "", f"{report.created}", "", *_markdown_table(heading, rows), ""]
    lines += ["Time is the warm median, memory the peak of the whole process.", "", "## Protocols", ""]
    lines += [f"- **{row.name}** ({row.direction} is better): {row.protocol}" for row in report.metrics]
    lines += ["", "## Data", ""]
    lines += [
        f"- **{row.name}**: layout {row.layout}, folder {row.root_name}, {count(row.images, 'photo')}"
        for row in report.datasets
    ]
    if notes := note_lines(report):
        lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    lines += ["", "## Weights", "", *_weights_lines(report)]
    lines += ["", "## Environment", "", *(f"- {name}: {value}" for name, value in report.environment.items())]
    return "\n".join(lines) + "\n"


def to_csv(report: BenchmarkReport) -> str:
    """One line per photo and model, full precision."""
    metrics = [row.name for row in report.metrics]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["dataset", "image", "model", "width", "height", *metrics, "seconds", "note"])
    for row in report.images:
        writer.writerow(
            [*_csv_head(row), *(_csv(row.scores.get(name)) for name in metrics), _csv(row.seconds), _text(row.note)]
        )
    return stream.getvalue()


def format_score(value: float | None) -> str:
    """Four significant places for what lies near one, two decimals for decibels."""
    if value is None:
        return _NONE
    if math.isinf(value):
        return "inf"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _summary_row(report: BenchmarkReport, model: ModelSummary) -> list[str]:
    scores = [format_score(model.scores.get(metric.name)) for metric in report.metrics]
    costs = (
        (model.seconds_per_megapixel, 1.0, 3),
        (model.peak_ram_mb, 1.0, 0),
        (model.peak_vram_mb, 1.0, 0),
        (model.parameters, 1e6, 2),
        (model.macs_per_megapixel, 1e9, 1),
    )
    return [model.dataset, model.name, *scores, *(_format_cost(*cost) for cost in costs)]


def _format_cost(value: float | None, unit: float, decimals: int) -> str:
    return _NONE if value is None else f"{value / unit:.{decimals}f}"


def _markdown_table(heading: Sequence[str], rows: Rows) -> list[str]:
    rule = ["---", "---", *["--:"] * (len(heading) - 2)]
    return ["| " + " | ".join(row) + " |" for row in (heading, rule, *rows)]


def _weights_lines(report: BenchmarkReport) -> list[str]:
    hashes = {(row.name, role): sha256 for row in report.models for role, sha256 in row.hashes.items()}
    return [f"- {name}, {role}: sha256 {sha256}" for (name, role), sha256 in hashes.items()]


def _csv_head(row: ImageScore) -> list[str | int]:
    return [_text(row.dataset), _text(row.image), _text(row.model), row.width, row.height]


def _text(value: str) -> str:
    """A cell that no spreadsheet runs as a formula, with the apostrophe before it that they all know.

    Source: OWASP, "CSV Injection".
    """
    return f"'{value}" if value.startswith(_FORMULA) else value


def _csv(value: float | None) -> str:
    return "" if value is None else repr(value)
