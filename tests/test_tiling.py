"""Tiles and blocks cover a photo; the weights sum to one, and tiles keep to the network's grid."""

import pytest
import torch

from deblur_cli.restoration.tiling import Blocks, Tiling, lay_pieces, stack_pieces

TILING = Tiling(size=96, context=16, feather=8, multiple_of=8)


def weight_sum(height: int, width: int, tiling: Tiling) -> torch.Tensor:
    total = torch.zeros(height + tiling.multiple_of, width + tiling.multiple_of)
    for tile in tiling.lay(height, width):
        rows, columns = tile.rows, tile.columns
        window = total[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
        window += rows.weights[:, None] * columns.weights[None]
    return total[:height, :width]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (96, 96), (97, 95), (500, 333), (1024, 129)])
def test_the_weights_of_all_tiles_sum_to_one_at_every_pixel(height: int, width: int) -> None:
    torch.testing.assert_close(weight_sum(height, width, TILING), torch.ones(height, width))


@pytest.mark.parametrize("size", [1, 304, 320, 432, 448, 512])
@pytest.mark.parametrize("context", [128, 192])
def test_tiles_that_move_on_by_less_than_a_ramp_keep_the_light_of_the_photo(size: int, context: int) -> None:
    tiling = Tiling(512, context, feather=32, multiple_of=16).with_size(size)  # one step of the grid at the smallest
    for length in (560, 1000, 1337):
        spans = [tile.rows for tile in tiling.lay(length, 16)]
        assert all(float(span.weights.min()) >= 0 for span in spans)
        torch.testing.assert_close(weight_sum(length, 16, tiling), torch.ones(length, 16))


@pytest.mark.parametrize("tiling", [TILING, Tiling(304, 128, feather=32, multiple_of=16)])
@pytest.mark.parametrize("length", [97, 160, 333, 1000])
def test_every_pixel_that_counts_has_its_context_on_both_sides(length: int, tiling: Tiling) -> None:
    for tile in tiling.lay(length, 8):
        rows = tile.rows
        used = rows.weights.nonzero().flatten()
        first, last = int(used[0]), int(used[-1])
        assert rows.start == 0 or first >= tiling.context
        assert rows.start + rows.length >= length or rows.length - 1 - last >= tiling.context


def test_tiles_start_on_the_grid_are_equally_large_and_no_larger_than_asked() -> None:
    tiles = TILING.lay(1000, 700)
    assert all(t.rows.start % 8 == 0 and t.columns.start % 8 == 0 for t in tiles)
    assert len({(t.rows.length, t.columns.length) for t in tiles}) == 1
    assert tiles[0].rows.length % 8 == 0
    assert tiles[0].rows.length <= TILING.size


def test_a_photo_that_fits_is_one_tile() -> None:
    assert len(TILING.lay(90, 96)) == 1


def test_a_tile_size_below_the_overlap_is_raised_until_tiles_move_forward() -> None:
    small = TILING.with_size(1)
    assert small.size == small.smallest
    torch.testing.assert_close(weight_sum(200, 120, small), torch.ones(200, 120))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 7), (33, 64), (50, 21)])
def test_blocks_lie_side_by_side_and_see_their_context_as_far_as_the_canvas_goes(height: int, width: int) -> None:
    canvas = torch.rand(2, height, width)
    again, counted = torch.zeros_like(canvas), torch.zeros(height, width)
    for block in Blocks(most=16, context=5).lay(height, width):
        rows, core = block.rows, block.rows.core
        assert core.stop - core.start <= 16
        assert (rows.place.start, rows.place.stop) == (max(0, core.start - 5), min(height, core.stop + 5))
        counted[core, block.columns.core] += 1
        lay_pieces(again, [block], stack_pieces(canvas, [block]))
    assert torch.equal(counted, torch.ones(height, width))
    assert torch.equal(again, canvas)


def test_a_block_of_latents_is_a_block_of_pixels_and_what_reaches_beyond_the_photo_is_dropped() -> None:
    canvas = torch.rand(1, 8 * 20, 8 * 12)
    again = torch.zeros(1, 150, 90)
    for block in Blocks(most=9, context=2).lay(20, 12):
        large = block.scaled(8)
        assert (large.rows.core.start, large.rows.core.stop) == (8 * block.rows.core.start, 8 * block.rows.core.stop)
        lay_pieces(again, [large], stack_pieces(canvas, [large]))
    assert torch.equal(again, canvas[:, :150, :90])
