"""The decoder of r-space as a task: it learns to decode what a flow finds, with a look at LPIPS.

A codec is trained on differences between estimates and sharp photos; a flow finds a part of such a difference, and not
quite the right one. The encoder stays as it is, so the flow stays valid, and no difference decodes to nothing still.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from deblur_cli.backends.dual_expert_files import load_adapter, read_start_noise
from deblur_cli.checkpoint import load_strict, read_metadata, save_network
from deblur_cli.errors import InputError
from deblur_cli.networks.flow_transformer import FlowTransformer
from deblur_cli.networks.lpips import Lpips
from deblur_cli.restoration import guard
from deblur_cli.sampling.rectified_flow import Field, sample_euler, start
from deblur_cli.system.devices import has_fast_bfloat16
from deblur_cli.system.files import hash_file
from deblur_cli.training.bases import Base, check_codec
from deblur_cli.training.detail_sums import Detail
from deblur_cli.training.latents import WindowSource
from deblur_cli.training.loop import Figures
from deblur_cli.training.objectives import fidelity_loss, mean_psnr
from deblur_cli.training.perception import draw_views, grain, load_judge, mean_distance
from deblur_cli.training.recipe import DecoderRecipe
from deblur_cli.training.sources import Generators

_BATCH = 12  # windows that the flow sees at once


@dataclass(frozen=True, slots=True)
class Flow:
    """A frozen flow.

    Attributes:
        network: with its adapter fused.
        hashes: sha256 of base, lora and perhaps prompt.
    """

    network: FlowTransformer
    start_noise: float
    base: Base
    hashes: dict[str, str]


def load_frozen_flow(base: Base, lora: Path) -> Flow:
    """A base with its adapter; the base's network is changed.

    Raises:
        InputError: the adapter is missing, or was trained on another base.
        WeightsError: it is damaged or does not fit.
    """
    if not lora.is_file():
        raise InputError(f"--lora {lora}: no such file")
    told = read_metadata(lora).get("trained_on", {})
    prompt = {} if base.prompt is None else {"prompt": base.prompt}
    if told.get("base") != base.sha256 or told.get("prompt") != base.prompt:
        raise InputError(f"--lora {lora}: was trained on another base or prompt")
    start_noise = read_start_noise(lora)
    load_adapter(base.network, lora)
    network = base.network.eval().requires_grad_(requires_grad=False)
    return Flow(network, start_noise, base, {"base": base.sha256, "lora": hash_file(lora)} | prompt)


class DecoderTask:
    """See `training.loop.Task`.

    Args:
        init: a decoder to start from; None takes the codec's own.
        perception: the distance of the recipe's `lpips_weight`.
    Raises:
        InputError: the flow does not belong to the codec.
        WeightsError: `init` is damaged or of another shape.
    """

    weights = "decoder.safetensors"

    def __init__(
        self,
        recipe: DecoderRecipe,
        flow: Flow,
        windows: WindowSource,
        init: Path | None = None,
        perception: Lpips | None = None,
    ) -> None:
        self.recipe, self.schedule, self.seed = recipe, recipe.schedule, recipe.seed
        self._flow, self._windows, self._perception = flow, windows, perception
        check_codec(flow.base, windows.codec)
        torch.manual_seed(recipe.seed)
        decoder = windows.codec.network.decoder
        if init is not None:
            load_strict(decoder, init)
        self.network: nn.Module = decoder.requires_grad_(requires_grad=True)

    @property
    def trained_on(self) -> dict[str, str]:
        return {"codec": self._windows.codec.sha256} | self._flow.hashes | dict(self._windows.maker.expert.hashes)

    def begin(self, accelerator: Accelerator, generators: Generators) -> None:
        device = accelerator.device
        self._is_bfloat16 = has_fast_bfloat16(device)
        with accelerator.main_process_first():
            made = self._windows.open(device, self.seed)
        self._pictures, held_out = made.windows.trained, made.windows.held_out
        self._generators, self._judge = generators, load_judge().to(device)
        self._flow.network.to(device)
        self._found = self._follow(made.trained, device)
        pixels, found = held_out.take(range(len(held_out))), self._follow(made.held_out, device)
        self._held_out = list(zip(torch.split(pixels, _BATCH), torch.split(found, _BATCH), strict=True))
        if self._perception is not None:
            self._perception.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, network: nn.Module) -> Tensor:
        places = self._generators.places.integers(len(self._found), size=self.schedule.batch)
        device, decoder = self._generators.pixels.device, self.recipe.decoder
        _, estimate, sharp = self._pictures.take(places.tolist()).to(device).unbind(1)
        added = self._decode(network, self._found[places].to(device).float(), estimate)
        loss = fidelity_loss(estimate + added, sharp, self.schedule.frequency_weight)
        if decoder.grain_weight:
            loss = loss + decoder.grain_weight * grain(added, sharp)
        if self._perception is None:
            return loss
        views = draw_views((estimate + added, sharp), decoder.crop, decoder.half_share, self._generators.places)
        distance = mean_distance(self._perception, *views, is_bfloat16=self._is_bfloat16)
        return loss + decoder.lpips_weight * distance

    def validate(self, network: nn.Module) -> Figures:
        """Fidelity, local detail and LPIPS of the estimate, and of what is decoded at strength 1."""
        names = ("estimate", "decoded")
        psnr, distance = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        detail, device = {name: Detail() for name in names}, self._generators.pixels.device
        total = sum(len(found) for _, found in self._held_out)
        for pixels, found in self._held_out:
            blurry, estimate, sharp = pixels.to(device).unbind(1)
            decoded = estimate + self._decode(network, found.to(device).float(), estimate)
            for name, image in zip(names, (estimate, decoded), strict=True):
                shown = image.clamp(0, 1)
                psnr[name] += mean_psnr(shown, sharp) * len(sharp) / total
                detail[name].add(blurry, shown, sharp)
                distance[name] += float(self._judge(shown, sharp).sum()) / total
        return {
            "Held-out windows, dB PSNR": psnr,
            "Local detail, mean absolute log-ratio": {f"detail {name}": detail[name].ratio for name in names},
            "Correlation of added with missing detail": {f"corr {name}": detail[name].correlation for name in names},
            "LPIPS with AlexNet": {f"LPIPS {name}": value for name, value in distance.items()},
        }

    def write(self, path: Path, record: dict[str, Any]) -> None:
        metadata = {
            "config": dataclasses.asdict(self._windows.codec.network.config),
            "training": dataclasses.asdict(self.recipe) | record,
            "trained_on": self.trained_on,
        }
        save_network(self.network, path, metadata)

    @torch.no_grad()
    def _follow(self, latents: Tensor, device: torch.device) -> Tensor:
        """(N, 3, C, h, w), blurry, estimate and sharp -> (N, C, h, w), bfloat16, on the CPU: what the flow finds."""
        generator = torch.Generator().manual_seed(self.seed)
        found = []
        for some in torch.split(latents, _BATCH):
            blurry, estimate = some[:, 0].to(device).float(), some[:, 1].to(device).float()
            noise = torch.randn(estimate.shape, generator=generator).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self._is_bfloat16):
                first = start(estimate, noise, self._flow.start_noise)
                last = sample_euler(self._build_field(blurry), first, self.recipe.decoder.steps)
            found.append((last - estimate).bfloat16().cpu())
        return torch.cat(found)

    def _build_field(self, blurry: Tensor) -> Field:
        network = self._flow.network
        condition = blurry if network.is_widened else None

        def field(x_t: Tensor, t: float) -> Tensor:
            velocity: Tensor = network(x_t, torch.full(x_t.shape[:1], t, device=x_t.device), condition)
            return velocity.float()

        return field

    def _decode(self, network: nn.Module, found: Tensor, estimate: Tensor) -> Tensor:
        """(B, 3, H, W): what is added to the estimates, as in a run without the low frequencies."""
        with torch.autocast(estimate.device.type, torch.bfloat16, enabled=self._is_bfloat16):
            added: Tensor = network(found, estimate).float()
        return guard.without_low(added)
