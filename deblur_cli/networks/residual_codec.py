"""r-space: an encoder of photos, and a decoder that turns a difference of latents into a difference of pixels.

Knows tensors only. Three properties make it more than a small autoencoder: a difference of zero decodes to zero, to
the bit; what the source already shows is never encoded again, so it cannot be lost; and it is cheap.
Source of the idea: Kim and Shin 2026, "Restoration-Aligned Generative Flow Models for Blind Motion Deblurring"
(arXiv 2605.08854); its architecture is not public, this one is this project's own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.networks.dense_unet import ResidualBlock
from deblur_cli.networks.needs import Compiling

STRIDE = 8  # pixels per latent, along each axis


@dataclass(frozen=True, slots=True)
class ResidualCodecConfig:
    """Shape of a `ResidualCodec`; stored beside its weights.

    Attributes:
        channels: of the latents.
        widths: features at a quarter and at an eighth of the photo's sides.
        encoder_blocks, decoder_blocks: residual blocks at these two sizes.
    """

    channels: int = 16
    widths: tuple[int, int] = (64, 128)
    encoder_blocks: tuple[int, int] = (2, 2)
    decoder_blocks: tuple[int, int] = (2, 2)

    @property
    def context(self) -> int:
        """Latents beyond a tile's own that an encoder or a decoder sees, on each side.

        A 3x3 convolution sees one more: at an eighth of the photo's sides there is one besides two a block, at a
        quarter too, where it counts half. The guide of the decoder sees no further.
        """
        stages = (self.encoder_blocks, self.decoder_blocks)
        return max(2 * coarse + 1 + -(-(2 * fine + 1) // 2) for fine, coarse in stages)


class ResidualCodec(nn.Module):
    """`restored = source + decode(encode(sharp) - encode(source), source)`.

    Photos are (B, 3, H, W), sRGB-encoded, [0, 1], H and W multiples of 8, in any number format; latents are
    (B, channels, H/8, W/8), of about unit variance over the photos of the training.
    """

    compiling = Compiling(any_size=True)  # it is compiled quickly, and meets nine sizes in a large photo

    def __init__(self, config: ResidualCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, sharp: Tensor, source: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What a training needs: the sharp photo through r-space from a source, and its latents.

        Args:
            noise: added to the difference of the latents, for a decoder that forgives the errors of a flow.
        Returns:
            restored, (B, 3, H, W), not clipped; latents of `sharp`, (B, channels, H/8, W/8).
        """
        latents = self.encode(sharp)
        difference = latents - self.encode(source)
        if noise is not None:
            difference = difference + noise
        return source + self.decode(difference, source), latents

    def encode(self, image: Tensor) -> Tensor:
        """Latents of a photo."""
        latents: Tensor = self.encoder(image)
        return latents

    def decode(self, difference: Tensor, source: Tensor) -> Tensor:
        """Pixels to add to `source`, (B, 3, H, W); exactly zero where the network sees a difference of zero.

        Args:
            difference: latents of the result less latents of the source.
            source: the photo they are a difference to; it only gates what the difference says.
        """
        residual: Tensor = self.decoder(difference, source)
        return residual


class Encoder(nn.Module):
    """Photo to latents: two residual stages, at a quarter and at an eighth of its sides."""

    def __init__(self, config: ResidualCodecConfig) -> None:
        super().__init__()
        fine, coarse = config.widths
        self.stem = nn.Conv2d(48, fine, 3, padding=1)
        self.fine = nn.Sequential(*(ResidualBlock(fine) for _ in range(config.encoder_blocks[0])))
        self.down = nn.Conv2d(fine, coarse, 2, stride=2)
        self.coarse = nn.Sequential(*(ResidualBlock(coarse) for _ in range(config.encoder_blocks[1])))
        self.head = nn.Conv2d(coarse, config.channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        image = image.to(self.stem.weight.dtype)
        features = self.fine(self.stem(functional.pixel_unshuffle(image * 2 - 1, 4)))
        latents: Tensor = self.head(self.coarse(self.down(features)))
        return latents


class Decoder(nn.Module):
    """Difference of latents to difference of pixels; no layer on its way has a bias, so zero stays zero."""

    def __init__(self, config: ResidualCodecConfig) -> None:
        super().__init__()
        fine, coarse = config.widths
        self.guide_fine = nn.Conv2d(48, fine, 3, padding=1)
        self.guide_coarse = nn.Conv2d(fine, coarse, 2, stride=2)
        self.gate_coarse = nn.Conv2d(coarse, coarse, 1)
        self.gate_fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.stem = nn.Conv2d(config.channels, coarse, 3, padding=1, bias=False)
        self.coarse = nn.Sequential(*(ResidualBlock(coarse, bias=False) for _ in range(config.decoder_blocks[1])))
        self.up = nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1, bias=False), nn.PixelShuffle(2))
        self.fine = nn.Sequential(*(ResidualBlock(fine, bias=False) for _ in range(config.decoder_blocks[0])))
        self.head = nn.Sequential(nn.Conv2d(fine, 48, 3, padding=1, bias=False), nn.PixelShuffle(4))

    def forward(self, difference: Tensor, source: Tensor) -> Tensor:
        difference, source = (tensor.to(self.stem.weight.dtype) for tensor in (difference, source))
        guide = torch.relu_(self.guide_fine(functional.pixel_unshuffle(source * 2 - 1, 4)))  # (B, fine, H/4, W/4)
        gate = 2 * torch.sigmoid(self.gate_coarse(torch.relu_(self.guide_coarse(guide))))  # (B, coarse, H/8, W/8)
        features = self.up(self.coarse(self.stem(difference) * gate))  # (B, fine, H/4, W/4)
        features = self.fine(features * (2 * torch.sigmoid(self.gate_fine(guide))))
        residual: Tensor = self.head(features)
        return residual
