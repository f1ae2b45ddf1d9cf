"""The fidelity expert as a task: pairs of patches in, the smallest error out."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.checkpoint import check_tensors, read_content, save_network
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.networks.deconvolving_unet import DeconvolvingUNet, DeconvolvingUNetConfig
from deblur_cli.networks.dense_unet import DenseUNet
from deblur_cli.training.datasets import Luck, PatchPool, TrainingData
from deblur_cli.training.deconvolved import with_candidates
from deblur_cli.training.loop import Figures
from deblur_cli.training.objectives import fidelity_loss
from deblur_cli.training.recipe import ExpertRecipe
from deblur_cli.training.validation import ValidationSets, build_validation, measure_gains

_UNET, _STEM, _STAGES = "unet.", "stem.weight", ("encoders.", "decoders.")


class ExpertTask:
    """See `training.loop.Task`.

    Args:
        init: an expert to start from. Its U-Net may have more blocks, which are left out, and see fewer candidates.
    Raises:
        WeightsError: `init` is damaged or of another shape.
    """

    weights = "expert.safetensors"

    def __init__(self, recipe: ExpertRecipe, data: TrainingData, init: Path | None = None) -> None:
        self.recipe, self.schedule, self.seed = recipe, recipe.schedule, recipe.seed
        self._data = data
        torch.manual_seed(recipe.seed)
        self.network: DenseUNet | DeconvolvingUNet = _build(recipe)
        if init is not None:
            _adopt(self._unet, init)
        self._validation: ValidationSets = build_validation(data, recipe.synthesis)

    @property
    def _unet(self) -> DenseUNet:
        return self.network.unet if isinstance(self.network, DeconvolvingUNet) else self.network

    def begin(self, accelerator: Accelerator, luck: Luck) -> None:
        sources, side = self._data.sources(self.recipe.data, self.recipe.synthesis, luck), None
        if isinstance(self.network, DeconvolvingUNet):
            sources, side = with_candidates(sources, self.network), self.recipe.deconvolution.stride
        pool = PatchPool(sources, self.recipe.data, self.schedule.patch, luck, side)
        self._batches: Iterator[tuple[Tensor, ...]] = pool.batches(self.schedule.batch)
        self._device = accelerator.device

    def loss(self, network: nn.Module) -> Tensor:
        blurry, *candidates, sharp = next(self._batches)
        seen = [torch.cat(candidates, 1)] if candidates else []
        restored = network(*(image.contiguous(memory_format=torch.channels_last) for image in (blurry, *seen)))
        return fidelity_loss(restored, sharp, self.schedule.frequency_weight)

    def validate(self, network: nn.Module) -> Figures:
        return measure_gains(network, self._validation, self._device, self.network.config.multiple_of)

    def write(self, path: Path, record: dict[str, Any]) -> None:
        training = dataclasses.asdict(self.recipe) | record
        save_network(self.network, path, {"config": dataclasses.asdict(self.network.config), "training": training})


def _build(recipe: ExpertRecipe) -> DenseUNet | DeconvolvingUNet:
    """A U-Net alone where the recipe's sees no candidates."""
    if not recipe.network.candidates:
        return DenseUNet(recipe.network)
    try:
        return DeconvolvingUNet(DeconvolvingUNetConfig(recipe.network, recipe.deconvolution))
    except ValueError as fault:
        raise InputError(f"the recipe does not fit together: {fault}") from fault


def _adopt(unet: DenseUNet, path: Path) -> None:
    """Copy another expert's U-Net: blocks that are not wanted are left out, candidates it did not see weigh nothing."""
    found = check_tensors(read_content(path), path)
    if any(key.startswith(_UNET) for key in found):
        found = {key.removeprefix(_UNET): value for key, value in found.items() if key.startswith(_UNET)}
    wanted = unet.state_dict()
    found = {key: value for key, value in found.items() if key in wanted or not key.startswith(_STAGES)}
    if _STEM in found:
        missing = wanted[_STEM].shape[1] - found[_STEM].shape[1]
        found[_STEM] = functional.pad(found[_STEM], (0, 0, 0, 0, 0, max(0, missing)))
    try:
        unet.load_state_dict(found, strict=True)
    except RuntimeError as fault:
        raise WeightsError(f"{path}: is no expert of this shape: {' '.join(str(fault).split())[:200]}") from fault
