"""Tables: on a terminal for the eye, in a pipe for a script."""

import re

import pytest

from deblur_cli.commands.table import show_table

HEADING = ("model", "psnr", "24 MP", "where")
ROWS = [("a", "31.25", "5 s", "out/ü 1.png"), ("nafnet-64", "-", "12 min", "[bold]x")]


def test_in_a_pipe_the_heading_comes_first_and_tabs_part_the_cells(capsys):
    show_table(HEADING, ROWS)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines == [list(row) for row in (HEADING, *ROWS)]


def test_a_table_without_rows_is_its_heading(capsys):
    show_table(HEADING, [])
    assert capsys.readouterr().out == "model\tpsnr\t24 MP\twhere\n"


def test_on_a_terminal_numbers_stand_to_the_right_and_text_is_no_markup(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show_table(HEADING, ROWS)
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert [line.rstrip() for line in lines] == [
        "model       psnr   24 MP  where",
        "a          31.25     5 s  out/ü 1.png",
        "nafnet-64      -  12 min  [bold]x",
    ]


@pytest.mark.parametrize("columns", ["20", "40"])
def test_a_narrow_terminal_loses_no_character(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show_table(("file", "result"), [("x" * 30, "damaged: wrong size")])
    out = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert out.count("x") == 30
    assert set("damaged:wrong") <= set(out)
