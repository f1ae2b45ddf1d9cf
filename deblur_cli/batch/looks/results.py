"""Which files of a folder are results of this tool, and which photos they were made from."""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from deblur_cli.batch.inputs import PhotoSearch, find_photos
from deblur_cli.batch.origin import belongs_to, stamp_of
from deblur_cli.batch.stamp import stamped
from deblur_cli.errors import InputError, PhotoError
from deblur_cli.image_io import find_format
from deblur_cli.system.files import hash_file, is_no_place_for_photos

_MOST_NAMES = 100_000  # files beside the results that are looked at by their names


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result: where it lies, its place in the folder that is looked at, and its stamp."""

    path: Path
    name: str
    stamp: str


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a folder, or the one that was named.

    Attributes:
        folder: that is looked at; choices are kept there.
        others: photos in it that this tool did not make.
    """

    folder: Path
    files: tuple[ResultFile, ...]
    others: int


def find_results(target: Path) -> Results:
    """What this tool made in a folder and below, or the one file that is named.

    Raises:
        InputError: there is none.
    """
    is_file = target.is_file()
    folder = target.parent if is_file else target
    found = find_photos([str(target)], (), PhotoSearch(recursive=True, excluded=None)).photos
    stamps = [(photo, stamp_of(photo.path)) for photo in found]
    files = tuple(
        ResultFile(photo.path, photo.relative.as_posix(), stamp) for photo, stamp in stamps if stamp is not None
    )
    if not files and is_file:
        raise InputError(f"{target}: is no result of this tool, or has lost its recipe; make one with 'deblur run'")
    if not files:
        raise InputError(f"{target}: holds no result of this tool; make some with 'deblur run PHOTOS -o {target}'")
    return Results(folder, files, len(stamps) - len(files))


class SourceFinder:
    """Finds the photo that a result was made from: by its name first, then by the hashes in the stamp.

    Without folders to look in these are the folder of the results and what lies beside it; there only photos whose
    name is part of the result's name are hashed.
    """

    def __init__(self, folder: Path, named: Sequence[Path] = ()) -> None:
        self._named = tuple(named)
        self._roots = self._named or (folder.resolve().parent,)
        self._known: dict[Path, Path | None] = {}
        self._photos: list[Path] | None = None
        self._hashes: dict[str, Path] | None = None
        self._lock = threading.Lock()

    def find(self, result: ResultFile, hint: Path | None = None) -> Path | None:
        """The photo; None where it is gone, or lies elsewhere.

        Args:
            hint: where it was said to be; it is believed if its hash says so, too.
        """
        with self._lock:
            if result.path not in self._known:
                self._known[result.path] = self._look(result, hint)
            found = self._known[result.path]
            if found is not None and not found.exists():  # it was there a moment ago
                found = self._known[result.path] = self._look(result, hint)
            return found

    def _look(self, result: ResultFile, hint: Path | None) -> Path | None:
        candidates = [hint] if hint is not None else []
        candidates += self._by_name(result)
        found = next((path for path in candidates if _is_source(path, result)), None)
        return found if found is not None or not self._named else self._by_hash(result)

    def _by_name(self, result: ResultFile) -> Iterator[Path]:
        stem = result.path.stem.casefold()
        near = [path for path in self._list() if path.stem.casefold() in stem and path != result.path.resolve()]
        # The longest name first, and of equal ones that whose folders are named as the result's.
        tail = Path(result.name).parent.parts
        yield from sorted(near, key=lambda path: (-len(path.stem), path.parent.parts[-len(tail) or None :] != tail))

    def _by_hash(self, result: ResultFile) -> Path | None:
        if self._hashes is None:
            self._hashes = {}
            for path in self._list():
                try:
                    self._hashes.setdefault(hash_file(path), path)
                except OSError:
                    continue
        return self._hashes.get(stamped(result.stamp, "input_sha256"))

    def _list(self) -> list[Path]:
        if self._photos is None:
            found = (path for root in self._roots for path in _walk(root))
            self._photos = list(islice(found, _MOST_NAMES))
        return self._photos


def _walk(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not is_no_place_for_photos(name))
        yield from (Path(folder, name) for name in sorted(names) if find_format(Path(name)) is not None)


def _is_source(path: Path, result: ResultFile) -> bool:
    try:
        return belongs_to(result.stamp, path, hash_file(path))
    except (OSError, PhotoError):
        return False
