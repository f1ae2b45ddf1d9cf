"""A plot as inline SVG, for every page: two axes with round numbers, and between them labelled points or lines.

Draws in user units of a fixed view box; colours and type sizes come from `STYLE`, and its colours of paper, ink and
rules from the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deblur_cli.system.pages import read_asset, render

if TYPE_CHECKING:
    from markupsafe import Markup

LEFT, TOP, BOTTOM = 70.0, 20.0, 58.0  # margins that hold the axes' numbers and names
CHARACTER = 9.5  # width of a label's character, at the size narrow screens use
LABEL_HEIGHT = 19.0
RADIUS = 7.0  # of a point's marker
SERIES = 6  # colours and outlines, before they repeat
OUTLINES: dict[int, list[tuple[float, float]]] = {  # corners in radii; series 0 is a circle
    1: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    2: [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    3: [(0, -1.1), (1.1, 0.9), (-1.1, 0.9)],
    4: [(0, 1.1), (1.1, -0.9), (-1.1, -0.9)],
    5: [(-1.2, 0), (-0.6, -1), (0.6, -1), (1.2, 0), (0.6, 1), (-0.6, 1)],
}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its name and the values that it spans."""

    name: str
    low: float
    high: float

    @classmethod
    def around(cls, name: str, values: Sequence[float], margin: float) -> "Axis":
        """An axis that holds the values, with this share of their span to spare at both ends."""
        low, high = min(values), max(values)
        span = (high - low) or abs(high) * 0.1 or 1.0
        return cls(name, low - margin * span, high + margin * span)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values and how they are written."""
        values = ticks(self.low, self.high)
        step = values[1] - values[0] if len(values) > 1 else 1.0
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(value, f"{value + 0.0:.{decimals}f}".replace("-", "\u2212")) for value in values]


@dataclass(frozen=True, slots=True)
class Plot:
    """The frame that is drawn into, in user units, and its axes."""

    title: str
    across: Axis
    up: Axis
    width: float = 560.0
    height: float = 400.0
    right_margin: float = 20.0

    @property
    def right(self) -> float:
        """Where the axis across ends."""
        return self.width - self.right_margin

    @property
    def floor(self) -> float:
        """Where the upright axis begins."""
        return self.height - BOTTOM

    def x(self, value: float) -> float:
        """Where a value lies across."""
        return LEFT + (value - self.across.low) / (self.across.high - self.across.low) * (self.right - LEFT)

    def y(self, value: float) -> float:
        """Where a value lies upwards."""
        return self.floor - (value - self.up.low) / (self.up.high - self.up.low) * (self.floor - TOP)


@dataclass(frozen=True, slots=True)
class Point:
    """One point in the plane of values."""

    name: str
    series: int  # -1 for the one that the others are compared with
    x: float
    y: float
    title: str  # what a pointer that rests on it is told


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in user units."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """True where the two share area."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: "Box") -> bool:
        """True where the other lies inside."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


@dataclass(frozen=True, slots=True)
class _Mark:
    """What the template draws: an outline or a line, and its label."""

    series: str  # class of the colour
    kind: str  # "marker" or "line"
    path: str
    title: str
    label: str
    x: float
    y: float
    anchor: str  # "start", "middle" or "end"


def style() -> str:
    """The style sheet of all plots; needs the colours --paper, --ink, --quiet, --rule and --edge."""
    return read_asset(__package__, "templates/plot.css")


def draw_points(plot: Plot, points: Sequence[Point]) -> "Markup":
    """Every point with an outline and a colour of its series, and a label that covers no other where there is room."""
    places = [(plot.x(point.x), plot.y(point.y)) for point in points]
    taken = [Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in places]
    marks = []
    for point, (x, y) in zip(points, places, strict=True):
        box, anchor = _label_box(plot, point.name, x, y, taken)
        taken.append(box)
        text_x = {"start": box.left, "end": box.right}.get(anchor, (box.left + box.right) / 2)
        series = "nothing" if point.series < 0 else f"series-{point.series % SERIES}"
        outline = _outline(point.series, x, y)
        marks.append(_Mark(series, "marker", outline, point.title, point.name, text_x, box.bottom - 4, anchor))
    return render(__package__, "plot.svg", plot=plot, marks=marks, left=LEFT, top=TOP)


def draw_lines(plot: Plot, lines: dict[str, list[tuple[float, float]]]) -> "Markup":
    """A line for each label, which stands at its end."""
    marks = []
    for number, (label, line) in enumerate(lines.items()):
        places = [(plot.x(x), plot.y(y)) for x, y in line]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        x, y = places[-1]
        marks.append(_Mark(f"series-{number % SERIES}", "line", path, label, label, x + 6, y + 4, "start"))
    return render(__package__, "plot.svg", plot=plot, marks=marks, left=LEFT, top=TOP)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two bounds, about `count` of them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _label_box(plot: Plot, name: str, x: float, y: float, taken: Sequence[Box]) -> tuple[Box, str]:
    """Where a label stands free: right, left, above or below its point, then farther off; else right."""
    width, gap, half = CHARACTER * len(name), RADIUS + 5, LABEL_HEIGHT / 2
    frame = Box(LEFT, 0, plot.width, plot.floor)
    choices = []
    for middle in (y, y - LABEL_HEIGHT, y + LABEL_HEIGHT):
        choices += [
            (Box(x + gap, middle - half, x + gap + width, middle + half), "start"),
            (Box(x - gap - width, middle - half, x - gap, middle + half), "end"),
        ]
    choices += [
        (Box(x - width / 2, y - gap - LABEL_HEIGHT, x + width / 2, y - gap), "middle"),
        (Box(x - width / 2, y + gap, x + width / 2, y + gap + LABEL_HEIGHT), "middle"),
    ]
    free = (choice for choice in choices if frame.holds(choice[0]) and not any(map(choice[0].overlaps, taken)))
    return next(free, choices[0])


def _outline(series: int, x: float, y: float) -> str:
    """A marker's path; the form differs as well as the colour."""
    r = RADIUS
    corners = OUTLINES.get(series % SERIES) if series >= 0 else None
    if corners is None:
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
    return "M" + "L".join(f"{x + r * dx:.1f} {y + r * dy:.1f}" for dx, dy in corners) + "z"
