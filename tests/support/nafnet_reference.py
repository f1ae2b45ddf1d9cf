"""NAFNet-width32 with random weights, for timing only.

Source: Chen et al. 2022, "Simple Baselines for Image Restoration"; the shape of the published GoPro network
(encoder 1-1-1-28, middle 1, decoder 1-1-1-1; 17,111,907 parameters).
"""

import torch
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of every pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        mean = features.mean(1, keepdim=True)
        spread = (features - mean).square().mean(1, keepdim=True)
        normal = (features - mean) / (spread + 1e-6).sqrt()
        return self.weight[:, None, None] * normal + self.bias[:, None, None]


def gate(features: Tensor) -> Tensor:
    first, second = features.chunk(2, 1)
    return first * second


class Block(nn.Module):
    """Depthwise mixing with channel attention, then a gated pointwise part."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = ChannelNorm(width), ChannelNorm(width)
        self.widen_1, self.widen_2 = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, 2 * width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.narrow_1, self.narrow_2 = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.beta, self.gamma = (nn.Parameter(torch.zeros(1, width, 1, 1)) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        update = gate(self.depthwise(self.widen_1(self.norm_1(features))))
        features = features + self.beta * self.narrow_1(update * self.attention(update))
        return features + self.gamma * self.narrow_2(gate(self.widen_2(self.norm_2(features))))


class NAFNet32(nn.Module):
    """(B, 3, H, W) to the same; H and W are multiples of 16."""

    def __init__(self) -> None:
        super().__init__()
        widths = [32, 64, 128, 256, 512]
        self.intro, self.ending = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)
        self.encoders = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(count)))
            for width, count in zip(widths[:4], (1, 1, 1, 28), strict=True)
        )
        self.downs = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, stride=2) for width in widths[:4])
        self.middle = Block(512)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width, 4 * width, 1, bias=False), nn.PixelShuffle(2)) for width in widths[3::-1]
        )
        self.decoders = nn.ModuleList(Block(width) for width in widths[3::-1])

    def forward(self, blurry: Tensor) -> Tensor:
        features, skips = self.intro(blurry), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(features))
            features = down(skips[-1])
        features = self.middle(features)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            features = decoder(up(features) + skip)
        return blurry + self.ending(features)
