"""`deblur view`: results beside their photos, in a browser on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands.options import QuietOption, option
from deblur_cli.errors import InputError


def view(
    target: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="A folder of results, or one result.", show_default=False)
    ] = None,
    sources: Annotated[
        list[Path] | None,
        option("Files", "--sources", "Where the photos lie; repeat it. Default: beside OUT.", metavar="FOLDER"),
    ] = None,
    export: Annotated[
        Path | None,
        option("Files", "--export", "Write one page that can be sent, and open nothing.", metavar="FILE.html"),
    ] = None,
    no_browser: Annotated[bool, option("Reports", "--no-browser", "Only print the address.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Look at results beside their photos in a browser, and say which to keep, do again or reject.

    The page is for this machine alone and ends with Ctrl-C. Choices are written at once to OUT/deblur-choices.txt;
    deblur run --from-view OUT/deblur-choices.txt does them. Nothing is ever deleted.

    \b
    Examples:
      deblur view sharp/
      deblur view sharp/IMG_2041.jpg --sources /media/card
      deblur view sharp/ --export for-you.html
    """
    from deblur_cli.commands.view_work import do_export, do_view

    if target is None:
        raise InputError("no results; name the folder that 'deblur run -o' wrote to, or one result")
    if not target.exists():
        raise InputError(f"{target}: no such file or folder")
    for folder in sources or ():
        if not folder.is_dir():
            raise InputError(f"--sources {folder}: no such folder")
    if export is not None:
        do_export(target, tuple(sources or ()), export, quiet=quiet)
    else:
        do_view(target, tuple(sources or ()), opens_browser=not no_browser, quiet=quiet)
