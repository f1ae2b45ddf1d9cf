"""Files, folders, globs and lists -> the photos they name. Reads no photo, only names."""

import glob
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import InputError
from deblur_cli.image_io import find_format


@dataclass(frozen=True, slots=True)
class FoundPhoto:
    """A photo to restore and the place below the output folder that mirrors where it was found."""

    path: Path
    relative: Path
    named: bool  # the user wrote this very file; it was not met while scanning a folder or a glob


@dataclass(frozen=True, slots=True)
class Found:
    """Every photo once, in the order of the arguments."""

    photos: tuple[FoundPhoto, ...]
    ignored: int  # files in folders and globs that are no photos


@dataclass(frozen=True, slots=True)
class Search:
    """How folders are scanned."""

    recursive: bool
    excluded: Path | None  # the output folder: never scanned when it lies inside an input folder


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sort key under which blur_2 stands before blur_10."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def find_photos(arguments: Sequence[str], listed: Sequence[str], search: Search) -> Found:
    """The photos that the arguments and the lines of a list name.

    A folder's photos mirror its tree; a glob's mirror the tree below its fixed part; a listed relative path
    keeps its folders; any other named file keeps its name only.

    Raises:
        InputError: a path is missing, a glob matches nothing, a named file has no photo suffix.
    """
    candidates = [candidate for text in arguments for candidate in _expand(text, search)]
    candidates += [candidate for line in listed for candidate in _expand_listed(line, search)]
    photos: dict[str, FoundPhoto] = {}
    ignored: set[str] = set()
    for candidate in candidates:
        key = os.path.abspath(candidate.path)  # noqa: PTH100 - Path.absolute() keeps "..", resolve() follows links
        if _is_photo(candidate):
            photos.setdefault(key, candidate)
        elif candidate.named:
            raise InputError(f"{candidate.path}: no photo format; 'deblur doctor' lists what can be read")
        else:
            ignored.add(key)
    return Found(photos=tuple(photos.values()), ignored=len(ignored))


def read_list(source: str) -> list[str]:
    """Paths from a text file, or from standard input for "-"; separated by NUL if one occurs, else by lines.

    Raises:
        InputError: the list cannot be read.
    """
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as fault:
        raise InputError(f"--files-from {source}: {fault.strerror or fault}") from fault
    separator = b"\0" if b"\0" in content else b"\n"
    entries = content.split(separator)
    if separator == b"\n":
        entries = [entry.removesuffix(b"\r") for entry in entries]
    return [os.fsdecode(entry) for entry in entries if entry]


def _is_photo(candidate: FoundPhoto) -> bool:
    hidden = candidate.path.name.startswith(".")  # "._photo.jpg" is what macOS leaves on foreign disks
    return find_format(candidate.path) is not None and (candidate.named or not hidden)


def _expand(text: str, search: Search) -> Iterator[FoundPhoto]:
    if not text:
        raise InputError("an INPUT is empty; is a variable of the script unset?")
    path = Path(text)
    mode = _file_mode(path)
    if mode is not None:
        return _expand_path(path, mode, search)
    if glob.has_magic(text):
        return _expand_glob(text, search)
    raise InputError(f"{text}: no such file or folder")


def _expand_path(path: Path, mode: int, search: Search) -> Iterator[FoundPhoto]:
    if stat.S_ISDIR(mode):
        return _scan_folder(path, Path(), search)
    return iter([_name_file(path, Path(path.name), mode)])


def _name_file(path: Path, relative: Path, mode: int) -> FoundPhoto:
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is a pipe or a device; save the photo to a file first")
    return FoundPhoto(path, relative, named=True)


def _expand_listed(line: str, search: Search) -> Iterator[FoundPhoto]:
    path = Path(line)
    mode = _file_mode(path)
    if mode is None:
        raise InputError(f"{line}: no such file or folder (named by --files-from)")
    if stat.S_ISDIR(mode) or path.is_absolute() or ".." in path.parts:
        return _expand_path(path, mode, search)
    return iter([_name_file(path, path, mode)])


def _file_mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as fault:
        raise InputError(f"{path}: {fault.strerror}") from fault


def _expand_glob(pattern: str, search: Search) -> Iterator[FoundPhoto]:
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        raise InputError(f"{pattern}: nothing matches")
    root = _fixed_part(pattern)
    deep = "**" in Path(pattern).parts
    for path in map(Path, matches):
        relative = path.relative_to(root)
        if _lies_in_output(path, root, search) or (deep and _passes_a_link(root, relative)):
            continue
        mode = _peek_mode(path)
        if stat.S_ISDIR(mode):
            if search.recursive:
                yield from _scan_folder(path, relative, search)
        elif _may_be_a_photo(mode):
            yield FoundPhoto(path, relative, named=False)


def _passes_a_link(root: Path, relative: Path) -> bool:
    """Whether a linked folder lies between; `**` follows them no more than --recursive, they may lead in a circle."""
    return any((root / folder).is_symlink() for folder in list(relative.parents)[:-1])


def _peek_mode(path: Path) -> int:
    """The mode of what was met on the way; 0 for a link that leads nowhere or to itself."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _may_be_a_photo(mode: int) -> bool:
    """No pipe and no device: reading one may wait for ever. What a broken link lacks, the work will tell."""
    return mode == 0 or stat.S_ISREG(mode)


def _lies_in_output(path: Path, root: Path, search: Search) -> bool:
    if search.excluded is None:
        return False
    excluded, below = _resolve(search.excluded), _resolve(root)
    return excluded != below and excluded.is_relative_to(below) and _resolve(path).is_relative_to(excluded)


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve() raises on a link that leads to itself


def _fixed_part(pattern: str) -> Path:
    """The folders of a glob before the first part with a wildcard."""
    fixed = Path()
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _scan_folder(folder: Path, relative: Path, search: Search) -> Iterator[FoundPhoto]:
    """Photos and other visible files of a folder in the order of their names."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as fault:
        raise InputError(f"{folder}: cannot list this folder ({fault.strerror})") from fault
    for entry in entries:
        path = folder / entry.name
        mode = _peek_mode(path)
        if stat.S_ISDIR(mode):
            if search.recursive and _is_worth_scanning(entry, path, search):
                yield from _scan_folder(path, relative / entry.name, search)
        elif _may_be_a_photo(mode):
            yield FoundPhoto(path, relative / entry.name, named=False)


def _is_worth_scanning(entry: os.DirEntry[str], folder: Path, search: Search) -> bool:
    if entry.name.startswith(".") or entry.is_symlink():
        return False
    return search.excluded is None or _resolve(folder) != _resolve(search.excluded)
