"""Square windows of one size, laid evenly over a photo or its latents and blended on ramps. Pure; knows no network.

A network with a table of positions, or one that mixes over the whole picture it is given, sees another picture in
another window. So its windows are part of the method: they have one size and depend on the photo alone, and memory
only decides how many are held at once.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deblur_cli.restoration.tiling import Span, Tile


@dataclass(frozen=True, slots=True)
class Windows:
    """How a photo is cut for a network that sees windows of one size; takes the place of a `Tiling`. All in pixels.

    Attributes:
        side: of every window.
        smallest: side of the least window. A photo that is smaller than `side` has one that holds it, a multiple of
            `step`; beyond its borders it is mirrored.
        shared: what neighbours have in common at least.
        size: the side of a square that may be in memory at once.
        batched: whether a network gets as many windows at once as fit in there; else one, whatever the size.
    """

    side: int
    shared: int
    size: int
    smallest: int
    step: int
    batched: bool = False
    mirrors: bool = True

    @property
    def multiple_of(self) -> int:
        """Sides of what the network gets."""
        return self.step

    @property
    def at_once(self) -> int:
        """How many windows the network gets at a time."""
        return max(1, (self.size // self.side) ** 2) if self.batched else 1

    def with_size(self, size: int) -> "Windows":
        """The same windows with more or fewer in memory."""
        return replace(self, size=max(self.side, size))

    def lay(self, height: int, width: int) -> list[Tile]:
        """Windows that cover a photo, row by row; at every pixel of it their weights sum to 1."""
        fitting = max(self.smallest, -(-max(height, width) // self.step) * self.step)
        side = min(self.side, fitting)
        return cover(max(height, side), max(width, side), side, 1, self.shared)


def cover(height: int, width: int, side: int, grid: int, shared: int) -> list[Tile]:
    """Windows that cover a canvas, row by row; at every point of it their weights sum to 1.

    Args:
        height, width: of the canvas; at least `side`, and multiples of `grid`.
        side: of the windows, a multiple of `grid`.
        grid: every window starts at a multiple of this.
        shared: what neighbours have in common at least.
    Raises:
        ValueError: the numbers do not belong together.
    """
    lengths = (height, width, side)
    if min(lengths) < side or any(length % grid for length in lengths) or not 0 < shared < side:
        raise ValueError(f"windows of {side} on a grid of {grid} do not cover {height}x{width}")
    columns = _cut(width, side, grid, shared)
    return [Tile(row, column) for row in _cut(height, side, grid, shared) for column in columns]


def _cut(length: int, side: int, grid: int, shared: int) -> list[Span]:
    starts = _spread(length, side, grid, shared)
    total = torch.zeros(length, dtype=torch.float64)
    ramps = [_ramp(index, starts, side) for index in range(len(starts))]
    for start, ramp in zip(starts, ramps, strict=True):
        total[start : start + side] += ramp
    return [
        Span(start, side, (ramp / total[start : start + side]).float())
        for start, ramp in zip(starts, ramps, strict=True)
    ]


def _spread(length: int, side: int, grid: int, shared: int) -> list[int]:
    """As few starts as cover the length with the least overlap, as even as the grid allows."""
    stride = (side - shared) // grid * grid
    count = math.ceil((length - side) / stride) + 1
    return [index * (length - side) // (max(1, count - 1) * grid) * grid for index in range(count)]


def _ramp(index: int, starts: list[int], side: int) -> Tensor:
    """(side,): straight up over what the window shares with the one before, and down with the one after."""
    up = down = torch.ones(side, dtype=torch.float64)
    if index > 0:
        up = _rise(side, starts[index - 1] + side - starts[index])
    if index + 1 < len(starts):
        down = _rise(side, starts[index] + side - starts[index + 1]).flip(0)
    return torch.minimum(up, down)


def _rise(side: int, shared: int) -> Tensor:
    return ((torch.arange(side, dtype=torch.float64) + 0.5) / shared).clamp_(max=1)
