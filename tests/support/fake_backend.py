"""The one stand-in for a model: it answers a tile by a function and remembers what it was given."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deblur_cli.restoration.tiling import Tiling, Windows


def _keep(blurry: Tensor) -> Tensor:
    return blurry


@dataclass
class FakeBackend:
    """Satisfies `restoration.contract.Backend`; `shapes` are those of the tiles so far, (B, 3, h, w)."""

    answer: Callable[[Tensor], Tensor] = _keep
    name: str = "fake"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    tiling: Tiling | Windows = field(default_factory=lambda: Tiling(64, 8, 8, 16))
    module: nn.Module = field(default_factory=nn.Identity)
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def restore(self, blurry: Tensor) -> Tensor:
        self.shapes.append(tuple(blurry.shape))
        return self.answer(blurry)
