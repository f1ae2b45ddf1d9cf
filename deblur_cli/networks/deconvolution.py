"""Convolution with a kernel and its regularised inverse, by FFT with wrapped borders. Pure functions of tensors.

Kernels are (B, K, K), K odd, the origin in their middle; photos are (B, C, H, W) with H, W >= K. All in float32.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

_SPLITTING = (1.0, 2.8, 8.0, 22.6, 64.0, 181.0)  # how much gradients must resemble those of the photo, in turn
_FLAT = 0.02  # of the regularisation acts on every frequency alike, so that the mean is not free


def to_transfer(kernel: Tensor, height: int, width: int) -> Tensor:
    """Spectra of kernels on a grid of pixels, (B, H, W // 2 + 1), complex."""
    size = kernel.shape[-1]
    padded = functional.pad(kernel, (0, width - size, 0, height - size))
    transfer: Tensor = torch.fft.rfft2(padded.roll((-(size // 2), -(size // 2)), (-2, -1)))
    return transfer


def divide(spectrum: Tensor, divisor: Tensor) -> Tensor:
    """A complex spectrum over real divisors; torch would make complex numbers of these first, which takes longer."""
    return torch.view_as_complex(torch.view_as_real(spectrum) / divisor[..., None])


def convolve(sharp: Tensor, kernel: Tensor) -> Tensor:
    """Each photo with its own kernel, borders wrapped."""
    height, width = sharp.shape[-2:]
    spectrum = torch.fft.rfft2(sharp) * to_transfer(kernel, height, width)[:, None]
    blurry: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return blurry


def gradient_power(height: int, width: int, device: torch.device) -> Tensor:
    """|D_x|^2 + |D_y|^2 of forward differences, (H, W // 2 + 1)."""
    rows = 2 - 2 * torch.cos(2 * math.pi * torch.fft.fftfreq(height, device=device))
    columns = 2 - 2 * torch.cos(2 * math.pi * torch.fft.rfftfreq(width, device=device))
    return rows[:, None] + columns


def deconvolve(blurry: Tensor, kernel: Tensor, strength: Tensor | float) -> Tensor:
    """The photo whose convolution is nearest to `blurry`, with a penalty on its gradients.

    Args:
        blurry: borders should be tapered, see `taper`.
        strength: of the penalty; a number or (B, 1, 1, 1).
    Source: Wiener 1949 in its Tikhonov form; Cho and Lee 2009, "Fast Motion Deblurring", eq. 3.
    """
    height, width = blurry.shape[-2:]
    transfer = to_transfer(kernel, height, width)[:, None]
    penalty = strength * (gradient_power(height, width, blurry.device) + _FLAT)
    spectrum = divide(torch.fft.rfft2(blurry) * transfer.conj(), transfer.abs().square() + penalty)
    sharp: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return sharp


def deconvolve_tv(blurry: Tensor, kernel: Tensor, strength: float) -> Tensor:
    """The photo whose convolution is nearest to `blurry`, with a penalty on its total variation: it rings less.

    Args:
        blurry: borders should be tapered, see `taper`.
        strength: of the penalty, relative to half the squared error; noise asks for more.
    Source: Wang, Yang, Yin and Zhang 2008, "A New Alternating Minimization Algorithm for Total Variation Image
    Reconstruction": half-quadratic splitting, here along rows and columns by themselves.
    """
    height, width = blurry.shape[-2:]
    transfer = to_transfer(kernel, height, width)[:, None]
    data, power = transfer.conj() * torch.fft.rfft2(blurry), transfer.abs().square()
    smoothness = gradient_power(height, width, blurry.device)
    sharp = blurry
    for weight in _SPLITTING:
        right, down = (functional.softshrink(sharp.roll(-1, axis) - sharp, 1 / weight) for axis in (-1, -2))
        divergence = torch.fft.rfft2(right.roll(1, -1) - right + down.roll(1, -2) - down)
        ratio = weight * strength
        spectrum = divide(data.add(divergence, alpha=ratio), power + ratio * smoothness)
        sharp = torch.fft.irfft2(spectrum, s=(height, width))
    return sharp


def taper(image: Tensor, reach: int) -> Tensor:
    """`image` that fades near its borders into a smooth picture with wrapped borders, so that no border rings.

    Args:
        reach: pixels over which it fades, about the length of a kernel.
    Source: the purpose of MATLAB's `edgetaper`; the smooth picture is a Gaussian's.
    """
    height, width = image.shape[-2:]
    rows = torch.fft.fftfreq(height, device=image.device)[:, None]
    columns = torch.fft.rfftfreq(width, device=image.device)
    gauss = torch.exp(-2 * (math.pi * reach / 2.5) ** 2 * (rows.square() + columns.square()))
    smooth: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * gauss, s=(height, width))
    weights = fade(height, reach, image.device)[:, None] * fade(width, reach, image.device)
    return torch.lerp(smooth, image, weights)


def fade(length: int, reach: int, device: torch.device) -> Tensor:
    """(length,): half a cosine from 0 at both ends to 1 at `reach` pixels inside."""
    position = torch.arange(length, device=device) + 0.5
    distance = torch.minimum(position, length - position)
    return 0.5 - 0.5 * torch.cos(math.pi * (distance / reach).clamp(0, 1))
