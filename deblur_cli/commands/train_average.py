"""`deblur train average`: a fine-tuned network, drawn back towards what it was."""

from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.commands.options import check_range, option
from deblur_cli.commands.streams import write_result
from deblur_cli.errors import InputError
from deblur_cli.system.files import check_writable


def average(
    trained: Annotated[Path, typer.Argument(metavar="TRAINED", help="Weights of a training.")],
    origin: Annotated[Path, typer.Argument(metavar="ORIGIN", help="The weights that it began with.")],
    out: Annotated[Path, option("Training", "--out -o", "The average, a .safetensors file.", metavar="FILE")],
    share: Annotated[float, option("Training", "--share", "Of the trained weights.", metavar="0-1")] = 0.5,
) -> None:
    """Average a training's weights with those it began with: it keeps most of what it learned and forgets less.

    Example: deblur train average runs/maxim/expert.safetensors published.safetensors --share 0.6 -o mine.safetensors
    """
    if out.suffix.lower() != ".safetensors":
        raise InputError(f"--out {out}: give a name that ends in .safetensors")
    check_range("--share", share, 0, 1)
    check_writable([out.parent])
    from deblur_cli.training.average import write_average

    write_average(trained, origin, share, out)
    write_result(str(out))
