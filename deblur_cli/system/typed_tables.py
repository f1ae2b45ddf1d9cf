"""Tables of TOML and JSON become dataclasses: every key is known, every value is of its field's type.

What is wrong is told in one line that names the key. Knows no files.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Check = Callable[[str, Any], None]

_SHOWN = 60  # characters of a wrong value in a message
_LARGEST = 2**63  # of a whole number
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class TableFault(ValueError):
    """What is wrong, and with which key."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be besides its type, as in `Annotated[int, Rule("above 0", is_positive)]`.

    Attributes:
        words: for the message, after "must be".
        holds: the test, which is given the value as it stands in the table.
    """

    words: str
    holds: Callable[[Any], bool]


def read_table(kind: type[T], table: Any, check: Check | None = None, **given: Any) -> T:
    """A dataclass from a table; lists become tuples and whole numbers floats where the fields say so.

    Args:
        check: called with key and value of every plain value; it raises ValueError for what it does not like.
        given: values of fields that the table must not have.
    Raises:
        TableFault: it is no table, a key is unknown or missing, or a value is none for its field.
    """
    if not isinstance(table, Mapping):
        raise TableFault(f"must be a table, not {_show(table)}")
    hints, fields = _read_fields(kind)  # type: ignore[arg-type]  # every class can be hashed
    known = [name for name in fields if name not in given]
    strange = next((key for key in table if key not in known), None)
    if strange is not None:
        raise TableFault(f"unknown key {strange!r}; {kind.__name__} has {', '.join(known)}")
    missing = [name for name in known if fields[name] and name not in table]
    require(not missing, f"lacks {', '.join(missing)}")
    return kind(**given, **{key: _read_value(key, value, hints[key], check) for key, value in table.items()})


def to_table(value: Any, *without: str) -> dict[str, Any]:
    """The fields of a dataclass that are not the default, as TOML and JSON have them, but for some."""
    told = {}
    for field in (field for field in dataclasses.fields(value) if field.name not in without):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if (found := getattr(value, field.name)) != default:
            told[field.name] = list(found) if isinstance(found, tuple) else found
    return told


def require(condition: object, fault: str) -> None:
    """Raise TableFault with this text unless the condition holds."""
    if not condition:
        raise TableFault(fault)


@cache
def _read_fields(kind: Any) -> tuple[dict[str, Any], dict[str, bool]]:
    """Name -> type, and name -> whether it has no default."""
    none = dataclasses.MISSING
    fields = {field.name: field.default is none and field.default_factory is none for field in dataclasses.fields(kind)}
    return get_type_hints(kind, include_extras=True), fields


def _read_value(key: str, value: Any, wanted: Any, check: Check | None) -> Any:
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        if not isinstance(value, Mapping):
            raise _fault(key, value, "a table")
        return read_table(wanted, value, check)
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Annotated and not inner[1].holds(value):
        raise _fault(key, value, inner[1].words)
    if origin in (UnionType, Union) and value is None:
        return None
    if origin in (Annotated, UnionType, Union):  # None comes last
        return _read_value(key, value, inner[0], check)
    if origin in (tuple, list):
        return _read_list(key, value, origin, inner)
    if origin in (dict, Mapping):
        return _read_mapping(key, value, inner)
    return _read_plain(key, value, wanted, check)


def _read_list(key: str, value: Any, origin: type, inner: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        raise _fault(key, value, "a list")
    if origin is tuple and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            raise _fault(key, value, f"a list of {len(inner)}")
        return tuple(_read_value(key, item, one, None) for item, one in zip(value, inner, strict=True))
    return origin(_read_value(key, item, inner[0], None) for item in value)


def _read_mapping(key: str, value: Any, inner: tuple[Any, ...]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _fault(key, value, "a table")
    return {name: _read_value(f"{key}.{name}", item, inner[1], None) for name, item in value.items()}


def _read_plain(key: str, value: Any, wanted: Any, check: Check | None) -> Any:
    if wanted is Any:
        return value
    if wanted is float and type(value) is int and abs(value) < _LARGEST:
        value = float(value)
    is_one = type(value) is wanted
    if not is_one or (wanted is int and abs(value) >= _LARGEST) or (wanted is float and math.isnan(value)):
        raise _fault(key, value, _WORDS[wanted])
    if check is not None:
        check(key, value)
    return value


def _fault(key: str, value: Any, words: str) -> TableFault:
    return TableFault(f"{key} = {_show(value)} must be {words}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
