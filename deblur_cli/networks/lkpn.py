"""The latent kernel prediction network of DeblurDiff: one small filter for every value of the blurred latents.

Source: Kong et al. 2025, "DeblurDiff: Real-World Image Deblurring with Generative Diffusion Models"
(arXiv 2502.03810; kkkls/DeblurDiff, MIT). Layouts are those of the published weights, the code is this project's own.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class LKPNConfig:
    """Shape of an `LKPN`; the defaults are the published ones.

    Attributes:
        widths: channels per level, finest first; each level halves the side, all but the last have attention.
        heads: attention heads per level.
        prompt_width: channels of the prompt's embedding.
        groups: of every group normalisation.
        latent_channels: of the latents that are filtered.
        kernel_size: side of the filters, odd.
    """

    widths: tuple[int, ...] = (128, 256, 512, 512)
    heads: tuple[int, ...] = (2, 4, 8, 8)
    prompt_width: int = 1024
    groups: int = 32
    latent_channels: int = 4
    kernel_size: int = 5


class LKPN(nn.Module):
    """Predicts filters from the blurred latents and the state of the diffusion, and applies them.

    At initialisation all filters are zero, so that the blurred latents come back as they are.
    """

    def __init__(self, config: LKPNConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = build_unet(
            channels=(2 * config.latent_channels, config.latent_channels * config.kernel_size**2),
            widths=config.widths,
            heads=config.heads,
            prompt_width=config.prompt_width,
            groups=config.groups,
        )
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(self, blurry: Tensor, x_t: Tensor, timestep: Tensor | int, prompt: Tensor) -> Tensor:
        """The sharpened latents: `blurry` filtered, plus `blurry`.

        Args:
            blurry: latents of the blurred photo, (B, C, h, w), scaled; h and w are multiples of 8.
            x_t: latents of the diffusion at `timestep`, same shape.
            timestep: 0 to 999, one for all or (B,).
            prompt: (B, L, prompt_width).
        Returns:
            (B, C, h, w), in the number format of `blurry`.
        Source: arXiv 2502.03810, section 3; the order of channels is that of the published weights.
        """
        kernels = self.predict_kernels(blurry, x_t, timestep, prompt)
        return convolve_adaptively(blurry, kernels.to(blurry.dtype)) + blurry

    def predict_kernels(self, blurry: Tensor, x_t: Tensor, timestep: Tensor | int, prompt: Tensor) -> Tensor:
        """(B, C, k * k, h, w): for every value of the latents the weights of its neighbourhood, row by row."""
        pair = torch.cat((blurry, x_t), dim=1).to(self.unet.dtype)  # (B, 2C, h, w)
        prompt = prompt.to(self.unet.dtype)
        kernels: Tensor = self.unet(pair, timestep, prompt, return_dict=False)[0]  # (B, C * k * k, h, w)
        return kernels.view(len(kernels), self.config.latent_channels, -1, *kernels.shape[2:])


def build_unet(
    *, channels: tuple[int, int], widths: tuple[int, ...], heads: tuple[int, ...], prompt_width: int, groups: int
) -> Any:  # diffusers types its classes only in part
    """An untrained `UNet2DConditionModel` laid out as that of Stable Diffusion 2.1.

    Args:
        channels: in and out.
        widths, heads, prompt_width, groups: as in `LKPNConfig`.
    """
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=64,
        in_channels=channels[0],
        out_channels=channels[1],
        block_out_channels=widths,
        attention_head_dim=heads,  # diffusers means the number of heads
        cross_attention_dim=prompt_width,
        norm_num_groups=groups,
        use_linear_projection=True,
    )


def convolve_adaptively(features: Tensor, kernels: Tensor) -> Tensor:
    """Element-wise adaptive convolution: every value is the sum of its neighbourhood under weights of its own.

    `result[c, y, x] = sum over i, j of kernels[c, i * k + j, y, x] * features[c, y + i - k // 2, x + j - k // 2]`,
    zero beyond the border. Shifted products are added up one after the other, so that neither the forward nor the
    backward pass holds k * k copies of the features. First derivatives only.

    Args:
        features: (B, C, h, w).
        kernels: (B, C, k * k, h, w), k odd; of the same number format.
    Returns:
        (B, C, h, w)
    Raises:
        ValueError: the shapes or the number formats do not belong together.
    Source: arXiv 2502.03810, section 3 (EAC).
    """
    batch, channels, taps, *size = kernels.shape
    side = isqrt(taps)
    if side * side != taps or side % 2 == 0:
        raise ValueError(f"kernels have {taps} weights each; it must be the square of an odd number")
    if (batch, channels, *size) != tuple(features.shape) or features.dtype != kernels.dtype:
        raise ValueError(f"kernels {tuple(kernels.shape)} do not fit features {tuple(features.shape)}, or their format")
    result: Tensor = _AdaptiveConvolution.apply(features, kernels)  # type: ignore[no-untyped-call]
    return result


class _AdaptiveConvolution(torch.autograd.Function):
    """Keeps its two arguments for the backward pass and nothing else."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(features, kernels)
        result = torch.zeros_like(features)
        for tap, shifted in enumerate(_shift(_pad(features, kernels), features.shape)):
            result.addcmul_(kernels[:, :, tap], shifted)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        features, kernels = ctx.saved_tensors
        of_features = of_kernels = None
        if ctx.needs_input_grad[0]:
            padded = torch.zeros_like(_pad(features, kernels))
            for tap, shifted in enumerate(_shift(padded, features.shape)):
                shifted.addcmul_(gradient, kernels[:, :, tap])
            reach = _reach(kernels)
            of_features = padded[:, :, reach : reach + features.shape[2], reach : reach + features.shape[3]]
        if ctx.needs_input_grad[1]:
            of_kernels = torch.empty_like(kernels)
            for tap, shifted in enumerate(_shift(_pad(features, kernels), features.shape)):
                of_kernels[:, :, tap] = gradient * shifted
        return of_features, of_kernels


def _reach(kernels: Tensor) -> int:
    return isqrt(kernels.shape[2]) // 2


def _pad(features: Tensor, kernels: Tensor) -> Tensor:
    return functional.pad(features, [_reach(kernels)] * 4)


def _shift(padded: Tensor, shape: torch.Size) -> list[Tensor]:
    """Views of the padded features, one per tap, row by row."""
    height, width = shape[2:]
    side = padded.shape[2] - height + 1
    return [padded[:, :, i : i + height, j : j + width] for i in range(side) for j in range(side)]
