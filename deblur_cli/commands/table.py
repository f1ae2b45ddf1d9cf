"""A table of figures on stdout."""

import sys

from deblur_cli.commands.streams import write_result


def show_table(heading: list[str], rows: list[list[str]]) -> None:
    """A table on a terminal; tabs and nothing else in a pipe."""
    if not sys.stdout.isatty():
        for row in (heading, *rows):
            write_result("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0))
    for index, title in enumerate(heading):
        table.add_column(title, justify="left" if index < 2 else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
