"""A blend as a task: which version of a photo comes nearest to the sharp one, pixel by pixel."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.checkpoint import save_network
from deblur_cli.errors import InputError
from deblur_cli.networks.deconvolver import BlindKernels, Deconvolver
from deblur_cli.networks.rounds import Rounds
from deblur_cli.networks.version_blend import ESTIMATE, VersionBlend, add_coarser, stack_versions
from deblur_cli.training.estimates import Estimator
from deblur_cli.training.folder import TrainingData
from deblur_cli.training.loop import Figures
from deblur_cli.training.objectives import mean_psnr, psnr_loss
from deblur_cli.training.patch_pool import PatchPool
from deblur_cli.training.recipe import BlendRecipe
from deblur_cli.training.sources import Generators
from deblur_cli.training.validation import build_validation
from deblur_cli.training.versions import load_known, with_versions

_SIDE = 192  # pixels of the patches in the pool where no deconvolution has windows of its own
_PICTURES = 16  # about so many of each validation set: deconvolving them takes its time


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Pictures that are never trained on: all versions of them, the truth, and what was found in them blindly."""

    versions: Tensor
    sharp: Tensor
    blind: BlindKernels


class BlendTask:
    """See `training.loop.Task`.

    Args:
        expert, second: frozen; their estimates are versions, the second one's where the recipe says so.
        init: weights to start from; they may weigh fewer versions.
    Raises:
        InputError: an expert is blended already, or the recipe and `second` do not agree.
        WeightsError: `init` is damaged or of another shape.
    """

    weights = "blend.safetensors"

    def __init__(
        self,
        recipe: BlendRecipe,
        data: TrainingData,
        expert: Estimator,
        init: Path | None = None,
        second: Estimator | None = None,
    ) -> None:
        self.recipe, self.schedule, self.seed = recipe, recipe.schedule, recipe.seed
        self._experts = {"expert": expert} if second is None else {"expert": expert, "second": second}
        for option, frozen in self._experts.items():
            if "blend" in frozen.hashes:
                raise InputError(
                    f"--{option} {frozen.backend.name}: is blended already; take the expert that it blends"
                )
        if recipe.network.second is not (second is not None):
            needs = "name it with --second" if second is None else "leave --second out"
            raise InputError(f"the recipe's network.second is {str(recipe.network.second).lower()}: {needs}")
        self._data = data
        torch.manual_seed(recipe.seed)
        self.network = VersionBlend(recipe.network)
        wanted = recipe.network.deconvolution
        self._deconvolver = None if wanted is None else Deconvolver(wanted)
        if init is not None:
            load_known(self.network, init)

    @property
    def trained_on(self) -> dict[str, str]:
        return {role: frozen.hashes["expert"] for role, frozen in self._experts.items()}

    def begin(self, accelerator: Accelerator, generators: Generators) -> None:
        sources = self._data.sources(self.recipe.data, self.recipe.synthesis, generators)
        sources = with_versions(sources, [*self._experts.values()], self.network, generators.places)
        wanted = self.recipe.network.deconvolution
        side = _SIDE if wanted is None else wanted.stride
        pool = PatchPool(sources, self.recipe.data, self.schedule.patch, generators, side)
        self._batches: Iterator[tuple[Tensor, ...]] = pool.batches(self.schedule.batch)
        self._held_out = self._open_held_out(accelerator.device)

    def loss(self, network: nn.Module) -> Tensor:
        *versions, sharp = next(self._batches)
        return psnr_loss(network(torch.stack(versions, 1)), sharp, self.recipe.enough)

    def validate(self, network: nn.Module) -> Figures:
        gains: dict[str, dict[str, float]] = {"blend": {}, "expert": {}}
        for name, held_out in self._held_out.items():
            before = 0.0 if name == "sharp" else fmean(mean_psnr(some.versions[:, 0], some.sharp) for some in held_out)
            mixed = fmean(mean_psnr(self._mix(network, some), some.sharp) for some in held_out)
            gains["blend"][name] = mixed - before
            estimated = fmean(mean_psnr(some.versions[:, ESTIMATE], some.sharp) for some in held_out)
            gains["expert"][name] = estimated - before
        titles = {"blend": "Gain over doing nothing (sharp: PSNR), dB", "expert": "The same of the expert alone, dB"}
        return {title: gains[key] for key, title in titles.items()}

    def write(self, path: Path, record: dict[str, Any]) -> None:
        metadata = {
            "config": dataclasses.asdict(self.recipe.network),
            "training": dataclasses.asdict(self.recipe) | record,
            "trained_on": self.trained_on,
        }
        save_network(self.network, path, metadata)

    def _mix(self, network: nn.Module, held_out: _HeldOut) -> Tensor:
        """What the last round gives."""
        config = self.recipe.network
        mixed: Tensor = network(held_out.versions)
        if self._deconvolver is not None and config.rounds > 1:
            rounds = Rounds.of_photos(network, self._deconvolver, config.progress, held_out.blind)
            *_, (_, mixed) = rounds.run(held_out.versions, config.rounds)
        return mixed

    @torch.no_grad()
    def _open_held_out(self, device: torch.device) -> dict[str, list[_HeldOut]]:
        """The held-out pictures of each name."""
        held_out = {}
        for name, batches in build_validation(self._data, self.recipe.synthesis).items():
            some = batches[: max(1, _PICTURES // len(batches[0][0]))]
            held_out[name] = [self._make_versions(blurry.to(device), sharp.to(device)) for blurry, sharp in some]
        return held_out

    def _make_versions(self, blurry: Tensor, sharp: Tensor) -> _HeldOut:
        pictures = [blurry, *(frozen.estimate(blurry) for frozen in self._experts.values())]
        if self.recipe.network.coarser:
            small = functional.avg_pool2d(blurry, 2)
            pictures.append(add_coarser(blurry, self._experts["expert"].estimate(small) - small, 2))
        blind, deconvolved = BlindKernels(), None
        if self._deconvolver is not None:
            deconvolved = self._deconvolver.deconvolve(blurry, pictures[ESTIMATE], blind=blind)
        return _HeldOut(stack_versions(pictures, deconvolved), sharp, blind)
