"""Give a picture the colours of another one: mean and spread of each channel. Pure."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_FLOOR = 1e-5  # added to every variance, so that a flat channel divides by something
_STRIP = 256  # rows at a time, in double precision


def match_colours(picture: Tensor, photo: NDArray[Any]) -> Tensor:
    """Scale and shift every channel of `picture`, in place, to the mean and standard deviation of the photo's.

    Args:
        picture: (H, W, 3), float32, about [0, 1].
        photo: (H, W, 3), uint8 or uint16.
    Returns:
        `picture`.
    Source: Huang and Belongie 2017, "Arbitrary Style Transfer ..." (arXiv 1703.06868), eq. 8, on pixels; the variance
    is the unbiased one plus 1e-5, as kkkls/DeblurDiff (MIT) has it.
    """
    mean, spread = measure_colours(picture)
    photo_mean, photo_spread = measure_colours(photo)
    gain = photo_spread / spread
    return picture.mul_(gain.float()).add_((photo_mean - mean * gain).float())


def measure_colours(picture: Tensor | NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (3,) and float64.

    Args:
        picture: (H, W, 3): floats as they are, uint8 and uint16 as [0, 1].
    """
    count = picture.shape[0] * picture.shape[1]
    total, squares = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for row in range(0, picture.shape[0], _STRIP):
        strip = _to_double(picture[row : row + _STRIP])
        total += strip.sum(dim=(0, 1))
        squares += strip.square().sum(dim=(0, 1))
    mean = total / count
    variance = (squares - total * mean).clamp_min(0) / max(count - 1, 1)
    return mean, (variance + _FLOOR).sqrt()


def _to_double(strip: Tensor | NDArray[Any]) -> Tensor:
    if isinstance(strip, Tensor):
        return strip.double()
    return torch.from_numpy(strip.astype(np.float64)) / np.iinfo(strip.dtype).max
