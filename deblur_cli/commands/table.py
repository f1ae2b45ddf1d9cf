"""A table as every command shows it."""

import re
import sys
from collections.abc import Sequence

from deblur_cli.commands.streams import write_result

_COLOURS = {"damaged": "red", "absent": "dim", "untrained": "dim", "verified": "green"}  # first word of a cell
_NUMBER = re.compile(r"[-+]?(\d[\d.]*(\.\.[-+][\d.]+)?( (s|min|MB|GB))?|inf)|-|unknown")


def show_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal, numbers to the right; in a pipe a line a row, cells apart by tabs, the heading first."""
    if not sys.stdout.isatty():
        for row in (heading, *rows):
            write_result("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for index, title in enumerate(heading):
        is_number = all(_NUMBER.fullmatch(row[index]) for row in rows)
        table.add_column(title, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, _COLOURS.get(cell.partition(":")[0], "")) for cell in row))
    Console().print(table)
