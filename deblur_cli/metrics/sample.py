"""One restored photo beside its blurry input and its truth: what every metric is given.

Knows no files. The bit depth is read from the dtype and never guessed from the pixel values, so that a photo
whose brightest value is 1 stays a dark photo.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rgb = NDArray[np.uint8] | NDArray[np.uint16]  # (H, W, 3), sRGB-encoded
Pixels8 = NDArray[np.uint8]
_Result = TypeVar("_Result")


class Sample:
    """What a metric sees: 8-bit pictures of one size, and where to compute.

    16-bit pictures are rounded to 8 bit first: the field's protocols are 8-bit.
    """

    def __init__(self, restored: Rgb, blurry: Rgb, sharp: Rgb | None, device: torch.device | str = "cpu") -> None:
        self.restored = to_8bit(restored)
        self.blurry = self.restored if blurry is restored else to_8bit(blurry)
        self._sharp = None if sharp is None else to_8bit(sharp)
        self.device = torch.device(device)
        self._known: dict[Any, Any] = {}

    @property
    def has_truth(self) -> bool:
        """Whether metrics that need the sharp photo can be computed."""
        return self._sharp is not None

    @property
    def sharp(self) -> Pixels8:
        """The truth; a metric that asks for it without one is a bug in the table."""
        if self._sharp is None:
            raise ValueError("this sample has no truth")
        return self._sharp

    def once(self, compute: "Callable[[Sample], _Result]") -> _Result:
        """The function's value for this sample, computed at most once: metrics share costly parts."""
        if compute not in self._known:
            self._known[compute] = compute(self)
        value: _Result = self._known[compute]
        return value


def restored_luma(sample: Sample) -> Tensor:
    """(H, W) luma of the restored photo, 0..1."""
    return luma(sample.restored, sample.device)


def blurry_luma(sample: Sample) -> Tensor:
    """(H, W) luma of the blurry photo, 0..1."""
    return luma(sample.blurry, sample.device)


def sharp_luma(sample: Sample) -> Tensor:
    """(H, W) luma of the truth, 0..1."""
    return luma(sample.sharp, sample.device)


def to_8bit(pixels: Rgb) -> Pixels8:
    """8-bit pixels; 16-bit ones are rounded to the nearest of the 256 levels (65535 / 255 = 257 exactly).

    Raises:
        TypeError: neither uint8 nor uint16; a range would have to be guessed.
    """
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise TypeError(f"metrics take uint8 or uint16 pixels, not {pixels.dtype}")


def luma(pixels: Pixels8, device: torch.device | str = "cpu") -> Tensor:
    """(H, W) float32 luma in 0..1 with Rec. 709 weights, as scikit-image's `rgb2gray`."""
    # Plane by plane: three times quicker than a product of (H, W, 3) with three weights.
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(device).float()
    luma = planes[0].mul_(0.2125 / 255)
    return luma.add_(planes[1], alpha=0.7154 / 255).add_(planes[2], alpha=0.0721 / 255)


def to_float(pixels: Pixels8, device: torch.device | str = "cpu") -> Tensor:
    """(H, W, 3) float32 on the device, values 0..255."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float()
