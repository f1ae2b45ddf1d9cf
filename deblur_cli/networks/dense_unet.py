"""A U-Net of dense 3x3 convolutions that predicts the residual of a blurred photo.

Knows tensors only: no files, no colour profiles, no tiles. Dense convolutions because matrix units (AMX, tensor
cores) run them in bfloat16 and channels_last 50-100x faster per multiplication than depthwise ones.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from deblur_cli.networks.needs import Compiling, Expert, Needs


@dataclass(frozen=True, slots=True)
class DenseUNetConfig:
    """Shape of a `DenseUNet`; stored beside its weights.

    Attributes:
        unshuffle: side of the pixel blocks that become channels at the input.
        widths: channels per level, finest first; each level halves the side.
        encoder_blocks: residual blocks per level on the way down; the last entry is the bottom.
        decoder_blocks: residual blocks per level on the way up, finest first; one entry fewer.
    """

    unshuffle: int = 4
    widths: tuple[int, ...] = (96, 192, 320)
    encoder_blocks: tuple[int, ...] = (2, 2, 4)
    decoder_blocks: tuple[int, ...] = (2, 2)

    @property
    def needs(self) -> Needs:
        """Measured on the shipped weights: with 128 pixels of context tiles of 512 agree with the photo in one piece to
        70 dB (64: 52 dB, 96: 59 dB), and tiny ones still to 50 dB.
        """
        return Needs(self.unshuffle << (len(self.widths) - 1), context=128)


class ResidualBlock(nn.Module):
    """`x + conv(relu(conv(x)))`, the identity at initialisation."""

    def __init__(self, width: int, *, bias: bool = True) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, features: Tensor) -> Tensor:
        update: Tensor = self.conv_2(torch.relu_(self.conv_1(features)))
        return update.add_(features)  # memory is slower than the convolutions


class DenseUNet(Expert):
    """See `Expert`; at initialisation the output is the input."""

    compiling = Compiling()

    def __init__(self, config: DenseUNetConfig) -> None:
        super().__init__(config)
        widths, pixels = config.widths, 3 * config.unshuffle**2
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(_stage(w, n) for w, n in zip(widths, config.encoder_blocks, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2)) for fine, coarse in pairwise(widths)
        )
        self.decoders = nn.ModuleList(_stage(w, n) for w, n in zip(widths[:-1], config.decoder_blocks, strict=True))
        self.head = nn.Conv2d(widths[0], pixels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def predict_residual(self, blurry: Tensor) -> Tensor:
        """See `Expert`."""
        pixels = nn.functional.pixel_unshuffle(blurry.to(self.stem.weight.dtype), self.config.unshuffle)
        features = self.stem(pixels)
        skips: list[Tensor] = []
        for level, down in enumerate(self.downs):  # the bottom has no way down
            skips.append(self.encoders[level](features))
            features = down(skips[-1])
        features = self.encoders[-1](features)
        for level in reversed(range(len(skips))):
            features = self.decoders[level](self.ups[level](features) + skips[level])
        return nn.functional.pixel_shuffle(self.head(features), self.config.unshuffle)


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
