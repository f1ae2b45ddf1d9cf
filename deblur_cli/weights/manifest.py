"""The shipped manifest and the user's: which models there are. Knows nothing of the files' state."""

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from deblur_cli.errors import WeightsError
from deblur_cli.weights.entries import Manifest, ModelEntry, WeightsFile
from deblur_cli.weights.schema import SchemaFault, build_manifest
from deblur_cli.weights.store import with_pin

PACKAGE = Path(__file__).parents[1]

_LARGEST = 1 << 20  # bytes of a manifest of the user's
_DOTS = 100  # in a line of it: of a name in 50,000 parts tomllib needs 50 s
_NOTHING = Manifest(files={}, models={})


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
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, SchemaFault) as fault:
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
    """The user's entries, checked; none has the name of a shipped one.

    Raises:
        WeightsError: an entry is wrong.
    """
    try:
        manifest = build_manifest(tables, read_shipped_manifest())
    except SchemaFault as fault:
        raise WeightsError(f"{user_manifest_path()}: {fault}; mend it there") from fault
    models = {name: replace(entry, user=True) for name, entry in manifest.models.items()}
    return Manifest(manifest.files, models)


def read_manifest() -> Manifest:
    """Everything the tool can run: what ships with it, then what the user has added.

    Raises:
        WeightsError: one of the two manifests cannot be used.
    """
    shipped, added = read_shipped_manifest(), build_user_manifest(read_user_tables())
    return Manifest({**shipped.files, **added.files}, {**shipped.models, **added.models})


def find_model(name: str) -> ModelEntry:
    """The model of that name. A fault in the user's manifest never stands before a shipped model.

    Raises:
        WeightsError: no such model; the message lists the names.
    """
    shipped = read_shipped_manifest().models
    models = shipped if name in shipped else read_manifest().models
    if name not in models:
        raise WeightsError(f"--model {name}: unknown model; known are {', '.join(sorted(models))}")
    files = {role: with_pin(file) for role, file in models[name].files.items()}
    return replace(models[name], files=files)


def find_files(name: str, *, to_run: bool = False) -> tuple[WeightsFile, ...]:
    """The files of a model, each once, or the one file of that name.

    Args:
        to_run: a model that is not trained is refused, since its files are of no use.
    Raises:
        WeightsError: there is neither; the message lists the models.
    """
    shipped = read_shipped_manifest()
    manifest = shipped if name in shipped.models or name in shipped.files else read_manifest()
    if name in manifest.models:
        if to_run:
            manifest.models[name].check_trained()
        return tuple({file.key: file for file in manifest.models[name].files.values()}.values())
    if name in manifest.files:
        return (manifest.files[name],)
    raise WeightsError(f"{name}: unknown model; known are {', '.join(sorted(manifest.models))}")
