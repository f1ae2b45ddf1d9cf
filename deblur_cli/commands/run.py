"""`deblur run`: photos in, sharp photos out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.commands.options import (
    DEFAULT_MODEL,
    DTYPES,
    FORMATS,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    ExpertOption,
    FailFastOption,
    FilesFromOption,
    FormatOption,
    JsonLinesOption,
    JsonOption,
    ModelOption,
    NameOption,
    OutputOption,
    OverwriteOption,
    QualityOption,
    QuietOption,
    RecursiveOption,
    SeedOption,
    SuffixOption,
    TileOption,
    VerboseOption,
    check_choice,
    check_device,
    check_range,
)
from deblur_cli.errors import InputError

if TYPE_CHECKING:
    from deblur_cli.plan import Plan
    from deblur_cli.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the photos come from."""

    inputs: tuple[str, ...]
    files_from: str | None
    recursive: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where the photos go, under which name and in which format."""

    output: str
    name: str
    file_format: str
    quality: int | None
    overwrite: bool


@dataclass(frozen=True, slots=True)
class Network:
    """What restores the photos, as the user asked for it."""

    model: str
    device: str
    dtype: str
    tile: int | None
    seed: int
    expert: str | None = None  # a checkpoint by its path, instead of `model`


@dataclass(frozen=True, slots=True)
class Manner:
    """How the run behaves towards whoever watches it."""

    as_object: bool
    as_lines: bool
    quiet: bool
    verbose: bool
    fail_fast: bool


def run(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Photos, folders, quoted globs.", show_default=False),
    ] = None,
    output: OutputOption = None,
    recursive: RecursiveOption = False,
    files_from: FilesFromOption = None,
    file_format: FormatOption = "same",
    quality: QualityOption = None,
    suffix: SuffixOption = None,
    name: NameOption = None,
    overwrite: OverwriteOption = False,
    model: ModelOption = DEFAULT_MODEL,
    expert: ExpertOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tile: TileOption = None,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    as_object: JsonOption = False,
    as_lines: JsonLinesOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    fail_fast: FailFastOption = False,
) -> None:
    """Restore motion-blurred photos; everything else about them stays as it is.

    Run again, it does what is missing: a result made by the same recipe is skipped.

    \b
    Examples:
      deblur run blurred.jpg -o sharp.jpg
      deblur run holiday/ --recursive -o sharp/
      deblur run "scans/*.tif" -o sharp/ --suffix _sharp --format png
      find . -name '*.jpg' -print0 | deblur run --files-from - -o sharp/
      deblur run holiday/ -o sharp/ --dry-run

    \b
    Exit status:
      0    all photos are written
      1    weights, device or disk
      2    nothing begun: a path, an option, an output that is not ours
      3    a photo failed, the others are written
      130  Ctrl-C; 143 SIGTERM; no partial file is left
    """
    sources = Sources(tuple(inputs or ()), files_from, recursive)
    target = Target(output or "", _choose_template(name, suffix), file_format, quality, overwrite)
    network = Network(model, device, dtype, tile, seed, _choose_expert(context, expert))
    manner = Manner(as_object, as_lines, quiet, verbose, fail_fast)
    _check(sources, target, network, manner)
    recipe = _build_recipe(target, network)
    plan = _build_plan(sources, target, recipe)

    from deblur_cli.commands.work import Task, show_plan, work

    task = Task(plan, recipe, network, quality, manner)
    if dry_run:
        show_plan(task)
    else:
        work(task)


def _choose_template(name: str | None, suffix: str | None) -> str:
    from deblur_cli.naming import check_template

    if name is not None and suffix is not None:
        raise InputError("--name and --suffix exclude each other; put the suffix into the name")
    if suffix is not None and any(letter in suffix for letter in "/\\{}"):
        raise InputError(f"--suffix {suffix}: a suffix has no folders and no fields; use --output or --name")
    return check_template(name) if name is not None else f"{{stem}}{suffix or ''}{{ext}}"


def _choose_expert(context: typer.Context, expert: str | None) -> str | None:
    """The file that replaces the model; what stands on the command line outdoes what stands in the environment."""
    sources = [context.get_parameter_source(name) for name in ("expert", "model")]
    origins = ["" if source is None else source.name for source in sources]
    if expert is None or origins[1] not in ("COMMANDLINE", "ENVIRONMENT"):
        return expert
    if origins[0] == origins[1]:
        raise InputError("--expert and --model exclude each other")
    return expert if origins[0] == "COMMANDLINE" else None


def _check(sources: Sources, target: Target, network: Network, manner: Manner) -> None:
    if not sources.inputs and sources.files_from is None:
        raise InputError("no input; name photos, folders or globs (see 'deblur run --help')")
    if not target.output:
        raise InputError("no output; add --output FOLDER")
    if manner.as_object and manner.as_lines:
        raise InputError("--json and --jsonl exclude each other")
    if manner.quiet and manner.verbose:
        raise InputError("--quiet and --verbose exclude each other")
    check_device(network.device)
    check_choice("--dtype", network.dtype, DTYPES)
    check_choice("--format", target.file_format, FORMATS)
    check_range("--quality", target.quality, 1, 100)
    check_range("--tile", network.tile, 64, 65536)
    check_range("--seed", network.seed, 0, 2**63 - 1)


def _build_recipe(target: Target, network: Network) -> "Recipe":
    from deblur_cli.recipe import Recipe

    options: dict[str, str | int] = {"dtype": network.dtype, "seed": network.seed}
    if network.tile is not None:
        options["tile"] = network.tile
    if target.quality is not None:
        options["quality"] = target.quality
    name, hashes = _identify(network)
    return Recipe(model=name, weights=hashes, options=options)


def _identify(network: Network) -> tuple[str, dict[str, str]]:
    """What the stamp calls the model, and role -> sha256 of its weights."""
    from deblur_cli.weights import find_model, hash_file

    if network.expert is None:
        return network.model, find_model(network.model).hashes
    path = Path(network.expert)
    try:
        return path.stem, {"expert": hash_file(path)}
    except OSError as fault:
        raise InputError(f"--expert {path}: {fault.strerror}") from fault


def _build_plan(sources: Sources, target: Target, recipe: "Recipe") -> "Plan":
    from deblur_cli.inputs import Search, find_photos, read_list
    from deblur_cli.naming import Layout, names_a_file
    from deblur_cli.plan import build_plan

    listed = read_list(sources.files_from) if sources.files_from is not None else []
    output = Path(target.output)
    found = find_photos(sources.inputs, listed, Search(sources.recursive, output))
    single = len(found.photos) == 1 and found.photos[0].named
    is_file = names_a_file(target.output, single_file=single)
    layout = Layout(output, is_file, target.file_format, target.name, recipe.model)
    return build_plan(found, layout, recipe, overwrite=target.overwrite)
