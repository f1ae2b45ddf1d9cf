"""`deblur train`: train the expert, look at its training pairs, plot its log."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.commands.options import DeviceOption, QuietOption, check_device, option, write_note, write_result
from deblur_cli.commands.progress import format_duration
from deblur_cli.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from deblur_cli.training.loop import Progress

app = typer.Typer(no_args_is_help=True, help="Train the networks, and look at what they learn from.")

DataOption = Annotated[
    Path,
    option("Training", "--data", "Folder with photos/, frames/SEQUENCE/, pairs/SEQUENCE/{blur,sharp}.", metavar="DIR"),
]
RecipeOption = Annotated[
    str, option("Training", "--recipe", "Name of a shipped recipe, or a TOML file.", metavar="NAME|FILE")
]


@app.command()
def expert(
    data: DataOption,
    out: Annotated[Path, option("Training", "--out -o", "Folder for weights, state and log.", metavar="RUN")],
    recipe: RecipeOption = "expert",
    minutes: Annotated[float | None, option("Training", "--minutes", "Instead of the recipe's.")] = None,
    seed: Annotated[int | None, option("Training", "--seed", "Instead of the recipe's.")] = None,
    init: Annotated[
        Path | None, option("Training", "--init", "Weights to start from, with a new optimizer.", metavar="FILE")
    ] = None,
    resume: Annotated[bool, option("Training", "--resume", "Go on where RUN stopped.")] = False,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Train the fidelity expert; the result is RUN/expert.safetensors.

    It saves every few minutes and on Ctrl-C. Several GPUs:
    accelerate launch --multi_gpu -m deblur_cli train expert ...

    Example: deblur train expert --data photos-and-pairs/ --out runs/expert --minutes 90
    """
    check_device(device)
    _check_run(out, init, resume=resume)
    from deblur_cli.training.datasets import read_training_data
    from deblur_cli.training.loop import ExpertTraining, RunPaths, build_accelerator
    from deblur_cli.training.plot import write_log_page
    from deblur_cli.training.recipe import read_recipe

    chosen = read_recipe(recipe).with_changes(minutes=minutes, seed=seed)
    accelerator = build_accelerator(device)
    paths = RunPaths(folder=out, init=init, resume=resume)
    training = ExpertTraining(chosen, read_training_data(data, chosen.data), paths, accelerator)
    if quiet or not accelerator.is_main_process:
        training.run(lambda progress: None)
    elif sys.stderr.isatty():
        _run_live(training.run)
    else:
        training.run(lambda progress: write_note(describe(progress)))
    if accelerator.is_main_process:
        write_log_page(out)
        write_result(str(out / "expert.safetensors"))


@app.command()
def preview(
    data: DataOption,
    out: Annotated[Path, option("Training", "--out -o", "The contact sheet, a PNG.", metavar="FILE")],
    recipe: RecipeOption = "expert",
    count: Annotated[int, option("Training", "--count", "Pairs per source.", metavar="N")] = 12,
    seed: Annotated[int, option("Training", "--seed", "Start of the random numbers.", metavar="N")] = 0,
) -> None:
    """Draw a contact sheet of training pairs: sharp left, blurred right, a block of rows per source.

    Example: deblur train preview --data photos-and-pairs/ --out sheet.png
    """
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: the contact sheet is a PNG; give a name that ends in .png")
    from deblur_cli.training.preview import draw_sheet
    from deblur_cli.training.recipe import read_recipe

    draw_sheet(read_recipe(recipe), data, count, seed).save(out)
    write_result(str(out))


@app.command()
def plot(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training, running or over.")],
) -> None:
    """Write RUN/log.html: loss, gain on the validation pairs and speed over time.

    Example: deblur train plot runs/expert
    """
    from deblur_cli.training.plot import write_log_page

    write_result(str(write_log_page(run)))


def describe(progress: "Progress") -> str:
    """Where a training stands, in one line."""
    gains = ", ".join(f"{name} {gain:+.2f} dB" for name, gain in progress.gains.items())
    left = format_duration(max(0.0, progress.budget - progress.elapsed))
    speed = f"{progress.photos_per_second:.0f} patches/s"
    return f"step {progress.step}, loss {progress.loss:.4f}, {gains or 'not validated yet'}, {speed}, {left} left"


def _check_run(out: Path, init: Path | None, *, resume: bool) -> None:
    if init is not None and not init.is_file():
        raise InputError(f"--init {init}: no such file")
    if init is not None and resume:
        raise InputError("--init starts anew and --resume goes on: give one of them")
    if not resume and (out / "state.pt").exists():
        raise InputError(f"{out}: holds a training already; go on with --resume or choose another folder")


def _run_live(run: "Callable[[Callable[[Progress], None]], None]") -> None:
    from rich.live import Live

    with Live(auto_refresh=False, transient=False) as live:
        run(lambda progress: live.update(_table(progress), refresh=True))


def _table(progress: "Progress") -> "Table":
    from rich.table import Table

    table = Table("step", "loss", *progress.gains, "patches/s", "left", title="training")
    gains = [f"{gain:+.2f} dB" for gain in progress.gains.values()]
    left = format_duration(max(0.0, progress.budget - progress.elapsed))
    table.add_row(f"{progress.step}", f"{progress.loss:.4f}", *gains, f"{progress.photos_per_second:.0f}", left)
    return table
