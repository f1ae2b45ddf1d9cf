"""The small bundled base as a task: an ordinary rectified flow from noise to the latents of sharp photos."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.checkpoint import load_strict, save_network
from deblur_cli.errors import InputError
from deblur_cli.networks.flow_transformer import FlowTransformer, FlowTransformerConfig
from deblur_cli.sampling.rectified_flow import draw_times, interpolate, velocity_target
from deblur_cli.system.typed_tables import read_table
from deblur_cli.training.latents import WindowSource, latent_side
from deblur_cli.training.loop import Figures
from deblur_cli.training.recipe import BaseRecipe
from deblur_cli.training.sources import Generators

_TIMES = 8  # at which the held-out loss is measured
_BATCH = 16


class BaseTask:
    """See `training.loop.Task`.

    Args:
        init: weights to start from.
    Raises:
        InputError: the recipe's network is none, or does not fit its windows or the codec.
        WeightsError: `init` is damaged or of another shape.
    """

    weights = "transformer.safetensors"

    def __init__(self, recipe: BaseRecipe, windows: WindowSource, init: Path | None = None) -> None:
        self.recipe, self.schedule, self.seed = recipe, recipe.schedule, recipe.seed
        self._windows = windows
        torch.manual_seed(recipe.seed)
        self._flow = FlowTransformer(_read_config(recipe, windows))
        if init is not None:
            load_strict(self._flow.transformer, init)
        self.network: nn.Module = self._flow

    @property
    def trained_on(self) -> dict[str, str]:
        return {"codec": self._windows.codec.sha256}

    def begin(self, accelerator: Accelerator, generators: Generators) -> None:
        with accelerator.main_process_first():
            made = self._windows.open(accelerator.device, self.seed)
        self._latents, self._held_out = made.trained[:, 2], made.held_out[:, 2].to(accelerator.device)  # sharp
        self._generators = generators

    def loss(self, network: nn.Module) -> Tensor:
        places = self._generators.places.integers(len(self._latents), size=self.schedule.batch)
        x_1 = self._latents[places].to(self._generators.pixels.device).float()
        return _flow_loss(network, x_1, draw_times(len(x_1), self._generators.pixels), self._generators.pixels)

    def validate(self, network: nn.Module) -> Figures:
        """The loss on held-out windows, at noise that is the same every time; 1 + their variance is guessing zero."""
        generator = torch.Generator(self._held_out.device).manual_seed(0)
        times = torch.linspace(0, 1 - 1 / _TIMES, _TIMES, device=self._held_out.device)
        losses = [
            float(_flow_loss(network, x_1, time.expand(len(x_1)), generator))
            for time in times
            for x_1 in torch.split(self._held_out, _BATCH)
        ]
        return {"Held-out flow loss": {"velocity error": sum(losses) / len(losses)}}

    def write(self, path: Path, record: dict[str, Any]) -> None:
        metadata = {
            "config": self._flow.config.to_json(),
            "training": dataclasses.asdict(self.recipe) | record,
            "trained_on": self.trained_on,
        }
        save_network(self._flow.transformer, path, metadata)


def _flow_loss(network: nn.Module, x_1: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(x_1.shape, generator=generator, device=x_1.device)
    velocity = network(interpolate(noise, x_1, t), t)
    return functional.mse_loss(velocity.float(), velocity_target(noise, x_1))


def _read_config(recipe: BaseRecipe, windows: WindowSource) -> FlowTransformerConfig:
    try:
        config = read_table(FlowTransformerConfig, recipe.network)
    except (TypeError, ValueError) as fault:
        raise InputError(f"the recipe's [network] is no flow transformer: {fault}") from fault
    wanted = (latent_side(windows.maker.latents), windows.codec.network.config.channels)
    if (config.window, config.channels) != wanted:
        found = f"a window of {config.window} latents with {config.channels} channels"
        raise InputError(f"the recipe's [network] has {found}, the windows and the codec {wanted[0]} with {wanted[1]}")
    return config
