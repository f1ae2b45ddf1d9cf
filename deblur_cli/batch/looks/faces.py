"""The clearest face on a photo, for a crop of it; none where scikit-image is not installed."""

from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli.batch.looks.crops import Crop, to_levels

_SIDES = (350, 430, 520, 640)  # pixels of the longer side that it is looked for at: blur is small there
_VOTES = 3  # sizes that must agree: what only looks like a face is found at one or two
_LEAST = 24  # pixels of the cascade's window
_NEIGHBOURS = 8  # windows that say the same
_SAME = 0.4  # intersection over union of what is the same at two sizes
_AROUND = 1.7  # with hair and chin
_CROP = (192, 768)  # pixels, least and most, of the crop's side

Box = tuple[float, float, float]  # left, top and side of a square, pixels of the photo


def choose_face(pixels: NDArray[Any]) -> Crop | None:
    """A square around the clearest face that looks at the camera, the largest of several.

    A face that is turned away, in the dark or a small part of the photo is not found.

    Args:
        pixels: (H, W, 3), uint8 or uint16.
    Returns:
        None where no face was found, or scikit-image is not installed.
    Source: Zhang et al. 2007, "Face Detection Based on Multi-Block LBP Representation"; scikit-image has OpenCV's
        cascade.
    """
    try:
        from skimage.data import lbp_frontal_face_cascade_filename as find_cascade
        from skimage.feature import Cascade
    except ImportError:
        return None
    cascade: Any = Cascade(find_cascade())  # type: ignore[no-untyped-call, unused-ignore]
    grey = Image.fromarray(np.ascontiguousarray(to_levels(pixels))).convert("L")
    found: list[list[Box]] = []
    for length in _SIDES:  # the small ones, which are soon done, first
        found.append(_find_boxes(cascade, grey, length))
        if found.count([]) > len(_SIDES) - _VOTES:
            return None
    votes = {box: sum(any(_overlap(box, other) > _SAME for other in boxes) for boxes in found) for box in chain(*found)}
    best = max(votes, key=lambda box: (votes[box], box[2]), default=None)
    if best is None or votes[best] < _VOTES:
        return None
    left, top, side = best
    width = min(round(min(max(side * _AROUND, _CROP[0]), _CROP[1])), *grey.size)
    x, y = (
        min(max(round(start + side / 2 - width / 2), 0), whole - width)
        for start, whole in zip((left, top), grey.size, strict=True)
    )
    return Crop(x, y, width, width)


def _find_boxes(cascade: Any, grey: Image.Image, side: int) -> list[Box]:
    """Squares in pixels of the photo."""
    scale = max(grey.size) / side
    small = grey.resize(
        [max(1, round(length / scale)) for length in grey.size],
        Image.Resampling.BOX if scale > 1 else Image.Resampling.BILINEAR,
    )
    if min(small.size) < _LEAST:
        return []
    found = cascade.detect_multi_scale(
        img=np.asarray(small),
        scale_factor=1.2,
        step_ratio=1,
        min_size=(_LEAST, _LEAST),
        max_size=small.size[::-1],
        min_neighbor_number=_NEIGHBOURS,
    )
    return [(box["c"] * scale, box["r"] * scale, box["width"] * scale) for box in found]


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union of two squares."""
    across, down = (min(one[axis] + one[2], other[axis] + other[2]) - max(one[axis], other[axis]) for axis in (0, 1))
    shared = max(across, 0) * max(down, 0)
    return shared / (one[2] ** 2 + other[2] ** 2 - shared)
