"""Overlapping square windows of one size, blended under a bell. Pure; knows no network.

The window is the network's field of view, so it is part of the method, unlike the tiles of `tiling`: DeblurDiff was
published with windows of 512 pixels every 256, and its weights count on them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deblur_cli.restoration.tiling import Span, Tile

_VARIANCE = 0.01  # of the bell, whose window has length 1


def place_windows(height: int, width: int, side: int, stride: int) -> list[Tile]:
    """Windows that cover a canvas, row by row; at every point of it their weights sum to 1.

    Every `stride` starts one; the last of a row or column ends with the canvas. A canvas that is shorter than `side`
    has windows of its own length.

    Source: kkkls/DeblurDiff (MIT), the same placement and the same bell, whose top lies half a point further down
    than to the right.
    """
    rows = _cut(height, min(side, height), stride, top=0.5)
    columns = _cut(width, min(side, width), stride, top=0.0)
    return [Tile(row, column) for row in rows for column in columns]


def stack_windows(canvas: Tensor, windows: Sequence[Tile]) -> Tensor:
    """(n, C, side, side): what lies below each window of a canvas (C, H, W)."""
    return torch.stack([_below(canvas, window) for window in windows])


def blend_windows(canvas: Tensor, windows: Sequence[Tile], pieces: Tensor) -> None:
    """Add pieces to a canvas with the weights of their windows.

    Args:
        canvas: (C, H, W), changed in place; zero before the first of all windows. What reaches beyond it is dropped.
        pieces: (n, C, side, side), one per window.
    """
    for window, piece in zip(windows, pieces, strict=True):
        target = _below(canvas, window)
        height, width = target.shape[1:]
        weights = window.rows.weights[:height, None] * window.columns.weights[:width]  # (h, w)
        target.addcmul_(piece[:, :height, :width].to(canvas.device), weights.to(canvas.device))


def lay_windows(canvas: Tensor, windows: Sequence[Tile], pieces: Tensor) -> None:
    """Lay pieces on a canvas (C, H, W) one over the other, the later ones on top."""
    for window, piece in zip(windows, pieces, strict=True):
        _below(canvas, window).copy_(piece)


def _below(canvas: Tensor, window: Tile) -> Tensor:
    rows, columns = window.rows, window.columns
    return canvas[:, rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]


def _cut(length: int, side: int, stride: int, top: float) -> list[Span]:
    starts = [*range(0, length - side, stride), length - side]
    bell = _bell(side, top)
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + side] += bell
    return [Span(start, side, (bell / total[start : start + side]).float()) for start in starts]


def _bell(side: int, top: float) -> Tensor:
    """A normal density over the window, up to a factor; `top` is how far its middle is off the window's."""
    position = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2 - top) / side
    return (-position.square() / (2 * _VARIANCE)).exp()
