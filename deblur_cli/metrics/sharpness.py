"""The no-reference metric: Crete et al.'s blur effect.

Chosen over NIQE and the learned ones because its definition is complete in one page, has no fitted model
behind it, and a public implementation to be equal to (scikit-image's `measure.blur_effect`). It measures
sharpness only: noise and ringing lower it too, so it stands beside a look at the picture, never instead.
"""

import torch
from torch import Tensor

from deblur_cli.metrics.sample import Sample, restored_luma

_WINDOW = 11  # scikit-image's default; values with another window cannot be compared
_TINY = 2.2e-16


def blur_effect(sample: Sample) -> float:
    """How little a photo changes when it is blurred again: 0 sharp, 1 blurred beyond an 11-pixel window.

    Source: Crete, Dolmiere, Ladret, Nicolas 2007, "The blur effect: perception and estimation with a new
    no-reference perceptual blur metric", SPIE 6492; the larger of the two directions, as scikit-image.

    Raises:
        ValueError: the photo is smaller than the window.
    """
    luma = sample.once(restored_luma)
    if min(luma.shape) <= _WINDOW:
        raise ValueError(f"blur-effect needs at least {_WINDOW + 1} pixels a side")
    return max(_directional_blur(luma), _directional_blur(luma.T.contiguous()))


def _directional_blur(luma: Tensor) -> float:
    """The measure down the rows."""
    half = _WINDOW // 2
    before = _sobel(luma)
    after = _sobel(_mean_of_rows(_extend(luma, half)))
    lost = (before - after).clamp(min=0)
    inside = (slice(2, -1), slice(2, -1))
    total = float(before[inside].sum())
    return abs(total - float(lost[inside].sum())) / total


def _mean_of_rows(extended: Tensor) -> Tensor:
    """Mean of 11 neighbouring rows, (H, W) from (H + 10, W)."""
    height = extended.shape[0] - _WINDOW + 1
    sums = extended[:height].clone()
    for row in range(1, _WINDOW):
        sums += extended[row : row + height]
    return sums.div_(_WINDOW)


def _sobel(luma: Tensor) -> Tensor:
    """Absolute derivative down the rows, smoothed across: (H, W) from (H, W)."""
    extended = _extend(luma, 1)
    slope = (extended[2:] - extended[:-2]).div_(8)
    sides = torch.cat((slope[:, :1], slope, slope[:, -1:]), dim=1)
    smooth = (sides[:, :-2] + sides[:, 2:]).add_(sides[:, 1:-1], alpha=2)
    return smooth.abs_().clamp_(min=_TINY)


def _extend(luma: Tensor, rows: int) -> Tensor:
    """Rows mirrored with the edge row repeated (d c b a | a b c d), as scipy's "reflect"."""
    top, bottom = luma[:rows].flip(0), luma[-rows:].flip(0)
    return torch.cat((top, luma, bottom), dim=0)
