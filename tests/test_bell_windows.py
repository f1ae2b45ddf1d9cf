"""Windows lie where the published ones lie, weigh what they weigh, and leave no seams."""

import math

import pytest
import torch
from torch import Tensor

from deblur_cli.restoration.tiling import BellWindows, blend_pieces, lay_pieces, stack_pieces

SIZES = [(64, 64), (96, 160), (90, 161), (40, 200), (7, 5)]


def blend_published(canvas: Tensor, side: int, stride: int) -> Tensor:
    """Sum of weighted pieces over the sum of weights, as the authors' code does it, for a pointwise network."""
    starts = [[*range(0, length - side + 1, stride)] for length in canvas.shape[1:]]
    for found, length in zip(starts, canvas.shape[1:], strict=True):
        if (length - side) % stride:
            found.append(length - side)
    down = [math.exp(-((y - side / 2) ** 2) / side**2 / 0.02) for y in range(side)]
    right = [math.exp(-((x - (side - 1) / 2) ** 2) / side**2 / 0.02) for x in range(side)]
    weights = torch.tensor(down, dtype=torch.float64)[:, None] * torch.tensor(right, dtype=torch.float64)
    total, count = torch.zeros(canvas.shape, dtype=torch.float64), torch.zeros(canvas.shape, dtype=torch.float64)
    for index, (top, left) in enumerate((top, left) for top in starts[0] for left in starts[1]):
        place = (slice(None), slice(top, top + side), slice(left, left + side))
        total[place] += (canvas[place] + index) * weights
        count[place] += weights
    return total / count


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_pointwise_network_leaves_no_seam(height: int, width: int) -> None:
    canvas = draw(3, height, width)
    windows = BellWindows(64, 32).lay(height, width)
    blended = torch.zeros_like(canvas)
    blend_pieces(blended, windows, stack_pieces(canvas, windows).tanh())
    torch.testing.assert_close(blended, canvas.tanh(), rtol=1e-5, atol=1e-6)


def test_windows_and_weights_are_the_published_ones() -> None:
    canvas = draw(2, 96, 168)
    windows = BellWindows(64, 32).lay(96, 168)
    pieces = stack_pieces(canvas, windows) + torch.arange(len(windows))[:, None, None, None]  # each says who it is
    blended = torch.zeros_like(canvas)
    blend_pieces(blended, windows, pieces)
    torch.testing.assert_close(blended.double(), blend_published(canvas, 64, 32), rtol=1e-5, atol=1e-5)


def test_a_1280x720_photo_has_the_published_windows() -> None:
    windows = BellWindows(512, 256).lay(768, 1280)
    assert [(w.rows.start, w.columns.start) for w in windows] == [(y, x) for y in (0, 256) for x in (0, 256, 512, 768)]
    assert {(w.rows.length, w.columns.length) for w in windows} == {(512, 512)}


def test_the_last_window_ends_with_the_canvas() -> None:
    assert [w.rows.start for w in BellWindows(512, 256).lay(704, 100)] == [0, 192]


def test_a_canvas_no_larger_than_a_window_is_one_piece_unchanged() -> None:
    canvas = draw(3, 48, 64)
    windows = BellWindows(64, 32).lay(48, 64)
    blended = torch.zeros_like(canvas)
    blend_pieces(blended, windows, stack_pieces(canvas, windows))
    assert len(windows) == 1
    assert torch.equal(blended, canvas)


def test_what_reaches_beyond_the_canvas_is_dropped() -> None:
    canvas = draw(3, 96, 96)
    windows = BellWindows(64, 32).lay(96, 96)
    cropped = torch.zeros(3, 90, 83)
    blend_pieces(cropped, windows, stack_pieces(canvas, windows))
    torch.testing.assert_close(cropped, canvas[:, :90, :83])


def test_laid_windows_cover_each_other_in_their_order() -> None:
    windows = BellWindows(64, 32).lay(96, 64)
    canvas = torch.zeros(1, 96, 64)
    lay_pieces(canvas, windows, torch.stack([torch.full((1, 64, 64), value) for value in (1.0, 2.0)]))
    assert canvas[0, :32].eq(1).all()
    assert canvas[0, 32:].eq(2).all()


def test_how_many_windows_are_blended_at_once_changes_nothing() -> None:
    canvas = draw(2, 96, 128)
    windows = BellWindows(64, 32).lay(96, 128)
    pieces = stack_pieces(canvas, windows) * draw(len(windows), 1, 1, 1)
    whole, parts = torch.zeros_like(canvas), torch.zeros_like(canvas)
    blend_pieces(whole, windows, pieces)
    for index, window in enumerate(windows):
        blend_pieces(parts, [window], pieces[index : index + 1])
    assert torch.equal(whole, parts)
