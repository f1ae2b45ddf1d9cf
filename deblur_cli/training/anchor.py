"""The autoencoder of a large base, as an anchor for the codec: near its latents what it has learned holds."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.checkpoint import shorten
from deblur_cli.errors import WeightsError
from deblur_cli.networks.residual_codec import STRIDE

_CLASSES = ("AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderTiny")


class Anchor:
    """A frozen autoencoder; its latents are those that its base was trained on, scaled as there."""

    def __init__(self, autoencoder: nn.Module) -> None:
        self._autoencoder: Any = autoencoder.eval().requires_grad_(requires_grad=False)
        self._config: Any = self._autoencoder.config

    @property
    def channels(self) -> int:
        """Of its latents."""
        channels: int = self._config.latent_channels
        return channels

    def to(self, device: torch.device) -> "Anchor":
        """The same one on a device."""
        self._autoencoder.to(device)
        return self

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """(B, C, H/8, W/8) of (B, 3, H, W), [0, 1]; the mode where the autoencoder is a distribution."""
        encoded = self._autoencoder.encode(image * 2 - 1)
        if hasattr(encoded, "latents"):
            latents: Tensor = encoded.latents  # AutoencoderTiny: scaled already
            return latents
        return self._scale(encoded.latent_dist.mode())

    def _scale(self, latents: Tensor) -> Tensor:
        if not hasattr(self._autoencoder, "bn"):
            scaled: Tensor = (latents - (self._config.shift_factor or 0.0)) * self._config.scaling_factor
            return scaled
        norm = self._autoencoder.bn  # FLUX.2 counts statistics of packed 2x2 latents
        packed = functional.batch_norm(
            functional.pixel_unshuffle(latents, 2), norm.running_mean, norm.running_var, eps=norm.eps
        )
        return functional.pixel_shuffle(packed, 2)


def load_anchor(folder: Path, channels: int) -> Anchor:
    """An autoencoder from a folder as diffusers saves it.

    Args:
        channels: of the latents of the codec that is to be anchored.
    Raises:
        WeightsError: the folder holds none that this tool knows, or one with another number of channels or stride.
    """
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name")
        if name not in _CLASSES:
            raise ValueError(f"{name} is none of {', '.join(_CLASSES)}")
        autoencoder = getattr(diffusers, name).from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as fault:
        raise WeightsError(f"--anchor {folder}: no folder of an autoencoder ({shorten(fault)})") from fault
    anchor = Anchor(autoencoder)
    latents = anchor.encode(torch.zeros(1, 3, 64, 64))
    if latents.shape != (1, channels, 64 // STRIDE, 64 // STRIDE):
        found = f"{latents.shape[1]} channels at 1/{64 // latents.shape[2]}"
        raise WeightsError(f"--anchor {folder}: its latents have {found}, the codec's {channels} at 1/{STRIDE}")
    return anchor
