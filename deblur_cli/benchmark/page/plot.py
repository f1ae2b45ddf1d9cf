"""The perception-distortion plot: one inline SVG for each data set, one labelled point for each model.

Draws in user units of a fixed view box; colours and type sizes come from the page's style sheet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deblur_cli.benchmark.page.columns import Column, metric_columns
from deblur_cli.benchmark.page.markup import Markup, element, join
from deblur_cli.benchmark.records import BLURRY, BenchmarkReport, ModelSummary

WIDTH, HEIGHT = 560.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 20.0, 20.0, 58.0  # margins that hold the axes' numbers and names
CHARACTER = 9.5  # width of a label's character, at the size narrow screens use
LINE = 19.0
MARKER = 7.0
SHAPES = 6
READING = (  # the trade-off: Blau and Michaeli 2018, "The Perception-Distortion Tradeoff"
    "Distortion asks how far the pixels are from the truth, perception how natural the picture looks; "
    "a model may buy one with the other."
)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: a column, its span in values, and the pixels that span covers."""

    column: Column
    low: float
    high: float
    start: float  # where `low` is drawn
    end: float

    def place(self, value: float) -> float:
        """A value's position in user units."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Point:
    """One model in the plane."""

    name: str
    series: int  # -1 for doing nothing
    x: float  # values, not user units
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in user units."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """True where the two share area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def series_of(report: BenchmarkReport) -> dict[str, int]:
    """Each model's series number, the same in every figure of the page; -1 for doing nothing."""
    names = dict.fromkeys(row.name for row in report.models if row.name != BLURRY)
    return {BLURRY: -1, **{name: number for number, name in enumerate(names)}}


def render_plots(report: BenchmarkReport) -> Markup:
    """One figure for each data set; all but the first wait hidden for the switch."""
    series = series_of(report)
    columns = metric_columns(report)
    figures = []
    for index, dataset in enumerate(report.datasets):
        rows = [row for row in report.models if row.dataset == dataset.name]
        attributes = {"class": "plot", "data-dataset": str(index)}
        hidden = {"hidden": ""} if index else {}
        figures.append(element("figure", attributes | hidden, *_figure(dataset.name, rows, columns, series)))
    return join(figures)


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
    return any((value := column.value_of(row)) is not None and math.isfinite(value) for row in rows)


def _figure(
    dataset: str, rows: Sequence[ModelSummary], columns: Sequence[Column], series: dict[str, int]
) -> list[Markup]:
    across, up = pick_distortion(columns, rows), pick_perception(columns, rows)
    if across is None or up is None:
        reason = "no truth to measure distortion against" if across is None else "PSNR is its only metric"
        return [element("p", {"class": "empty"}, f"No plot for {dataset}: {reason}.")]
    points = _points(rows, across, up, series)
    if not points:
        return [element("p", {"class": "empty"}, f"No plot for {dataset}: no model has both numbers.")]
    title = f"{dataset}: {across.title} across, {up.title} upwards; means over the photos."
    missing = [row.name for row in rows if row.name not in {point.name for point in points}]
    caption = [title, _better_corner(across, up), READING]
    if missing:
        caption.append(f"Not drawn, for want of a finite value: {', '.join(missing)}.")
    paragraphs = [element("p", {}, text) for text in caption if text]
    return [_svg(points, across, up, title), element("figcaption", {}, *paragraphs)]


def _better_corner(across: Column, up: Column) -> str:
    if "none" in (across.direction, up.direction):
        return ""
    upright, level = ("upper", "lower"), ("right", "left")
    is_low = up.direction == "lower"
    return f"Better lies to the {upright[is_low]} {level[across.direction == 'lower']}."


def _points(rows: Sequence[ModelSummary], across: Column, up: Column, series: dict[str, int]) -> list[Point]:
    points = []
    for row in rows:
        x, y = across.value_of(row), up.value_of(row)
        if x is not None and y is not None and math.isfinite(x) and math.isfinite(y):
            points.append(Point(row.name, series[row.name], x, y))
    return points


def _svg(points: Sequence[Point], across: Column, up: Column, title: str) -> Markup:
    x_axis = _axis(across, [point.x for point in points], LEFT, WIDTH - RIGHT)
    y_axis = _axis(up, [point.y for point in points], HEIGHT - BOTTOM, TOP)
    box = {"viewBox": f"0 0 {WIDTH:g} {HEIGHT:g}", "role": "img", "aria-label": title}
    return element("svg", box, _grid(x_axis, y_axis), *_marks(points, x_axis, y_axis))


def _axis(column: Column, values: Sequence[float], start: float, end: float) -> Axis:
    low, high = min(values), max(values)
    span = (high - low) or abs(high) * 0.1 or 1.0
    return Axis(column, low - 0.14 * span, high + 0.14 * span, start, end)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two bounds, about `count` of them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _tick_labels(values: Sequence[float]) -> list[str]:
    step = values[1] - values[0] if len(values) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value + 0.0:.{decimals}f}".replace("-", "\u2212") for value in values]


def _grid(x_axis: Axis, y_axis: Axis) -> Markup:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    x_ticks, y_ticks = ticks(x_axis.low, x_axis.high), ticks(y_axis.low, y_axis.high)
    for value, label in zip(x_ticks, _tick_labels(x_ticks), strict=True):
        x = x_axis.place(value)
        parts += [_line(x, TOP, x, bottom, "grid"), _text(x, bottom + 20, label, "tick middle")]
    for value, label in zip(y_ticks, _tick_labels(y_ticks), strict=True):
        y = y_axis.place(value)
        parts += [_line(LEFT, y, right, y, "grid"), _text(LEFT - 9, y + 5, label, "tick end")]
    middle = (TOP + bottom) / 2
    turned = {"transform": f"rotate(-90 16 {middle:g})"}
    return join(
        [
            *parts,
            _line(LEFT, bottom, right, bottom, "axis"),
            _line(LEFT, TOP, LEFT, bottom, "axis"),
            _text((LEFT + right) / 2, HEIGHT - 10, _axis_name(x_axis.column), "name middle"),
            _text(16, middle, _axis_name(y_axis.column), "name middle", turned),
        ]
    )


def _axis_name(column: Column) -> str:
    # Along the axis, also in the turned name of the upright one: "→" is where its numbers grow.
    name = column.title + (f" ({column.unit})" if column.unit else "")
    if column.direction == "higher":
        return f"{name}, better →"
    return f"← better, {name}" if column.direction == "lower" else name


def _marks(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> list[Markup]:
    places = [(x_axis.place(point.x), y_axis.place(point.y)) for point in points]
    taken = [_around(x, y) for x, y in places]
    marks = []
    for point, (x, y) in zip(points, places, strict=True):
        box, anchor = _label_box(point.name, x, y, taken)
        taken.append(box)
        text_x = box.left if anchor == "start" else box.right if anchor == "end" else (box.left + box.right) / 2
        values = f"{point.name}: {_named(x_axis.column, point.x)}, {_named(y_axis.column, point.y)}"
        name = "nothing" if point.series < 0 else f"series-{point.series % SHAPES}"
        marker = element("path", {"class": "marker", "d": _shape(point.series, x, y)})
        label = _text(text_x, box.bottom - 4, point.name, f"label {anchor}")
        marks.append(element("g", {"class": name}, element("title", {}, values), marker, label))
    return marks


def _named(column: Column, value: float) -> str:
    return f"{column.title} {column.format(value)} {column.unit}".strip()


def _around(x: float, y: float) -> Box:
    return Box(x - MARKER, y - MARKER, x + MARKER, y + MARKER)


def _label_box(name: str, x: float, y: float, taken: Sequence[Box]) -> tuple[Box, str]:
    """Where a label stands free: right, left, above or below its point, then farther off; else right."""
    width, gap = CHARACTER * len(name), MARKER + 5
    frame = Box(LEFT, 0, WIDTH, HEIGHT - BOTTOM)
    choices = []
    for shift in (0.0, -LINE, LINE):
        middle = y + shift
        choices += [
            (Box(x + gap, middle - LINE / 2, x + gap + width, middle + LINE / 2), "start"),
            (Box(x - gap - width, middle - LINE / 2, x - gap, middle + LINE / 2), "end"),
        ]
    choices += [
        (Box(x - width / 2, y - gap - LINE, x + width / 2, y - gap), "middle"),
        (Box(x - width / 2, y + gap, x + width / 2, y + gap + LINE), "middle"),
    ]
    return next((choice for choice in choices if _is_free(choice[0], frame, taken)), choices[0])


def _is_free(box: Box, frame: Box, taken: Sequence[Box]) -> bool:
    inside = frame.left <= box.left and box.right <= frame.right
    inside = inside and frame.top <= box.top and box.bottom <= frame.bottom
    return inside and not any(box.overlaps(other) for other in taken)


def _shape(series: int, x: float, y: float) -> str:
    """A marker's outline; the form differs as well as the colour."""
    r = MARKER
    if series < 0 or series % SHAPES == 0:
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
    forms: dict[int, list[tuple[float, float]]] = {
        1: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        2: [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
        3: [(0, -1.1), (1.1, 0.9), (-1.1, 0.9)],
        4: [(0, 1.1), (1.1, -0.9), (-1.1, -0.9)],
        5: [(-1.2, 0), (-0.6, -1), (0.6, -1), (1.2, 0), (0.6, 1), (-0.6, 1)],
    }
    corners = [f"{x + r * dx:.1f} {y + r * dy:.1f}" for dx, dy in forms[series % SHAPES]]
    return "M" + "L".join(corners) + "z"


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> Markup:
    return element("path", {"class": name, "d": f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"})


def _text(x: float, y: float, text: str, name: str, more: dict[str, str] | None = None) -> Markup:
    return element("text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": name, **(more or {})}, text)
