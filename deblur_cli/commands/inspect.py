"""`deblur inspect`: how blurred is each photo, and what would restore it."""

from typing import Annotated

import typer

from deblur_cli.commands.options import FilesFromOption, JsonOption, QuietOption, RecursiveOption
from deblur_cli.errors import InputError


def inspect(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Photos, folders, quoted globs.", show_default=False),
    ] = None,
    recursive: RecursiveOption = False,
    files_from: FilesFromOption = None,
    as_object: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Tell how blurred photos are: direction, length, sharpness, noise, and which model to take.

    \b
    Length is in pixels of the photo: that of an even straight motion which blurs as far along the main direction.
    Direction is in degrees: 0 to the side, 90 up and down, 45 to the upper right.
    Sharpness is 1 where there is detail down to the pixel; noise is of 255.

    \b
    Examples:
      deblur inspect IMG_2041.jpg
      deblur inspect card/ --recursive --json
      deblur run card/ -o sharp/ --only-blurred

    \b
    Exit status:
      0    all photos are told
      2    a path or an option
      3    a photo could not be read or a folder not listed, the others are told
    """
    if not inputs and files_from is None:
        raise InputError("no input; name photos, folders or globs (see 'deblur inspect --help')")
    from deblur_cli.commands.inspect_work import do_inspect

    do_inspect(inputs or [], files_from, recursive=recursive, as_object=as_object, quiet=quiet)
