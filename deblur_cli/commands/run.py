"""`deblur run`: photos in, sharp photos out."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from deblur_cli.commands.options import (
    DEFAULT_MODEL,
    DTYPES,
    FORMATS,
    PLACES,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    EngineOption,
    ExpertOption,
    FailFastOption,
    FilesFromOption,
    FormatOption,
    FromViewOption,
    JsonLinesOption,
    JsonOption,
    MaskOption,
    ModelOption,
    NameOption,
    OnlyBlurredOption,
    OutputOption,
    OverwriteOption,
    QualityOption,
    QuietOption,
    RayOption,
    RecursiveOption,
    SeedOption,
    ShardOption,
    SheetOption,
    StepsOption,
    StrengthOption,
    TileOption,
    VerboseOption,
    WhereOption,
    check_choice,
    check_device,
    check_range,
    pick_engine,
)
from deblur_cli.commands.run_task import Manner, RestoreOrder, RunTask
from deblur_cli.errors import InputError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")  # s3://, gs://, https://: none of them can be renamed or locked

if TYPE_CHECKING:
    from deblur_cli.batch.plan import Plan
    from deblur_cli.batch.selection import Selection, Where
    from deblur_cli.batch.stamp import Stamp
    from deblur_cli.system.parts import Part
    from deblur_cli.weights.model_spec import ResolvedModel


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
    name: NameOption = None,
    overwrite: OverwriteOption = False,
    model: ModelOption = DEFAULT_MODEL,
    expert: ExpertOption = None,
    steps: StepsOption = None,
    strength: StrengthOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    engine: EngineOption = "auto",
    tile: TileOption = None,
    seed: SeedOption = 0,
    only_blurred: OnlyBlurredOption = False,
    where: WhereOption = "auto",
    mask: MaskOption = None,
    shard: ShardOption = None,
    ray: RayOption = None,
    from_view: FromViewOption = None,
    sheet: SheetOption = None,
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
      deblur run "scans/*.tif" -o sharp/ --name '{stem}_sharp{ext}' --format png
      find . -name '*.jpg' -print0 | deblur run --files-from - -o sharp/
      deblur run holiday/ -o sharp/ --dry-run
      deblur run card/ -o sharp/ --only-blurred --where blurry
      deblur run archive/ -r -o sharp/ --shard 2/8
      deblur run archive/ -r -o sharp/ --ray auto
      deblur run --from-view sharp/deblur-choices.txt --report redone.html

    \b
    Exit status:
      0    all photos are written
      1    weights, device or disk
      2    nothing begun: a path, an option, an output that is not ours
      3    a photo failed or a folder was locked, the others are written
      130  Ctrl-C; 143 SIGTERM; no partial file is left
    """
    from deblur_cli.system.parts import WHOLE, parse_part

    sources = Sources(tuple(inputs or ()), files_from, recursive)
    target = Target(output or "", _choose_template(name), file_format, quality, overwrite)
    manner = Manner(as_object, as_lines, quiet, verbose, fail_fast)
    if from_view is None:
        _check(sources, target)
    _check_manner(target, manner)
    _check_network(device, dtype, tile, seed)
    check_choice("--where", where, PLACES)
    if sheet is not None:
        _check_sheet(sheet)
    if from_view is not None:
        from deblur_cli.commands.from_view import RedoManner, build_tasks

        wanted = RedoManner(device, dtype, tile, seed, quality, pick_engine(engine), overwrite, cast("Where", where))
        tasks = build_tasks(context, Path(from_view), wanted, manner, _build_stamp)
        _do(tasks, sheet, dry_run=dry_run)
        return
    if ray is not None:
        _check_cluster(ray, device)
    check_range("--steps", steps, 1, 1000)
    check_range("--strength", strength, 0, 1)
    knobs = {"steps": steps, "strength": strength, "engine": pick_engine(engine)}
    chosen = _choose_model(context, model, expert, **knobs)
    order = RestoreOrder(chosen, device, dtype, tile, seed)
    selection = None
    if where != "all" or mask is not None or only_blurred:
        from deblur_cli.batch.selection import build_selection

        selection = build_selection(where=cast("Where", where), only_blurred=only_blurred, mask=mask)
    stamp = _build_stamp(quality, order, selection)
    plan = _build_plan(sources, target, stamp, parse_part(shard) if shard else WHOLE)
    if selection is not None:
        from deblur_cli.batch.selection import check_mask

        check_mask(selection, plan.jobs)

    from deblur_cli.batch.stages import WriteOrder

    writing = WriteOrder(stamp, quality, overwrite, selection)
    _do([RunTask(plan, order, writing, manner, ray)], sheet, dry_run=dry_run)


def _do(tasks: list[RunTask], sheet: str | None, *, dry_run: bool) -> None:
    from deblur_cli.commands.run_work import do_runs, show_plan

    if not dry_run:
        if sheet is not None:
            tasks = [replace(task, write_order=replace(task.write_order, measures_blur=True)) for task in tasks]
        do_runs(tasks, None if sheet is None else Path(sheet))
        return
    for task in tasks:
        show_plan(task)


def _check_sheet(sheet: str) -> None:
    from deblur_cli.batch.looks.sheet import check_target

    if not sheet.lower().endswith((".html", ".htm")):
        raise InputError(f"--report {sheet}: must end in .html")
    check_target(Path(sheet))


def _choose_template(name: str | None) -> str:
    from deblur_cli.batch.naming import check_template

    return "{stem}{ext}" if name is None else check_template(name)


def _choose_model(
    context: typer.Context, model: str, expert: str | None, **knobs: float | str | None
) -> "ResolvedModel":
    """The model, perhaps with another expert in it, or that expert alone.

    What stands on the command line outdoes what stands in the environment.
    """
    from deblur_cli.weights.model_spec import ModelSpec, resolve

    sources = [context.get_parameter_source(name) for name in ("expert", "model")]
    origins = ["" if source is None else source.name for source in sources]
    is_named = origins[1] in ("COMMANDLINE", "ENVIRONMENT")
    if expert is not None and (not is_named or origins == ["COMMANDLINE", "ENVIRONMENT"]):
        return resolve(ModelSpec(expert=expert).override(**knobs))
    inside = expert if origins[0] == origins[1] else None
    return resolve(ModelSpec.parse(model).override(expert=inside, **knobs))


def _check(sources: Sources, target: Target) -> None:
    if not sources.inputs and sources.files_from is None:
        raise InputError("no input; name photos, folders or globs (see 'deblur run --help')")
    if not target.output:
        raise InputError("no output; add --output FOLDER")
    for text in (*sources.inputs, target.output):
        if _ADDRESS.match(text):
            raise InputError(f"{text}: is no path of a file system; mount that storage and name the folder")


def _check_manner(target: Target, manner: Manner) -> None:
    if manner.as_object and manner.as_lines:
        raise InputError("--json and --jsonl exclude each other")
    if manner.quiet and manner.verbose:
        raise InputError("--quiet and --verbose exclude each other")
    check_choice("--format", target.file_format, FORMATS)
    check_range("--quality", target.quality, 1, 100)


def _check_network(device: str, dtype: str, tile: int | None, seed: int) -> None:
    check_device(device)
    check_choice("--dtype", dtype, DTYPES)
    check_range("--tile", tile, 64, 65536)
    check_range("--seed", seed, 0, 2**63 - 1)


def _check_cluster(address: str, device: str) -> None:
    from deblur_cli.batch.ray_cluster import check_address

    check_address(address)
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: with --ray each worker has a GPU of its own; use auto, cuda or cpu")


def _build_stamp(quality: int | None, order: RestoreOrder, selection: "Selection | None") -> "Stamp":
    from deblur_cli.batch.stamp import Stamp

    options: dict[str, str | int | float] = {"dtype": order.dtype, "seed": order.seed, **order.model.settings}
    options.update(selection.options if selection else {})
    if order.tile is not None:
        options["tile"] = order.tile
    if quality is not None:
        options["quality"] = quality
    return Stamp(model=order.model.name, weights=order.model.hashes, options=options)


def _build_plan(sources: Sources, target: Target, stamp: "Stamp", part: "Part") -> "Plan":
    from deblur_cli.batch.inputs import PhotoSearch, find_photos, read_list
    from deblur_cli.batch.naming import Layout, names_a_file
    from deblur_cli.batch.plan import build_plan

    listed = read_list(sources.files_from) if sources.files_from is not None else []
    output = Path(target.output)
    found = find_photos(sources.inputs, listed, PhotoSearch(sources.recursive, output))
    single = len(found.photos) == 1 and found.photos[0].named
    is_file = names_a_file(target.output, single_file=single)
    layout = Layout(output, is_file, target.file_format, target.name, stamp.model)
    return build_plan(found, layout, stamp, overwrite=target.overwrite, part=part)
