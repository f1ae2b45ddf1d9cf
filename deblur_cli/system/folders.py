"""Folders: whether results can be written there, and whether photos are kept there."""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from deblur_cli.errors import InputError

# Thumbnails, snapshots and deleted files of Synology, QNAP, Windows, macOS, netatalk and unpackers, in lower case.
_OF_OTHER_PROGRAMS = frozenset(
    {"@eadir", "@tmp", "@__thumb", "@recycle", "@recently-snapshot", "@snapshot", "@sharesnap", "@sharebin"}
    | {"#recycle", "#snapshot", "$recycle.bin", "recycler", "recycled", "system volume information", "__macosx"}
    | {"network trash folder", "temporary items"}
)


def is_no_place_for_photos(name: str) -> bool:
    """Whether a folder is hidden, or holds what other programs made of photos; it is only entered when named."""
    return name.startswith(".") or name.casefold() in _OF_OTHER_PROGRAMS


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


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sort key under which blur_2 stands before blur_10."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
