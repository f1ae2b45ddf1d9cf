"""A fidelity expert that also deconvolves: a small network says, pixel by pixel, which version of the photo to believe.

Knows tensors only. The versions are the photo itself, the estimate of a network that was trained to restore it, and
deconvolutions of it. Their weights are positive and sum to 1, so nothing can ring more than the worst of them, and
where no deconvolution is right the estimate stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.networks.deconvolver import DeconvolutionConfig, Deconvolutions, Deconvolver

ESTIMATE = 1  # its place among the versions
_TRUST = 3.0  # in the estimate before any training, as a logit
_CONTRAST = 8.0  # by which differences between versions are enlarged for the network
_MISFIT_CONTRAST = 16.0  # and what a kernel does not explain


@dataclass(frozen=True, slots=True)
class BlendConfig:
    """Shape of a `VersionBlend`, and the deconvolutions that it weighs; stored beside its weights.

    Attributes:
        width: features of every layer.
        unshuffle: side of the pixel blocks that become channels at the input.
        trust: least share of the estimate, everywhere, once trained: where the network errs, it then errs less.
    """

    width: int = 32
    unshuffle: int = 4
    trust: float = 0.3
    deconvolution: DeconvolutionConfig = field(default_factory=DeconvolutionConfig)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "BlendConfig":
        """The config as JSON keeps it; raises TypeError for an unknown key."""
        plain = dict(values)
        return cls(**plain | {"deconvolution": DeconvolutionConfig.from_json(plain["deconvolution"])})

    @property
    def versions(self) -> int:
        """The photo, its estimate and the deconvolutions."""
        return 2 + self.deconvolution.versions

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this."""
        return self.deconvolution.stride


class VersionBlend(nn.Module):
    """Weighs versions of a photo against each other and mixes them.

    Out of training it weighs with care: shares are the mean of those of the photo and of its mirror image, and
    `config.trust` of everything goes to the estimate. In training it would learn to make up for that.
    """

    def __init__(self, config: BlendConfig) -> None:
        super().__init__()
        self.config = config
        width, pixels = config.width, config.unshuffle**2
        seen = 3 + config.versions - 1 + len(config.deconvolution.attempts)  # colours of the photo, luma of the rest
        self.stem = nn.Conv2d(pixels * seen, width, 1)
        self.fine = nn.Conv2d(width, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 2, stride=2)
        self.coarse = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in (2, 1))
        self.up = nn.Conv2d(width, width, 1)
        self.head = nn.Conv2d(width, config.versions, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.head.bias[ESTIMATE] = _TRUST  # type: ignore[index]

    def forward(self, versions: Tensor, misfits: Tensor) -> Tensor:
        """Mix the photo, its estimate and its deconvolutions, in this order.

        Args:
            versions: (B, config.versions, 3, H, W), float32, [0, 1]; H and W are multiples of twice `unshuffle`.
            misfits: (B, attempts, H, W), float32, as in `Deconvolutions`.
        Returns:
            (B, 3, H, W), float32, between the least and the largest of the versions.
        """
        mixed = torch.zeros_like(versions[:, 0])
        for share, version in zip(self.weigh(versions, misfits).unbind(1), versions.unbind(1), strict=True):
            mixed = mixed + share[:, None] * version  # one by one: all products at once would take much memory
        return mixed

    def weigh(self, versions: Tensor, misfits: Tensor) -> Tensor:
        """(B, config.versions, H, W), float32: the share of each version, summing to 1."""
        seen = _look(versions, misfits)
        if self.training:
            return self._share(seen)
        shares = torch.lerp(self._share(seen), self._share(seen.flip(-1)).flip(-1), 0.5) * (1 - self.config.trust)
        shares[:, ESTIMATE] += self.config.trust
        return shares

    def _share(self, seen: Tensor) -> Tensor:
        """What the network sees, (B, channels, H, W) -> (B, config.versions, H, W), float32."""
        blocks = functional.pixel_unshuffle(seen, self.config.unshuffle).to(self.stem.weight.dtype)
        features = torch.relu(self.stem(blocks))
        features = features + torch.relu(self.fine(features))
        coarse = torch.relu(self.down(features))
        for layer in self.coarse:
            coarse = coarse + torch.relu(layer(coarse))
        features = features + _enlarge(self.up(coarse), 2)
        return _enlarge(self.head(features).float(), self.config.unshuffle).softmax(1)


class ResidualPredictor(Protocol):
    """A network that predicts what is missing in a blurred photo; `config.multiple_of` is the grid of its photos."""

    config: Any

    def predict_residual(self, blurry: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W)."""


class DeconvolvingExpert(nn.Module):
    """Blurry photo to its sharp estimate: `estimate = blurry + residual`.

    Input and output are (B, 3, H, W), float32, sRGB-encoded, [0, 1]; H and W are multiples of `config.multiple_of`, the
    stride of the windows.

    Raises:
        ValueError: the stride is no multiple of what `expert` wants.
    """

    def __init__(self, expert: ResidualPredictor, blend: VersionBlend) -> None:
        super().__init__()
        if blend.config.multiple_of % expert.config.multiple_of:
            raise ValueError(f"a stride of {blend.config.multiple_of} does not fit {expert.config.multiple_of}")
        self.config, self.expert, self.blend = blend.config, expert, blend
        self.deconvolver = Deconvolver(blend.config.deconvolution)

    def forward(self, blurry: Tensor) -> Tensor:
        """The estimate."""
        return blurry + self.predict_residual(blurry)

    def predict_residual(self, blurry: Tensor) -> Tensor:
        """(B, 3, H, W): what is missing in `blurry`."""
        estimate = (blurry + self.expert.predict_residual(blurry).float()).clamp(0, 1)
        mixed: Tensor = self.blend(*stack_versions(blurry, estimate, self.deconvolver.deconvolve(blurry, estimate)))
        return mixed - blurry


def stack_versions(blurry: Tensor, estimate: Tensor, deconvolved: Deconvolutions) -> tuple[Tensor, Tensor]:
    """What a `VersionBlend` sees: two times (B, 3, H, W) and N deconvolutions -> (B, 2 + N, 3, H, W), and misfits."""
    return torch.cat((blurry[:, None], estimate[:, None], deconvolved.versions), 1), deconvolved.misfits


def _look(versions: Tensor, misfits: Tensor) -> Tensor:
    """(B, channels, H, W): the colours of the photo, how the luma of the others differs, what kernels leave."""
    photo, others = versions[:, 0], versions[:, 1:]
    changes = others.mean(2) - photo.mean(1, keepdim=True)  # (B, config.versions - 1, H, W)
    return torch.cat((2 * photo - 1, _CONTRAST * changes, _MISFIT_CONTRAST * misfits), 1)


def _enlarge(features: Tensor, factor: int) -> Tensor:
    return functional.interpolate(features, scale_factor=factor, mode="bilinear")
