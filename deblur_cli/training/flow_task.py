"""The adaptation of a frozen base as a task: its path starts at a photo's latents, so its velocity is the residual.

What is trained is a LoRA and the input columns for the blurred photo's latents, nothing else. First it learns the
velocity; then, in a short stage through the unrolled sampler, what the picture at its end looks like.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.checkpoint import check_tensors, read_content, save_tensors
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.networks.flow_transformer import FlowTransformer, LoraSettings
from deblur_cli.networks.lpips import Lpips
from deblur_cli.sampling.rectified_flow import draw_times, interpolate, sample_euler, start, velocity_target
from deblur_cli.system.devices import has_fast_bfloat16
from deblur_cli.system.wording import count
from deblur_cli.training.bases import Base
from deblur_cli.training.detail_sums import Detail
from deblur_cli.training.latents import WindowSource
from deblur_cli.training.loop import Figures
from deblur_cli.training.objectives import fidelity_loss, mean_psnr
from deblur_cli.training.perception import draw_views, grain, load_judge, mean_distance
from deblur_cli.training.recipe import FlowRecipe
from deblur_cli.training.sources import Generators

_STEPS = (1, 4)  # of the sampler, at which the held-out windows are looked at
_BATCH = 16


class FlowTask:
    """See `training.loop.Task`.

    Args:
        init: an adapter to start from.
        perception: the distance of the unrolled stage, if the recipe has one.
    Raises:
        InputError: the base does not belong to the codec, or the recipe's LoRA is none.
        WeightsError: `init` is damaged or of another shape.
    """

    weights = "lora.safetensors"

    def __init__(
        self,
        recipe: FlowRecipe,
        base: Base,
        windows: WindowSource,
        init: Path | None = None,
        perception: Lpips | None = None,
    ) -> None:
        self.recipe, self.schedule, self.seed = recipe, recipe.schedule, recipe.seed
        self._base, self._windows, self._perception = base, windows, perception
        _check_fit(base, windows)
        torch.manual_seed(recipe.seed)
        self._flow = _adapt(base.network, recipe)
        if init is not None:
            _load_adapter(self._flow, init)
        self.network: nn.Module = self._flow

    @property
    def trained_on(self) -> dict[str, str]:
        prompt = self._base.prompt
        parents = {"codec": self._windows.codec.sha256, "base": self._base.sha256}
        return parents | dict(self._windows.maker.expert.hashes) | ({} if prompt is None else {"prompt": prompt})

    def begin(self, accelerator: Accelerator, generators: Generators) -> None:
        with accelerator.main_process_first():
            made = self._windows.open(accelerator.device, self.seed)
        self._latents, self._pictures, kept = made.trained, made.windows.trained, made.windows.held_out
        pixels, latents = (held.to(accelerator.device) for held in (kept.take(range(len(kept))), made.held_out))
        self._held_out = list(zip(torch.split(pixels, _BATCH), torch.split(latents, _BATCH), strict=True))
        self._codec = self._windows.codec.network.to(accelerator.device)
        self._generators, self._is_bfloat16 = generators, has_fast_bfloat16(accelerator.device)
        if self.recipe.flow.unrolled_steps:
            self._judge = load_judge().to(accelerator.device)
        if self._perception is not None:
            self._perception.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, network: nn.Module) -> Tensor:
        places = self._generators.places.integers(len(self._latents), size=self.schedule.batch)
        device, flow = self._generators.pixels.device, self.recipe.flow
        blurry, estimate, x_1 = self._latents[places].to(device).float().unbind(1)
        drawn = torch.rand(len(blurry), 1, 1, 1, generator=self._generators.pixels, device=device)
        is_estimate = drawn < flow.estimate_share
        source = torch.where(is_estimate, estimate, blurry)
        if not flow.unrolled_steps:
            return self._velocity_loss(network, source, blurry, x_1)
        seen, estimated, sharp = self._pictures.take(places.tolist()).to(device).unbind(1)
        shown = torch.where(is_estimate, estimated, seen)
        residual = self._decode(self._follow(network, self._start(source), blurry, flow.unrolled_steps) - source, shown)
        loss = self._picture_loss(shown + residual, sharp)
        if flow.grain_weight:
            loss = loss + flow.grain_weight * grain(residual, sharp)
        if flow.velocity_weight:
            loss = loss + flow.velocity_weight * self._velocity_loss(network, source, blurry, x_1)
        return loss

    def _velocity_loss(self, network: nn.Module, source: Tensor, blurry: Tensor, x_1: Tensor) -> Tensor:
        x_0 = self._start(source)
        t = draw_times(len(x_0), self._generators.pixels)
        velocity = network(interpolate(x_0, x_1, t), t, self._condition(blurry))
        return functional.mse_loss(velocity.float(), velocity_target(x_0, x_1))

    def _picture_loss(self, restored: Tensor, sharp: Tensor) -> Tensor:
        loss = fidelity_loss(restored, sharp, self.schedule.frequency_weight)
        if self._perception is None:
            return loss
        flow = self.recipe.flow
        views = draw_views((restored, sharp), flow.crop, flow.half_share, self._generators.places)
        distance = mean_distance(self._perception, *views, is_bfloat16=self._is_bfloat16)
        return loss + flow.lpips_weight * distance

    def validate(self, network: nn.Module) -> Figures:
        """Fidelity and local detail of the estimate, and of what the flow makes of it in one step and in four."""
        names = ["estimate", *(count(steps, "step") for steps in _STEPS)]
        psnr, detail = dict.fromkeys(names, 0.0), {name: Detail() for name in names}
        distance, is_judged = dict.fromkeys(names, 0.0), self.recipe.flow.unrolled_steps > 0
        total = sum(len(pixels) for pixels, _ in self._held_out)
        for pixels, latents in self._held_out:
            blurry, estimate, sharp = pixels.unbind(1)
            images = [estimate, *(estimate + self._enhance(network, estimate, latents, steps) for steps in _STEPS)]
            for name, image in zip(names, images, strict=True):
                psnr[name] += mean_psnr(image, sharp) * len(sharp) / total
                detail[name].add(blurry, image.float().clamp(0, 1), sharp)
                if is_judged:
                    shown = image.float().clamp(0, 1)
                    distance[name] += float(self._judge(shown, sharp).sum()) / total
        figures = {
            "Held-out windows, dB PSNR": psnr,
            "Local detail, mean absolute log-ratio": {f"detail {name}": detail[name].ratio for name in names},
            "Correlation of added with missing detail": {f"corr {name}": detail[name].correlation for name in names},
        }
        judged = {f"LPIPS {name}": value for name, value in distance.items()}
        return figures | ({"LPIPS with AlexNet": judged} if is_judged else {})

    def write(self, path: Path, record: dict[str, Any]) -> None:
        flow = self.recipe.flow
        shape = {"rank": flow.rank, "targets": list(flow.targets)}
        metadata = {
            "config": {**shape, "start_noise": flow.start_noise, "window": self._flow.config.window},
            "training": dataclasses.asdict(self.recipe) | record,
            "trained_on": self.trained_on,
        }
        if flow.adapt == "all":
            save_tensors({**self._flow.base_state(), **self._flow.adapter_state()}, path, metadata)
        else:
            save_tensors(self._flow.adapter_state(), path, metadata)

    def _start(self, source: Tensor) -> Tensor:
        noise = torch.randn(source.shape, generator=self._generators.pixels, device=source.device)
        return start(source, noise, self.recipe.flow.start_noise)

    def _condition(self, blurry: Tensor) -> Tensor | None:
        return blurry if self.recipe.flow.blurry_channels else None

    def _enhance(self, network: nn.Module, estimate: Tensor, latents: Tensor, steps: int) -> Tensor:
        """What the flow adds to the estimate, in pixels; its noise is the same every time."""
        blurry, source, _ = latents.unbind(1)
        generator = torch.Generator(source.device).manual_seed(0)
        noise = torch.randn(source.shape, generator=generator, device=source.device)
        x_0 = start(source, noise, self.recipe.flow.start_noise)
        return self._decode(self._follow(network, x_0, blurry, steps) - source, estimate)

    def _follow(self, network: nn.Module, x_0: Tensor, blurry: Tensor, steps: int) -> Tensor:
        """Where the sampler ends."""

        def field(x_t: Tensor, t: float) -> Tensor:
            times = torch.full((len(x_t),), t, device=x_t.device)
            velocity: Tensor = network(x_t, times, self._condition(blurry))
            return velocity.float()

        return sample_euler(field, x_0, steps)

    def _decode(self, difference: Tensor, source: Tensor) -> Tensor:
        """Pixels to add to the source."""
        with torch.autocast(source.device.type, torch.bfloat16, enabled=self._is_bfloat16):
            return self._codec.decode(difference, source).float()


def _adapt(network: FlowTransformer, recipe: FlowRecipe) -> FlowTransformer:
    """The base with what is trained; `adapt = "all"` trains the base itself."""
    flow = recipe.flow
    if flow.adapt not in ("lora", "all"):
        raise InputError(f"the recipe's adapt = {flow.adapt!r}: choose lora or all")
    if flow.blurry_channels:
        network.widen()
    try:
        if flow.adapt == "lora":
            network.attach_lora(LoraSettings(flow.rank, flow.targets))
    except (TypeError, ValueError) as fault:
        raise InputError(f"the recipe's [flow]: {fault}") from fault
    if flow.checkpointing:
        network.enable_gradient_checkpointing()
    return network


def _check_fit(base: Base, windows: WindowSource) -> None:
    codec, config = windows.codec, base.network.config
    if base.codec not in (None, codec.sha256):
        raise InputError(f"the base was trained on another codec ({base.codec[:12]}…, not {codec.sha256[:12]}…)")
    if config.channels != codec.network.config.channels:
        raise InputError(
            f"the base has latents of {config.channels} channels, the codec of {codec.network.config.channels}; "
            "train a codec with as many"
        )


def _load_adapter(network: FlowTransformer, path: Path) -> None:
    tensors: Mapping[str, Tensor] = check_tensors(read_content(path), path)
    try:
        network.load_adapter(tensors)
    except ValueError as fault:
        raise WeightsError(f"{path}: {fault}; start from an adapter of the same recipe") from fault
