"""What a generated residual may not do to a photo: shift its large areas, invent colours, be no number. Pure.

Knows photos, estimates and residuals; no network, no files. A block is a square of 64 pixels on the photo's own grid.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 64

# Side in pixels of the cells whose means count as low frequencies. Motion takes detail as large as it is long, 2 to
# about 40 pixels; what is wider than a few of these cells was never lost, so nothing there is the flow's to change.
LOW_CELL = 16

# Energies are mean squared differences of neighbouring pixels over a block, both directions, both colour differences.
# On 146,598 blocks of sharp photos beside blurred versions of them no energy above the floor was more than 8.5 times
# the blurred variance, and colours never gained more than 1.8 times what brightness did.
_FLOOR = 2e-3  # a checkerboard of 8 pixels whose colours differ by a tenth; fainter ones hardly show
_NOISE = 2e-4  # what blurry pixels may differ without meaning anything
_FROM_NOTHING = 20.0  # times the variance of the blurry colours: no blur hides that much
_SHARPENED = 0.3  # times that variance: from here on the gains are looked at
_UNEQUAL = 4.0  # blur takes as much from colours as from brightness, so both gain about alike

Look = Callable[[slice, slice], Tensor]  # rows, columns, also beyond the photo -> (3, h, w), [0, 1]


def remove_low(residual: Tensor) -> None:
    """Take the low frequencies out of a residual (3, H, W), in place: those of the estimate stay as they are."""
    height, width = residual.shape[1:]
    cells = functional.avg_pool2d(residual[None], LOW_CELL, ceil_mode=True, count_include_pad=False)
    low = functional.avg_pool2d(functional.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    above, below, share = _between(height, low.shape[2])
    left, right, part = _between(width, low.shape[3])
    low = torch.lerp(low[0, :, :, left], low[0, :, :, right], part)  # (3, cells, W)
    for rows in _strips(height):
        residual[:, rows] -= torch.lerp(low[:, above[rows]], low[:, below[rows]], share[rows, None])


def find_gaps(residual: Tensor) -> Tensor:
    """(rows, columns) of blocks, true where a residual (3, H, W) holds something that is not finite."""
    return ~_block_means(residual).sum(0).isfinite()


def find_mosaics(blurry: Look, restored: Look, residual: Tensor) -> Tensor:
    """(rows, columns) of blocks, true where colours were invented.

    Only blocks whose colours the residual (3, H, W) changes at all are looked at: most of a photo is told in no time.
    """
    found = _colour_energy(residual) > _FLOOR / 16
    for row, column in found.nonzero().tolist():
        top, left, margin = row * BLOCK, column * BLOCK, BLOCK // 2
        around = blurry(slice(top - margin, top + BLOCK + margin), slice(left - margin, left + BLOCK + margin))
        block = restored(slice(top, top + BLOCK), slice(left, left + BLOCK))
        found[row, column] = bool(is_mosaic(around[None], block[None])[0])
    return found


def is_mosaic(blurry: Tensor, restored: Tensor) -> Tensor:
    """Whether the colours of a restored block are more than a deblurring of the blurry ones can be.

    Args:
        blurry: (n, 3, 128, 128), [0, 1], with a margin of half a block: blur brings in what lies beside.
        restored: (n, 3, 64, 64), the middle of it.
    Returns:
        (n,), true where the colour edges are strong enough to be seen, and either stronger than any blur could have
        hidden, or risen far more than the edges of brightness did. A mosaic that is as much bright and dark as it is
        coloured, on a block of many colours, cannot be told from detail by this.
    """
    middle = slice(BLOCK // 2, BLOCK // 2 + BLOCK)
    light, colours = _split(restored)
    light_before, colours_before = _split(blurry)
    variance = colours_before.var((2, 3), correction=0).sum(1) + _NOISE
    energy = _edge_energy(colours)
    gain = energy / (_edge_energy(colours_before[..., middle, middle]) + _NOISE)
    gain_of_light = (_edge_energy(light) + _NOISE) / (_edge_energy(light_before[..., middle, middle]) + _NOISE)
    unequal = (energy > _SHARPENED * variance) & (gain > _UNEQUAL * gain_of_light.clamp(min=1))
    return (energy > _FLOOR) & (unequal | (energy > _FROM_NOTHING * variance))


def fall_back(residual: Tensor, blocks: Tensor) -> None:
    """Make a residual (3, H, W) zero in the blocks (rows, columns) that are true, fading in around them; in place."""
    height, width = residual.shape[1:]
    places = [(row * BLOCK, column * BLOCK) for row, column in blocks.nonzero().tolist()]
    for top, left in places:
        rows, down = _fade(top, height)
        columns, across = _fade(left, width)
        residual[:, rows, columns] *= 1 - down[:, None] * across
    for top, left in places:  # by assignment, since zero times infinity is not zero
        residual[:, top : top + BLOCK, left : left + BLOCK] = 0


def describe(blocks: Tensor) -> str:
    """How many blocks of how many, and where the first lies."""
    row, column = (int(index) * BLOCK for index in blocks.nonzero()[0])
    counts = f"{int(blocks.sum())} of {blocks.numel()} blocks of {BLOCK} pixels"
    return f"{counts} come from the estimate, the first at row {row}, column {column}"


def _split(image: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness, (n, 1, h, w), and the differences of red and blue to it, (n, 2, h, w)."""
    red, green, blue = image[:, 0:1], image[:, 1:2], image[:, 2:3]
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    return light, torch.cat((red - light, blue - light), dim=1)


def _edge_energy(planes: Tensor) -> Tensor:
    """(n,): squared differences of neighbours, mean over a block, sum over directions and planes."""
    down, across = planes.diff(dim=2), planes.diff(dim=3)
    return down.square().mean((2, 3)).sum(1) + across.square().mean((2, 3)).sum(1)


def _colour_energy(residual: Tensor) -> Tensor:
    """(rows, columns): mean square of what a residual (3, H, W) does to the colour differences, block by block."""
    energies = []
    for rows in _strips(residual.shape[1]):
        _, colours = _split(residual[None, :, rows])
        energies.append(_block_means(colours[0].square()).sum(0))
    return torch.cat(energies)


def _block_means(planes: Tensor) -> Tensor:
    """(C, rows, columns) from (C, H, W); blocks that reach beyond the photo count what is inside."""
    return functional.avg_pool2d(planes[None], BLOCK, ceil_mode=True, count_include_pad=False)[0]


def _strips(height: int) -> Iterator[slice]:
    """A few rows of blocks at a time, so that no second photo is in memory."""
    for top in range(0, height, 4 * BLOCK):
        yield slice(top, min(top + 4 * BLOCK, height))


def _between(length: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """For every pixel the cells before and after it, and its place between their centres, 0 to 1."""
    place = ((torch.arange(length) + 0.5) / LOW_CELL - 0.5).clamp_(0, cells - 1)
    before = place.floor().long()
    return before, (before + 1).clamp_(max=cells - 1), place - before


def _fade(start: int, length: int) -> tuple[slice, Tensor]:
    """The pixels in and around a block along one axis, and 1 in it, falling to 0 over half a block on both sides."""
    margin = BLOCK // 2
    first, last = max(0, start - margin), min(length, start + BLOCK + margin)
    place = torch.arange(first, last) + 0.5
    outside = torch.maximum(start - place, place - (start + BLOCK))
    return slice(first, last), (1 - outside / margin).clamp_(0, 1)
