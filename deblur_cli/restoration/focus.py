"""Where a photo has detail down to the pixel, and what is left of it elsewhere. Pure."""

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 16  # pixels
_SOFT, _CRISP = 0.045, 0.08  # energy of detail of 2 pixels over that of 4 to 16: below out of focus, above in it
SOME_FOCUS = 0.05  # share of a photo in focus from which on there is a subject
_LEAST_GRAIN = 1.0  # of 255: JPEG hides noise in the smoothest places, where it is measured, and not beside edges
_DIM = 2.0 / 255  # detail of 4 to 16 pixels that is fainter says nothing


def find_focus(luma: Tensor, noise: float) -> Tensor:
    """(rows, columns) of blocks of 16 pixels, 0 to 1: where there is detail down to the pixel.

    By the energy of Haar's wavelets: those of 2 pixels against those of 4 to 16.
    """
    height, width = luma.shape
    plane = functional.pad(luma[None, None], (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
    energies: list[Tensor] = []
    for step in range(5):
        energies.append(functional.avg_pool2d(plane.square(), _BLOCK >> step))
        plane = functional.avg_pool2d(plane, 2)
    fine, wide = energies[0] - energies[1], energies[1] - energies[4]
    grain = 0.75 * (max(noise, _LEAST_GRAIN) / 255) ** 2
    share = (fine - 1.5 * grain).clamp_min(0) / (wide.clamp_min(0) + _DIM**2)
    focus = ((share - _SOFT) / (_CRISP - _SOFT)).clamp(0, 1)
    closed = -functional.max_pool2d(-functional.max_pool2d(focus, 3, stride=1, padding=1), 3, stride=1, padding=1)
    return closed[0, 0]  # without the holes of smooth places in a subject


def find_stray(focus: Tensor) -> float:
    """How much is in focus outside of the places in focus that are 5 blocks wide or more, 0 to 1."""
    narrow = -(focus > 0.3).float()[None, None]
    wide = -functional.max_pool2d(narrow, 5, stride=1, padding=2)
    wide = functional.max_pool2d(wide, 7, stride=1, padding=3)  # as it was, and a block more around it
    outside = 1 - wide[0, 0]
    return float((focus * outside).sum() / outside.sum().clamp_min(1))


def fade_sharp(luma: Tensor, focus: Tensor) -> Tensor:
    """(H, W): what is left of a photo without its sharp places, around its local mean; for reading the rest."""
    height, width = luma.shape
    keep = (1 - functional.max_pool2d(focus[None, None], 5, stride=1, padding=2))[0, 0]
    keep = enlarge(keep, height, width)
    blocks = functional.adaptive_avg_pool2d(torch.stack((luma * keep, keep))[None], (focus.shape[0], focus.shape[1]))
    wide = functional.avg_pool2d(blocks, 5, stride=1, padding=2, count_include_pad=False)[0]
    return (luma - enlarge(wide[0] / wide[1].clamp_min(1e-3), height, width)) * keep


def enlarge(grid: Tensor, height: int, width: int) -> Tensor:
    """(height, width), bilinear, of (rows, columns) that cover the same photo."""
    return functional.interpolate(grid[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
