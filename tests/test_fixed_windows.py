"""Where the flow's windows lie and how they are blended."""

from itertools import pairwise

import pytest
import torch

from deblur_cli.fixed_windows import cover

OVERLAP = 4


@pytest.mark.parametrize("side", [6, 8, 32])
@pytest.mark.parametrize("length", [*range(32, 110, 2), 512])
def test_windows_are_even_overlap_and_their_weights_sum_to_one_everywhere(side: int, length: int) -> None:
    windows = cover(side, length, side, 2, OVERLAP)
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
    [window] = cover(16, 16, 16, 2, OVERLAP)
    assert torch.equal(window.rows.weights, torch.ones(16))


def test_between_two_neighbours_one_fades_into_the_other_on_a_straight_ramp() -> None:
    first, second = cover(16, 28, 16, 2, OVERLAP)
    assert torch.allclose(first.columns.weights[-4:], torch.tensor([0.875, 0.625, 0.375, 0.125]))
    assert torch.allclose(second.columns.weights[:4], torch.tensor([0.125, 0.375, 0.625, 0.875]))


@pytest.mark.parametrize(("height", "side", "grid"), [(14, 16, 2), (17, 16, 2), (16, 15, 2), (16, 4, 2)])
def test_a_canvas_that_windows_cannot_cover_is_refused(height: int, side: int, grid: int) -> None:
    with pytest.raises(ValueError, match="do not cover"):
        cover(height, 64, side, grid, OVERLAP)
