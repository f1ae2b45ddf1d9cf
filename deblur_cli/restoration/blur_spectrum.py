"""Windows of a photo as polar spectra: what a blur does to detail, by fineness and direction. Pure; knows no network.

Motion takes detail along its direction and leaves it across; a lens out of focus takes it in all directions, with
rings of zeros; a sharp photo falls off evenly. All three show in the power of a window, averaged over cells of a polar
grid whose radii grow by the same factor, so that a blur of twice the length is the same picture moved by an octave.
Source of the idea: Yitzhaky and Kopeika 1997, "Identification of Blur Parameters from Motion Blurred Images";
Goldstein and Fattal 2012, "Blur-Kernel Estimation from Spectral Irregularities".
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

SIDE = 256  # pixels of a window
ANGLES = 32  # over half a turn; the first is 0: detail that varies to the side
RINGS = 34  # six an octave, from half a cycle per pixel down to one in 96 pixels
_PER_OCTAVE = 6


def polar_spectra(windows: Tensor) -> Tensor:
    """Power of windows by frequency and direction.

    Args:
        windows: (n, h, w), luma of any range, h and w at most `SIDE`.
    Returns:
        (n, RINGS, ANGLES), mean power of each cell, float32; finest ring first, units of the luma's variance.
    """
    height, width = windows.shape[1:]
    taper = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    taper = taper / taper.square().mean().sqrt()
    centred = windows - (windows * taper).mean((1, 2), keepdim=True) / taper.mean()
    power = torch.fft.rfft2(centred * taper, s=(SIDE, SIDE)).abs().square_() / (height * width)
    cells: Tensor = torch.sparse.mm(_polar_grid(), power.flatten(1).T)  # (RINGS * ANGLES, n)
    return cells.T.reshape(-1, RINGS, ANGLES)


def ring_frequencies() -> Tensor:
    """(RINGS,): the middle of each ring in cycles per pixel."""
    steps = torch.arange(RINGS, dtype=torch.float64) + 0.5
    return (0.5 * 2 ** (-steps / _PER_OCTAVE)).float()


@lru_cache(maxsize=1)
def _polar_grid() -> Tensor:
    """(RINGS * ANGLES, SIDE * (SIDE // 2 + 1)), sparse: what each cell takes of the half spectrum, rows sum to 1.

    A cell is sampled about as densely as the spectrum is, each sample between its four neighbours.
    """
    cells, places, shares = [], [], []
    half = SIDE // 2 + 1
    for ring in range(RINGS):
        outer, inner = (SIDE / 2 * 2 ** (-edge / _PER_OCTAVE) for edge in (ring, ring + 1))
        across, along = math.ceil(outer - inner), math.ceil(outer * math.pi / ANGLES)
        radii = inner + (outer - inner) * (torch.arange(across, dtype=torch.float64) + 0.5) / across
        turns = ((torch.arange(along, dtype=torch.float64) + 0.5) / along - 0.5)[None]
        angles = (torch.arange(ANGLES, dtype=torch.float64)[:, None] + turns) * math.pi / ANGLES  # (ANGLES, along)
        # An angle counts against the clock as the photo is seen, and rows count downwards.
        right = radii[:, None, None] * angles.cos()
        down = -radii[:, None, None] * angles.sin()
        flip = torch.where(right < 0, -1.0, 1.0)  # the other half of the spectrum is the same
        right, down = right * flip, down * flip
        cell = (ring * ANGLES + torch.arange(ANGLES))[None, :, None].expand_as(right)
        column, row = right.floor(), down.floor()
        for step_x in (0, 1):
            for step_y in (0, 1):
                share_x = right - column if step_x else 1 - (right - column)
                share_y = down - row if step_y else 1 - (down - row)
                x = (column + step_x).clamp(max=half - 1).long()
                y = ((row + step_y) % SIDE).long()
                cells.append(cell.flatten())
                places.append((y * half + x).flatten())
                shares.append((share_x * share_y / (across * along)).flatten())
    index = torch.stack((torch.cat(cells), torch.cat(places)))
    size = (RINGS * ANGLES, SIDE * half)
    return torch.sparse_coo_tensor(index, torch.cat(shares).float(), size, check_invariants=True).coalesce()
