"""What the page's scripts read: scores, extremes and viewers as compact JSON values."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from deblur_cli.benchmark.page.columns import Column, metric_columns
from deblur_cli.benchmark.page.photos import Extremes, model_names
from deblur_cli.benchmark.page.pictures import Viewer
from deblur_cli.benchmark.records import BLURRY, SHARP, BenchmarkReport

METRIC_FIELDS = ("key", "title", "unit", "direction", "decimals", "protocol")


def to_scores_table(report: BenchmarkReport, extremes: Sequence[Extremes]) -> dict[str, Any]:
    """Every photo's row, numbers to seven digits (report.json has them all)."""
    datasets = [dataset.name for dataset in report.datasets]
    datasets += [name for name in dict.fromkeys(row.dataset for row in report.images) if name not in datasets]
    models = model_names(report)
    metrics = [column for column in metric_columns(report) if _is_used(column, report)]
    return {
        "nothing": BLURRY,
        "truth": SHARP,
        "datasets": datasets,
        "models": models,
        "metrics": [{name: getattr(column, name) for name in METRIC_FIELDS} for column in metrics],
        "rows": _rows(report, datasets, models, metrics),
        "extremes": [asdict(case) for case in extremes],
    }


def to_viewer_table(viewers: Sequence[Viewer], left_out: int) -> dict[str, Any]:
    """The viewers' pictures, and how many photos found no room."""
    return {"leftOut": left_out, "photos": [viewer.table for viewer in viewers]}


def _is_used(column: Column, report: BenchmarkReport) -> bool:
    return any(column.key in row.scores for row in report.images)


def _rows(report: BenchmarkReport, datasets: list[str], models: list[str], metrics: list[Column]) -> list[list[Any]]:
    dataset_numbers = {name: number for number, name in enumerate(datasets)}
    model_numbers = {name: number for number, name in enumerate(models)}
    return [
        [
            dataset_numbers[row.dataset],
            row.image,
            model_numbers[row.model],
            row.width,
            row.height,
            [_plain(row.scores.get(column.key)) for column in metrics],
            _plain(row.seconds),
            row.note,
        ]
        for row in report.images
    ]


def _plain(value: float | None) -> float | str | None:
    """A number JSON can hold; infinity as the word that JavaScript's `Number` reads back."""
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(f"{value:.7g}")
