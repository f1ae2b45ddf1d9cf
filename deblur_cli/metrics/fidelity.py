"""PSNR and the two usual SSIMs. Pure: no files, no printing."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.metrics.sample import Pixels8, Sample, to_float

_RADIUS = 5  # 11 taps: truncate 3.5 at sigma 1.5, as scikit-image, BasicSR and MATLAB all have it
_SIGMA = 1.5
_STRIP = 64  # rows filtered at once: the working set stays in the cache and memory does not grow with the photo
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True, slots=True)
class Similarity:
    """Both structural similarities of one pair; they share their costly part."""

    per_channel: float
    volume: float


def psnr(sample: Sample) -> float:
    """Peak signal-to-noise ratio over all RGB values, peak 255; infinite for equal pictures."""
    return to_decibel(squared_error(sample.restored, sample.sharp) / sample.sharp.size)


def squared_error(first: Pixels8, second: Pixels8) -> int:
    """Sum of squared differences, exact."""
    # 16-bit subtraction and a histogram of at most 256 differences: exact, and no 8-byte copy of the photo.
    difference = np.abs(first.astype(np.int16) - second)
    counts = np.bincount(difference.reshape(-1), minlength=256)
    return int((counts * np.arange(counts.size, dtype=np.int64) ** 2).sum())


def to_decibel(mean_squared_error: float, peak: float = 255.0) -> float:
    """10 log10(peak² / MSE)."""
    return math.inf if mean_squared_error == 0 else 10 * math.log10(peak**2 / mean_squared_error)


def ssim(sample: Sample) -> float:
    """The 2-D variant: each channel by itself, windows wholly inside."""
    return sample.once(structural_similarity).per_channel


def ssim_volume(sample: Sample) -> float:
    """The 3-D variant of BasicSR and MATLAB: one window over rows, columns and channels."""
    return sample.once(structural_similarity).volume


def structural_similarity(sample: Sample) -> Similarity:
    """Both SSIMs of Wang et al. 2004 with an 11-tap Gaussian window of sigma 1.5 and population covariances.

    `per_channel`: 2-D windows that lie wholly inside, each channel, then the mean; equals scikit-image's
    `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2)`.
    `volume`: one 11x11x11 window over (H, W, C) with replicated edges, mean of the whole map; equals
    `calculate_ssim(ssim3d=True)` of BasicSR as NAFNet ships it, and MATLAB's `ssim` of an RGB array.

    Raises:
        ValueError: a side is shorter than the window.
    """
    restored, sharp = to_float(sample.restored, sample.device), to_float(sample.sharp, sample.device)
    height, width, _ = sharp.shape
    if min(height, width) <= 2 * _RADIUS:
        raise ValueError(f"SSIM needs at least {2 * _RADIUS + 1} pixels a side")
    inside, volume = 0.0, 0.0
    for top in range(0, height, _STRIP):
        rows = _padded_rows(top, min(top + _STRIP, height), height, sample.device)
        flat, deep = _similarity_maps(restored[rows], sharp[rows])
        volume += float(deep.sum())
        inside += float(flat[:, max(_RADIUS - top, 0) : height - _RADIUS - top, _RADIUS:-_RADIUS].sum())
    pixels_inside = (height - 2 * _RADIUS) * (width - 2 * _RADIUS)
    return Similarity(per_channel=inside / (3 * pixels_inside), volume=volume / (3 * height * width))


def similarity_maps(restored: Tensor, sharp: Tensor) -> Tensor:
    """The 2-D SSIM map (3, H, W) of two float pictures in 0..1, edges replicated; for masked means."""
    rows = _padded_rows(0, sharp.shape[0], sharp.shape[0], sharp.device)
    return _similarity_maps(restored[rows] * 255, sharp[rows] * 255)[0]


@cache
def gaussian_window() -> tuple[float, ...]:
    """The 11 weights of the window; they sum to 1."""
    weights = [math.exp(-(offset**2) / (2 * _SIGMA**2)) for offset in range(-_RADIUS, _RADIUS + 1)]
    return tuple(weight / sum(weights) for weight in weights)


def _padded_rows(top: int, bottom: int, height: int, device: torch.device) -> Tensor:
    """Row numbers of a strip and its halo, with the photo's own edge rows repeated."""
    return torch.arange(top - _RADIUS, bottom + _RADIUS, device=device).clamp(0, height - 1)


def _similarity_maps(restored: Tensor, sharp: Tensor) -> Tensor:
    """Both SSIM maps, (2, 3, h, W), 2-D then 3-D windows, from two (h + 10, W, 3) with values 0..255.

    Equation 13 of Wang et al. 2004. Covariances do not change with an offset, so the mean level is taken away
    first and given back in the means only: float32 then keeps the digits of nearly flat pictures too.
    """
    level = float(sharp.mean()) / 255
    x, y, energy, product = _moments(restored, sharp, level)
    both, squares = x * y, x.square().addcmul_(y, y)
    offset = (x + y).mul_(2 * level).add_(2 * level**2 + _C1)
    numerator = (both * 2).add_(offset).mul_(product.sub_(both).mul_(2).add_(_C2))
    denominator = offset.add_(squares).mul_(energy.sub_(squares).add_(_C2))
    maps: Tensor = numerator.div_(denominator)
    return maps


def _moments(restored: Tensor, sharp: Tensor, level: float) -> Tensor:
    """Windowed means of x, y, x^2 + y^2 and xy, in 2-D and in 3-D windows: (4, 2, 3, h, W)."""
    x, y = (_repeat_columns(image).div_(255).sub_(level) for image in (restored, sharp))
    stack = torch.cat((x, y, x * x + y * y, x * y), dim=2)
    # Channels innermost in memory, as a photo has them: a depthwise convolution is ten times quicker so.
    planes = stack[None].permute(0, 3, 1, 2)  # (1, 12, h + 10, W + 10)
    taps = torch.tensor(gaussian_window(), device=planes.device).repeat(12, 1, 1, 1)
    planes = functional.conv2d(planes, taps.transpose(2, 3).contiguous(), groups=12)
    planes = functional.conv2d(planes, taps, groups=12)
    # One matrix product mixes the channels for the third axis and turns pixels of planes into planes of pixels.
    _, _, height, width = planes.shape
    pixels = planes.permute(0, 2, 3, 1).reshape(-1, 12)
    return _channel_mixer().to(planes.device).mm(pixels.T).view(4, 2, 3, height, width)


@cache
def _channel_mixer() -> Tensor:
    """(24, 12): of each moment's three channels themselves, then the window's third axis over them.

    With three channels and repeated edges that axis is a 3x3 matrix.
    """
    matrix = torch.zeros(3, 3)
    for offset, weight in enumerate(gaussian_window(), start=-_RADIUS):
        for channel in range(3):
            matrix[channel, min(max(channel + offset, 0), 2)] += weight
    return torch.kron(torch.eye(4), torch.cat((torch.eye(3), matrix)))


def _repeat_columns(image: Tensor) -> Tensor:
    """Five copies of the first and of the last column beside the image."""
    edges = (image[:, :1].expand(-1, _RADIUS, -1), image, image[:, -1:].expand(-1, _RADIUS, -1))
    return torch.cat(edges, dim=1)
