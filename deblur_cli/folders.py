"""Folders that results will go to: asked before the work whether it can be done."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from deblur_cli.errors import InputError


def check_writable(folders: Iterable[Path]) -> None:
    """Try to write where each folder is, or will be made; nothing stays.

    Raises:
        InputError: a file is in the way, or the system refuses.
    """
    for folder in sorted({nearest_existing(folder) for folder in folders}):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as fault:
            raise InputError(f"{folder}: cannot write here ({fault.strerror})") from fault


def nearest_existing(folder: Path) -> Path:
    """The folder itself or the closest one above it that is already there.

    Raises:
        InputError: a file is in the way, or the system does not let us look.
    """
    try:
        while not folder.is_dir():
            if folder.exists() or folder.is_symlink():
                raise InputError(f"{folder}: is a file, so no folder can be made there")
            folder = folder.parent
    except OSError as fault:
        raise InputError(f"{folder}: cannot write here ({fault.strerror})") from fault
    return folder
