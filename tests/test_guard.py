"""Invented colours are caught, what a deblurring may do is not; low frequencies stay those of the estimate."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.restoration.guard import BLOCK, describe, fall_back, find_gaps, find_mosaics, is_mosaic, remove_low

SIDE = 2 * BLOCK
MIDDLE = slice(BLOCK // 2, BLOCK // 2 + BLOCK)
Colour = tuple[float, float, float]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(colour: Colour) -> Tensor:
    return torch.tensor(colour)[:, None, None].expand(3, SIDE, SIDE).clone()


def blurred(photo: Tensor, length: int, noise: float = 0.005) -> Tensor:
    """A sideways motion of so many pixels, and what a camera adds."""
    padded = functional.pad(photo[None], (length // 2, length - 1 - length // 2, 0, 0), mode="replicate")
    moved = functional.avg_pool2d(padded, (1, length), stride=1)[0]
    return (moved + noise * torch.randn(moved.shape, generator=generator(9))).clamp(0, 1)


def checkerboard(cell: int, change: Colour) -> Tensor:
    index = torch.arange(SIDE) // cell
    signs = ((index[:, None] + index) % 2 * 2 - 1).float()
    return torch.tensor(change)[:, None, None] * signs


def patches(cell: int, seed: int = 1) -> Tensor:
    """Squares of random colours."""
    count = -(-SIDE // cell)
    colours = torch.rand(3, count, count, generator=generator(seed))
    return colours.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, :SIDE, :SIDE]


def halves(left: Colour, right: Colour) -> Tensor:
    photo = plain(left)
    photo[:, :, SIDE // 2 :] = plain(right)[:, :, SIDE // 2 :]
    return photo


def text(ink: Colour, paper: Colour) -> Tensor:
    """Strokes and gaps of 3 pixels in a few lines, as small print has them."""
    photo, ink_everywhere = plain(paper), plain(ink)
    for top in range(8, SIDE - 8, 16):
        strokes = torch.rand(SIDE // 3 + 1, generator=generator(top)).round().bool().repeat_interleave(3)[:SIDE]
        photo[:, top : top + 9][:, :, strokes] = ink_everywhere[:, top : top + 9][:, :, strokes]
    return photo


def judge(blurry: Tensor, restored: Tensor) -> bool:
    return bool(is_mosaic(blurry[None], restored[None, :, MIDDLE, MIDDLE])[0])


BACKGROUNDS = {
    "grey": plain((0.5, 0.5, 0.5)),
    "skin": plain((0.8, 0.6, 0.5)),
    "sky to roof": halves((0.5, 0.6, 0.8), (0.5, 0.3, 0.2)),
    "leaves": (plain((0.3, 0.4, 0.2)) + 0.2 * (patches(5).mean(0) - 0.5)).clamp(0, 1),
}
CHANGES = {"red": (1.0, 0.0, 0.0), "red against green": (1.0, -1.0, 0.0), "blue against yellow": (-0.4, -0.4, 1.0)}
HIDDEN = ("sky to roof", "red")  # as much bright and dark as coloured, beside a colour edge: passes for detail


@pytest.mark.parametrize(("name", "change"), [pair for pair in product(BACKGROUNDS, CHANGES) if pair != HIDDEN])
@pytest.mark.parametrize("cell", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("strength", [0.15, 0.3])
def test_a_checkerboard_of_colours_is_caught(name: str, change: str, cell: int, strength: float) -> None:
    scale = strength * math.sqrt(max(1, cell / 4))  # large cells have few edges, and show less
    colours = tuple(scale * part for part in CHANGES[change])
    attacked = (BACKGROUNDS[name] + checkerboard(cell, colours)).clamp(0, 1)
    assert judge(blurred(BACKGROUNDS[name], 9), attacked)


@pytest.mark.parametrize("cell", [2, 4, 8])
def test_random_colours_out_of_nothing_are_caught_although_they_are_bright_and_dark_too(cell: int) -> None:
    assert judge(blurred(BACKGROUNDS["grey"], 9), 0.5 + 0.4 * (patches(cell) - 0.5))


RED, GREEN, WHITE, BLACK = (0.8, 0.1, 0.1), (0.1, 0.45, 0.1), (0.95, 0.95, 0.95), (0.05, 0.05, 0.05)
PHOTOS = {
    "grey to grey": halves(WHITE, BLACK),
    "red to green": halves(RED, GREEN),
    "red to a green as bright": halves((0.8, 0.1, 0.1), (0.1, 0.45, 0.13)),
    "red text on white": text(RED, WHITE),
    "white text on green": text(WHITE, GREEN),
    "blue text on yellow": text((0.1, 0.1, 0.7), (0.9, 0.9, 0.2)),
    "fine confetti": patches(4),
    "confetti": patches(9),
    "large confetti": patches(24),
}


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("length", [1, 3, 9, 21, 41])
def test_a_sharp_photo_in_the_place_of_its_blurred_self_is_not(name: str, length: int) -> None:
    assert not judge(blurred(PHOTOS[name], length), PHOTOS[name])


def test_noise_that_comes_or_goes_is_no_mosaic() -> None:
    noisy = (plain((0.4, 0.5, 0.6)) + 0.02 * torch.randn(3, SIDE, SIDE, generator=generator())).clamp(0, 1)
    assert not judge(plain((0.4, 0.5, 0.6)), noisy)
    assert not judge(noisy, plain((0.4, 0.5, 0.6)))


def look(photo: Tensor):
    """As `guard.Look`: the border is repeated beyond the photo."""
    margin = BLOCK
    wide = functional.pad(photo[None], (margin,) * 4, mode="replicate")[0]
    shift = lambda span: slice(span.start + margin, span.stop + margin)  # noqa: E731
    return lambda rows, columns: wide[:, shift(rows), shift(columns)]


def test_only_the_block_at_fault_is_found_also_at_the_border_of_an_odd_size() -> None:
    height, width = 3 * BLOCK - 7, 4 * BLOCK - 40
    estimate = torch.full((3, height, width), 0.5)
    residual = torch.zeros_like(estimate)
    residual[:, 2 * BLOCK :, 3 * BLOCK :] = checkerboard(4, (0.3, -0.3, 0.0))[:, : BLOCK - 7, : BLOCK - 40]
    found = find_mosaics(look(estimate), look(estimate + residual), residual)
    assert found.shape == (3, 4)
    assert found.nonzero().tolist() == [[2, 3]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_found_and_its_block_falls_back(value: float) -> None:
    residual = torch.ones(3, 150, 200)
    residual[1, 100, 130] = value
    gaps = find_gaps(residual)
    assert gaps.nonzero().tolist() == [[1, 2]]
    assert describe(gaps).startswith(
        "1 of 12 blocks of 64 pixels come from the estimate, the first at row 64, column 128"
    )
    fall_back(residual, gaps)
    assert residual.isfinite().all()
    assert (residual[:, 64:128, 128:192] == 0).all()


def test_a_block_that_falls_back_fades_in_around_it_and_leaves_the_rest_alone() -> None:
    residual = torch.ones(3, 5 * BLOCK, 5 * BLOCK)
    blocks = torch.zeros(5, 5, dtype=torch.bool)
    blocks[2, 2] = True
    fall_back(residual, blocks)
    row = residual[0, 2 * BLOCK + 10]
    assert (row.diff().abs() <= 2 / BLOCK + 1e-6).all()
    assert (row[: BLOCK + BLOCK // 2] == 1).all()
    assert torch.equal(residual, residual.flip(1)) and torch.equal(residual, residual.flip(2))


@pytest.mark.parametrize("size", [(64, 64), (150, 211), (5, 3)])
def test_a_shift_of_all_colours_is_taken_out_to_the_rounding(size: tuple[int, int]) -> None:
    residual = torch.full((3, *size), 0.125)
    remove_low(residual)
    assert residual.abs().max() <= 1e-6


def test_a_slow_shading_is_taken_out_and_fine_detail_is_kept() -> None:
    row = torch.arange(512.0)
    slow = 0.1 * torch.sin(2 * math.pi * row / 400).expand(3, 300, 512)
    fine = 0.1 * torch.sin(2 * math.pi * row / 12).expand(3, 300, 512)
    shading, detail = slow.clone(), fine.clone()
    remove_low(shading)
    remove_low(detail)
    inner = (slice(None), slice(50, 250), slice(50, 462))
    assert shading[inner].std() <= 0.1 * slow[inner].std()
    assert (detail - fine)[inner].std() <= 0.05 * fine[inner].std()


def test_nothing_stays_nothing_to_the_bit() -> None:
    residual = torch.zeros(3, 100, 90)
    remove_low(residual)
    assert torch.equal(residual, torch.zeros(3, 100, 90))
