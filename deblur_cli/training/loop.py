"""The training loop of the fidelity expert: accelerate, averaged weights, checkpoints by time, a log that plots.

Progress leaves through a callback; this module prints nothing.
"""

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from deblur_cli.checkpoint import load_strict, save_network
from deblur_cli.devices import find_device, has_fast_bfloat16
from deblur_cli.errors import InputError
from deblur_cli.networks.dense_unet import DenseUNet
from deblur_cli.training.datasets import Luck, PatchPool, TrainingData
from deblur_cli.training.objectives import fidelity_loss
from deblur_cli.training.optimizer import build_optimizers
from deblur_cli.training.recipe import ExpertRecipe, ScheduleConfig
from deblur_cli.training.validation import ValidationSets, build_validation, validate

STATE, LOG, WEIGHTS = "state.pt", "log.jsonl", "expert.safetensors"
_WINDOW = 50  # steps over which loss and speed are averaged


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands; `gains` are dB over doing nothing on the validation sets, at the last look."""

    step: int
    elapsed: float  # seconds of training, over all resumed runs
    budget: float  # seconds
    loss: float
    photos_per_second: float
    gains: dict[str, float]


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where a training reads and writes."""

    folder: Path
    init: Path | None = None  # weights to start from, with a new optimizer
    resume: bool = False


class ExpertTraining:
    """One run: build, loop until the time is over, save."""

    def __init__(self, recipe: ExpertRecipe, data: TrainingData, paths: RunPaths, accelerator: Accelerator) -> None:
        self.recipe, self.paths, self.accelerator = recipe, paths, accelerator
        device = accelerator.device
        torch.manual_seed(recipe.seed)
        network = DenseUNet(recipe.network)
        if paths.init is not None:
            load_strict(network, paths.init)
        network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        schedule = recipe.schedule
        self.averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(schedule.ema_decay))  # type: ignore[no-untyped-call]
        optimizers = build_optimizers(network, schedule.optimizer, schedule.learning_rate, schedule.weight_decay)
        self.network = accelerator.prepare(network)
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in optimizers]
        self.step, self.elapsed = 0, 0.0
        self.gains: dict[str, float] = {}
        if paths.resume:
            self._load_state()
        # A resumed run must not draw the patches of its first hours again.
        luck = Luck.seeded(recipe.seed + 1000 * accelerator.process_index + self.step, device)
        sources = data.sources(recipe.data, recipe.synthesis, luck)
        self.batches = PatchPool(sources, recipe.data, schedule.patch, luck).batches(schedule.batch)
        self.validation: ValidationSets = build_validation(data, recipe.synthesis)

    def run(self, on_progress: Callable[[Progress], None]) -> None:
        """Train until the recipe's minutes are over, validate and save; on Ctrl-C save and raise."""
        budget = self.recipe.schedule.minutes * 60
        pace = _Pace(self.recipe.schedule, time.monotonic() - self.elapsed)
        try:
            while self.elapsed < budget:
                pace.losses.append(self._train_step(self.elapsed / budget))
                self.elapsed = self._agree(time.monotonic() - pace.started)
                if self.step % _WINDOW and self.elapsed < budget:
                    continue
                if pace.is_time_to_validate() or self.elapsed >= budget:
                    self.gains = self.validate()
                self._report(pace, budget, on_progress)
                if pace.is_time_to_save():
                    self.save()
        finally:
            self.save()

    def _agree(self, seconds: float) -> float:
        """The main process's clock, so that all processes stop after the same step."""
        if self.accelerator.num_processes == 1:
            return seconds
        return float(broadcast(torch.tensor(seconds, device=self.accelerator.device)))

    def _report(self, pace: "_Pace", budget: float, on_progress: Callable[[Progress], None]) -> None:
        loss, speed = pace.close_window()
        photos_per_second = speed * self.recipe.schedule.batch * self.accelerator.num_processes
        progress = Progress(self.step, self.elapsed, budget, loss, photos_per_second, self.gains)
        self._log(progress)
        on_progress(progress)

    def validate(self) -> dict[str, float]:
        """Gain in dB over doing nothing per validation set, with the averaged weights."""
        return validate(self.averaged.module, self.validation, self.accelerator)

    def save(self) -> None:
        """State for resuming and the averaged weights, both replaced atomically."""
        if not self.accelerator.is_main_process:
            return
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "elapsed": self.elapsed,
            "network": self.accelerator.unwrap_model(self.network).state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        _replace(self.paths.folder / STATE, lambda path: torch.save(state, path))
        metadata = {"config": dataclasses.asdict(self.recipe.network), "training": self._training_record()}
        _replace(self.paths.folder / WEIGHTS, lambda path: save_network(self.averaged.module, path, metadata))

    def _train_step(self, done: float) -> Tensor:
        schedule = self.recipe.schedule
        rate = schedule.learning_rate * _rate_factor(done, schedule.warmup / schedule.minutes)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        blurry, sharp = next(self.batches)
        restored = self.network(blurry.contiguous(memory_format=torch.channels_last))
        loss = fidelity_loss(restored, sharp, schedule.frequency_weight)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), schedule.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.averaged.update_parameters(self.accelerator.unwrap_model(self.network))
        self.step += 1
        return loss.detach()

    def _load_state(self) -> None:
        path = self.paths.folder / STATE
        if not path.is_file():
            raise InputError(f"{path}: nothing to resume; leave out --resume to start anew")
        state: dict[str, Any] = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        try:
            self.accelerator.unwrap_model(self.network).load_state_dict(state["network"])
        except RuntimeError as fault:
            raise InputError(f"{path}: belongs to another network shape; resume with its own recipe") from fault
        self.averaged.load_state_dict(state["averaged"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.elapsed = state["step"], state["elapsed"]

    def _training_record(self) -> dict[str, Any]:
        record = dataclasses.asdict(self.recipe)
        return record | {"steps": self.step, "minutes_spent": round(self.elapsed / 60, 2)}

    def _log(self, progress: Progress) -> None:
        if not self.accelerator.is_main_process:
            return
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        with (self.paths.folder / LOG).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(dataclasses.asdict(progress)) + "\n")


class _Pace:
    """When to look, when to save, and the mean loss and speed since the last look."""

    def __init__(self, schedule: ScheduleConfig, started: float) -> None:
        self.started = started
        self.losses: list[Tensor] = []
        self._schedule = schedule
        self._validated = self._saved = self._opened = time.monotonic()

    def is_time_to_validate(self) -> bool:
        due = time.monotonic() - self._validated > self._schedule.validate_minutes * 60
        self._validated = time.monotonic() if due else self._validated
        return due

    def is_time_to_save(self) -> bool:
        due = time.monotonic() - self._saved > self._schedule.save_minutes * 60
        self._saved = time.monotonic() if due else self._saved
        return due

    def close_window(self) -> tuple[float, float]:
        """Mean loss and steps per second of the window that ends now; the next begins."""
        loss, count = float(torch.stack(self.losses).mean()), len(self.losses)
        seconds = time.monotonic() - self._opened
        self.losses, self._opened = [], time.monotonic()
        return loss, count / max(seconds, 1e-9)


def build_accelerator(device: str) -> Accelerator:
    """accelerate's own choice of device, or the one asked for, with bfloat16 where it is fast.

    Raises:
        BackendError: this machine has no such device.
    """
    chosen = find_device(device)
    precision = "bf16" if has_fast_bfloat16(chosen) else "no"
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision=precision)


def _rate_factor(done: float, warmup: float) -> float:
    """Linear to 1 during the warm-up share, then half a cosine down to 2 %."""
    if done < warmup:
        return max(done / warmup, 0.01)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
