"""The training loop of every network: accelerate, averaged weights, checkpoints by time, a log that plots.

Knows no network: what is trained, on what and against what is a `Task`. Progress leaves through a callback.
"""

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from deblur_cli.errors import InputError
from deblur_cli.system.devices import find_device, has_fast_bfloat16
from deblur_cli.system.files import whole_file
from deblur_cli.training.optimizer import build_optimizers
from deblur_cli.training.recipe import ScheduleConfig
from deblur_cli.training.sources import Generators

STATE, LOG = "state.pt", "log.jsonl"
_WINDOW = 50  # steps over which loss and speed are averaged

Figures = dict[str, dict[str, float]]  # title with unit -> name -> value


class Task(Protocol):
    """A network and what it is to learn."""

    weights: str  # name of the file in the folder of the run
    schedule: ScheduleConfig
    seed: int

    @property
    def network(self) -> nn.Module:
        """What of it requires a gradient is trained, averaged and kept in the state."""

    @property
    def trained_on(self) -> dict[str, str]:
        """Role -> hex sha256 of the frozen networks that it is trained on."""

    def begin(self, accelerator: Accelerator, generators: Generators) -> None:
        """Called once, before the first loss: put what is not trained on the device, open the data."""

    def loss(self, network: nn.Module) -> Tensor:
        """The loss of one batch that the task draws itself; `network` is the wrapped one."""

    def validate(self, network: nn.Module) -> Figures:
        """What the averaged weights reach on data that is not trained on."""

    def write(self, path: Path, record: dict[str, Any]) -> None:
        """Save the network, whole or not at all; `record` says how long it was trained, for the metadata."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands; `figures` are those of the last look at the validation data."""

    step: int
    elapsed: float  # seconds of training, over all resumed runs
    budget: float  # seconds
    loss: float
    photos_per_second: float
    figures: Figures


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where a training reads and writes."""

    folder: Path
    resume: bool = False


class Training:
    """One run: build, loop until the time is over, save."""

    def __init__(self, task: Task, paths: RunPaths, accelerator: Accelerator) -> None:
        self.task, self.paths, self.accelerator = task, paths, accelerator
        device, schedule = accelerator.device, task.schedule
        task.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trained = [parameter for parameter in task.network.parameters() if parameter.requires_grad]
        self.average = EMAModel(self.trained, decay=schedule.ema_decay)
        optimizers = build_optimizers(task.network, schedule.optimizer, schedule.learning_rate, schedule.weight_decay)
        self.network = accelerator.prepare(task.network)
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in optimizers]
        self.step, self.elapsed = 0, 0.0
        self.figures: Figures = {}
        if paths.resume:
            self._load_state()
        # A resumed run must not draw the patches of its first hours again.
        task.begin(accelerator, Generators.seeded(task.seed + 1000 * accelerator.process_index + self.step, device))

    def run(self, on_progress: Callable[[Progress], None]) -> None:
        """Train until the recipe's minutes or steps are over, validate and save; on Ctrl-C save and raise."""
        pace = _Pace(self.task.schedule, time.monotonic() - self.elapsed)
        try:
            while (done := self._share_done()) < 1:
                pace.losses.append(self._train_step(done))
                self.elapsed = self._agree(time.monotonic() - pace.started)
                is_over = self._share_done() >= 1
                if self.step % _WINDOW and not is_over:
                    continue
                if pace.is_time_to_validate() or is_over:
                    self.figures = self.validate()
                self._report(pace, on_progress)
                if pace.is_time_to_save():
                    self.save()
        finally:
            self.save()

    def validate(self) -> Figures:
        """The task's figures, with the averaged weights."""
        network = self.task.network
        network.eval()
        with self._averaged(), torch.no_grad(), self.accelerator.autocast():
            figures = self.task.validate(network)
        network.train()
        return figures

    def save(self) -> None:
        """State for resuming and the averaged weights, both replaced atomically."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "step": self.step,
            "elapsed": self.elapsed,
            "trained": self.trained,
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "trained_on": self.task.trained_on,
        }
        with whole_file(self.paths.folder / STATE) as temporary:
            torch.save(state, temporary)
        record = {"steps": self.step, "minutes_spent": round(self.elapsed / 60, 2)}
        with self._averaged():
            self.task.write(self.paths.folder / self.task.weights, record)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The network with its averaged weights."""
        self.average.store(self.trained)
        self.average.copy_to(self.trained)
        try:
            yield
        finally:
            self.average.restore(self.trained)

    def _agree(self, seconds: float) -> float:
        """The main process's clock, so that all processes stop after the same step."""
        if self.accelerator.num_processes == 1:
            return seconds
        return float(broadcast(torch.tensor(seconds, device=self.accelerator.device)))

    def _share_done(self) -> float:
        """From 0 to 1, by the recipe's steps if it counts them, else by its minutes."""
        schedule = self.task.schedule
        done, wanted = (self.step, schedule.steps) if schedule.steps > 0 else (self.elapsed, 60 * schedule.minutes)
        return done / wanted if wanted > 0 else 1.0

    def _report(self, pace: "_Pace", on_progress: Callable[[Progress], None]) -> None:
        loss, speed = pace.close_window()
        budget = self.elapsed / self._share_done()  # with steps an extrapolation, else the minutes
        photos_per_second = speed * self.task.schedule.batch * self.accelerator.num_processes
        progress = Progress(self.step, self.elapsed, budget, loss, photos_per_second, self.figures)
        self._log(progress)
        on_progress(progress)

    def _train_step(self, done: float) -> Tensor:
        schedule = self.task.schedule
        warmup = schedule.warmup / schedule.minutes if schedule.minutes else 0.0
        rate = schedule.learning_rate * _rate_factor(done, warmup)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss = self.task.loss(self.network)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.trained, schedule.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.average.step(self.trained)
        self.step += 1
        return loss.detach()

    def _load_state(self) -> None:
        path = self.paths.folder / STATE
        if not path.is_file():
            raise InputError(f"{path}: nothing to resume; leave out --resume to start anew")
        state: dict[str, Any] = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        saved = state.get("trained", [])
        if [tensor.shape for tensor in saved] != [tensor.shape for tensor in self.trained]:
            raise InputError(f"{path}: belongs to another network shape; resume with its own recipe")
        now = self.task.trained_on
        before = state.get("trained_on", now)  # states of before it was kept do not tell
        changed = sorted(role for role in before.keys() | now.keys() if before.get(role) != now.get(role))
        if changed:
            raise InputError(
                f"{path}: was trained on another {' and '.join(changed)}; resume with the one it began with"
            )
        with torch.no_grad():
            for mine, other in zip(self.trained, saved, strict=True):
                mine.copy_(other)
        self.average.load_state_dict(state["average"])
        self.average.to(self.accelerator.device)
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step, self.elapsed = state["step"], state["elapsed"]

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
    if chosen.type == "cuda" and chosen.index is not None and "LOCAL_RANK" not in os.environ:
        torch.cuda.set_device(chosen)  # accelerate takes the current card; each process of a launch has its own
    precision = "bf16" if has_fast_bfloat16(chosen) else "no"
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision=precision)


def _rate_factor(done: float, warmup: float) -> float:
    """Linear to 1 during the warm-up share, then half a cosine down to 2 %."""
    if done < warmup:
        return max(done / warmup, 0.01)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))
