"""`deblur preview`: a crop of each photo through several choices, to look at before a whole card is done."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from deblur_cli.commands.options import (
    DEFAULT_MODEL,
    DTYPES,
    PLACES,
    DeviceOption,
    DtypeOption,
    EngineOption,
    QuietOption,
    SeedOption,
    TileOption,
    WhereOption,
    check_choice,
    check_device,
    check_range,
    complete_model,
    option,
    pick_engine,
)
from deblur_cli.errors import InputError, WeightsError

if TYPE_CHECKING:
    from deblur_cli.batch.selection import Where
    from deblur_cli.weights.model_spec import ResolvedModel

_CHOICES = ("quick", DEFAULT_MODEL, "best")
_STRENGTHS = (0.0, 0.5, 1.0)
_SUFFIXES = (".html", ".htm", ".png")


def preview(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="PHOTO...", help="Photos, folders, quoted globs.", show_default=False)
    ] = None,
    output: Annotated[str | None, option("Files", "--output -o", "The sheet: .html or .png.", metavar="SHEET")] = None,
    crop: Annotated[
        str | None,
        option(
            "Files",
            "--crop",
            "Place in every photo, in its pixels; default: the richest, and a face.",
            metavar="X,Y,W,H",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        option(
            "Restoration",
            "--model",
            "A choice to show, perhaps NAME:strength=0.5; repeat it for several.",
            metavar="NAME",
            complete=complete_model,
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    engine: EngineOption = "auto",
    tile: TileOption = None,
    seed: SeedOption = 0,
    where: WhereOption = "auto",
    overwrite: Annotated[bool, option("Files", "--overwrite", "Replace a file that is no sheet of this tool.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Show a crop of each photo through several choices, side by side; in seconds, for only the crop is restored.

    Without --model these are quick, standard and best, as far as their weights are here; a model with a flow is shown
    in strengths 0, 0.5 and 1. Without --crop a face is shown besides the richest place where scikit-image is installed.
    The crop is the same place of what `deblur run` makes, before it is written.

    \b
    Examples:
      deblur preview IMG_2041.jpg -o sheet.html
      deblur preview holiday/*.jpg -o sheet.png --model quick --model best
      deblur preview IMG_2041.jpg -o sheet.html --crop 1200,800,384,288
    """
    from deblur_cli.batch.looks.crops import parse_crop
    from deblur_cli.batch.looks.sheet import check_target

    if not inputs:
        raise InputError("no photo; name photos, folders or globs (see 'deblur preview --help')")
    if not output:
        raise InputError("no sheet; add --output sheet.html or sheet.png")
    if Path(output).suffix.lower() not in _SUFFIXES:
        raise InputError(f"--output {output}: must end in .html or .png")
    check_device(device)
    check_choice("--dtype", dtype, DTYPES)
    check_range("--tile", tile, 64, 65536)
    check_range("--seed", seed, 0, 2**63 - 1)
    check_choice("--where", where, PLACES)
    place = None if crop is None else parse_crop(crop)
    check_target(Path(output), overwrite=overwrite)
    choices = choose_models(models or (), pick_engine(engine))

    from deblur_cli.batch.selection import build_selection
    from deblur_cli.commands.preview_work import PreviewTask, do_preview

    selection = build_selection(where=cast("Where", where))
    do_preview(PreviewTask(tuple(inputs), Path(output), place, choices, device, dtype, tile, seed, selection, quiet))


def choose_models(named: "list[str] | tuple[str, ...]", engine: str | None) -> "list[ResolvedModel]":
    """What is to be shown, with a flow that nobody gave a strength in three strengths.

    Raises:
        InputError, WeightsError: as `resolve`; nothing that could be shown is on this machine.
    """
    from deblur_cli.weights.model_spec import ModelSpec, resolve

    found = [resolve(ModelSpec.parse(text).override(engine=engine)) for text in named or _find_at_hand()]
    if not found:
        raise WeightsError("no weights of quick, standard or best are here; see 'deblur weights list'")
    chosen = []
    for model in found:
        is_open = "strength" in model.settings and model.spec.strength is None
        chosen += [resolve(model.spec.override(strength=value)) for value in _STRENGTHS] if is_open else [model]
    return list({str(model.spec): model for model in chosen}.values())


def _find_at_hand() -> list[str]:
    from deblur_cli.commands.weights_tables import model_state
    from deblur_cli.weights import find_model, has_model

    there = [name for name in _CHOICES if has_model(name)]
    return [name for name in there if model_state(find_model(name)) not in ("absent", "damaged", "untrained")]
