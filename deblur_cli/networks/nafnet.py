"""NAFNet: a U-Net without activation functions that predicts the residual of a blurred photo.

Knows tensors only: no files, no colour profiles, no tiles. The parameters carry the names of the public checkpoints.
Source: Chen et al. 2022, "Simple Baselines for Image Restoration", fig. 3 (reference code: megvii-research/NAFNet,
MIT). The means over a window come from Chu et al. 2022, "Improving Image Restoration by Revisiting Global Information
Aggregation", sec. 3.2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.networks.needs import Expert, Needs

_EPSILON = 1e-6  # of the public checkpoints' layer normalisation


@dataclass(frozen=True, slots=True)
class NAFNetConfig:
    """Shape of a `NAFNet`; the defaults are the published GoPro network of width 32.

    Attributes:
        width: channels of the finest level; each level halves the side and doubles the channels.
        encoder_blocks: blocks per level on the way down, finest first.
        middle_blocks: blocks at the bottom.
        decoder_blocks: blocks per level on the way up, coarsest first as the checkpoints number them.
        train_size: side of the training crops in pixels; channel attention then averages over windows of 1.5 times
            that side. None averages over the whole input.
    """

    width: int = 32
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 28)
    middle_blocks: int = 1
    decoder_blocks: tuple[int, ...] = (1, 1, 1, 1)
    train_size: int | None = 256

    @property
    def needs(self) -> Needs:
        """Half of the averaging window, so that the pixels which count average over the same windows as in the whole
        photo. What deeper blocks still see of a cut was measured on random weights only: 44-58 dB to the photo in one
        tile, worst where blocks change most.
        """
        window, grid = self.window(0), 1 << len(self.encoder_blocks)
        return Needs(grid, context=128 if window is None else -(-window // 2 // grid) * grid)

    def window(self, level: int) -> int | None:
        """Side of the averaging window at a level, in that level's pixels; 0 is the finest level."""
        return None if self.train_size is None else (3 * self.train_size // 2) >> level


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every pixel; sums in float32 also for bfloat16 features."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=_EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimplifiedChannelAttention(nn.Sequential):
    """A factor per channel from the channels' means, over the whole input or over a window around every pixel."""

    def __init__(self, width: int, window: int | None) -> None:
        super().__init__(nn.Identity(), nn.Conv2d(width, width, 1))  # the checkpoints call the convolution `1`
        self.window = window

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        if self.window is None or (self.window >= height and self.window >= width):
            factors: Tensor = self[1](features.mean((2, 3), keepdim=True, dtype=torch.float32).to(features.dtype))
            return factors
        means = slide_mean(slide_mean(features.float(), self.window, 2), self.window, 3)
        return extend_edges(self[1](means.to(features.dtype)), height, width)


def slide_mean(features: Tensor, window: int, axis: int) -> Tensor:
    """Means over `window` neighbours along an axis, only where the window fits in: `length - window + 1` of them.

    Sums of 2, 4, 8 … neighbours each come from the one before; those in the binary digits of `window`, laid end to
    end, make the window. About log2(window) additions of whole tensors: quicker than differences of running sums,
    which torch adds up one value after the other, and closer to the exact mean.
    """
    window = min(window, features.shape[axis])
    count = features.shape[axis] - window + 1
    total, covered, span, sums = None, 0, 1, features
    while True:
        if window & span:
            piece = sums.narrow(axis, covered, count)
            total = piece if total is None else total + piece
            covered += span
        if total is not None and covered == window:
            return total / window
        length = sums.shape[axis] - span
        sums = sums.narrow(axis, 0, length) + sums.narrow(axis, span, length)
        span *= 2


def extend_edges(means: Tensor, height: int, width: int) -> Tensor:
    """Repeat the outermost values up to the given size: a pixel near the border takes the nearest whole window.

    An even window has its extra pixel at the right and at the bottom.
    """
    rows, columns = height - means.shape[-2], width - means.shape[-1]
    missing = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return functional.pad(means, missing, mode="replicate")


def multiply_halves(features: Tensor) -> Tensor:
    """The first half of the channels times the second: the gate that stands for an activation function."""
    first, second = features.chunk(2, 1)
    return first * second


class NafBlock(nn.Module):
    """Mixes neighbours, weighs channels, mixes channels; two residual steps, the identity at initialisation."""

    def __init__(self, width: int, window: int | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.sca = SimplifiedChannelAttention(width, window)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.conv4 = nn.Conv2d(width, 2 * width, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.beta, self.gamma = (nn.Parameter(torch.zeros(1, width, 1, 1)) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        mixed = multiply_halves(self.conv2(self.conv1(self.norm1(features))))
        features = torch.addcmul(features, self.beta, self.conv3(mixed * self.sca(mixed)))
        return torch.addcmul(features, self.gamma, self.conv5(multiply_halves(self.conv4(self.norm2(features)))))


class NAFNet(Expert):
    """See `Expert`."""

    def __init__(self, config: NAFNetConfig) -> None:
        super().__init__(config)
        depth = len(config.encoder_blocks)
        widths = [config.width << level for level in range(depth + 1)]
        upwards = range(depth - 1, -1, -1)
        self.intro = nn.Conv2d(3, config.width, 3, padding=1)
        self.encoders = nn.ModuleList(
            _stage(config, level, blocks) for level, blocks in enumerate(config.encoder_blocks)
        )
        self.downs = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, stride=2) for width in widths[:-1])
        self.middle_blks = _stage(config, depth, config.middle_blocks)
        self.ups = nn.ModuleList(_rise(widths[level + 1]) for level in upwards)
        self.decoders = nn.ModuleList(
            _stage(config, level, blocks) for level, blocks in zip(upwards, config.decoder_blocks, strict=True)
        )
        self.ending = nn.Conv2d(config.width, 3, 3, padding=1)

    def predict_residual(self, blurry: Tensor) -> Tensor:
        """See `Expert`."""
        features = self.intro(blurry.to(self.intro.weight.dtype))
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(features))
            features = down(skips[-1])
        features = self.middle_blks(features)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            features = decoder(up(features) + skips.pop())
        residual: Tensor = self.ending(features)
        return residual


def _stage(config: NAFNetConfig, level: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(NafBlock(config.width << level, config.window(level)) for _ in range(blocks)))


def _rise(width: int) -> nn.Sequential:
    """Twice the side, half the channels."""
    return nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=False), nn.PixelShuffle(2))
