"""weights_manifest.toml -> the files of a model, present and verified. Knows no torch and no network module."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deblur_cli.errors import WeightsError

_PACKAGE = Path(__file__).parent
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """One file of weights as the manifest lists it."""

    key: str
    path: str  # inside the package
    bytes: int
    sha256: str
    licence: str
    source: str


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that `--model` can name: which backend runs it and which file plays which role."""

    name: str
    backend: str
    summary: str
    files: Mapping[str, WeightsFile]  # role -> file

    @property
    def hashes(self) -> dict[str, str]:
        """Role -> sha256, as the recipe stamp and the reports print them."""
        return {role: file.sha256 for role, file in self.files.items()}


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything the tool can run."""

    files: Mapping[str, WeightsFile]
    models: Mapping[str, ModelEntry]


def manifest_path() -> Path:
    """The manifest inside an installed package, or one folder up in a checkout (editable install)."""
    installed = _PACKAGE / "weights_manifest.toml"
    return installed if installed.is_file() else _PACKAGE.parent / "weights_manifest.toml"


@cache
def read_manifest() -> Manifest:
    """Parse the shipped manifest.

    Raises:
        WeightsError: the manifest is missing, is no TOML, lacks a field or names an unknown file.
    """
    path = manifest_path()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        files = {key: WeightsFile(key=key, **table) for key, table in tables["files"].items()}
        models = {name: _build_model(name, table, files) for name, table in tables["models"].items()}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as fault:
        raise WeightsError(f"{path}: the weights manifest is damaged ({fault}); reinstall deblur-cli") from fault
    return Manifest(files=files, models=models)


def find_model(name: str) -> ModelEntry:
    """The model of that name.

    Raises:
        WeightsError: no such model; the message lists the names.
    """
    models = read_manifest().models
    if name not in models:
        raise WeightsError(f"--model {name}: unknown model; known are {', '.join(sorted(models))}")
    return models[name]


def fetch(file: WeightsFile) -> Path:
    """Local path of a weights file, verified against the manifest's size and sha256.

    Raises:
        WeightsError: the file is absent or its bytes are not the ones the manifest promises.
    """
    path = _PACKAGE / file.path
    if not path.is_file():
        raise WeightsError(f"{path}: weights file is missing; reinstall deblur-cli")
    found = hash_file(path)
    if found != file.sha256:
        raise WeightsError(f"{path}: sha256 is {found[:12]}…, expected {file.sha256[:12]}…; reinstall deblur-cli")
    return path


def hash_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _build_model(name: str, table: dict[str, Any], files: Mapping[str, WeightsFile]) -> ModelEntry:
    roles = {role: files[key] for role, key in table["files"].items()}
    return ModelEntry(name=name, backend=table["backend"], summary=table["summary"], files=roles)
