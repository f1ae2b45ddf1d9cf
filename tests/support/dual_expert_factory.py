"""Small dual experts and photos for the tests: fields of one line, a codec of random weights, experts to the bit."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deblur_cli.backends.dual_expert import DualExpertBackend, Parts
from deblur_cli.backends.pixel_progress import PixelProgress
from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig
from deblur_cli.restoration.contract import Watch
from deblur_cli.restoration.tiling import Tiling
from deblur_cli.weights.entries import FlowSettings
from support.fake_backend import FakeBackend

CPU = torch.device("cpu")
CHANNELS, WINDOW = 4, 8  # latents; a window is 64 pixels wide
PLAIN = FlowSettings(keep_low=False, guard=False)
Field = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Flow(nn.Module):
    """A field of one line, in the place of a transformer."""

    def __init__(self, field: Field, *, is_widened: bool = False) -> None:
        super().__init__()
        self.config = SimpleNamespace(window=WINDOW, channels=CHANNELS, multiple_of=2)
        self.field, self.is_widened = field, is_widened
        self.batches: list[int] = []

    def forward(self, x_t: Tensor, t: Tensor, blurry: Tensor | None = None) -> Tensor:
        assert x_t.shape[1:] == (CHANNELS, WINDOW, WINDOW) and t.shape == x_t.shape[:1]
        self.batches.append(len(x_t))
        return self.field(x_t, t, blurry)


def halving() -> FakeBackend:
    """An expert that halves the brightness: tiles do not show in what it makes."""
    return FakeBackend(lambda blurry: blurry / 2, "half", tiling=Tiling(128, 16, 16, 16), module=nn.Linear(2, 1))


def stand_still(x_t: Tensor, t: Tensor, blurry: Tensor | None) -> Tensor:
    return torch.zeros_like(x_t)


def wander(x_t: Tensor, t: Tensor, blurry: Tensor | None) -> Tensor:
    """Depends on all of the window, on the time and on the place in the window."""
    row = torch.linspace(-1, 1, WINDOW)
    mean = x_t.mean((1, 2, 3), keepdim=True)
    return torch.sin(3 * x_t) + mean + t[:, None, None, None] * row + (0 if blurry is None else 0.5 * blurry)


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of any size that leaves the signal its size, so that every layer counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.02 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
            parameter.normal_(0, scale, generator=generator)
    return network.eval()


def build_codec(seed: int = 0) -> ResidualCodec:
    config = ResidualCodecConfig(channels=CHANNELS, widths=(8, 12), encoder_blocks=(1, 2), decoder_blocks=(2, 1))
    codec = lively(ResidualCodec(config), seed)
    assert isinstance(codec, ResidualCodec)
    with torch.no_grad():
        codec.decoder.head[0].weight.mul_(0.1)
    return codec


def build(flow: Any = None, expert: Any = None, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    parts = Parts(expert, build_codec(), flow or Flow(wander))
    return DualExpertBackend("dual", parts, replace(PLAIN, **settings), CPU, dtype)


def photo(height: int = 150, width: int = 203, dtype: type = np.uint8, seed: int = 3) -> np.ndarray:
    """Smooth blobs with some noise: sharp enough for a codec to see something."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    pixels = 0.8 * coarse + 0.2 * generator.random((height, width, 3))
    return (pixels * np.iinfo(dtype).max).astype(dtype)


def levels_apart(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def quiet(pixels: int) -> PixelProgress:
    return PixelProgress(Watch(), pixels, 1)
