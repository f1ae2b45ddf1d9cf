"""r-space as a task: a sharp photo must come back through the difference of its latents to those of a source."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.checkpoint import load_strict, save_network
from deblur_cli.networks.lpips import Lpips
from deblur_cli.networks.residual_codec import ResidualCodec
from deblur_cli.system.devices import has_fast_bfloat16
from deblur_cli.training.anchor import Anchor
from deblur_cli.training.estimates import Estimator, with_estimates
from deblur_cli.training.folder import TrainingData
from deblur_cli.training.loop import Figures
from deblur_cli.training.objectives import fidelity_loss, latent_spread, mean_psnr
from deblur_cli.training.patch_pool import PatchPool
from deblur_cli.training.perception import mean_distance
from deblur_cli.training.recipe import CodecRecipe
from deblur_cli.training.sources import Generators
from deblur_cli.training.validation import build_validation
from deblur_cli.training.windows import KeptSource, WindowMaker

GREY = 0.5  # of the flat source from which a photo is decoded plainly
_MEASURED = ("real", "shake")


class CodecTask:
    """See `training.loop.Task`.

    Args:
        init: weights to start from.
        anchor: the autoencoder of a large base, near whose latents the codec's are to stay.
        perception: the distance of the recipe's `lpips_weight`.
        kept: windows with estimates that are there already, in place of new ones.
    Raises:
        WeightsError: `init` is damaged or of another shape.
    """

    weights = "codec.safetensors"

    def __init__(
        self,
        recipe: CodecRecipe,
        data: TrainingData,
        expert: Estimator,
        init: Path | None = None,
        anchor: Anchor | None = None,
        perception: Lpips | None = None,
        kept: WindowMaker | None = None,
    ) -> None:
        self.recipe, self.schedule, self.seed = recipe, recipe.schedule, recipe.seed
        self._data, self._expert, self._anchor = data, expert, anchor
        self._perception, self._kept = perception, kept
        torch.manual_seed(recipe.seed)
        self.network = ResidualCodec(recipe.network)
        if init is not None:
            load_strict(self.network, init)

    @property
    def trained_on(self) -> dict[str, str]:
        return dict(self._expert.hashes)

    def begin(self, accelerator: Accelerator, generators: Generators) -> None:
        if self._kept is None:
            drawn = self._data.sources(self.recipe.data, self.recipe.synthesis, generators)
            sources = with_estimates(drawn, self._expert)
        else:
            with accelerator.main_process_first():
                windows = self._kept.open(accelerator.device, self.seed)
            sources = [(1.0, KeptSource(windows.trained, generators))]
        if self._perception is not None:
            self._perception.to(accelerator.device)
        pool = PatchPool(sources, self.recipe.data, self.schedule.patch, generators)
        self._batches: Iterator[tuple[Tensor, ...]] = pool.batches(self.schedule.batch)
        if self._anchor is not None:
            self._anchor.to(accelerator.device)
        self._generators, self._held_out = generators, self._estimate_held_out(accelerator.device)

    def loss(self, network: nn.Module) -> Tensor:
        blurry, estimate, sharp = next(self._batches)
        source = self._choose_source(blurry, estimate)
        sharp, source = (image.contiguous(memory_format=torch.channels_last) for image in (sharp, source))
        restored, latents = network(sharp, source, self._draw_noise(sharp))
        loss = fidelity_loss(restored, sharp, self.schedule.frequency_weight) + self._place(latents, sharp)
        if self._perception is None:
            return loss
        is_bfloat16 = has_fast_bfloat16(sharp.device)
        distance = mean_distance(self._perception, restored, sharp, is_bfloat16=is_bfloat16)
        return loss + self.recipe.codec.lpips_weight * distance

    def _place(self, latents: Tensor, sharp: Tensor) -> Tensor:
        """What keeps the latents where a flow can work: near those of a base, else at unit variance."""
        codec = self.recipe.codec
        if self._anchor is None:
            return codec.latent_weight * latent_spread(latents)
        return codec.anchor_weight * functional.mse_loss(latents.float(), self._anchor.encode(sharp).float())

    def validate(self, network: nn.Module) -> Figures:
        if not self._held_out:
            return {}
        psnr = {"estimate": 0.0, "through r-space": 0.0, "decoded plainly": 0.0}
        for estimate, sharp in self._held_out:
            through, latents = network(sharp, estimate)
            plain, _ = network(sharp, torch.full_like(sharp, GREY))
            for name, image in zip(psnr, (estimate, through, plain), strict=True):
                psnr[name] += mean_psnr(image, sharp) / len(self._held_out)
        spread = {"deviation": float(latents.float().std()), "mean": float(latents.float().mean())}
        return {"Held-out pairs, dB PSNR": psnr, "Latents of the last batch": spread}

    def write(self, path: Path, record: dict[str, Any]) -> None:
        metadata = {
            "config": dataclasses.asdict(self.recipe.network),
            "training": dataclasses.asdict(self.recipe) | record,
            "trained_on": self.trained_on,
        }
        save_network(self.network, path, metadata)

    def _choose_source(self, blurry: Tensor, estimate: Tensor) -> Tensor:
        """Per patch: the estimate, flat grey or the blurred photo."""
        shares, generator = self.recipe.codec, self._generators.pixels
        drawn = torch.rand(len(blurry), 1, 1, 1, generator=generator, device=blurry.device)
        source = torch.where(drawn < shares.estimate_share, estimate, blurry)
        return torch.where(drawn > 1 - shares.grey_share, torch.full_like(blurry, GREY), source)

    def _draw_noise(self, sharp: Tensor) -> Tensor:
        count, _, height, width = sharp.shape
        shape = (count, self.recipe.network.channels, height // 8, width // 8)
        generator, device = self._generators.pixels, sharp.device
        level = self.recipe.codec.max_noise * torch.rand(count, 1, 1, 1, generator=generator, device=device)
        return level * torch.randn(shape, generator=generator, device=device)

    def _estimate_held_out(self, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """Estimate and truth of the held-out pairs."""
        sets = build_validation(self._data, self.recipe.synthesis)
        batches = [batch for name in _MEASURED for batch in sets.get(name, [])]
        on_device = [(blurry.to(device), sharp.to(device)) for blurry, sharp in batches]
        return [(self._expert.estimate(blurry).clone(), sharp) for blurry, sharp in on_device]
