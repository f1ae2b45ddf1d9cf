"""Files, folders, globs and lists -> the photos they name. Reads no photo, only names."""

import codecs
import glob
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deblur_cli.batch.globs import expand_glob
from deblur_cli.errors import InputError
from deblur_cli.image_io import find_format
from deblur_cli.system.files import is_no_place_for_photos

# The mark with which a list begins, and what it is then written in; that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


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
    unread: tuple[str, ...] = ()  # a line for each sub-folder that could not be listed


@dataclass(frozen=True, slots=True)
class PhotoSearch:
    """How folders are scanned."""

    recursive: bool
    excluded: Path | None  # the output folder: never scanned when it lies inside an input folder


@dataclass(frozen=True, slots=True)
class _Walk:
    """One search under way, and the folders below a named one that it could not list."""

    search: PhotoSearch
    unread: dict[Path, str]

    def note(self, folder: Path, fault: OSError) -> None:
        self.unread[folder] = f"{folder}: cannot list this folder ({fault.strerror}); its photos are left out"


def find_photos(arguments: Sequence[str], listed: Sequence[str], search: PhotoSearch) -> Found:
    """The photos that the arguments and the lines of a list name.

    A folder's photos mirror its tree; a glob's mirror the tree below its fixed part; a listed relative path
    keeps its folders; any other named file keeps its name only.

    Raises:
        InputError: a path is missing, a glob matches nothing, a named file has no photo suffix, a named folder
            cannot be listed.
    """
    walk = _Walk(search, {})
    candidates = [candidate for text in arguments for candidate in _expand(text, walk)]
    candidates += [candidate for line in listed for candidate in _expand_listed(line, walk)]
    photos: dict[str, FoundPhoto] = {}
    ignored: set[str] = set()
    for candidate in candidates:
        key = os.path.abspath(candidate.path)  # noqa: PTH100 - Path.absolute() keeps "..", resolve() follows links
        if _is_photo(candidate):
            first = photos.setdefault(key, candidate)
            photos[key] = replace(first, named=first.named or candidate.named)
        elif candidate.named:
            raise InputError(f"{candidate.path}: no photo format; 'deblur doctor' lists what can be read")
        else:
            ignored.add(key)
    return Found(tuple(photos.values()), len(ignored), tuple(walk.unread.values()))


def read_list(source: str) -> list[str]:
    """Paths from a text file, or from standard input for "-"; separated by NUL if one occurs, else by lines.

    Windows writes lists in UTF-16, and begins those in UTF-8 with a mark; neither is part of a path.

    Raises:
        InputError: the list cannot be read.
    """
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as fault:
        raise InputError(f"--files-from {source}: {fault.strerror or fault}") from fault
    try:
        content = _to_bytes_of_paths(content)
    except UnicodeError as fault:
        raise InputError(f"--files-from {source}: is neither UTF-8 nor UTF-16; save it as UTF-8") from fault
    separator = b"\0" if b"\0" in content else b"\n"
    entries = content.split(separator)
    if separator == b"\n":
        entries = [entry.removesuffix(b"\r") for entry in entries]
    return [os.fsdecode(entry) for entry in entries if entry]


def _to_bytes_of_paths(content: bytes) -> bytes:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            rest = content[len(mark) :]
            return rest if encoding == "utf-8" else os.fsencode(rest.decode(encoding))
    for encoding, high in (("utf-16-le", content[1::2]), ("utf-16-be", content[::2])):
        # Without a mark it shows by its line ends; a list with NUL between the paths has none of this kind.
        if len(content) % 2 == 0 and not high.strip(b"\0") and "\n".encode(encoding) in content:
            return os.fsencode(content.decode(encoding))
    return content


def _is_photo(candidate: FoundPhoto) -> bool:
    hidden = candidate.path.name.startswith(".")  # "._photo.jpg" is what macOS leaves on foreign disks
    return find_format(candidate.path) is not None and (candidate.named or not hidden)


def _expand(text: str, walk: _Walk) -> Iterator[FoundPhoto]:
    if not text:
        raise InputError("an INPUT is empty; is a variable of the script unset?")
    path = Path(text)
    mode = _file_mode(path)
    if mode is not None:
        return _expand_path(path, mode, walk)
    if glob.has_magic(text):
        return _expand_glob(text, walk)
    raise InputError(f"{text}: no such file or folder")


def _expand_path(path: Path, mode: int, walk: _Walk) -> Iterator[FoundPhoto]:
    if stat.S_ISDIR(mode):
        try:
            os.scandir(path).close()
        except OSError as fault:
            raise InputError(f"{path}: cannot list this folder ({fault.strerror})") from fault
        return _scan_folder(path, Path(), walk)
    return iter([_name_file(path, Path(path.name), mode)])


def _name_file(path: Path, relative: Path, mode: int) -> FoundPhoto:
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is a pipe or a device; save the photo to a file first")
    return FoundPhoto(path, relative, named=True)


def _expand_listed(line: str, walk: _Walk) -> Iterator[FoundPhoto]:
    path = Path(line)
    mode = _file_mode(path)
    if mode is None:
        raise InputError(f"{line}: no such file or folder (named by --files-from)")
    if stat.S_ISDIR(mode) or path.is_absolute() or ".." in path.parts:
        return _expand_path(path, mode, walk)
    return iter([_name_file(path, path, mode)])


def _file_mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as fault:
        raise InputError(f"{path}: {fault.strerror}") from fault


def _expand_glob(pattern: str, walk: _Walk) -> Iterator[FoundPhoto]:
    root, matches = expand_glob(pattern, walk.note)
    if not matches:
        raise InputError(f"{pattern}: nothing matches")
    for path in matches:
        relative = path.relative_to(root)
        if _lies_in_output(path, root, walk.search):
            continue
        mode = _peek_mode(path)
        if stat.S_ISDIR(mode):
            if walk.search.recursive:
                yield from _scan_folder(path, relative, walk)
        elif _may_be_a_photo(mode):
            yield FoundPhoto(path, relative, named=False)


def _peek_mode(path: Path) -> int:
    """The mode of what was met on the way; 0 for a link that leads nowhere or to itself."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _may_be_a_photo(mode: int) -> bool:
    """No pipe and no device: reading one may wait for ever. What a broken link lacks, the work will tell."""
    return mode == 0 or stat.S_ISREG(mode)


def _lies_in_output(path: Path, root: Path, search: PhotoSearch) -> bool:
    if search.excluded is None:
        return False
    excluded, below = _resolve(search.excluded), _resolve(root)
    return excluded != below and excluded.is_relative_to(below) and _resolve(path).is_relative_to(excluded)


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve() raises on a link that leads to itself


def _scan_folder(folder: Path, relative: Path, walk: _Walk) -> Iterator[FoundPhoto]:
    """Photos and other visible files of a folder in the order of their names."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as fault:
        walk.note(folder, fault)
        return
    for entry in entries:
        path = folder / entry.name
        mode = _peek_mode(path)
        if stat.S_ISDIR(mode) or (mode == 0 and entry.is_dir(follow_symlinks=False)):
            if walk.search.recursive and _is_worth_scanning(entry, path, walk.search):
                yield from _scan_folder(path, relative / entry.name, walk)
        elif _may_be_a_photo(mode):
            yield FoundPhoto(path, relative / entry.name, named=False)


def _is_worth_scanning(entry: os.DirEntry[str], folder: Path, search: PhotoSearch) -> bool:
    if is_no_place_for_photos(entry.name) or entry.is_symlink():
        return False
    return search.excluded is None or _resolve(folder) != _resolve(search.excluded)
