"""What `deblur weights` shows of models: the rows of its tables, and every fact of one."""

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from deblur_cli.commands.progress import format_duration
from deblur_cli.commands.streams import write_note, write_result
from deblur_cli.commands.table import show_table
from deblur_cli.system.wording import count

if TYPE_CHECKING:
    from deblur_cli.weights.entries import ModelEntry

_WORST_FIRST = ("damaged", "absent", "cached", "imported", "local", "bundled")


def format_size(count: int | None) -> str:
    """Bytes as a person reads them, in powers of 1000 like the Hub."""
    if count is None:
        return "unknown"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def model_state(entry: "ModelEntry") -> str:
    """The state of its worst file; a model that cannot run yet is "untrained", whatever lies here."""
    from deblur_cli.weights.store import find_state

    if entry.untrained:
        return "untrained"
    return min((find_state(file) for file in entry.files.values()), key=_WORST_FIRST.index)


def show_choices(models: "Collection[ModelEntry]", default: str) -> None:
    """`deblur weights list`: the models that a photographer chooses from, and the user's own.

    Args:
        default: name of the one that runs when none is named.
    """
    chosen = [entry for entry in models if entry.listed or entry.user or entry.name == default]
    rows = [(entry.name, model_state(entry), _time(entry), _summarise(entry, default)) for entry in chosen]
    show_table(("model", "state", "24 MP", "good for"), rows)
    if sys.stdout.isatty():
        write_note(f"{count(len(models) - len(chosen), 'more model')}: deblur weights list --all")


def show_all(models: "Collection[ModelEntry]", default: str) -> None:
    """`deblur weights list --all`: a row a model."""
    show_table(("model", "state", "size", "licence", "summary"), [_model_row(entry, default) for entry in models])


def _time(entry: "ModelEntry") -> str:
    return "-" if entry.seconds_24mp is None else format_duration(entry.seconds_24mp)


def _summarise(entry: "ModelEntry", default: str) -> str:
    return f"(default) {entry.summary}" if entry.name == default else entry.summary


def _model_row(entry: "ModelEntry", default: str) -> tuple[str, ...]:
    licences = dict.fromkeys(file.licence.partition(";")[0] for file in entry.files.values())
    gated = ", gated" if any(file.gated for file in entry.files.values()) else ""
    licence = ", ".join(licences) + gated
    return entry.name, model_state(entry), format_size(_size(entry)), licence, _summarise(entry, default)


def _size(entry: "ModelEntry") -> int | None:
    """As the manifest says; where it does not, as the files on this machine are."""
    from deblur_cli.weights.store import locate

    places = [locate(file) for file in entry.files.values()]
    found = sum(place.stat().st_size for place in places if place is not None)
    return entry.bytes or (found if None not in places else None)


def show_facts(facts: dict[str, Any], indent: str = "") -> None:
    """A line a fact; lists of tables as blocks below their key, what is empty is left out."""
    for key, value in facts.items():
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
            for entry in value:
                write_result(f"{indent}{key}")
                show_facts(entry, indent + "  ")
        elif value not in (None, "", (), {}, []):
            write_result(f"{indent}{key}: {_describe_value(key, value)}")


def _describe_value(key: str, value: Any) -> str:
    if key == "bytes":
        return f"{value} ({format_size(value)})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
