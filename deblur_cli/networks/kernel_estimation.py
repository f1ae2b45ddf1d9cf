"""Blur kernels of windows of a photo, blindly: sharp edges and the kernel between them in turns, coarse to fine.

Pure functions of tensors; nothing here is learned. At each size the window is restored with the kernel known so far
and a penalty on the number of its edges, which keeps the salient ones only; then least squares find the kernel that
leads from these edges to the blurred ones.
Source: Xu, Zheng and Jia 2013, "Unnatural L0 Sparse Representation for Natural Image Deblurring" (the penalty and its
half-quadratic splitting); Cho and Lee 2009, "Fast Motion Deblurring" (kernels from gradients, coarse to fine).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.networks.deconvolution import divide, gradient_power, taper, to_transfer

_CONTRAST = 0.2  # standard deviation to which every window is brought
_COARSEST = 5  # pixels of the kernel at the smallest size


@dataclass(frozen=True, slots=True)
class KernelSearch:
    """How kernels are searched.

    Attributes:
        reach: pixels from a kernel's middle to its border.
        reduction: by which the window is reduced first; the kernel is enlarged by it at the end.
        turns: at each size.
        edge_penalty: on an edge, where the window's contrast is 0.2; falls by a tenth with every turn.
        slack: added to the denominator of the least squares, relative to its mean; for noise.
        floor: parts of a kernel below this share of its peak are none.
        splitting: the weights of the splitting, relative to the penalty: the first and the last, and their ratio.
    """

    reach: int = 12
    reduction: int = 1
    turns: int = 5
    edge_penalty: float = 0.016
    slack: float = 0.1
    floor: float = 0.1
    splitting: tuple[float, float, float] = (2.0, 4e4, 2.5)


@dataclass(frozen=True, slots=True)
class KernelFit:
    """How the kernel between a sharp window and a blurred one is fitted; see `KernelSearch`."""

    reach: int = 20
    slack: float = 0.5
    floor: float = 0.05


def find_kernels(luma: Tensor, search: KernelSearch) -> Tensor:
    """The kernel of each window.

    Args:
        luma: (B, 1, H, W), any range, H and W even.
    Returns:
        (B, K, K), K = 2 * reach + 1, non-negative, each summing to 1, its centre of mass in the middle pixel.
    """
    reduced = functional.avg_pool2d(luma, search.reduction) if search.reduction > 1 else luma
    deviation, mean = torch.std_mean(reduced, (-2, -1), keepdim=True)
    window = (reduced - mean) / (deviation + 1e-3) * _CONTRAST
    full = 2 * math.ceil(search.reach / search.reduction) + 1
    sizes = max(1, math.ceil(math.log(full / _COARSEST) / math.log(math.sqrt(2))) + 1)
    kernel, penalty = _cross(len(luma), luma.device), search.edge_penalty
    for step in reversed(range(sizes)):
        factor = math.sqrt(2) ** step
        side = max(3, int(full / factor) | 1)
        blurry = taper(_shrink(window, factor), max(4, round(side * 0.75)))
        kernel = _clean(_resize(kernel, side), 0.0)
        for _ in range(search.turns):
            edges = keep_edges(blurry, kernel, penalty, search.splitting)
            kernel = _clean(fit_kernels(edges, blurry, side // 2, search.slack), search.floor)
            penalty = max(penalty / 1.1, 1e-4)
        kernel = _centre(kernel)
    return _centre(_clean(_resize(kernel, 2 * search.reach + 1), 0.0))


def match_kernels(sharp: Tensor, blurry: Tensor, fit: KernelFit) -> Tensor:
    """The kernel that leads from each window to the other, wherever it moves what it blurs.

    Args:
        sharp, blurry: (B, 1, H, W).
    Returns:
        (B, K, K), K = 2 * reach + 1, non-negative, each summing to 1.
    """
    reach = fit.reach
    return _clean(fit_kernels(taper(sharp, reach), taper(blurry, reach), reach, fit.slack), fit.floor)


def compare_kernels(found: Tensor, other: Tensor) -> Tensor:
    """How much two kernels of each window resemble each other: the normalised correlation at their best shift.

    Args:
        found, other: (B, K, K).
    Returns:
        (B,), 1 for the same kernel.
    """
    one, two = (kernel / kernel.norm(dim=(-2, -1), keepdim=True) for kernel in (found, other))
    alike = functional.conv2d(two[None], one[:, None], padding=found.shape[-1] // 2, groups=len(found))
    return alike[0].amax((-2, -1))


def keep_edges(blurry: Tensor, kernel: Tensor, penalty: float, splitting: tuple[float, float, float]) -> Tensor:
    """The window that `kernel` blurs into `blurry` with the fewest edges.

    Args:
        blurry: (B, 1, H, W), tapered.
    """
    height, width = blurry.shape[-2:]
    transfer = to_transfer(kernel, height, width)[:, None]
    data, power = transfer.conj() * torch.fft.rfft2(blurry), transfer.abs().square()
    smoothness = gradient_power(height, width, blurry.device)
    first, last, ratio = splitting
    weight, sharp = first, blurry
    while weight < last:
        right, down = sharp.roll(-1, -1) - sharp, sharp.roll(-1, -2) - sharp
        faint = right.square() + down.square() < 1 / weight  # an edge costs more than it explains
        right.masked_fill_(faint, 0)
        down.masked_fill_(faint, 0)
        divergence = torch.fft.rfft2(right.roll(1, -1) - right + down.roll(1, -2) - down)
        beta = penalty * weight
        spectrum = divide(data.add(divergence, alpha=beta), power + beta * smoothness)
        sharp = torch.fft.irfft2(spectrum, s=(height, width))
        weight *= ratio
    return sharp


def fit_kernels(sharp: Tensor, blurry: Tensor, reach: int, slack: float) -> Tensor:
    """Least squares for the kernel between the gradients of two windows.

    Args:
        sharp, blurry: (B, 1, H, W).
    Returns:
        (B, K, K), K = 2 * reach + 1; not cleaned.
    """
    height, width = sharp.shape[-2:]
    smoothness = gradient_power(height, width, sharp.device)
    of_sharp, of_blurry = torch.fft.rfft2(sharp)[:, 0], torch.fft.rfft2(blurry)[:, 0]
    below = smoothness * of_sharp.abs().square()
    below = below + slack * below.mean((-2, -1), keepdim=True) + 1e-12
    kernel: Tensor = torch.fft.irfft2(smoothness * of_sharp.conj() * of_blurry / below, s=(height, width))
    return kernel.roll((reach, reach), (-2, -1))[:, : 2 * reach + 1, : 2 * reach + 1]


def _cross(count: int, device: torch.device) -> Tensor:
    """Nearly no blur, but room to begin in every direction."""
    kernel = torch.zeros(count, _COARSEST, _COARSEST, device=device)
    middle = _COARSEST // 2
    kernel[:, middle, middle - 1 : middle + 2] = 1
    kernel[:, middle - 1 : middle + 2, middle] = 1
    return kernel


def _shrink(window: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return window
    height, width = (round(length / factor / 2) * 2 for length in window.shape[-2:])
    return functional.interpolate(window, size=(height, width), mode="bilinear", antialias=True)


def _resize(kernel: Tensor, side: int) -> Tensor:
    if kernel.shape[-1] == side:
        return kernel
    return functional.interpolate(kernel[:, None], size=(side, side), mode="bicubic", align_corners=False)[:, 0]


def _clean(kernel: Tensor, floor: float) -> Tensor:
    """Non-negative, without faint parts, the sum 1; a dot where nothing is left."""
    kernel = kernel.clamp_min(0)
    kernel = torch.where(kernel < floor * kernel.amax((-2, -1), keepdim=True), 0, kernel)
    total = kernel.sum((-2, -1), keepdim=True)
    dot = torch.zeros_like(kernel)
    dot[:, kernel.shape[-2] // 2, kernel.shape[-1] // 2] = 1
    return torch.where(total > 1e-8, kernel / total.clamp_min(1e-8), dot)


def _centre(kernel: Tensor) -> Tensor:
    """Moved by whole pixels so that the centre of mass lies in the middle one."""
    side = kernel.shape[-1]
    place = torch.arange(side, device=kernel.device) - side // 2
    down = (kernel.sum(-1) * place).sum(-1).round().long()  # (B,)
    right = (kernel.sum(-2) * place).sum(-1).round().long()
    index = torch.arange(side, device=kernel.device)
    rows = ((index + down[:, None]) % side)[:, :, None].expand_as(kernel)
    columns = ((index + right[:, None]) % side)[:, None, :].expand_as(kernel)
    return kernel.gather(1, rows).gather(2, columns)
