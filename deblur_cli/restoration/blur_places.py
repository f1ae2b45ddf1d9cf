"""How much of each pixel is to be restored, by what was read where. Pure."""

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.restoration.blur_measure import BlurMeasure
from deblur_cli.restoration.blur_windows import BlurMap
from deblur_cli.restoration.focus import SOME_FOCUS, enlarge, find_stray

_SURE, _LIKELY = 0.5, 0.12  # that a lens has made a background soft; chosen on photos of the training
_STRAY = 0.04


def find_blurry(measure: BlurMeasure, height: int, width: int) -> Tensor:
    """How much of each pixel is to be restored because it moved.

    Returns:
        (height, width), float32, 0 to 1, soft; windows without detail take after those around them. All 0 where
        there is no motion to be taken away.
    """
    if not measure.is_moved:
        return torch.zeros(height, width)
    return _spread_map(measure.places, measure.places.kinds[..., 1], height, width)


def find_wanted(measure: BlurMeasure, height: int, width: int) -> Tensor | None:
    """How much of each pixel is to be restored, so that what a lens made soft on purpose stays soft.

    Returns:
        (height, width), float32, 0 to 1, soft: 1 where there is detail down to the pixel, which the networks do no
        harm. None where all of the photo is to be restored: nothing is in focus, or what is not may have moved.
    """
    if measure.verdict not in ("sharp", "partly") or float(measure.focus.mean()) < SOME_FOCUS:
        return None
    is_unfocused = measure.unfocused > _SURE
    if measure.unfocused > _LIKELY and not is_unfocused:
        # Motion leaves sharp what lies along it, a lens nothing: beside the subject, little may be in focus.
        is_unfocused = find_stray(measure.focus) < _STRAY
    return enlarge(measure.focus, height, width) if is_unfocused else None


def _spread_map(places: BlurMap, values: Tensor, height: int, width: int) -> Tensor:
    """(height, width), 0 to 1, soft: a value of each window; those without detail take after those around them."""
    known = places.detail.float()
    mean = functional.avg_pool2d
    for _ in range(8):  # in ever wider circles
        near = mean(functional.pad((values * known)[None, None], (1, 1, 1, 1)), 3, stride=1)[0, 0]
        counted = mean(functional.pad(known[None, None], (1, 1, 1, 1)), 3, stride=1)[0, 0]
        values = torch.where(known > 0, values, near / counted.clamp_min(1e-6))
        known = torch.where(known > 0, known, (counted > 0).float())
    values = ((values * known - 0.25) / 0.5).clamp(0, 1)
    rows, columns = (
        _weigh(starts, places.side, length)
        for starts, length in zip((places.tops, places.lefts), (height, width), strict=True)
    )
    return rows.T @ values @ columns


def _weigh(starts: tuple[int, ...], side: int, length: int) -> Tensor:
    """(windows, length): how much each window of a row says of each pixel, by the distance to its middle; sums to 1."""
    middle = torch.tensor([start + min(side, length) / 2 for start in starts])
    place = torch.arange(length) + 0.5
    step = starts[1] - starts[0] if len(starts) > 1 else side
    closeness = (1 - (place - middle[:, None]).abs() / step).clamp_min(0)
    closeness[0, place < middle[0]] = 1
    closeness[-1, place > middle[-1]] = 1
    return closeness / closeness.sum(0).clamp_min(1e-6)
