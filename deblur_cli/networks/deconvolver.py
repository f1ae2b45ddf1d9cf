"""Photos deconvolved blindly, window by window: each has blur kernels of its own, and is deconvolved in several ways.

Knows tensors only; nothing here is learned. Deconvolution undoes what a convolution can explain, over any length, and
rings where it explains wrongly: which of the results is right, and where, is for others to tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.networks.deconvolution import deconvolve, taper
from deblur_cli.networks.kernel_estimation import KernelSearch, find_kernels

_FLAT = 16  # pixels at the border of a window that count only where there is no other
_AT_ONCE = 16  # windows: enough for all cores, few enough for the memory
_MOST = 0.15  # RMS change of a window; a fence, where kernels of many peaks are found, comes back with 0.5


@dataclass(frozen=True, slots=True)
class DeconvolutionConfig:
    """How a photo is deconvolved.

    Attributes:
        window, stride: in pixels, of the windows that have kernels of their own; half their difference is what a
            window sees beyond its own pixels on each side.
        short, long: how kernels are searched, once for short and once for long blur.
        of_short, of_long: the deconvolutions with each: exponent from encoded values to light, strength of the penalty.
    """

    window: int = 256
    stride: int = 192
    short: KernelSearch = field(default_factory=KernelSearch)
    long: KernelSearch = field(default_factory=KernelSearch)
    of_short: tuple[tuple[float, float], ...] = ((1.0, 0.02), (1.0, 0.1), (2.2, 0.05))
    of_long: tuple[tuple[float, float], ...] = ((1.0, 0.03), (1.0, 0.1))

    @property
    def border(self) -> int:
        """Pixels on each side of a window beyond its own."""
        return (self.window - self.stride) // 2

    @property
    def versions(self) -> int:
        """How many deconvolutions there are of each photo."""
        return len(self.of_short) + len(self.of_long)


class Deconvolver:
    """Deconvolves as a config says."""

    def __init__(self, config: DeconvolutionConfig) -> None:
        self.config = config

    @torch.no_grad()
    def deconvolve(self, blurry: Tensor) -> Tensor:
        """All versions of photos.

        Args:
            blurry: (B, 3, H, W), [0, 1]; H and W are multiples of the stride, on which the windows lie.
        Returns:
            (B, versions, 3, H, W), float32, [0, 1].
        """
        side, stride, border = self.config.window, self.config.stride, self.config.border
        padded = functional.pad(blurry.float(), (border, border, border, border), mode="replicate")
        merged = padded.new_zeros(len(blurry), self.config.versions, *padded.shape[1:])
        total = padded.new_zeros(padded.shape[-2:])
        weights = _window_weights(side, stride, blurry.device)
        places = list(_places(blurry.shape[-2] // stride, blurry.shape[-1] // stride, side, stride))
        for some in (places[i : i + _AT_ONCE] for i in range(0, len(places), _AT_ONCE)):
            windows = torch.cat([padded[place] for place in some])
            pieces = torch.split(self.deconvolve_windows(windows).mul_(weights), len(blurry))
            for place, piece in zip(some, pieces, strict=True):
                merged[place] += piece
                total[place[1:]] += weights
        inner = (..., slice(border, -border), slice(border, -border))
        return merged[inner] / total[inner]

    @torch.no_grad()
    def deconvolve_windows(self, windows: Tensor) -> Tensor:
        """(B, 3, h, w), each with kernels of its own -> (B, versions, 3, h, w); their borders are not to be used."""
        config, luma = self.config, windows.mean(1, keepdim=True)
        pictures: list[Tensor] = []
        for search, wanted in ((config.short, config.of_short), (config.long, config.of_long)):
            kernel = find_kernels(luma, search)
            for gamma, strength in wanted:
                light = taper(_to_light(windows, gamma), search.reach + 4)
                sharp = _to_encoded(deconvolve(light, kernel, strength), gamma)
                pictures.append(self._refuse_failures(sharp, windows))
        return torch.stack(pictures, 1)

    def _refuse_failures(self, pictures: Tensor, windows: Tensor) -> Tensor:
        """(B, 3, h, w): windows that come back as something else altogether stay as they are."""
        inner = slice(self.config.border, -self.config.border)
        change = (pictures - windows)[..., inner, inner].square().flatten(1).mean(1).sqrt()
        return torch.where((change > _MOST)[:, None, None, None], windows, pictures)


def _to_light(image: Tensor, gamma: float) -> Tensor:
    return image if gamma == 1 else image.clamp(0, 1) ** gamma


def _to_encoded(light: Tensor, gamma: float) -> Tensor:
    return light.clamp(0, 1) if gamma == 1 else light.clamp(0, 1) ** (1 / gamma)


def _places(rows: int, columns: int, side: int, stride: int) -> Iterator[tuple[Any, slice, slice]]:
    """Where the windows lie, row by row, as an index of a padded photo (B, C, H, W)."""
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            yield ..., slice(top, top + side), slice(left, left + side)


def _window_weights(side: int, stride: int, device: torch.device) -> Tensor:
    """(side, side): 1 inside, a straight fall where neighbours overlap; nearly nothing at the very border."""
    ramp = max(1, side - stride - 2 * _FLAT)
    position = torch.arange(side, device=device) + 0.5
    weights = ((torch.minimum(position, side - position) - _FLAT) / ramp).clamp(1e-3, 1)
    return weights[:, None] * weights
