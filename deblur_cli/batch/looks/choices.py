"""What was decided about results, in a plain text file: one line a photo, which `deblur run --from-view` does.

    keep    IMG_2041.jpg
    redo    IMG_2042.jpg    best                       ../holiday/IMG_2042.jpg
    redo    IMG_2043.jpg    quick+flow:strength=0.5    ../holiday/IMG_2043.jpg
    reject  day 2/IMG_1.jpg

The columns are apart by tabs: what to do, the result, and to redo also the model as `--model` takes it, and the photo.
Paths are relative to the file's folder; in them a tab, a line end and % are written %09, %0A, %0D and %25. Lines that
begin with # are remarks, and stay.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from deblur_cli.errors import InputError
from deblur_cli.system.files import write_whole

FILE_NAME = "deblur-choices.txt"
Verdict = Literal["keep", "redo", "reject"]

_HEAD = (
    "# Choices of deblur view: keep, redo or reject, then the result; to redo also the model and the photo.",
    "# Columns are apart by tabs. Done by: deblur run --from-view THIS_FILE; nothing is ever deleted.",
)
_ESCAPES = (("%", "%25"), ("\t", "%09"), ("\n", "%0A"), ("\r", "%0D"))


@dataclass(frozen=True, slots=True)
class Choice:
    """One line: what is to become of a result. Paths are as they are in the file; `source` is empty if none is told."""

    verdict: Verdict
    result: str
    model: str = ""
    source: str = ""

    def line(self) -> str:
        """As it is written."""
        cells = (self.verdict, self.result, self.model, self.source)
        return "\t".join(map(_escape, cells)).rstrip("\t")


class ChoiceFile:
    """The file of one folder; read anew before every change, for it may be edited by hand meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> dict[str, Choice]:
        """The choices by result, the last line of each; none where there is no file.

        Raises:
            InputError: it cannot be read, or a line of it is none.
        """
        return {choice.result: choice for line in self._lines() if (choice := line[1]) is not None}

    def put(self, result: str, choice: Choice | None) -> None:
        """Write what was decided of a result, whole or not at all; None takes its line out.

        Raises:
            InputError: as `read`, or it cannot be written.
        """
        with self._lock:
            lines = [(text, found) for text, found in self._lines() if found is None or found.result != result]
            lines = lines or [(text, None) for text in _HEAD]
            texts = [text for text, _ in lines] + ([choice.line()] if choice else [])
            content = "".join(f"{text}\n" for text in texts).encode("utf-8", "surrogateescape")
            try:
                write_whole(self.path, content)
            except OSError as fault:
                raise InputError(f"{self.path}: cannot be written ({fault.strerror}); check the folder") from fault

    def resolve(self, path: str) -> Path:
        """Where a path in the file leads."""
        return Path(os.path.normpath(self.path.parent / path))

    def relative(self, path: Path) -> str:
        """A path as it is written in the file: relative to its folder where that can be."""
        try:
            return Path(os.path.relpath(path, self.path.parent)).as_posix()
        except ValueError:  # another drive
            return str(path)

    def _lines(self) -> list[tuple[str, Choice | None]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as fault:
            raise InputError(f"{self.path}: cannot be read ({fault.strerror}); check its permissions") from fault
        return list(_parse(content.decode("utf-8-sig", "surrogateescape").splitlines(), self.path))


def read_choices(path: Path) -> tuple[ChoiceFile, Sequence[Choice]]:
    """The choices of a file that must be there.

    Raises:
        InputError: it is not there, cannot be read, or a line of it is none.
    """
    if not path.is_file():
        raise InputError(f"--from-view {path}: no such file; deblur view OUT writes OUT/{FILE_NAME}")
    file = ChoiceFile(path)
    return file, tuple(file.read().values())


def _parse(lines: Sequence[str], path: Path) -> Iterator[tuple[str, Choice | None]]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            yield line, None
            continue
        cells = [_unescape(cell) for cell in line.split("\t")]
        verdict, *rest = cells
        is_sound = verdict in get_args(Verdict) and 1 <= len(rest) <= 3 and rest[0]
        if not is_sound or (verdict == "redo" and not all((*rest, "", "")[1:3])):
            form = "keep, redo or reject, the result, and to redo the model and the photo, apart by tabs"
            raise InputError(f"{path}: line {number} is no choice: {form}")
        yield line, Choice(cast(Verdict, verdict), *rest)


def _escape(text: str) -> str:
    for character, code in _ESCAPES:
        text = text.replace(character, code)
    return text


def _unescape(text: str) -> str:
    for character, code in reversed(_ESCAPES):
        text = text.replace(code, character)
    return text
