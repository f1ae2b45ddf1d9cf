"""Where the flow's windows lie and how they are blended."""

from itertools import pairwise

import pytest
import torch

from deblur_cli.restoration.tiling import EvenWindows, Windows

OVERLAP = 4


@pytest.mark.parametrize("side", [6, 8, 32])
@pytest.mark.parametrize("length", [*range(32, 110, 2), 512])
def test_windows_are_even_overlap_and_their_weights_sum_to_one_everywhere(side: int, length: int) -> None:
    windows = EvenWindows(side, OVERLAP, 2).lay(side, length)
    starts = [window.columns.start for window in windows]
    assert (starts[0], starts[-1] + side) == (0, length)
    assert all(start % 2 == 0 for start in starts)
    gaps = [after - before for before, after in pairwise(starts)]
    assert all(0 < gap <= side - OVERLAP for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 2
    total = torch.zeros(length)
    for window in windows:
        assert window.columns.weights.min() > 0
        total[window.columns.start : window.columns.start + side] += window.columns.weights
    assert (total - 1).abs().max() <= 1e-6


def test_one_window_on_a_canvas_of_its_size_counts_as_it_is() -> None:
    [window] = EvenWindows(16, OVERLAP, 2).lay(16, 16)
    assert torch.equal(window.rows.weights, torch.ones(16))


def test_between_two_neighbours_one_fades_into_the_other_on_a_straight_ramp() -> None:
    first, second = EvenWindows(16, OVERLAP, 2).lay(16, 28)
    assert torch.allclose(first.columns.weights[-4:], torch.tensor([0.875, 0.625, 0.375, 0.125]))
    assert torch.allclose(second.columns.weights[:4], torch.tensor([0.125, 0.375, 0.625, 0.875]))


@pytest.mark.parametrize(("height", "side", "grid"), [(14, 16, 2), (17, 16, 2), (16, 15, 2), (16, 4, 2)])
def test_a_canvas_that_windows_cannot_cover_is_refused(height: int, side: int, grid: int) -> None:
    with pytest.raises(ValueError, match="do not cover"):
        EvenWindows(side, OVERLAP, grid).lay(height, 64)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 40), (32, 32), (33, 32), (100, 77)])
def test_windows_of_any_photo_have_one_size_and_lie_the_same_whatever_is_in_memory(height: int, width: int) -> None:
    windows = Windows(32, 8, 64, 32, 16, batched=True)
    laid = windows.lay(height, width)
    assert {(tile.rows.length, tile.columns.length) for tile in laid} == {(32, 32)}
    places = [(tile.rows.start, tile.columns.start) for tile in laid]
    for size in (1, 32, 1000):
        assert [(t.rows.start, t.columns.start) for t in windows.with_size(size).lay(height, width)] == places
    total = torch.zeros(max(height, 32), max(width, 32))
    for tile in laid:
        rows, columns = tile.rows, tile.columns
        below = total[rows.start : rows.start + 32, columns.start : columns.start + 32]
        below += rows.weights[:, None] * columns.weights
    assert (total - 1).abs().max() <= 1e-6


def test_memory_decides_how_many_windows_are_held_at_once() -> None:
    windows = Windows(32, 8, 100, 32, 16, batched=True)
    assert windows.at_once == 9
    assert windows.with_size(1).at_once == 1
    assert Windows(32, 8, 100, 32, 16).at_once == 1


@pytest.mark.parametrize(
    ("photo", "side"), [((1, 1), 32), ((32, 20), 32), ((33, 20), 48), ((60, 70), 64), ((10, 99), 64)]
)
def test_a_small_photo_has_the_smallest_window_that_holds_it(photo: tuple[int, int], side: int) -> None:
    laid = Windows(64, 8, 64, 32, 16).lay(*photo)
    assert {(tile.rows.length, tile.columns.length) for tile in laid} == {(side, side)}
