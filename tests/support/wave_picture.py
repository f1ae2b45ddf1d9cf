"""A picture made of waves, for figures that are pinned: no random number is in it."""

import torch


def waves(height: int, width: int, phase: float) -> torch.Tensor:
    """A picture without random numbers, (1, 3, H, W)."""
    y, x = torch.arange(height).double()[:, None], torch.arange(width).double()[None, :]
    red = 0.5 + 0.3 * torch.sin(0.21 * x + 0.13 * y + phase)
    green = 0.5 + 0.3 * torch.cos(0.17 * x - 0.11 * y - phase)
    blue = 0.4 + 0.2 * torch.sin(0.05 * x + phase) * torch.cos(0.31 * y)
    return torch.stack((red, green, blue))[None].float()
