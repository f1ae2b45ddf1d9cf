"""A blend as a task: which version of a photo comes nearest to the sharp one, pixel by pixel."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.checkpoint import load_strict, save_network
from deblur_cli.errors import InputError
from deblur_cli.networks.deconvolver import Deconvolver
from deblur_cli.networks.deconvolving_expert import ESTIMATE, VersionBlend, stack_versions
from deblur_cli.training.datasets import Luck, PatchPool, TrainingData
from deblur_cli.training.estimates import Expert
from deblur_cli.training.loop import Figures
from deblur_cli.training.objectives import mean_psnr, measure_psnr, psnr_loss
from deblur_cli.training.recipe import BlendRecipe
from deblur_cli.training.validation import build_validation
from deblur_cli.training.versions import from_pictures, with_versions

_PICTURES = 16  # about so many of each validation set, of sharp ones twice: deconvolving them takes its time


class BlendTask:
    """See `training.loop.Task`.

    Args:
        expert: frozen; its estimate is one of the versions.
        init: weights to start from.
    Raises:
        InputError: `expert` is blended already.
        WeightsError: `init` is damaged or of another shape.
    """

    weights = "blend.safetensors"

    def __init__(self, recipe: BlendRecipe, data: TrainingData, expert: Expert, init: Path | None = None) -> None:
        self.recipe, self.schedule, self.seed = recipe, recipe.schedule, recipe.seed
        if "blend" in expert.hashes:
            raise InputError(f"--expert {expert.backend.name}: is blended already; take the expert that it blends")
        self._data, self._expert = data, expert
        torch.manual_seed(recipe.seed)
        self.network = VersionBlend(recipe.network)
        self._deconvolver = Deconvolver(recipe.network.deconvolution)
        if init is not None:
            load_strict(self.network, init)

    def begin(self, accelerator: Accelerator, luck: Luck) -> None:
        sources = self._data.sources(self.recipe.data, self.recipe.synthesis, luck)
        sources = with_versions(sources, self._expert, self._deconvolver)
        side = self.recipe.network.deconvolution.stride
        pool = PatchPool(sources, self.recipe.data, self.schedule.patch, luck, side)
        self._batches: Iterator[tuple[Tensor, ...]] = pool.batches(self.schedule.batch)
        self._held_out = self._deconvolve_held_out(accelerator.device)

    def loss(self, network: nn.Module) -> Tensor:
        *pictures, sharp = next(self._batches)
        config, stack = self.recipe.network, torch.stack(pictures, 1)
        misfits = from_pictures(stack[:, config.versions :], len(config.deconvolution.attempts))
        versions = stack[:, : config.versions]
        return psnr_loss(network(versions, misfits), sharp, versions[:, ESTIMATE], self.recipe.loss.regret)

    def validate(self, network: nn.Module) -> Figures:
        blend: dict[str, float] = {}
        expert: dict[str, float] = {}
        for name, batches in self._held_out.items():
            before = 0.0 if name == "sharp" else fmean(mean_psnr(seen[0][:, 0], sharp) for seen, sharp in batches)
            after = torch.cat([measure_psnr(network(*seen), sharp) for seen, sharp in batches])
            blend[name] = float(after.mean()) - before
            expert[name] = fmean(mean_psnr(seen[0][:, ESTIMATE], sharp) for seen, sharp in batches) - before
            if name == "sharp":
                blend["worst"] = float(after.min())
        return {"Gain over doing nothing (sharp: PSNR), dB": blend, "The same of the expert alone, dB": expert}

    def write(self, path: Path, record: dict[str, Any]) -> None:
        metadata = {
            "config": dataclasses.asdict(self.recipe.network),
            "training": dataclasses.asdict(self.recipe) | record,
            "trained_on": dict(self._expert.hashes),
        }
        save_network(self.network, path, metadata)

    @torch.no_grad()
    def _deconvolve_held_out(self, device: torch.device) -> dict[str, list[tuple[tuple[Tensor, Tensor], Tensor]]]:
        """Name -> what the network sees, and the truth, of the held-out pictures."""
        held_out = {}
        for name, batches in build_validation(self._data, self.recipe.synthesis).items():
            some = batches[: max(1, _PICTURES // len(batches[0][0])) * (2 if name == "sharp" else 1)]
            held_out[name] = [(self._make_versions(blurry.to(device)), sharp.to(device)) for blurry, sharp in some]
        return held_out

    def _make_versions(self, blurry: Tensor) -> tuple[Tensor, Tensor]:
        grid, (height, width) = self._deconvolver.config.stride, blurry.shape[-2:]
        padding = (0, -width % grid, 0, -height % grid)
        estimate = self._expert.estimate(blurry)
        padded = (functional.pad(image, padding, mode="replicate") for image in (blurry, estimate))
        return stack_versions(blurry, estimate, self._deconvolver.deconvolve(*padded)[..., :height, :width])
