"""A picture of blocks and what a shake makes of it."""

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.networks.deconvolution import convolve


def shake_blocks(gamma: float = 1.0) -> tuple[Tensor, Tensor]:
    """Blocks of one colour each, before and after their light moved along a line of nine pixels; (1, 3, 192, 192)."""
    blocks = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    sharp = functional.interpolate(blocks, scale_factor=8)
    kernel = torch.zeros(1, 9, 9)
    kernel[0, 4, :] = 1 / 9
    return sharp, convolve(sharp**gamma, kernel).clamp(0, 1) ** (1 / gamma)
