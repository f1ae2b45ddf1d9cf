"""Columns of the tables: which there are, in which unit, with how many digits, and which value is best."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deblur_cli.benchmark.records import BLURRY, BenchmarkReport, MetricInfo, ModelSummary

NO_VALUE = "–"  # noqa: RUF001 - an en dash, as tables have it
MINUS = "\u2212"
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
BETTER_WORDS = {"higher": "higher is better", "lower": "lower is better", "none": "neither is better"}

BYTES_UNITS = ((1.0, "MB"), (1e3, "GB"))
COUNT_UNITS = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"))
COSTS = (  # field of ModelSummary, title, units by size, how it was measured
    ("seconds_per_megapixel", "Time", ((1.0, "s/MP"),), "Seconds per megapixel, warm, median of the photos"),
    ("peak_ram_mb", "Peak RAM", BYTES_UNITS, "Highest memory of the whole process"),
    ("peak_vram_mb", "Peak VRAM", BYTES_UNITS, "Highest memory on the accelerator"),
    ("parameters", "Parameters", COUNT_UNITS, "Weights of the model, counted once each"),
    ("macs_per_megapixel", "MACs/MP", COUNT_UNITS, "Multiply-accumulate operations per megapixel"),
)
TITLES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ssim3d": "SSIM 3D",
    "lpips": "LPIPS",
    "dists": "DISTS",
}  # how the field writes them


@dataclass(frozen=True, slots=True)
class Column:
    """One column and how its values are written."""

    key: str  # `MetricInfo.name` or a field of `ModelSummary`
    title: str
    unit: str
    direction: str  # "higher", "lower" or "none"
    protocol: str
    decimals: int
    scale: float = 1.0  # a shown value is the stored one divided by this
    is_cost: bool = False

    @property
    def arrow(self) -> str:
        """Where better lies, as a sign; empty where neither is better."""
        return ARROWS.get(self.direction, "")

    @property
    def better(self) -> str:
        """Where better lies, in words."""
        return BETTER_WORDS.get(self.direction, "")

    def value_of(self, row: ModelSummary) -> float | None:
        """The stored value; None for none, also where it is not a number."""
        value = getattr(row, self.key) if self.is_cost else row.scores.get(self.key)
        return None if value is None or math.isnan(value) else float(value)

    def format(self, value: float | None, sign: bool = False) -> str:
        """A value as text: thousands apart, a true minus, "∞" or a dash."""
        if value is None or math.isnan(value):
            return NO_VALUE
        if math.isinf(value):
            return (MINUS if value < 0 else "") + "∞"
        rounded = round(value / self.scale, self.decimals) + 0.0  # + 0.0: no "-0.00"
        written = f"{rounded:{'+' if sign and rounded else ''},.{self.decimals}f}"
        return written.replace("-", MINUS)

    def rounded(self, value: float) -> float:
        """The value as far as the table shows it; ties in print are ties."""
        return value if math.isinf(value) else round(value / self.scale, self.decimals)


def metric_title(name: str) -> str:
    """A metric's name as the field writes it: "psnr_y" becomes "PSNR y"."""
    head, *rest = name.replace("-", "_").split("_")
    return " ".join([TITLES.get(head, head), *rest])


def metric_column(metric: MetricInfo, values: Iterable[float | None]) -> Column:
    """The column of a metric; decibels have two decimals, everything else four significant digits or so."""
    decimals = 2 if metric.unit == "dB" else _decimals(_finite(values), digits=4)
    return Column(metric.name, metric_title(metric.name), metric.unit, metric.direction, metric.protocol, decimals)


def metric_columns(report: BenchmarkReport) -> list[Column]:
    """A column for every metric of the report, with one number format over all data sets."""
    return [metric_column(metric, [row.scores.get(metric.name) for row in report.models]) for metric in report.metrics]


def summary_columns(metrics: Sequence[Column], rows: Sequence[ModelSummary]) -> list[Column]:
    """The columns one data set's table needs: those with a value, or with a note on why there is none."""
    scored = [column for column in metrics if _is_scored(column.key, rows)]
    costs = [_cost_column(cost, rows) for cost in COSTS]
    return scored + [column for column in costs if column is not None]


def find_best(column: Column, rows: Sequence[ModelSummary]) -> set[int]:
    """Which rows hold the best value, all of them in a tie; none where a comparison says nothing."""
    shown = {
        index: column.rounded(value) for index, row in enumerate(rows) if (value := column.value_of(row)) is not None
    }
    if column.direction == "none" or len(shown) < 2:
        return set()
    best = max(shown.values()) if column.direction == "higher" else min(shown.values())
    return {index for index, value in shown.items() if value == best}


def difference(value: float | None, reference: float | None) -> float | None:
    """How far a value is from doing nothing; None where either has none or is infinite."""
    if value is None or reference is None or not math.isfinite(value) or not math.isfinite(reference):
        return None
    return value - reference


def find_reference(rows: Sequence[ModelSummary]) -> ModelSummary | None:
    """The row of doing nothing, if the run has it."""
    return next((row for row in rows if row.name == BLURRY), None)


def verdict(change: float, column: Column) -> str:
    """ "better", "worse" or "same" as the table shows it; "same" for a metric without direction."""
    shown = column.rounded(change)
    if not shown or column.direction == "none":
        return "same"
    return "better" if (shown > 0) == (column.direction == "higher") else "worse"


def _is_scored(key: str, rows: Sequence[ModelSummary]) -> bool:
    return any(key in row.scores or key in row.notes for row in rows)


def _cost_column(
    cost: tuple[str, str, tuple[tuple[float, str], ...], str], rows: Sequence[ModelSummary]
) -> Column | None:
    key, title, units, protocol = cost
    values = _finite(getattr(row, key) for row in rows)
    if not values and not any(key in row.notes for row in rows):
        return None
    # The smallest value picks the unit, so that no model's cost is rounded to nothing.
    smallest = min(values, default=0.0)
    scale, unit = next((step for step in reversed(units) if smallest >= step[0]), units[0])
    # Three digits of the smallest value: 0.0123 s/MP must not read 0.01.
    decimals = _cost_decimals(smallest / scale) if unit else 0
    return Column(key, title, unit, "lower", protocol, decimals, scale, is_cost=True)


def _finite(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _cost_decimals(smallest: float) -> int:
    if smallest <= 0.0:
        return 2
    return min(5, max(0, 2 - math.floor(math.log10(smallest))))


def _decimals(values: Sequence[float], digits: int) -> int:
    largest = max((abs(value) for value in values), default=0.0)
    if largest < 1.0:
        return 4
    return max(0, digits - 1 - math.floor(math.log10(largest)))
