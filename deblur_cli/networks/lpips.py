"""LPIPS v0.1 in plain torch: two backbones and the linear heads. Knows no files.

The layers carry torchvision's state-dict keys (`features.N.weight`), so its weight files load without the
library itself, whose builds must match torch's to the digit and break other packages when they do not.
Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
(richzhang/PerceptualSimilarity, BSD-2-Clause).
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Backbone = Literal["alex", "vgg"]

_VGG_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
VGG_TAPS = (3, 8, 15, 22, 29)  # the last ReLU of each stage
_TAPS: Mapping[str, tuple[int, ...]] = {"alex": (1, 4, 7, 9, 11), "vgg": VGG_TAPS}
_WIDTHS: Mapping[str, tuple[int, ...]] = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
_SMALLEST = {"alex": 63, "vgg": 16}  # below that a pooling layer has nothing left
_TINY = 1e-10
_ZERO = 1e-20  # under the root, whose slope at zero is infinite and would make a loss's gradient no number


class Lpips(nn.Module):
    """Learned perceptual distance of two pictures; 0 is equal."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network
        self.features = _alex_features() if network == "alex" else build_vgg_features()
        self.heads = nn.ParameterList(torch.zeros(width) for width in _WIDTHS[network])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def load_weights(self, backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        """Take torchvision's weights and the project's heads (`linN.model.1.weight`).

        Raises:
            RuntimeError: a key is missing or has another shape. The backbone's classifier is not used.
        """
        own = {key: value for key, value in backbone.items() if key.startswith("features.")}
        for index, head in enumerate(self.heads):
            own[f"heads.{index}"] = heads[f"lin{index}.model.1.weight"].reshape(head.shape)
        self.load_state_dict(own)

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        """Distance of each pair.

        Args:
            restored, sharp: (B, 3, H, W), sRGB-encoded, [0, 1].
        Returns:
            (B,)
        Raises:
            ValueError: a side is shorter than the network needs.
        """
        if min(restored.shape[2:]) < _SMALLEST[self.network]:
            raise ValueError(f"LPIPS ({self.network}) needs at least {_SMALLEST[self.network]} pixels a side")
        distance = torch.zeros(restored.shape[0], device=restored.device)
        pairs = zip(self._tap(restored), self._tap(sharp), self.heads, strict=True)
        for first, second, head in pairs:
            difference = (_unit(first.float()) - _unit(second.float())).square()  # (B, C, h, w)
            distance = distance + difference.mean(dim=(2, 3)) @ head
        return distance

    def _tap(self, image: Tensor) -> list[Tensor]:
        """The five feature maps; computed pair by pair would cost a second copy of the photo's features."""
        taps = _TAPS[self.network]
        features = (image * 2 - 1 - self.shift) / self.scale
        found = []
        for index in range(taps[-1] + 1):
            features = self.features[index](features)
            if index in taps:
                found.append(features)
        return found


def _unit(features: Tensor) -> Tensor:
    """Every pixel's feature vector at length one."""
    return features / ((features.square().sum(dim=1, keepdim=True) + _ZERO).sqrt() + _TINY)


def _alex_features() -> nn.Sequential:
    """torchvision's `alexnet().features` up to the last ReLU."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def build_vgg_features() -> nn.Sequential:
    """torchvision's `vgg16().features` up to the last ReLU."""
    layers: list[nn.Module] = []
    before = 3
    for stage, widths in enumerate(_VGG_STAGES):
        if stage:
            layers.append(nn.MaxPool2d(2, stride=2))
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
    return nn.Sequential(*layers)
