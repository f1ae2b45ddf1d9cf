"""`deblur doctor`: what this machine and this installation can do."""

from typing import TYPE_CHECKING, Any

import typer

from deblur_cli.commands.options import JsonOption
from deblur_cli.commands.streams import write_json, write_result
from deblur_cli.errors import ExitStatus

if TYPE_CHECKING:
    from deblur_cli.commands.doctor_work import Diagnosis

_SCHEMA = 1  # fields are only ever added
_BYTES = frozenset(("memory", "total", "limit", "available", "size"))
_LABELS = {"bfloat16": "bfloat16 in hardware:"}


def doctor(as_object: JsonOption = False) -> None:
    """Tell devices, memory, torch build, codecs, cache and weights.

    \b
    Examples:
      deblur doctor
      deblur doctor --json

    Exit status: 0 all that `deblur run` needs is there, 1 something essential is broken.
    """
    from deblur_cli.commands.doctor_work import diagnose

    found = diagnose()
    if as_object:
        write_json({"schema": _SCHEMA, **found.facts, "warnings": found.warnings, "faults": found.faults}, indent=2)
    else:
        _show(found)
    if found.faults:
        raise typer.Exit(ExitStatus.FAILURE)


def _show(found: "Diagnosis") -> None:
    for title, facts in found.facts.items():
        write_result(title)
        for line in _describe(facts):
            write_result(f"  {line}")
    for warning in found.warnings:
        write_result(f"warning: {warning}")
    for fault in found.faults:
        write_result(f"broken: {fault}")
    if not found.faults:
        write_result("all that deblur run needs is there")


def _describe(facts: Any) -> list[str]:
    """Lines of one section: a line a key, or a line a device."""
    if isinstance(facts, list):
        return [", ".join(_describe_field(*pair) for pair in entry.items()) for entry in facts]
    width = max((len(key) for key in facts), default=0)
    return [f"{key.ljust(width)}  {_describe_value(key, value)}" for key, value in facts.items()]


def _describe_field(key: str, value: Any) -> str:
    return str(value) if key in ("name", "model") else f"{_LABELS.get(key, key)} {_describe_value(key, value)}"


def _describe_value(key: str, value: Any) -> str:
    if value is None:
        return "not installed" if key not in _BYTES else "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value / 2**30:.1f} GiB" if key in _BYTES else str(value)
