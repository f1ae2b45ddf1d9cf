"""Latents of kept windows, made once and kept on disk: what a base and a flow are trained on.

A window holds the latents of a blurred photo, of the expert's estimate and of the sharp photo. The file's name is a
hash of everything it depends on, so that another codec, expert, recipe or folder of pictures never meets old latents.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deblur_cli.backends.tiled_codec import load_codec
from deblur_cli.networks.residual_codec import STRIDE, ResidualCodec
from deblur_cli.system.devices import has_fast_bfloat16
from deblur_cli.system.files import hash_file, whole_file
from deblur_cli.training.recipe import LatentConfig
from deblur_cli.training.windows import KeptWindows, WindowMaker, WindowPieces

_BATCH = 8


@dataclass(frozen=True, slots=True)
class Codec:
    """A frozen codec and the sha256 of its weights."""

    network: ResidualCodec
    sha256: str


@dataclass(frozen=True, slots=True)
class Made:
    """Windows on the CPU; the second dimension is blurry, estimate, sharp.

    Attributes:
        trained: latents, (N, 3, C, h, w), bfloat16.
        held_out: latents of windows that are never trained on, (M, 3, C, h, w).
        windows: the pictures of both.
    """

    trained: Tensor
    held_out: Tensor
    windows: KeptWindows


@dataclass(frozen=True, slots=True)
class WindowSource:
    """Where windows of latents come from. Once they are made, no picture is encoded again.

    Attributes:
        codec: what the maker's pictures are encoded with.
    """

    codec: Codec
    maker: WindowMaker

    def open(self, device: torch.device, seed: int) -> Made:
        """The windows of this seed, and those that are held out; made on `device` if they are not there yet."""
        windows = self.maker.open(device, seed)
        path = self.maker.folder / f"latents-{self._key(seed)}.safetensors"
        if not path.is_file():
            made = {
                "trained": self._encode(windows.trained, device).bfloat16(),
                "held_out": self._encode(windows.held_out, device),
            }
            with whole_file(path) as temporary:
                save_file(made, temporary)
        return Made(**load_file(path), windows=windows)

    @torch.no_grad()
    def _encode(self, windows: WindowPieces, device: torch.device) -> Tensor:
        network, made = self.codec.network.to(device), []
        for first in range(0, len(windows), _BATCH):
            places = range(first, min(first + _BATCH, len(windows)))
            flat = windows.take(places).flatten(0, 1).to(device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device)):
                latents = network.encode(flat)
            made.append(torch.unflatten(latents.float().cpu(), 0, (len(places), 3)))
        return torch.cat(made).contiguous()

    def _key(self, seed: int) -> str:
        counts = [self.maker.latents.windows, self.maker.latents.held_out]
        parts = {"codec": self.codec.sha256, "windows": self.maker.key(), "counts": counts, "seed": seed}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def load_frozen_codec(path: Path) -> Codec:
    """A trained codec, to be frozen.

    Raises:
        WeightsError: the file is missing, damaged or holds no codec.
    """
    network = load_codec(path)
    return Codec(network.eval().requires_grad_(requires_grad=False), hash_file(path))


def latent_side(latents: LatentConfig) -> int:
    """Side of a window in latents."""
    return latents.side // STRIDE
