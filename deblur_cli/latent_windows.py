"""Square windows of one size, laid evenly over a canvas and blended on ramps. Pure; knows no network.

A network with global attention and a table of positions sees another picture in another window, so its windows are
part of the method: they have the size of its training and depend on the canvas alone, never on memory.
"""

import math

import torch
from torch import Tensor

from deblur_cli.tiling import Span, Tile

OVERLAP = 4  # latents that neighbours share at least: 32 pixels to fade from one into the other


def cover(height: int, width: int, side: int, grid: int) -> list[Tile]:
    """Windows that cover a canvas, row by row; at every point of it their weights sum to 1.

    Args:
        height, width: of the canvas; at least `side`, and multiples of `grid`.
        side: of the windows, a multiple of `grid`.
        grid: every window starts at a multiple of this.
    Raises:
        ValueError: the numbers do not belong together.
    """
    if min(height, width) < side or any(length % grid for length in (height, width, side)) or side <= OVERLAP:
        raise ValueError(f"windows of {side} on a grid of {grid} do not cover {height}x{width}")
    columns = _cut(width, side, grid)
    return [Tile(row, column) for row in _cut(height, side, grid) for column in columns]


def _cut(length: int, side: int, grid: int) -> list[Span]:
    starts = _spread(length, side, grid)
    total = torch.zeros(length, dtype=torch.float64)
    ramps = [_ramp(index, starts, side) for index in range(len(starts))]
    for start, ramp in zip(starts, ramps, strict=True):
        total[start : start + side] += ramp
    return [
        Span(start, side, (ramp / total[start : start + side]).float())
        for start, ramp in zip(starts, ramps, strict=True)
    ]


def _spread(length: int, side: int, grid: int) -> list[int]:
    """As few starts as cover the length with the least overlap, as even as the grid allows."""
    stride = (side - OVERLAP) // grid * grid
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
