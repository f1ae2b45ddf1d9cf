"""The report's folder: report.json, .csv, .md and .html, each whole or not at all."""

import json
from pathlib import Path

from deblur_cli.atomic import whole_file
from deblur_cli.benchmark.page import write_page
from deblur_cli.benchmark.records import BenchmarkReport
from deblur_cli.benchmark.tables import to_csv, to_markdown
from deblur_cli.errors import InputError
from deblur_cli.folders import check_writable


def open_folder(folder: Path) -> None:
    """Make the folder.

    Raises:
        InputError: it cannot be made, cannot be written to or is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise InputError(f"--report {folder}: cannot be made ({fault.strerror})") from fault
    check_writable([folder])


def write_report(report: BenchmarkReport, folder: Path) -> None:
    """All four files."""
    write_text(folder / "report.json", json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.csv", to_csv(report))
    write_text(folder / "report.md", to_markdown(report))
    write_page(report, folder)


def write_text(path: Path, text: str) -> None:
    """A text file that is there in full or not at all; a name that is no UTF-8 keeps the bytes it has on the disk."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
