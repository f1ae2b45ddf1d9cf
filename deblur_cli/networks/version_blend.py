"""A small network that says, pixel by pixel, which version of a photo to believe.

Knows tensors only. The versions are the photo itself, the estimate of a network that was trained to restore it, that of
a second one, what was found at half its size, and deconvolutions. Their weights are positive and sum to 1, so nothing
can ring more than the worst of them, and where no other version is right the photo or its estimate stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.networks.deconvolver import DeconvolutionConfig
from deblur_cli.networks.needs import FEATHER, Needs

ESTIMATE = 1  # its place among the versions
_TRUST = 3.0  # in the estimate before any training, as a logit
_NEAR = 24  # pixels that the network sees around one by its layers that are not dilated, rounded up
_CONTRAST = 8.0  # by which differences between versions are enlarged for the network


@dataclass(frozen=True, slots=True)
class BlendConfig:
    """Shape of a `VersionBlend`, and the versions that it weighs; stored beside its weights.

    Attributes:
        width: features of every layer.
        unshuffle: side of the pixel blocks that become channels at the input.
        dilations: of the layers at half the resolution of the blocks, coarsest first: how far around a pixel they look.
        second: whether a second expert's estimate is one of the versions.
        coarser: whether what was found at half the photo's size is one of the versions.
        deconvolution: the blind deconvolutions among the versions; None for none.
        rounds: how often the photo is deconvolved and all is weighed, each time with what the last round gave in the
            place of the estimate: it leads to better kernels.
        progress: a further round counts where it leaves at most this share of what the last one left unexplained of the
            photo by one kernel, and follows only where the last one did so, the first included.
    """

    width: int = 32
    unshuffle: int = 4
    dilations: tuple[int, ...] = (2, 1)
    second: bool = False
    coarser: bool = False
    deconvolution: DeconvolutionConfig | None = None
    rounds: int = 1
    progress: float = 0.87

    def __post_init__(self) -> None:
        if self.rounds < 1 or (self.rounds > 1 and self.deconvolution is None):
            raise ValueError(f"rounds = {self.rounds}: must be 1, or more with a deconvolution")

    @property
    def names(self) -> tuple[str, ...]:
        """What each version is, in the order in which they are stacked."""
        deconvolved = self.deconvolution.names if self.deconvolution else ()
        second, coarser = ("second",) if self.second else (), ("coarser",) if self.coarser else ()
        return ("photo", "estimate", *second, *coarser, *deconvolved)

    @property
    def versions(self) -> int:
        """How many there are."""
        return len(self.names)

    @property
    def needs(self) -> Needs:
        """With deconvolutions the grid is that of their windows, so that a tile has the windows of the whole photo, and
        what neighbouring tiles share anyway is all context. Where they share the least, the ramp still reaches into
        windows whose outermost 32 pixels are repeated: two GoPro photos of 1280x720 in the smallest tiles agree with
        one tile to 56 and 59 dB, in tiles that share a window more to 105 (throw-away script). A window more
        everywhere would be more pixels to restore, by the count of the CPU's tiles 14 % of 6 megapixels and 37 % of 24.
        """
        if self.deconvolution is None:
            return Needs(4 * self.unshuffle, _NEAR + 2 * self.unshuffle * sum(self.dilations))
        grid = self.deconvolution.stride
        return Needs(grid, context=(-(-(256 + FEATHER) // grid) * grid - FEATHER) // 2)


class VersionBlend(nn.Module):
    """Weighs versions of a photo against each other and mixes them."""

    def __init__(self, config: BlendConfig) -> None:
        super().__init__()
        self.config = config
        width, pixels = config.width, 3 * config.unshuffle**2
        self.stem = nn.Conv2d(pixels * config.versions, width, 1)
        self.fine = nn.Conv2d(width, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 2, stride=2)
        self.coarse = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in config.dilations)
        self.up = nn.Conv2d(width, width, 1)
        self.head = nn.Conv2d(width, config.versions, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.head.bias[ESTIMATE] = _TRUST  # type: ignore[index]

    def forward(self, versions: Tensor) -> Tensor:
        """Mix the versions, which lie in the order of `stack_versions`.

        Args:
            versions: (B, config.versions, 3, H, W), float32, [0, 1]; H and W are multiples of twice `unshuffle`.
        Returns:
            (B, 3, H, W), float32, between the least and the largest of the versions.
        """
        return (self.weigh(versions)[:, :, None] * versions).sum(1)

    def weigh(self, versions: Tensor) -> Tensor:
        """(B, config.versions, H, W), float32: the share of each version, summing to 1."""
        features = torch.relu(self.stem(self._look(versions)))
        features = features + torch.relu(self.fine(features))
        coarse = torch.relu(self.down(features))
        for layer in self.coarse:
            coarse = coarse + torch.relu(layer(coarse))
        features = features + _enlarge(self.up(coarse), 2)
        return _enlarge(self.head(features).float(), self.config.unshuffle).softmax(1)

    def _look(self, versions: Tensor) -> Tensor:
        """(B, channels, h, w) in the network's number format: the photo, and what every other version changes in it."""
        photo, others = versions[:, :1], versions[:, 1:]
        seen = torch.cat((2 * photo - 1, _CONTRAST * (others - photo)), 1).flatten(1, 2)
        return functional.pixel_unshuffle(seen, self.config.unshuffle).to(self.stem.weight.dtype)


def stack_versions(pictures: Sequence[Tensor], deconvolved: Tensor | None = None) -> Tensor:
    """What a `VersionBlend` sees: the photo, its estimate and perhaps more, each (B, 3, H, W), then (B, N, 3, H, W)."""
    stacked = torch.stack(list(pictures), 1)
    return stacked if deconvolved is None else torch.cat((stacked, deconvolved), 1)


def add_coarser(photo: Tensor, difference: Tensor, scale: int) -> Tensor:
    """(B, 3, H, W), [0, 1]: a photo with a difference that was found at a fraction of its size, (B, 3, H/s, W/s)."""
    return (photo + functional.interpolate(difference, scale_factor=scale, mode="bicubic")).clamp(0, 1)


def _enlarge(features: Tensor, factor: int) -> Tensor:
    return functional.interpolate(features, scale_factor=factor, mode="bilinear")
