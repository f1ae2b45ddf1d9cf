"""Losses on restored pixels. Pure functions of tensors."""

import torch
from torch import Tensor


def charbonnier(restored: Tensor, sharp: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of `sqrt(difference² + epsilon²)`: L1 with a rounded tip.

    Source: Lai et al. 2017, "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", eq. 2.
    """
    return ((restored - sharp).square() + epsilon**2).sqrt().mean()


def frequency_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference of the orthonormal Fourier coefficients, (B, 3, H, W) in.

    Source: Cho et al. 2021, "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", eq. 5.
    """
    return torch.view_as_real(torch.fft.rfft2(restored - sharp, norm="ortho")).abs().mean()


def fidelity_loss(restored: Tensor, sharp: Tensor, frequency_weight: float) -> Tensor:
    """What the fidelity expert minimises: Charbonnier plus a weighted frequency term, in float32."""
    restored, sharp = restored.float(), sharp.float()
    return charbonnier(restored, sharp) + frequency_weight * frequency_loss(restored, sharp)


def psnr_loss(restored: Tensor, sharp: Tensor, enough: float = 50.0) -> Tensor:
    """Mean over the batch of the negative PSNR, dB; every picture counts alike, however blurred.

    Args:
        enough: dB, where the loss goes flat: 3 dB are left to gain there, and hardly any 10 dB above.
    """
    error = (restored.float() - sharp.float()).square().flatten(1).mean(1)
    return (10 * torch.log10(error + 10 ** (-enough / 10))).mean()


def latent_spread(latents: Tensor) -> Tensor:
    """How far (B, C, h, w) is from zero mean and unit variance, mean square over the channels."""
    values = latents.float().transpose(0, 1).flatten(1)  # (C, B h w)
    return (values.mean(1).square() + (values.std(1) - 1).square()).mean()


def mean_psnr(restored: Tensor, sharp: Tensor) -> float:
    """Mean over the batch of the PSNR of 8-bit rounded pictures, dB; a watch for training, not the benchmark."""
    difference = (restored.float().clamp(0, 1) * 255).round() - (sharp * 255).round()
    error = difference.square().flatten(1).mean(1).clamp_min(1e-2)
    return float((10 * torch.log10(255**2 / error)).mean())
