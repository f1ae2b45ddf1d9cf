"""Quoted globs -> the files and folders they match. Knows names, no photos.

The standard library's glob takes `[2020]` for one character even where a folder has that name, follows links in
circles, and passes over a folder that it may not list without a word.
"""

import fnmatch
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from deblur_cli.errors import InputError
from deblur_cli.system.files import is_no_place_for_photos


def expand_glob(pattern: str, tell: Callable[[Path, OSError], None]) -> tuple[Path, list[Path]]:
    """The folders before the first wildcard, and what matches below them, in the order of names.

    A part with brackets that exists as it is written is taken literally. `*` and `**` pass over hidden folders and
    those of other programs; after `**` no link to a folder is followed.

    Args:
        tell: is called for a folder below that cannot be listed.
    Raises:
        InputError: the folder before the first wildcard cannot be listed.
    """
    parts = Path(pattern).parts
    root, fixed = Path(), 0
    while fixed < len(parts) - 1 and _is_literal(root, parts[fixed]):
        root, fixed = root / parts[fixed], fixed + 1

    def list_folder(folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as fault:
            if folder == root:
                raise InputError(f"{folder}: cannot list this folder ({fault.strerror})") from fault
            tell(folder, fault)
            return []

    return root, sorted(set(_match(root, parts[fixed:], list_folder, deep=False)))


def _is_literal(folder: Path, part: str) -> bool:
    return not glob.has_magic(part) or ("[" in part and os.path.lexists(folder / part))


def _match(
    folder: Path, parts: Sequence[str], list_folder: Callable[[Path], list[os.DirEntry[str]]], *, deep: bool
) -> Iterator[Path]:
    if not parts:
        yield folder
    elif parts[0] == "**":
        yield from _match(folder, parts[1:] or ("*",), list_folder, deep=True)
        for entry in list_folder(folder):
            if entry.is_dir(follow_symlinks=False) and not is_no_place_for_photos(entry.name):
                yield from _match(folder / entry.name, parts, list_folder, deep=True)
    elif _is_literal(folder, parts[0]):
        if os.path.lexists(folder / parts[0]):
            yield from _match(folder / parts[0], parts[1:], list_folder, deep=deep)
    else:
        for entry in list_folder(folder):
            if _is_met(entry, parts[0]) and (len(parts) == 1 or not (deep and entry.is_symlink())):
                yield from _match(folder / entry.name, parts[1:], list_folder, deep=deep)


def _is_met(entry: os.DirEntry[str], part: str) -> bool:
    hidden = entry.name.startswith(".") and not part.startswith(".")
    foreign = not part.startswith(".") and is_no_place_for_photos(entry.name)
    return not hidden and not foreign and fnmatch.fnmatch(entry.name, part)
