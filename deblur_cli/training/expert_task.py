"""The fidelity expert as a task: pairs of patches in, the smallest error out."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from deblur_cli.backends.expert import read_network
from deblur_cli.checkpoint import load_strict, save_network
from deblur_cli.networks.experts import find_expert
from deblur_cli.system.typed_tables import read_table
from deblur_cli.training.folder import TrainingData
from deblur_cli.training.loop import Figures
from deblur_cli.training.objectives import fidelity_loss
from deblur_cli.training.patch_pool import PatchPool
from deblur_cli.training.recipe import ExpertRecipe
from deblur_cli.training.sources import Generators
from deblur_cli.training.validation import ValidationSets, build_validation, measure_gains


class ExpertTask:
    """See `training.loop.Task`.

    Args:
        init: weights to start from.
    Raises:
        WeightsError: `init` is damaged or of another shape.
    """

    weights = "expert.safetensors"

    def __init__(self, recipe: ExpertRecipe, data: TrainingData, init: Path | None = None) -> None:
        self.recipe, self.schedule, self.seed = recipe, recipe.schedule, recipe.seed
        self._data = data
        torch.manual_seed(recipe.seed)
        kind = find_expert(recipe.architecture)
        network = kind.network(read_table(kind.config, recipe.network))
        network.checkpointing = recipe.checkpointing
        self.network: nn.Module = network
        self._config = network.config
        if init is not None and kind.reshape is None:
            load_strict(self.network, init)
        elif init is not None:  # which may hold more than is trained
            self.network.load_state_dict(read_network(init, recipe.architecture, recipe.network).state_dict())
        self._validation: ValidationSets = build_validation(data, recipe.synthesis)

    @property
    def trained_on(self) -> dict[str, str]:
        return {}

    def begin(self, accelerator: Accelerator, generators: Generators) -> None:
        sources = self._data.sources(self.recipe.data, self.recipe.synthesis, generators)
        pool = PatchPool(sources, self.recipe.data, self.schedule.patch, generators)
        self._batches: Iterator[tuple[Tensor, ...]] = pool.batches(self.schedule.batch)
        self._device = accelerator.device

    def loss(self, network: nn.Module) -> Tensor:
        blurry, sharp = next(self._batches)
        restored = network(blurry.contiguous(memory_format=torch.channels_last))
        return fidelity_loss(restored, sharp, self.schedule.frequency_weight)

    def validate(self, network: nn.Module) -> Figures:
        return measure_gains(network, self._validation, self._device)

    def write(self, path: Path, record: dict[str, Any]) -> None:
        metadata = {
            "network": self.recipe.architecture,
            "config": dataclasses.asdict(self._config),
            "training": dataclasses.asdict(self.recipe) | record,
        }
        save_network(self.network, path, metadata)
