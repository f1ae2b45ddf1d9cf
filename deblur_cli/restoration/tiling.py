"""Where the pieces of a photo or of its latents lie, and how much each of their points counts. Pure; knows no network.

A policy is a value that lays pieces over a canvas: `Tiling` and `Blocks` for networks that see any size, where the
size is a matter of memory, `Windows`, `EvenWindows` and `BellWindows` for networks whose field of view is part of the
method. A network with a table of positions, or one that mixes over the whole picture it is given, sees another picture
in another window: its windows have one size and depend on the canvas alone, and memory only decides how many of them
are held at once.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.restoration.watch import Pixels

_VARIANCE = 0.01  # of the bell of a window whose length is 1


Part = tuple[slice, slice]  # rows and columns of a photo, with a start and a stop


@dataclass(frozen=True, slots=True)
class Span:
    """One piece along one axis: `start` to `start + length`, and its weights there."""

    start: int
    length: int
    weights: Tensor  # (length,), float32, 0 to 1

    @property
    def place(self) -> slice:
        """All of it, on the canvas."""
        return slice(self.start, self.start + self.length)

    @property
    def core(self) -> slice:
        """From the first to the last point that counts, on the canvas."""
        counting = self.weights.nonzero()
        return slice(self.start + int(counting[0]), self.start + int(counting[-1]) + 1)

    def scaled(self, factor: int) -> "Span":
        """The same on a canvas that is so many times as long."""
        return Span(self.start * factor, self.length * factor, self.weights.repeat_interleave(factor))


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the canvas; its points count with `rows.weights ⊗ columns.weights`."""

    rows: Span
    columns: Span

    def scaled(self, factor: int) -> "Tile":
        """The same on a canvas whose sides are so many times as long."""
        return Tile(self.rows.scaled(factor), self.columns.scaled(factor))


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of equal size for a network that sees any, all in pixels.

    Attributes:
        size: longest side of a tile, context included.
        context: at inner borders, what the network sees beyond the pixels that are used.
        feather: width of the ramp over which neighbours are mixed.
        multiple_of: tiles start at multiples of this and have such sides, so that every tile shows the network
            the same grid; the photo counts as extended at the right and at the bottom.
        at_once: how many tiles the network gets at a time.
        mirrors: whether the photo counts as mirrored at its borders, not as extended by its last pixels.
    """

    size: int
    context: int
    feather: int
    multiple_of: int
    at_once: int = 1
    mirrors: bool = False
    side_by_side: ClassVar[int] = 1  # large tiles keep all threads busy
    bytes_alone: ClassVar[int] = 0

    @property
    def overlap(self) -> int:
        """What neighbours share at least, rounded up to whole grid steps."""
        return _round_up(2 * self.context + self.feather, self.multiple_of)

    @property
    def smallest(self) -> int:
        """The smallest size that still moves forward from tile to tile."""
        return self.overlap + self.multiple_of

    def with_size(self, size: int) -> "Tiling":
        """The same cut with another tile size, rounded to the grid and kept large enough to move forward."""
        return replace(self, size=max(self.smallest, size // self.multiple_of * self.multiple_of))

    def lay(self, height: int, width: int) -> list[Tile]:
        """Tiles that cover a photo; at every pixel of it their weights sum to 1."""
        return _cross(self._cut(height), self._cut(width))

    def _cut(self, length: int) -> list[Span]:
        """Spans of equal length that cover `length` pixels, rounded up to the grid.

        Each mixes with its neighbour on a ramp in the middle of what they share, so both sides keep their context.
        """
        step = self.multiple_of
        whole = _round_up(length, step)
        if whole <= self.size:
            return [Span(0, whole, torch.ones(whole))]
        count = math.ceil((whole - self.overlap) / (self.size - self.overlap))
        side = _round_up(math.ceil((whole + (count - 1) * self.overlap) / count), step)
        starts = [round(i * (whole - side) / (count - 1) / step) * step for i in range(count)]
        return [Span(start, side, weights) for start, weights in zip(starts, self._ramps(starts, side), strict=True)]

    def _ramps(self, starts: list[int], side: int) -> Iterator[Tensor]:
        """The weights of each span: its rise less the rise of the next, so that all add up to 1 wherever they lie."""
        rise: Tensor | None = None
        for index, start in enumerate(starts):
            weights = torch.ones(side)
            if rise is not None:
                weights[: len(rise)] = rise
            if index + 1 < len(starts):
                shared = start + side - starts[index + 1]
                position = torch.arange(shared) + 0.5 - shared / 2
                rise = (position / max(self.feather, 1) + 0.5).clamp(0, 1)
                weights[side - shared :] -= rise
            yield weights


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one size on a photo, in the place of a `Tiling`. All in pixels.

    Attributes:
        side: of every window.
        smallest: side of the least window. A photo that is smaller than `side` has one that holds it, a multiple of
            `multiple_of`; beyond its borders it is mirrored.
        shared: what neighbours have in common at least.
        size: the side of a square that may be in memory at once.
        batched: whether a network gets as many windows at once as fit in there; else one, whatever the size.
        bytes_alone: what a network takes for one of them on a CPU, where threads take one each as long as they fit in
            there; 0 where all threads work on one.
        mirrors: see `Tiling`.
    """

    side: int
    shared: int
    size: int
    smallest: int
    multiple_of: int
    batched: bool = False
    bytes_alone: int = 0
    mirrors: bool = True

    @property
    def at_once(self) -> int:
        """How many windows the network gets at a time."""
        return self._fitting if self.batched else 1

    @property
    def side_by_side(self) -> int:
        """How many threads of a CPU may work on windows at the same time."""
        return self._fitting if self.bytes_alone else 1

    @property
    def _fitting(self) -> int:
        return max(1, (self.size // self.side) ** 2)

    def with_size(self, size: int) -> "Windows":
        """The same windows with more or fewer in memory."""
        return replace(self, size=max(self.side, size))

    def lay(self, height: int, width: int) -> list[Tile]:
        """Windows that cover a photo, row by row; at every pixel of it their weights sum to 1."""
        side = min(self.side, max(self.smallest, _round_up(max(height, width), self.multiple_of)))
        return EvenWindows(side, self.shared).lay(max(height, side), max(width, side))


@dataclass(frozen=True, slots=True)
class EvenWindows:
    """As few windows of one size as cover a canvas, laid as evenly as the grid allows and blended on straight ramps.

    Attributes:
        side: of the windows, a multiple of `grid`.
        shared: what neighbours have in common at least.
        grid: every window starts at a multiple of this.
    """

    side: int
    shared: int
    grid: int = 1

    def lay(self, height: int, width: int) -> list[Tile]:
        """Windows row by row; at every point of the canvas their weights sum to 1.

        Args:
            height, width: at least `side`, and multiples of `grid`.
        Raises:
            ValueError: the numbers do not belong together.
        """
        side, grid, lengths = self.side, self.grid, (height, width, self.side)
        if min(lengths) < side or any(length % grid for length in lengths) or not 0 < self.shared < side:
            raise ValueError(f"windows of {side} on a grid of {grid} do not cover {height}x{width}")
        return _cross(self._cut(height), self._cut(width))

    def _cut(self, length: int) -> list[Span]:
        stride = (self.side - self.shared) // self.grid * self.grid
        last = math.ceil((length - self.side) / stride)
        starts = [index * (length - self.side) // (max(1, last) * self.grid) * self.grid for index in range(last + 1)]
        shares = [0, *(before + self.side - after for before, after in pairwise(starts)), 0]
        ramps = [torch.minimum(self._rise(before), self._rise(after).flip(0)) for before, after in pairwise(shares)]
        return _share_out(length, starts, ramps)

    def _rise(self, shared: int) -> Tensor:
        """(side,): straight up over what a window shares with its neighbour, then 1."""
        return ((torch.arange(self.side, dtype=torch.float64) + 0.5) / max(shared, 0.5)).clamp_(max=1)


@dataclass(frozen=True, slots=True)
class BellWindows:
    """A window every `stride`, blended under a bell; the last of a row or column ends with the canvas.

    A canvas that is shorter than `side` has windows of its own length. The bell's top lies half a point further down
    than to the right.

    Source: kkkls/DeblurDiff (MIT), the same placement and the same bell.
    """

    side: int
    stride: int

    def lay(self, height: int, width: int) -> list[Tile]:
        """Windows that cover a canvas, row by row; at every point of it their weights sum to 1."""
        return _cross(self._cut(height, top=0.5), self._cut(width, top=0.0))

    def _cut(self, length: int, top: float) -> list[Span]:
        """`top` is how far the middle of the bell, a normal density up to a factor, is off that of the window."""
        side = min(self.side, length)
        starts = [*range(0, length - side, self.stride), length - side]
        position = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2 - top) / side
        bell = (-position.square() / (2 * _VARIANCE)).exp()
        return _share_out(length, starts, [bell] * len(starts))


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of about equal size side by side, each seen with what lies around it as far as the canvas goes.

    Attributes:
        most: longest side of what counts of a block.
        context: what is seen beyond that, and does not count.
    """

    most: int
    context: int

    def lay(self, height: int, width: int) -> list[Tile]:
        """Blocks row by row; at every point of the canvas one of them counts."""
        return _cross(list(self._cut(height)), list(self._cut(width)))

    def _cut(self, length: int) -> Iterator[Span]:
        count = math.ceil(length / self.most)
        for start, stop in pairwise(index * length // count for index in range(count + 1)):
            first, last = max(0, start - self.context), min(length, stop + self.context)
            weights = torch.zeros(last - first)
            weights[start - first : stop - first] = 1
            yield Span(first, last - first, weights)


@dataclass(frozen=True, slots=True)
class PixelSource:
    """A photo to cut from, (H, W, 3): uint8 or uint16, or floats that stay as they are."""

    pixels: Pixels

    def cut(self, rows: slice, columns: slice) -> Tensor:
        """(3, h, w), float32, [0, 1], on the CPU; beyond the photo its border is repeated."""
        height, width = self.pixels.shape[:2]
        if min(rows.start, columns.start) >= 0 and rows.stop <= height and columns.stop <= width:
            window = self.pixels[rows, columns]
        else:
            window = self.pixels[_clamp(rows, height)[:, None], _clamp(columns, width)]
        top = float(np.iinfo(window.dtype).max) if window.dtype.kind == "u" else 1.0
        return torch.from_numpy(window.astype(np.float32)).div_(top).permute(2, 0, 1)


def widen(part: Part, by: int) -> Part:
    """So many pixels more on each side, as far as there are any before it; behind it nobody asks."""
    rows, columns = (slice(max(0, place.start - by), place.stop + by) for place in part)
    return rows, columns


def find_tiles(tiles: Sequence[Tile], part: Part | None, around: int = 0) -> Sequence[Tile]:
    """Those of which a point that counts lies in the part or so many pixels around it; of no part, all."""
    if part is None:
        return tiles
    rows, columns = widen(part, around)
    return [tile for tile in tiles if _meet(tile.rows.core, rows) and _meet(tile.columns.core, columns)]


def _meet(core: slice, place: slice) -> bool:
    return bool(core.start < place.stop and place.start < core.stop)


def stack_pieces(canvas: Tensor, tiles: Sequence[Tile]) -> Tensor:
    """(n, C, h, w): what lies below each of the tiles, which have one size, of a canvas (C, H, W)."""
    return torch.stack([canvas[:, tile.rows.place, tile.columns.place] for tile in tiles])


def blend_pieces(canvas: Tensor, tiles: Sequence[Tile], pieces: Tensor) -> None:
    """Add pieces to a canvas with the weights of their tiles.

    Args:
        canvas: (C, H, W), changed in place; zero before the first of all tiles. What reaches beyond it is dropped.
        pieces: (n, C, h, w), one per tile.
    """
    for tile, piece in zip(tiles, pieces, strict=True):
        target = canvas[:, tile.rows.place, tile.columns.place]
        height, width = target.shape[1:]
        weights = tile.rows.weights[:height, None] * tile.columns.weights[:width]  # (h, w)
        target.addcmul_(piece[:, :height, :width].to(canvas.device), weights.to(canvas.device))


def lay_pieces(canvas: Tensor, tiles: Sequence[Tile], pieces: Tensor) -> None:
    """Lay what counts of pieces (n, C, h, w) on a canvas (C, H, W), the later ones on top; the rest is dropped."""
    for tile, piece in zip(tiles, pieces, strict=True):
        rows, columns = tile.rows.core, tile.columns.core
        target = canvas[:, rows, columns]
        inside = piece[:, rows.start - tile.rows.start :, columns.start - tile.columns.start :]
        target.copy_(inside[:, : target.shape[1], : target.shape[2]])


def _cross(rows: Sequence[Span], columns: Sequence[Span]) -> list[Tile]:
    return [Tile(row, column) for row in rows for column in columns]


def _share_out(length: int, starts: Sequence[int], shapes: Sequence[Tensor]) -> list[Span]:
    """Spans that count as their shapes do beside all others, so that their weights sum to 1."""
    total = torch.zeros(length, dtype=torch.float64)
    for start, shape in zip(starts, shapes, strict=True):
        total[start : start + len(shape)] += shape
    return [
        Span(start, len(shape), (shape / total[start : start + len(shape)]).float())
        for start, shape in zip(starts, shapes, strict=True)
    ]


def _clamp(span: slice, length: int) -> NDArray[np.intp]:
    return np.arange(span.start, span.stop).clip(0, length - 1)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
