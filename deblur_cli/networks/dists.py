"""DISTS in plain torch: structure and texture of VGG16's features, told apart. Knows no files.

Where LPIPS compares features place by place, DISTS compares their means (texture) and their correlation (structure)
over the picture: a generated texture that is as good as the true one costs little.
Source: Ding et al. 2020, "Image Quality Assessment: Unifying Structure and Texture Similarity", eq. 4 to 8
(dingkeyan93/DISTS, MIT).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.networks.lpips import VGG_TAPS, build_vgg_features

_WIDTHS = (3, 64, 128, 256, 512, 512)  # of the picture itself and of the five taps
_STABLE = 1e-6  # c1 and c2 of the paper
_SMALLEST = 16


class Dists(nn.Module):
    """Distance of two pictures, 0 if they are equal, about 1 at most."""

    mean: Tensor
    deviation: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = build_vgg_features()
        self.alpha = nn.Parameter(torch.ones(sum(_WIDTHS)))  # of the means
        self.beta = nn.Parameter(torch.ones(sum(_WIDTHS)))  # of the correlations
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        row = torch.tensor([0.25, 0.5, 0.25])  # a Hann window of five, but for its zeros
        self.register_buffer("window", row[:, None] * row, persistent=False)
        self.requires_grad_(False).eval()

    def load_weights(self, backbone: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Take torchvision's VGG16 and the published `alpha` and `beta`, (1475,) each.

        Raises:
            RuntimeError: a key is missing or has another shape. The backbone's classifier is not used.
        """
        own = {key: value for key, value in backbone.items() if key.startswith("features.")}
        self.load_state_dict({**own, **weights})

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        """Distance of each pair.

        Args:
            restored, sharp: (B, 3, H, W), sRGB-encoded, [0, 1].
        Returns:
            (B,)
        Raises:
            ValueError: a side is shorter than 16 pixels.
        """
        if min(restored.shape[2:]) < _SMALLEST:
            raise ValueError(f"DISTS needs at least {_SMALLEST} pixels a side")
        total = self.alpha.sum() + self.beta.sum()
        likeness = torch.zeros(restored.shape[0], device=restored.device)
        parts = zip(self.alpha.split(_WIDTHS), self.beta.split(_WIDTHS), strict=True)  # type: ignore[no-untyped-call]
        for x, y, (alpha, beta) in zip(self._tap(restored), self._tap(sharp), parts, strict=True):
            texture, structure = _compare(x, y)
            likeness = likeness + (texture @ alpha + structure @ beta) / total
        return 1 - likeness

    def _tap(self, image: Tensor) -> list[Tensor]:
        """The picture and its five feature maps."""
        features, found = (image - self.mean) / self.deviation, [image]
        for index in range(VGG_TAPS[-1] + 1):
            layer = self.features[index]
            features = self._pool(features) if isinstance(layer, nn.MaxPool2d) else layer(features)
            if index in VGG_TAPS:
                found.append(features)
        return found

    def _pool(self, features: Tensor) -> Tensor:
        """Half the sides: the root of the windowed mean square, which aliases less than a maximum."""
        window = self.window.expand(features.shape[1], 1, 3, 3)
        pooled = functional.conv2d(features.square(), window, stride=2, padding=1, groups=features.shape[1])
        return (pooled + 1e-12).sqrt()


def _compare(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Likeness of the means and of the structure of each feature, twice (B, C)."""
    x, y = x.flatten(2), y.flatten(2)
    mean_x, mean_y = x.mean(2), y.mean(2)
    texture = (2 * mean_x * mean_y + _STABLE) / (mean_x.square() + mean_y.square() + _STABLE)
    variances = x.var(2, correction=0) + y.var(2, correction=0)
    together = (x * y).mean(2) - mean_x * mean_y
    return texture, (2 * together + _STABLE) / (variances + _STABLE)
