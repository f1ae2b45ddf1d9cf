"""Where tiles lie in a photo, and with which weight each of their pixels counts. Pure; knows no network."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a photo is cut, all in pixels.

    Attributes:
        size: longest side of a tile, context included.
        context: at inner borders, what the network sees beyond the pixels that are used.
        feather: width of the ramp over which neighbours are mixed.
        multiple_of: tiles start at multiples of this and have such sides, so that every tile shows the network
            the same grid; the photo counts as extended at the right and at the bottom.
    """

    size: int
    context: int
    feather: int
    multiple_of: int

    @property
    def overlap(self) -> int:
        """What neighbours share at least, rounded up to whole grid steps."""
        return _round_up(2 * self.context + self.feather, self.multiple_of)

    @property
    def at_once(self) -> int:
        """How many tiles the network gets at a time."""
        return 1

    @property
    def mirrors(self) -> bool:
        """Whether the photo counts as mirrored at its borders, not as extended by its last pixels."""
        return False

    def lay(self, height: int, width: int) -> list["Tile"]:
        """See `tile_grid`."""
        return tile_grid(height, width, self)

    @property
    def smallest(self) -> int:
        """The smallest size that still moves forward from tile to tile."""
        return self.overlap + self.multiple_of

    def with_size(self, size: int) -> "Tiling":
        """The same cut with another tile size, rounded to the grid and kept large enough to move forward."""
        return replace(self, size=max(self.smallest, size // self.multiple_of * self.multiple_of))


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis: pixels `start` to `start + length`, and its weights there."""

    start: int
    length: int
    weights: Tensor  # (length,), float32, 0 to 1


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the photo; its pixels count with `rows.weights ⊗ columns.weights`."""

    rows: Span
    columns: Span


def tile_grid(height: int, width: int, tiling: Tiling) -> list[Tile]:
    """Tiles that cover a photo; at every pixel of it their weights sum to 1."""
    columns = cut_axis(width, tiling)
    return [Tile(row, column) for row in cut_axis(height, tiling) for column in columns]


def cut_axis(length: int, tiling: Tiling) -> list[Span]:
    """Spans of equal length that cover `length` pixels, rounded up to the grid.

    Each mixes with its neighbour on a ramp in the middle of what they share, so both sides keep their context.
    """
    step = tiling.multiple_of
    whole = _round_up(length, step)
    if whole <= tiling.size:
        return [Span(0, whole, torch.ones(whole))]
    count = math.ceil((whole - tiling.overlap) / (tiling.size - tiling.overlap))
    side = _round_up(math.ceil((whole + (count - 1) * tiling.overlap) / count), step)
    starts = [round(i * (whole - side) / (count - 1) / step) * step for i in range(count)]
    return [Span(start, side, weights) for start, weights in zip(starts, _ramps(starts, side, tiling), strict=True)]


def _ramps(starts: list[int], side: int, tiling: Tiling) -> Iterator[Tensor]:
    """The weights of each span: its rise less the rise of the next, so that all add up to 1 wherever the ramps lie."""
    rise: Tensor | None = None
    for index, start in enumerate(starts):
        weights = torch.ones(side)
        if rise is not None:
            weights[: len(rise)] = rise
        if index + 1 < len(starts):
            shared = start + side - starts[index + 1]
            rise = _ramp(shared, tiling.feather)
            weights[side - shared :] -= rise
        yield weights


def _ramp(length: int, feather: int) -> Tensor:
    """0, then a straight rise over `feather` pixels in the middle, then 1."""
    position = torch.arange(length) + 0.5 - length / 2
    return (position / max(feather, 1) + 0.5).clamp(0, 1)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
