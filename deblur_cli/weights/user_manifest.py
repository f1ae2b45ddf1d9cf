"""The user's own manifest: entries added and removed. It is plain TOML that may be edited by hand."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deblur_cli.errors import InputError, WeightsError
from deblur_cli.system.files import hash_file, write_whole
from deblur_cli.system.typed_tables import to_table
from deblur_cli.weights.entries import ModelEntry, WeightsFile
from deblur_cli.weights.manifest import (
    build_user_manifest,
    find_model,
    read_shipped_manifest,
    read_user_tables,
    user_manifest_path,
)
from deblur_cli.weights.model_folder import MODEL_JSON, ModelFolder, read_folder
from deblur_cli.weights.repository import read_small_file
from deblur_cli.weights.rules import is_inside, is_name, is_repository, is_revision, is_sha256
from deblur_cli.weights.store import remove_imported

Tables = dict[str, Any]

_HUB = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>[^/]*))?/(?P<name>.+)")
_HUB_REPOSITORY = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>[^/@]+))?/?")
_HEADING = "# Models of your own, for `deblur run --model NAME`; `deblur weights add` and `remove` write this file.\n"


def add_model(name: str, source: str, like: str | None, details: Mapping[str, str]) -> ModelEntry:
    """Enter a model with a file of its own that runs as another one does, or a whole model with its model.json.

    Args:
        source: a file, or hf://OWNER/REPOSITORY@REVISION/FILE with the full commit. A whole model: a folder, or
            hf://OWNER/REPOSITORY with @ and a commit, a branch or a tag where it is not main.
        like: for a file, the model whose backend, network and config it shares; None for the small bundled expert.
        details: `sha256`, `licence`, `summary`, where the user gives them.
    Raises:
        InputError: the name is taken or unusable, or the source is none.
        WeightsError: `like` is unknown, a model.json cannot be used, or the manifest cannot be written.
    """
    tables = read_user_tables()
    _check_free(name, tables)
    if os.path.isdir(Path(source).expanduser()) or _HUB_REPOSITORY.fullmatch(source):  # noqa: PTH112 - as below
        model = _describe_folder(name, source, like, details)
        shipped = read_shipped_manifest().files
        own = {file.key: file for file in model.files.values() if file.key not in shipped}
    else:
        model = _describe_one(name, source, like or "quick", details)  # the other files are those of the model `like`
        own = {file.key: file for file in model.files.values() if file.key == name}
    for key in own.keys() - {name}:
        _check_free(key, tables)
    # The keys of the tables are the names already.
    tables.setdefault("files", {}).update({key: to_table(file, "key") for key, file in own.items()})
    roles = {role: file.key for role, file in model.files.items()}
    tables.setdefault("models", {})[name] = {**to_table(model, "name", "files"), "files": roles}
    entry = build_user_manifest(tables).models[name]
    _write(tables)
    return entry


def remove_model(name: str) -> None:
    """Take a model out of the user's manifest, and its file if no other model needs it.

    What lies in the Hub's cache or was added by path stays where it is.

    Raises:
        InputError: it ships with the tool, or there is no such entry.
    """
    tables, shipped = read_user_tables(), read_shipped_manifest()
    if name not in tables.get("models", {}):
        if shipped.has_model(name):
            raise InputError(f"{name}: ships with the tool and cannot be removed")
        raise InputError(f"{name}: no model of your own has this name; see 'deblur weights list'")
    manifest = build_user_manifest(tables)
    unused = _file_keys(tables["models"].pop(name)) & set(tables.get("files", {}))
    for key in unused - {key for model in tables["models"].values() for key in _file_keys(model)}:
        del tables["files"][key]
        if key not in shipped.files:  # else what lies there is the shipped model's
            remove_imported(manifest.files[key])
    _write(tables)


def _file_keys(model: Tables) -> set[str]:
    """The files of a model's table, which nobody has checked if a shipped model has its name by now."""
    files = model.get("files")
    return {key for key in files.values() if isinstance(key, str)} if isinstance(files, dict) else set()


def _check_free(name: str, tables: Tables) -> None:
    if not is_name(name):
        raise InputError(f"{name}: no usable name; letters, digits and . _ + - only, 64 at most")
    shipped = read_shipped_manifest()
    if shipped.has_model(name) or name in shipped.files:
        raise InputError(f"{name}: a model that ships with the tool has this name; choose another")
    if name in tables.get("models", {}) or name in tables.get("files", {}):
        raise InputError(f"{name}: you have added this name before; first deblur weights remove {name}")


def _describe_folder(name: str, source: str, like: str | None, details: Mapping[str, str]) -> ModelEntry:
    """A whole model."""
    if like is not None or "sha256" in details:
        option = "--like" if like is not None else "--sha256"
        raise InputError(f"{option}: is for a single file; {source} is a whole model, its model.json says it all")
    home: Path | tuple[str, str]
    if match := _HUB_REPOSITORY.fullmatch(source):
        repository, revision = match["repository"], match["revision"] or "main"
        if not is_repository(repository):
            raise InputError(f"{source}: must have the form hf://OWNER/REPOSITORY@REVISION")
        commit, text = read_small_file(repository, revision, MODEL_JSON)
        home, folder = (repository, commit), ModelFolder.parse(text, f"hf://{repository}@{commit}/{MODEL_JSON}")
    else:
        home = Path(source).expanduser().resolve()
        folder = read_folder(home)
    entry = folder.place(name, home)
    files = {role: replace(file, licence=details.get("licence", file.licence)) for role, file in entry.files.items()}
    return replace(entry, files=files, summary=details.get("summary") or entry.summary)


def _describe_one(name: str, source: str, like: str, details: Mapping[str, str]) -> ModelEntry:
    """A model of a single file."""
    template = find_model(like)
    if len(template.files) != 1:
        raise InputError(
            f"--like {like}: is made of several files; enter such a model by hand in {user_manifest_path()}"
        )
    file = _describe_source(name, source, details)
    if template.backend == "deblurdiff" and source.endswith(".safetensors"):  # what a training wrote beside its base
        files = {**template.files, "trained": file}
    else:
        files = dict.fromkeys(template.files, file)
    # Not its checkpoint_key: people's files keep their tensors elsewhere, and `load_strict` finds them.
    return ModelEntry(
        name,
        template.backend,
        details.get("summary") or f"As {template.name}, from {source}.",
        files,
        network=template.network,
        config=dict(template.config),
        tiling=dict(template.tiling),
    )


def _describe_source(name: str, source: str, details: Mapping[str, str]) -> WeightsFile:
    sha256 = details.get("sha256")
    if sha256 is not None and not is_sha256(sha256):
        raise InputError(f"--sha256 {sha256}: must be 64 hex digits, lower case")
    told = WeightsFile(name, details.get("licence") or "not stated", "added by the user", sha256=sha256)
    if source.startswith("hf://"):
        return replace(told, **_find_on_hub(source))
    path = Path(source).expanduser()
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file() raises on a long name
        raise InputError(f"{source}: no such file; name a file, a folder with a model.json, or hf://OWNER/REPOSITORY")
    found = hash_file(path)
    if sha256 not in (None, found):
        raise InputError(f"{source}: its sha256 is {found}, not the one that --sha256 names")
    return replace(told, local=str(path.resolve()), bytes=path.stat().st_size, sha256=found)


def _find_on_hub(source: str) -> dict[str, Any]:
    """Repository, revision and name."""
    match = _HUB.fullmatch(source)
    place = match.groupdict() if match else {}
    if not is_repository(place.get("repository")) or not is_inside(place.get("name")):
        raise InputError(f"{source}: must have the form hf://OWNER/REPOSITORY@REVISION/FILE")
    if not is_revision(place["revision"]):
        commits = f"https://huggingface.co/{place['repository']}/commits/main"
        raise InputError(f"{source}: needs @ and a full commit of 40 hex digits, a branch may move; see {commits}")
    return place


def _write(tables: Tables) -> None:
    """Replace the user's manifest at once, so that a fault leaves the old one."""
    path = user_manifest_path()
    try:
        write_whole(path, (_HEADING + to_toml(tables)).encode())
    except OSError as fault:
        reason = fault.strerror or fault
        raise WeightsError(f"{path}: cannot be written ({reason}); set DEBLUR_CONFIG_HOME to another folder") from fault


def to_toml(tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """TOML of the two-level tables of a manifest; deeper tables are written inline."""
    lines = []
    for section, entries in tables.items():
        for name, table in entries.items():
            lines += ["", f"[{section}.{_to_text(name)}]"]
            lines += [f"{_to_key(key)} = {_to_value(value)}" for key, value in table.items()]
    return "\n".join([*lines, ""])


def _to_value(value: Any) -> str:
    if isinstance(value, str):
        return _to_text(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_to_key(key)} = {_to_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_to_value, value)) + "]"
    return json.dumps(value)  # numbers, true, false


def _to_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _to_text(key)


def _to_text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's too, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
