"""A checkpoint that is to be converted is looked into before `deblur weights import` takes it."""

from pathlib import Path

from deblur_cli.errors import InputError, WeightsError
from deblur_cli.weights.entries import ModelEntry, WeightsFile
from deblur_cli.weights.manifest import read_manifest, read_shipped_manifest


def find_converting(file: WeightsFile) -> ModelEntry | None:
    """The model that does not run from this file as it is, but from what it is converted to, if there is one."""
    shipped = read_shipped_manifest()
    models = shipped.models if file.key in shipped.files else read_manifest().models
    return next((entry for entry in models.values() if _converts(entry, file)), None)


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
        from deblur_cli.conversion.maxim_file import read_published  # torch takes seconds

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
    from deblur_cli.conversion.maxim_file import convert_maxim_once
    from deblur_cli.system.files import hash_file

    converted = convert_maxim_once(path)
    return f"{name}: converted to {converted}, sha256 {hash_file(converted)}"


def _converts(entry: ModelEntry, file: WeightsFile) -> bool:
    if entry.backend == "deblurdiff":
        return entry.files.get("checkpoint") == file
    return entry.takes_published_maxim and entry.files["expert"] == file
