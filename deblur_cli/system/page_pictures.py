"""Pictures in pages: how they are written as text, and which place of one tells the most. Knows no page."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True, slots=True)
class PictureEncoding:
    """One way to write a picture into a page."""

    label: str  # for the reader
    file_format: str
    options: dict[str, Any]


def jpeg(quality: int) -> PictureEncoding:
    """JPEG without a loss of colour resolution."""
    options = {"quality": quality, "subsampling": 0}  # Pillow refuses to optimise what is noisy all over
    return PictureEncoding(f"JPEG quality {quality} with full colour resolution", "JPEG", options)


def webp(quality: int) -> PictureEncoding:
    """WebP at its best for the eye."""
    return PictureEncoding(f"WebP quality {quality}", "WEBP", {"quality": quality, "method": 3, "use_sharp_yuv": True})


LOSSLESS = PictureEncoding("WebP, lossless", "WEBP", {"lossless": True, "quality": 40, "method": 2})


def to_data_uri(picture: Image.Image, encoding: PictureEncoding) -> str:
    """The picture as text that an `<img>` shows without a file."""
    stream = io.BytesIO()
    picture.save(stream, encoding.file_format, **encoding.options)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{encoding.file_format.lower()};base64,{text}"


def find_busiest(change: NDArray[np.float32], size: tuple[int, int], step: int = 16) -> tuple[int, int]:
    """The left and top of the window with the largest sum, among places `step` pixels apart.

    Args:
        change: (H, W), what to find much of.
        size: width and height of the window, at most those of `change`.
    """
    height, width = change.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = change.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    lefts = np.arange(0, width - size[0] + 1, step)
    tops = np.arange(0, height - size[1] + 1, step)[:, np.newaxis]
    sums = (
        total[tops + size[1], lefts + size[0]]
        - total[tops, lefts + size[0]]
        - total[tops + size[1], lefts]
        + total[tops, lefts]
    )
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(lefts[column]), int(tops[row, 0])
