"""The shipped manifest and the user's: which models there are. Knows nothing of the files' state."""

import logging
import os
import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from deblur_cli.errors import WeightsError
from deblur_cli.system.typed_tables import TableFault
from deblur_cli.weights.entries import Manifest, ModelEntry, WeightsFile
from deblur_cli.weights.schema import build_manifest
from deblur_cli.weights.store import with_pin

PACKAGE = Path(__file__).parents[1]

_LARGEST = 1 << 20  # bytes of a manifest of the user's
_DOTS = 100  # in a line of it: of a name in 50,000 parts tomllib needs 50 s
_NOTHING = Manifest(files={}, models={})
_LOG = logging.getLogger("deblur_cli")


def manifest_path() -> Path:
    """The manifest inside an installed package, or one folder up in a checkout (editable install)."""
    installed = PACKAGE / "weights_manifest.toml"
    return installed if installed.is_file() else PACKAGE.parent / "weights_manifest.toml"


def user_manifest_path() -> Path:
    """`weights.toml` in `DEBLUR_CONFIG_HOME`, else in the folder where this system keeps settings."""
    if own := os.environ.get("DEBLUR_CONFIG_HOME"):
        return Path(own).expanduser() / "weights.toml"
    if sys.platform == "win32":
        settings = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        settings = Path.home() / "Library" / "Application Support"
    else:
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return settings / "deblur" / "weights.toml"


@cache
def read_shipped_manifest() -> Manifest:
    """The manifest that ships with the tool.

    Raises:
        WeightsError: it is missing, is no TOML, or an entry is wrong.
    """
    path = manifest_path()
    try:
        return build_manifest(tomllib.loads(path.read_text(encoding="utf-8")), _NOTHING)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TableFault) as fault:
        raise WeightsError(f"{path}: the weights manifest is damaged ({fault}); reinstall deblur-cli") from fault


def read_user_tables() -> dict[str, Any]:
    """The tables of the user's manifest as they stand there; empty when there is none.

    Raises:
        WeightsError: the file cannot be read or is no TOML.
    """
    path = user_manifest_path()
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST or any(line.count(b".") > _DOTS for line in content.splitlines()):
            raise ValueError(f"over {_LARGEST} bytes, or over {_DOTS} dots in a line")
        return tomllib.loads(content.decode("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as fault:  # tomllib's own faults are ValueErrors
        raise WeightsError(f"{path}: your weights manifest cannot be read ({fault}); mend or delete it") from fault


def build_user_manifest(tables: Mapping[str, Any]) -> Manifest:
    """The user's entries, checked; a model whose name is by now that of a shipped one is left out, and told.

    Raises:
        WeightsError: an entry is wrong.
    """
    try:
        manifest = build_manifest(_leave_out_taken(tables), read_shipped_manifest())
    except TableFault as fault:
        raise WeightsError(f"{user_manifest_path()}: {fault}; mend it there") from fault
    models = {name: replace(entry, user=True) for name, entry in manifest.models.items()}
    return Manifest(manifest.files, models)


def read_manifest() -> Manifest:
    """Everything the tool can run: what ships with it, then what the user has added.

    Raises:
        WeightsError: one of the two manifests cannot be used.
    """
    shipped, added = read_shipped_manifest(), build_user_manifest(read_user_tables())
    return Manifest({**added.files, **shipped.files}, {**shipped.models, **added.models})


def find_model(name: str) -> ModelEntry:
    """The model of that name, or that had it before. A fault in the user's manifest never stands before a shipped one.

    Raises:
        WeightsError: no such model; the message lists the names.
    """
    manifest = _find_manifest(name)
    if not manifest.has_model(name):
        raise WeightsError(f"--model {name}: unknown model; known are {', '.join(sorted(manifest.models))}")
    entry = manifest.models[manifest.resolve(name)]
    return replace(entry, files={role: with_pin(file) for role, file in entry.files.items()})


def has_model(name: str) -> bool:
    """Whether `find_model` knows the name."""
    return _find_manifest(name).has_model(name)


def find_files(name: str, *, to_run: bool = False) -> tuple[WeightsFile, ...]:
    """The files of a model, each once, or the one file of that name.

    Args:
        to_run: a model that is not trained is refused, since its files are of no use.
    Raises:
        WeightsError: there is neither; the message lists the models.
    """
    manifest = _find_manifest(name)
    if manifest.has_model(name):
        entry = manifest.models[manifest.resolve(name)]
        if to_run:
            entry.check_trained()
        return tuple({file.key: file for file in entry.files.values()}.values())
    if name in manifest.files:
        return (manifest.files[name],)
    raise WeightsError(f"{name}: unknown model; known are {', '.join(sorted(manifest.models))}")


def _find_manifest(name: str) -> Manifest:
    """The shipped manifest if that is enough to tell what the name means, else all."""
    shipped = read_shipped_manifest()
    if not shipped.has_model(name) and name not in shipped.files:
        return read_manifest()
    with suppress(WeightsError):  # nothing of the user's was asked for
        _leave_out_taken(read_user_tables(), only=name)
    return shipped


def _leave_out_taken(tables: Mapping[str, Any], only: str | None = None) -> Mapping[str, Any]:
    """The user's tables without the models that a shipped one has the name of, each told once.

    Such a name came to the shipped manifest after the user had taken it.

    Args:
        only: tell of no other name.
    """
    models, shipped = tables.get("models"), read_shipped_manifest()
    if not isinstance(models, dict):
        return tables
    taken = [name for name, table in models.items() if shipped.has_model(name) and isinstance(table, dict)]
    for name in taken:
        if only in (None, name):
            _tell_taken(name, user_manifest_path())
    return {**tables, "models": {name: table for name, table in models.items() if name not in taken}}


@cache
def _tell_taken(name: str, path: Path) -> None:
    wins = "a model that ships with the tool has this name now and is the one that runs"
    _LOG.warning("deblur: %s: %s; rename yours in %s", name, wins, path)


def find_converting(file: WeightsFile) -> ModelEntry | None:
    """The model that does not run from this file as it is, but from what it is converted to, if there is one."""
    shipped = read_shipped_manifest()
    models = shipped.models if file.key in shipped.files else read_manifest().models
    return next((entry for entry in models.values() if _converts(entry, file)), None)


def _converts(entry: ModelEntry, file: WeightsFile) -> bool:
    if entry.backend == "deblurdiff":
        return entry.files.get("checkpoint") == file
    return entry.takes_published_maxim and entry.files["expert"] == file
