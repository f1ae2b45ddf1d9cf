"""Turning, rounding and averaging of pixel arrays. Pure: knows no file and no format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deblur_cli.image_io.photo import Pixels


def turn(planes: Pixels, orientation: int) -> Pixels:
    """Pixels the right way up; orientation is the EXIF value 1-8 of the stored ones.

    Args:
        planes: (H, W) or (H, W, C).
    Returns:
        The same values, contiguous; (W, H, ...) for 5-8.
    """
    if orientation >= 5:
        planes = planes.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        planes = planes[::-1]
    if orientation in (2, 3, 6, 7):
        planes = planes[:, ::-1]
    return np.ascontiguousarray(planes)


def round_to_8(planes: Pixels) -> NDArray[np.uint8]:
    """uint16 to uint8, rounded to nearest (value / 257), never cut off; uint8 stays as it is."""
    if planes.dtype == np.uint8:
        return planes.astype(np.uint8, copy=False)
    rounded = np.empty(planes.shape, np.uint8)
    for row in range(planes.shape[0]):  # row by row: a 150 MP photo must not be copied at 32 bits
        rounded[row] = (planes[row].astype(np.uint32) + 128) // 257
    return rounded


def spread_to_16(planes: Pixels, bits: int) -> Pixels:
    """Values of 9-15 bits, left-aligned in 16, spread over the full range so that white is 65535."""
    spread: Pixels = planes | planes >> bits
    return spread


def stretch_range(planes: Pixels, bits: int) -> None:
    """Black from 16/255 to 0 and white from 235/255 to full, in place; a last channel of 2 or 4 is alpha.

    Values of 9-15 bits are left-aligned in 16; alpha, which has no limited range, is spread like them elsewhere.
    """
    full = int(np.iinfo(planes.dtype).max)
    unit = (full + 1) >> 8  # the steps of limited range are those of 8 bit, shifted
    values = np.arange(full + 1, dtype=np.int64)
    table = ((values - 16 * unit) * full / (219 * unit)).round().clip(0, full).astype(planes.dtype)
    colours = planes.shape[2] - (planes.shape[2] + 1) % 2
    for channel in range(colours):
        planes[..., channel] = table[planes[..., channel]]
    if bits > 8:
        planes[..., colours:] |= planes[..., colours:] >> bits


def to_grey(pixels: Pixels) -> Pixels:
    """(H, W, 3) to (H, W): the mean of the three channels, rounded to nearest."""
    total = pixels[..., 0].astype(np.uint32) + pixels[..., 1] + pixels[..., 2]
    mean: Pixels = ((total + 1) // 3).astype(pixels.dtype)
    return mean


def is_grey(pixels: Pixels) -> bool:
    """Whether the three channels are equal everywhere."""
    first = pixels[..., 0]
    return bool((first == pixels[..., 1]).all() and (first == pixels[..., 2]).all())
