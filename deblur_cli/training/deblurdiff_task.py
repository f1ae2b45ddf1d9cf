"""DeblurDiff as a task: its LKPN and its ControlNet learn beside a frozen Stable Diffusion."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.checkpoint import load_strict, save_network
from deblur_cli.errors import InputError
from deblur_cli.sampling.ddpm import TIMESTEPS, diffuse
from deblur_cli.training.diffusion_base import DiffusionBase
from deblur_cli.training.folder import TrainingData
from deblur_cli.training.loop import Figures
from deblur_cli.training.objectives import mean_psnr
from deblur_cli.training.patch_pool import PatchPool
from deblur_cli.training.recipe import DeblurDiffRecipe
from deblur_cli.training.sources import Generators

_MULTIPLE = 64  # pixels: eight latents, which the networks halve three times
_HELD_OUT_SEED = 40_000


@dataclass(frozen=True, slots=True)
class _Latents:
    """A batch as the networks see it, (B, 4, h, w) each.

    Attributes:
        blurry: of the photo in [0, 1], as the published condition is.
        sharp: of the sharp photo in [-1, 1].
    """

    blurry: Tensor
    sharp: Tensor


class DeblurDiffTask:
    """See `training.loop.Task`.

    Args:
        init: an earlier result to start from, instead of the base's LKPN and ControlNet.
    Raises:
        InputError: the recipe's patches do not suit the networks.
        WeightsError: `init` is damaged or of another shape.
    Source: arXiv 2502.03810, section 3; kkkls/DeblurDiff (MIT) for the weights of the terms. Unlike there, latents
        are the modes of their distributions, as they are when the model runs.
    """

    weights = "deblurdiff.safetensors"

    def __init__(
        self, recipe: DeblurDiffRecipe, base: DiffusionBase, data: TrainingData, init: Path | None = None
    ) -> None:
        self.recipe, self.schedule, self.seed = recipe, recipe.schedule, recipe.seed
        if self.schedule.patch % _MULTIPLE:
            raise InputError(f"the recipe's patch = {self.schedule.patch}: must be a multiple of {_MULTIPLE}")
        self._base, self._data, self._system = base, data, base.network
        if init is not None:
            load_strict(self._system.trained, init)
        self._system.freeze()
        if recipe.diffusion.checkpointing:
            self._system.enable_gradient_checkpointing()
        self.network: nn.Module = self._system

    @property
    def trained_on(self) -> dict[str, str]:
        return {"base": self._base.sha256}

    def begin(self, accelerator: Accelerator, generators: Generators) -> None:
        sources = self._data.sources(self.recipe.data, self.recipe.synthesis, generators)
        pool = PatchPool(sources, self.recipe.data, self.schedule.patch, generators)
        self._batches: Iterator[tuple[Tensor, ...]] = pool.batches(self.schedule.batch)
        self._generators, self._held_out = generators, self._draw_held_out(accelerator.device)

    def loss(self, network: nn.Module) -> Tensor:
        """The error of the noise, plus the weighted errors of the LKPN in latents and in pixels."""
        blurry, sharp = next(self._batches)
        latents, settings, generator = self._encode(blurry, sharp), self.recipe.diffusion, self._generators.pixels
        timesteps = torch.randint(TIMESTEPS, (len(sharp),), generator=generator, device=sharp.device)
        noise = torch.randn(latents.sharp.shape, generator=generator, device=sharp.device)
        predicted, sharpened = network(latents.blurry, diffuse(latents.sharp, noise, timesteps), timesteps)
        loss = functional.mse_loss(predicted, noise)
        loss = loss + settings.latent_weight * functional.mse_loss(sharpened, latents.sharp)
        if settings.pixel_weight:
            loss = loss + settings.pixel_weight * functional.mse_loss(self._decode(sharpened), to_signed(sharp))
        return loss

    def validate(self, network: nn.Module) -> Figures:
        """Fidelity of the LKPN's latents where sampling begins; errors at timesteps spread over the whole range."""
        psnr, errors = {"blurry": 0.0, "LKPN": 0.0}, {"noise": 0.0, "latents": 0.0}
        count, generator = sum(len(sharp) for _, sharp in self._held_out), torch.Generator().manual_seed(_HELD_OUT_SEED)
        spread = iter(torch.linspace(0, TIMESTEPS - 1, count).long())
        for blurry, sharp in self._held_out:
            latents, share = self._encode(blurry, sharp), len(sharp) / count
            noise = torch.randn(latents.sharp.shape, generator=generator).to(sharp.device)
            timesteps = torch.stack([next(spread) for _ in sharp]).to(sharp.device)
            predicted, sharpened = network(latents.blurry, diffuse(latents.sharp, noise, timesteps), timesteps)
            errors["noise"] += share * float(functional.mse_loss(predicted, noise))
            errors["latents"] += share * float(functional.mse_loss(sharpened, latents.sharp))
            first: Tensor = network(latents.blurry, noise, TIMESTEPS - 1)[1]
            psnr["blurry"] += share * mean_psnr(blurry, sharp)
            psnr["LKPN"] += share * mean_psnr((self._decode(first) + 1) / 2, sharp)
        return {"Held-out windows, dB PSNR": psnr, "Held-out windows, mean squared error": errors}

    def write(self, path: Path, record: dict[str, Any]) -> None:
        metadata = {
            "config": dataclasses.asdict(self._system.config),
            "training": dataclasses.asdict(self.recipe) | record,
            "trained_on": self.trained_on,
        }
        save_network(self._system.trained, path, metadata)

    @torch.no_grad()
    def _encode(self, blurry: Tensor, sharp: Tensor) -> _Latents:
        with torch.autocast(sharp.device.type, enabled=False):
            return _Latents(self._system.encode(blurry), self._system.encode(to_signed(sharp)))

    def _decode(self, latents: Tensor) -> Tensor:
        """(B, 3, H, W), about [-1, 1]; the VAE stays in float32, also where the rest is trained in bfloat16."""
        with torch.autocast(latents.device.type, enabled=False):
            return self._system.decode(latents.float())

    def _draw_held_out(self, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """Batches of blurred and sharp windows that are never trained on, the same in every run."""
        settings, batch = self.recipe.diffusion, self.schedule.batch
        data, generators = self._data.held_out(), Generators.seeded(_HELD_OUT_SEED, device)
        sources = [source for _, source in data.sources(self.recipe.data, self.recipe.synthesis, generators)]
        drawn = [sources[n % len(sources)].draw(1, self.schedule.patch) for n in range(settings.held_out)]
        blurry, sharp = (torch.cat(windows) for windows in zip(*drawn, strict=True))
        return [(blurry[n : n + batch], sharp[n : n + batch]) for n in range(0, settings.held_out, batch)]


def to_signed(pixels: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return pixels * 2 - 1
