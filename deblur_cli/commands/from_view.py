"""`deblur run --from-view FILE`: what was decided in `deblur view` becomes batches, one for each recipe."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from deblur_cli.batch.inputs import Found, FoundPhoto
from deblur_cli.batch.looks.choices import Choice, ChoiceFile, read_choices
from deblur_cli.batch.naming import FixedLayout
from deblur_cli.batch.origin import stamp_of
from deblur_cli.batch.plan import build_plan
from deblur_cli.batch.selection import Selection, Where, build_selection
from deblur_cli.batch.stages import WriteOrder
from deblur_cli.batch.stamp import Stamp, read_recipe
from deblur_cli.commands.options import was_given
from deblur_cli.commands.run_task import Manner, RestoreOrder, RunTask
from deblur_cli.commands.streams import write_note
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.weights.model_spec import ModelSpec, resolve

_SAID_BY_FILE = ("inputs", "output", "recursive", "files_from", "file_format", "name", "model", "expert", "steps")
_ONE_BATCH = ("strength", "shard", "ray", "as_object", "mask", "only_blurred")


@dataclass(frozen=True, slots=True)
class RedoManner:
    """What the command line says of every photo that is done again; see `RestoreOrder` and `WriteOrder`."""

    device: str
    dtype: str
    tile: int | None
    seed: int
    quality: int | None
    engine: str | None
    overwrite: bool
    where: Where


BuildStamp = Callable[[int | None, RestoreOrder, Selection | None], Stamp]


def build_tasks(
    context: typer.Context, path: Path, wanted: RedoManner, manner: Manner, build_stamp: BuildStamp
) -> list[RunTask]:
    """The batches that a file of choices asks for; what it says to keep or to reject is told, and stays as it is.

    Options that a result was made with and the command line does not name (quality, number format, tile, seed, where)
    hold for its second time, too.

    Raises:
        InputError: an option that the file decides; the file, a photo, a model or an old result is at fault.
    """
    _check_options(context)
    file, choices = read_choices(path)
    if not choices:
        raise InputError(f"--from-view {path}: holds no choices; make some in deblur view")
    groups: dict[tuple[str, RedoManner], list[Choice]] = {}
    for choice in choices:
        if choice.verdict == "redo":
            own = _with_old_options(context, wanted, file.resolve(choice.result))
            groups.setdefault((choice.model, own), []).append(choice)
    tasks = [_build_task(file, model, own, group, manner, build_stamp) for (model, own), group in groups.items()]
    if not manner.quiet:
        for line in _tell_others(choices):
            write_note(line)
    return tasks


def _check_options(context: typer.Context) -> None:
    for name in (*_SAID_BY_FILE, *_ONE_BATCH):
        if was_given(context, name):
            flag = {"inputs": "an INPUT", "file_format": "--format", "as_object": "--json"}.get(name)
            flag = flag or f"--{name.replace('_', '-')}"
            raise InputError(f"--from-view and {flag} exclude each other: the file says what is done, and how")


def _with_old_options(context: typer.Context, wanted: RedoManner, result: Path) -> RedoManner:
    """What the command line names, else what the result was made with, else the defaults."""
    old = read_recipe(stamp_of(result) or "").options
    if "mask_sha256" in old:
        raise InputError(f"{result}: was made with a mask; do it again by deblur run PHOTO -o OUTPUT --mask FILE")
    old = {"where": "all", **old}  # of which a recipe says nothing
    kept: dict[str, Any] = {}
    for name, kind in (("quality", int), ("tile", int), ("seed", int), ("dtype", str), ("where", str)):
        source = context.get_parameter_source(name)
        is_default = source is None or source.name in ("DEFAULT", "DEFAULT_MAP")
        if is_default and isinstance(old.get(name), kind):
            kept[name] = old[name]
    return replace(wanted, **kept)


def _build_task(
    file: ChoiceFile, model: str, wanted: RedoManner, choices: list[Choice], manner: Manner, build_stamp: BuildStamp
) -> RunTask:
    try:
        found = resolve(ModelSpec.parse(model).override(engine=wanted.engine))
    except (InputError, WeightsError) as fault:
        raise type(fault)(f"--from-view {file.path}: {fault}") from fault
    order = RestoreOrder(found, wanted.device, wanted.dtype, wanted.tile, wanted.seed)
    selection = build_selection(where=wanted.where)
    stamp = build_stamp(wanted.quality, order, selection)
    photos = tuple(_find_photo(file, choice) for choice in choices)
    plan = build_plan(Found(photos, 0), FixedLayout(), stamp, overwrite=wanted.overwrite)
    return RunTask(plan, order, WriteOrder(stamp, wanted.quality, wanted.overwrite, selection), manner)


def _find_photo(file: ChoiceFile, choice: Choice) -> FoundPhoto:
    source = file.resolve(choice.source)
    if not source.exists():
        raise InputError(f"{source}: is not there; --from-view {file.path} wants {choice.result} done again from it")
    return FoundPhoto(source, file.resolve(choice.result), named=True)


def _tell_others(choices: Sequence[Choice]) -> Iterator[str]:
    kept = sum(choice.verdict == "keep" for choice in choices)
    rejected = [choice.result for choice in choices if choice.verdict == "reject"]
    if kept:
        yield f"{kept} kept as {'it is' if kept == 1 else 'they are'}"
    if rejected:
        names = ", ".join(rejected[:3]) + (f" and {len(rejected) - 3} more" if len(rejected) > 3 else "")
        yield f"{len(rejected)} rejected; nothing is deleted: {names}"
