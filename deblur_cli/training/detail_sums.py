"""The benchmark's statistics of local detail, gathered over batches of windows while a network is trained."""

import torch
from torch import Tensor

from deblur_cli.metrics.detail import FLOOR, block_energy, correlation

_LUMA = (0.2125, 0.7154, 0.0721)  # Rec. 709, as the benchmark's


class Detail:
    """Collects blocks of 16x16 pixels; see `metrics.detail` for what the two figures mean."""

    def __init__(self) -> None:
        self._ratios: list[Tensor] = []
        self._added: list[Tensor] = []
        self._missing: list[Tensor] = []

    def add(self, blurry: Tensor, restored: Tensor, sharp: Tensor) -> None:
        """Count a batch in; each (B, 3, H, W), [0, 1]."""
        for images in zip(blurry, restored, sharp, strict=True):
            with torch.autocast(blurry.device.type, enabled=False):  # bfloat16 holds three digits of brightness
                before, now, wanted = (block_energy(_to_luma(image.float())) for image in images)
            self._ratios.append(((now + FLOOR) / (wanted + FLOOR)).log().abs().mean())
            self._added.append((now - before).flatten())
            self._missing.append((wanted - before).flatten())

    @property
    def ratio(self) -> float:
        """Mean absolute log-ratio of gradient energy, restored to sharp; mean over the windows."""
        return float(torch.stack(self._ratios).mean())

    @property
    def correlation(self) -> float:
        """Of the energy that was added with the energy that was missing, over all blocks; 0 where it has none."""
        return correlation(torch.cat(self._added), torch.cat(self._missing)) or 0.0


def _to_luma(image: Tensor) -> Tensor:
    """(H, W) of (3, H, W)."""
    luma: Tensor = torch.tensordot(torch.tensor(_LUMA, device=image.device), image, dims=1)
    return luma
