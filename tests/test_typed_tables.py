"""Tables become dataclasses: what is converted, and what the one line says of what is wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from deblur_cli.system.typed_tables import Rule, TableFault, read_table, to_table


@dataclass(frozen=True)
class Inner:
    sides: tuple[int, int] = (1, 1)
    scale: float | None = None


@dataclass(frozen=True)
class Outer:
    name: Annotated[str, Rule("lower case", lambda value: isinstance(value, str) and value.islower())]
    weight: float = 1.0
    inner: Inner = field(default_factory=Inner)
    rows: list[Inner] = field(default_factory=list)
    scores: Mapping[str, float | None] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)


def test_lists_become_tuples_and_whole_numbers_floats_where_the_fields_say_so() -> None:
    table = {"name": "a", "weight": 2, "inner": {"sides": [3, 4]}, "rows": [{"scale": 5}], "scores": {"x": None}}
    read = read_table(Outer, table)
    assert read == Outer("a", 2.0, Inner((3, 4)), [Inner(scale=5.0)], {"x": None})
    assert isinstance(read.weight, float)
    assert isinstance(read.rows[0].scale, float)


def test_the_table_of_a_value_has_what_is_not_the_default_and_reads_back() -> None:
    inner = Inner((2, 3))
    assert to_table(inner) == {"sides": [2, 3]}
    assert read_table(Inner, to_table(inner)) == inner
    assert to_table(Outer("a", rest={"b": [1]}), "name") == {"rest": {"b": [1]}}


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ([], "must be a table, not []"),
        ({}, "lacks name"),
        ({"name": "A"}, "name = 'A' must be lower case"),
        ({"name": "a", "nam": 1}, "unknown key 'nam'; Outer has name, weight, inner"),
        ({"name": "a", "weight": True}, "weight = True must be a number"),
        ({"name": "a", "weight": float("nan")}, "weight = nan must be a number"),
        ({"name": "a", "inner": 3}, "inner = 3 must be a table"),
        ({"name": "a", "inner": {"sides": [1]}}, "sides = [1] must be a list of 2"),
        ({"name": "a", "inner": {"sides": [1, 2**70]}}, f"sides = {2**70} must be a whole number"),
        ({"name": "a", "rows": "x"}, "rows = 'x' must be a list"),
        ({"name": "a", "scores": {"x": "high"}}, "scores.x = 'high' must be a number"),
        ({"name": "a", "scores": "x" * 100}, f"scores = '{'x' * 59}… must be a table"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_key(table: Any, text: str) -> None:
    with pytest.raises(TableFault, match=f"^{re.escape(text)}"):
        read_table(Outer, table)


def test_a_field_that_is_given_must_not_stand_in_the_table() -> None:
    assert read_table(Outer, {}, name="A").name == "A"
    with pytest.raises(TableFault, match="unknown key 'name'"):
        read_table(Outer, {"name": "a"}, name="b")
