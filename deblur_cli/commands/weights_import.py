"""A checkpoint that is to be converted is looked into before `deblur weights import` takes it."""

from pathlib import Path

from deblur_cli.weights.entries import ModelEntry, WeightsFile
from deblur_cli.weights.manifest import read_manifest, read_shipped_manifest


def find_converting(file: WeightsFile) -> ModelEntry | None:
    """The model that converts this file when it first runs, if there is one."""
    shipped = read_shipped_manifest()
    models = shipped.models if file.key in shipped.files else read_manifest().models
    users = [entry for entry in models.values() if entry.backend == "deblurdiff"]
    return next((entry for entry in users if entry.files.get("checkpoint") == file), None)


def check_convertible(entry: ModelEntry, source: Path) -> None:
    """Refuse what is not the model's checkpoint; a drive may well have sent a page of HTML instead.

    Raises:
        InputError: no such file.
        WeightsError: it is damaged or the checkpoint of something else.
    """
    from deblur_cli.backends.deblurdiff import read_config  # diffusers takes seconds
    from deblur_cli.conversion.deblurdiff import check_checkpoint
    from deblur_cli.errors import InputError

    if not source.is_file():
        raise InputError(f"{source}: no such file")
    check_checkpoint(source, read_config(entry))
