"""What `deblur weights import` does with a checkpoint that must be converted before it runs."""

from pathlib import Path

from deblur_cli.conversion.maxim_file import convert_maxim_once, read_published
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.system.files import hash_file
from deblur_cli.weights.entries import ModelEntry


def check_convertible(entry: ModelEntry, source: Path) -> None:
    """Refuse what is not the model's checkpoint; a drive may well have sent a page of HTML instead.

    Raises:
        InputError: no such file.
        WeightsError: it is damaged or the checkpoint of something else.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if entry.backend == "deblurdiff":
        from deblur_cli.backends.diffusion import read_pipeline_config  # diffusers takes seconds
        from deblur_cli.conversion.deblurdiff_file import check_checkpoint

        check_checkpoint(source, read_pipeline_config(entry))
    else:
        try:
            read_published(source)
        except WeightsError as fault:
            raise WeightsError(f"{fault}; fetch it again from {entry.files['expert'].origin}") from fault


def convert_imported(entry: ModelEntry, name: str, path: Path) -> str:
    """Convert what was imported just now if that takes a moment only.

    Args:
        path: of the copy that the tool keeps.
    Returns:
        What the user is told of it.
    """
    if entry.backend == "deblurdiff":
        return f"{name}: its first run converts it, once, which takes as much room on the disk again"
    converted = convert_maxim_once(path)
    return f"{name}: converted to {converted}, sha256 {hash_file(converted)}"
