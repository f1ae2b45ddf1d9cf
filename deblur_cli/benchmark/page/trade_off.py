"""The perception-distortion plots: one figure for each data set, one labelled point for each model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deblur_cli.benchmark.page.columns import Column, metric_columns
from deblur_cli.benchmark.records import BLURRY, BenchmarkReport, ModelSummary
from deblur_cli.system.plot import Axis, Plot, Point, draw_points

if TYPE_CHECKING:
    from markupsafe import Markup

READING = (  # the trade-off: Blau and Michaeli 2018, "The Perception-Distortion Tradeoff"
    "Distortion asks how far the pixels are from the truth, perception how natural the picture looks; "
    "a model may buy one with the other."
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with its caption, or why there is none."""

    svg: "Markup | None" = None
    caption: list[str] = field(default_factory=list)
    empty: str = ""


def build_figures(report: BenchmarkReport) -> list[Figure]:
    """One figure for each data set; a model keeps its colour and outline in all of them."""
    names = dict.fromkeys(row.name for row in report.models if row.name != BLURRY)
    series = {BLURRY: -1, **{name: number for number, name in enumerate(names)}}
    columns = metric_columns(report)
    rows = {dataset.name: [row for row in report.models if row.dataset == dataset.name] for dataset in report.datasets}
    return [_build_figure(dataset.name, rows[dataset.name], columns, series) for dataset in report.datasets]


def pick_distortion(columns: Sequence[Column], rows: Sequence[ModelSummary]) -> Column | None:
    """The PSNR that this data set has values of."""
    return next((column for column in columns if column.key.startswith("psnr") and _has(column, rows)), None)


def pick_perception(columns: Sequence[Column], rows: Sequence[ModelSummary]) -> Column | None:
    """LPIPS if there are values, else another metric that is no PSNR or SSIM, else SSIM."""

    def rank(column: Column) -> int:
        if column.key.startswith("lpips"):
            return 0
        return 2 if column.key.startswith("ssim") else 1

    candidates = [column for column in columns if not column.key.startswith("psnr") and _has(column, rows)]
    return min(candidates, key=rank, default=None)


def _has(column: Column, rows: Sequence[ModelSummary]) -> bool:
    return any(_finite(column, row) is not None for row in rows)


def _finite(column: Column, row: ModelSummary) -> float | None:
    value = column.value_of(row)
    return value if value is not None and math.isfinite(value) else None


def _build_figure(
    dataset: str, rows: Sequence[ModelSummary], columns: Sequence[Column], series: dict[str, int]
) -> Figure:
    across, up = pick_distortion(columns, rows), pick_perception(columns, rows)
    if across is None or up is None:
        reason = "no truth to measure distortion against" if across is None else "PSNR is its only metric"
        return Figure(empty=f"No plot for {dataset}: {reason}.")
    points = _find_points(rows, across, up, series)
    if not points:
        return Figure(empty=f"No plot for {dataset}: no model has both numbers.")
    title = f"{dataset}: {across.title} across, {up.title} upwards; means over the photos."
    caption = [title, _better_corner(across, up), READING]
    if missing := [row.name for row in rows if row.name not in {point.name for point in points}]:
        caption.append(f"Not drawn, for want of a finite value: {', '.join(missing)}.")
    x_axis = Axis.around(_axis_name(across), [point.x for point in points], margin=0.14)
    y_axis = Axis.around(_axis_name(up), [point.y for point in points], margin=0.14)
    return Figure(draw_points(Plot(title, x_axis, y_axis), points), [line for line in caption if line])


def _better_corner(across: Column, up: Column) -> str:
    if "none" in (across.direction, up.direction):
        return ""
    upright, level = ("upper", "lower"), ("right", "left")
    is_low = up.direction == "lower"
    return f"Better lies to the {upright[is_low]} {level[across.direction == 'lower']}."


def _find_points(rows: Sequence[ModelSummary], across: Column, up: Column, series: dict[str, int]) -> list[Point]:
    points = []
    for row in rows:
        x, y = _finite(across, row), _finite(up, row)
        if x is not None and y is not None:
            title = f"{row.name}: {_named(across, x)}, {_named(up, y)}"
            points.append(Point(row.name, series[row.name], x, y, title))
    return points


def _axis_name(column: Column) -> str:
    # Along the axis, also in the turned name of the upright one: "→" is where its numbers grow.
    name = column.title + (f" ({column.unit})" if column.unit else "")
    if column.direction == "higher":
        return f"{name}, better →"
    return f"← better, {name}" if column.direction == "lower" else name


def _named(column: Column, value: float) -> str:
    return f"{column.title} {column.format(value)} {column.unit}".strip()
