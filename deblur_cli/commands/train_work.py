"""The working half of `deblur train`: a run is opened, watched and ended properly."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deblur_cli.commands.options import check_device
from deblur_cli.commands.progress import Gauge, choose_display
from deblur_cli.commands.streams import write_note, write_result
from deblur_cli.errors import InputError
from deblur_cli.system.files import check_writable

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from deblur_cli.training.latents import WindowSource
    from deblur_cli.training.loop import Progress, RunPaths, Task
    from deblur_cli.training.recipe import BaseRecipe, CodecRecipe, FlowRecipe, Recipe
    from deblur_cli.training.windows import WindowMaker

R = TypeVar("R", bound="Recipe")

# What to do with the result, by its name.
_NEXT_STEPS = {
    "expert.safetensors": "run it with: deblur run --expert {0}; or keep it as a model: deblur weights add NAME {0}",
    "blend.safetensors": "make a model of it with: deblur train export --expert NAME --blend {0} --out FOLDER",
    "codec.safetensors": "train a base on it with: deblur train base --codec {0}",
    "transformer.safetensors": "adapt it with: deblur train flow --codec FILE --base {0}",
    "lora.safetensors": "make a model of it with: deblur train export --codec FILE --base FILE --lora {0} --out FOLDER",
    "deblurdiff.safetensors": "keep it as a model: deblur weights add NAME {0} --like deblurdiff",
}


@dataclass(frozen=True, slots=True)
class Run:
    """The folder and the device of a training, and who watches it."""

    paths: "RunPaths"
    accelerator: "Accelerator"
    quiet: bool

    def train(self, task: "Task") -> None:
        """Train, then write the page of the log and say where the weights are."""
        from deblur_cli.training.curves import write_log_page
        from deblur_cli.training.loop import Training

        training = Training(task, self.paths, self.accelerator)
        quiet = self.quiet or not self.accelerator.is_main_process
        with choose_display(quiet=quiet, every=0.0, keep=True) as display:
            training.run(lambda progress: display.show(_to_gauge(progress)))
        if self.accelerator.is_main_process:
            write_log_page(self.paths.folder)
            weights = str(self.paths.folder / task.weights)
            write_result(weights)
            if not self.quiet:
                write_note(_NEXT_STEPS[task.weights].format(shlex.quote(weights)))


def open_run(out: Path, init: Path | None, device: str, *, resume: bool, quiet: bool) -> Run:
    """Everything about a training that can be refused before pictures are read."""
    check_device(device)
    check_writable([out])
    if init is not None and not init.is_file():
        raise InputError(f"--init {init}: no such file")
    if init is not None and resume:
        raise InputError("--init starts anew and --resume goes on: give one of them")
    if not resume and (out / "state.pt").exists():
        raise InputError(f"{out}: holds a training already; go on with --resume or choose another folder")
    from deblur_cli.training.loop import RunPaths, build_accelerator

    return Run(RunPaths(out, resume), build_accelerator(device), quiet)


def choose_recipe(
    kind: "type[R]", name: str, changes: list[str] | None, minutes: float | None, seed: int | None
) -> "R":
    """The recipe of that name or file, changed by `--set`, then by the options that have names of their own."""
    from deblur_cli.training.recipe import read_recipe

    named = {"schedule.minutes": minutes, "seed": seed}
    options = [f"{key}={value}" for key, value in named.items() if value is not None]
    return read_recipe(name, kind, [*(changes or ()), *options])


def open_windows(
    recipe: "BaseRecipe | FlowRecipe", run: Run, data: Path, codec: Path, expert: str, folder: Path | None
) -> "WindowSource":
    """What windows of latents are made from; the pictures are read only if they must be made."""
    from deblur_cli.training.latents import WindowSource, load_frozen_codec

    frozen = load_frozen_codec(codec)
    return WindowSource(
        frozen, open_estimates(recipe, run.accelerator.device, data, expert, folder or run.paths.folder)
    )


def open_estimates(
    recipe: "CodecRecipe | BaseRecipe | FlowRecipe", device: "torch.device", data: Path, expert: str, folder: Path
) -> "WindowMaker":
    """What windows of pictures and estimates are made from, without their latents."""
    from deblur_cli.training.estimates import load_estimator
    from deblur_cli.training.folder import find_training_data
    from deblur_cli.training.windows import WindowMaker

    frozen = load_estimator(expert, device)
    found = find_training_data(data, recipe.data)
    return WindowMaker(frozen, found, folder, recipe.data, recipe.synthesis, recipe.latents)


def _to_gauge(progress: "Progress") -> Gauge:
    """Where a training stands, in seconds of training."""
    pairs = [pair for group in progress.figures.values() for pair in group.items()]
    figures = ", ".join(f"{name} {value:.2f}" if abs(value) >= 10 else f"{name} {value:+.3f}" for name, value in pairs)
    speed = f"{progress.photos_per_second:.0f} patches/s"
    text = f"step {progress.step}, loss {progress.loss:.4f}, {figures or 'not validated yet'}, {speed}"
    gauge = Gauge(progress.budget, progress.elapsed, text)
    gauge.started -= progress.elapsed  # of all resumed runs
    return gauge
