"""Pictures moved by parts of a pixel to where others have the same things. Pure functions of tensors."""

import math

import torch
from torch import Tensor

from deblur_cli.networks.deconvolution import gradient_power, taper

_FADE = 24  # pixels at the borders, where pictures do not show the same


def register(moving: Tensor, fixed: Tensor, reach: int) -> Tensor:
    """`moving` where `fixed` has it; its borders wrap."""
    return translate(moving, find_translation(moving, fixed, reach))


def translate(image: Tensor, shift: Tensor) -> Tensor:
    """Move pictures with wrapped borders.

    Args:
        image: (B, C, H, W).
        shift: (B, 2), pixels down and to the right.
    """
    height, width = image.shape[-2:]
    rows = torch.fft.fftfreq(height, device=image.device)[:, None]
    columns = torch.fft.rfftfreq(width, device=image.device)
    turns = shift[:, 0, None, None] * rows + shift[:, 1, None, None] * columns
    phase = torch.polar(torch.ones_like(turns), -2 * math.pi * turns)[:, None]
    moved: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * phase, s=(height, width))
    return moved


def find_translation(moving: Tensor, fixed: Tensor, reach: int) -> Tensor:
    """The shift by which the gradients of each picture come to lie on those of the other.

    Args:
        moving, fixed: (B, C, H, W).
        reach: the furthest, in pixels.
    Returns:
        (B, 2), pixels down and to the right, to about a tenth of one: the peak of the correlation by a parabola.
    """
    height, width = moving.shape[-2:]
    first, second = (torch.fft.rfft2(taper(picture.mean(1), _FADE)) for picture in (moving, fixed))
    smoothness = gradient_power(height, width, moving.device)
    alike = torch.fft.irfft2(smoothness * second * first.conj(), s=(height, width))
    alike = alike.roll((reach + 1, reach + 1), (-2, -1))[:, : 2 * reach + 3, : 2 * reach + 3]
    place = alike[:, 1:-1, 1:-1].flatten(1).argmax(1)
    row, column = place // (2 * reach + 1) + 1, place % (2 * reach + 1) + 1
    every = torch.arange(len(alike), device=alike.device)
    down = row + _peak(*(alike[every, row + step, column] for step in (-1, 0, 1)))
    right = column + _peak(*(alike[every, row, column + step] for step in (-1, 0, 1)))
    return torch.stack((down, right), 1) - (reach + 1)


def _peak(before: Tensor, middle: Tensor, after: Tensor) -> Tensor:
    """Where the parabola through three values has its top, from the middle one, at most half a step away."""
    bend = before - 2 * middle + after
    return torch.where(bend < 0, 0.5 * (before - after) / bend, 0).clamp(-0.5, 0.5)
