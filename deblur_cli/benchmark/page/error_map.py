"""Error maps: |restored - sharp| as a colour picture, on one scale for all versions of a photo.

The colours are "inferno" (S. van der Walt and N. Smith, matplotlib, CC0), perceptually even and readable
without colour vision: it is read at ten of its entries and mixed between them.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

INFERNO = "000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4"
LIMITS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 255)  # ends of the scale, in levels of 255
LONG_SIDE = 480  # pixels of a map; errors are averaged down to it


def colour_table() -> NDArray[np.uint8]:
    """The colour scale, (256, 3), from no error to the end of the scale."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in INFERNO.split()], dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def colour_ramp() -> Image.Image:
    """The scale as a picture of one row, for the legend."""
    return Image.fromarray(colour_table()[np.newaxis])


def absolute_error(restored: Image.Image, sharp: Image.Image) -> Floats:
    """The mean over the channels of |restored - sharp|, (H, W), in levels of 255."""
    # One row at a time would save nothing: two 8-bit photos are already in memory; int16 keeps it small.
    apart = np.asarray(restored, dtype=np.int16) - np.asarray(sharp, dtype=np.int16)
    mean: Floats = np.abs(apart).mean(axis=2, dtype=np.float32)
    return mean


def shrink(error: Floats) -> Floats:
    """The error averaged over areas, so that its long side is at most `LONG_SIDE`."""
    height, width = error.shape
    factor = min(1.0, LONG_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(error).resize(size, Image.Resampling.BOX), dtype=np.float32)


def pick_limit(errors: list[Floats]) -> int:
    """The end of the scale that holds 98 % of the worst map."""
    highest = max((float(np.quantile(error, 0.98)) for error in errors), default=0.0)
    return next((limit for limit in LIMITS if highest <= limit), LIMITS[-1])


def to_colours(error: Floats, limit: int) -> Image.Image:
    """The map as a colour picture; errors beyond the limit get its colour."""
    levels = np.rint(np.clip(error / limit, 0.0, 1.0) * 255).astype(np.uint8)
    return Image.fromarray(colour_table()[levels])
