"""The report's folder: report.json, .csv, .md and .html, each whole or not at all, and never somebody else's."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deblur_cli.benchmark.compare import read_report
from deblur_cli.benchmark.journal import FILE_NAME
from deblur_cli.benchmark.page import render_page
from deblur_cli.benchmark.records import BenchmarkReport
from deblur_cli.benchmark.tables import to_csv, to_markdown
from deblur_cli.errors import InputError
from deblur_cli.system import claims
from deblur_cli.system.files import check_writable, find_leftovers, hash_file, remove_leftovers, write_whole

_FILES = ("report.json", "report.csv", "report.md", "report.html")
_INDEX = ".deblur-report.json"  # file -> the sha256 that it has, and the one that it had when writing was cut off


@contextmanager
def open_folder(folder: Path) -> Iterator[None]:
    """Make the folder and have it alone while the block lasts.

    Raises:
        InputError: it cannot be made or written to, another run works in it, or something in it is not this tool's, or
            was changed since it was written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise InputError(f"--report {folder}: cannot be made ({fault.strerror})") from fault
    check_writable([folder])
    claim = claims.take(folder / "report.json")
    if claim is None:
        raise InputError(f"--report {folder}: another deblur bench is at work there; wait, or choose another folder")
    try:
        remove_leftovers(find_leftovers([folder]))
        _check_files(folder)
        yield
    finally:
        claim.release()


def write_report(report: BenchmarkReport, folder: Path) -> None:
    """All four files."""
    made = {
        "report.json": _encode(json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n"),
        "report.csv": _encode(to_csv(report)),
        "report.md": _encode(to_markdown(report)),
        "report.html": render_page(report, folder).encode(errors="replace"),
    }
    new = {name: [hashlib.sha256(content).hexdigest()] for name, content in made.items()}
    old = _read_index(folder) or {}
    # Both before the files change: a run that is killed between two of them leaves nothing that looks foreign.
    write_text(folder / _INDEX, json.dumps({name: [*new[name], *old.get(name, [])] for name in new}))
    for name, content in made.items():
        write_whole(folder / name, content)
    write_text(folder / _INDEX, json.dumps(new))


def _encode(text: str) -> bytes:
    """A name that is no UTF-8 keeps the bytes it has on the disk."""
    return text.encode(errors="surrogateescape")


def write_text(path: Path, text: str) -> None:
    """A text file that is there in full or not at all."""
    write_whole(path, _encode(text))


def _check_files(folder: Path) -> None:
    for name in (FILE_NAME, "images", *_FILES):
        if (folder / name).exists() and (folder / name).is_dir() is not (name == "images"):
            raise InputError(f"{folder / name}: is in the way; move it away, or choose another --report")
    known = _read_index(folder)
    if known is None and _is_report(folder):
        return  # of a version that kept no index
    for path in (folder / name for name in _FILES):
        if path.exists() and hash_file(path) not in (known or {}).get(path.name, []):
            what = "was changed since this tool wrote it" if known else "was not made by this tool"
            raise InputError(f"{path}: {what}; move it away, or choose another --report")


def _is_report(folder: Path) -> bool:
    try:
        read_report(folder)
    except InputError:
        return False
    return True


def _read_index(folder: Path) -> dict[str, list[str]] | None:
    try:
        table: Any = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    is_sound = isinstance(table, dict) and all(isinstance(hashes, list) for hashes in table.values())
    return table if is_sound else None
