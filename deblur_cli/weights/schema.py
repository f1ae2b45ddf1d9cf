"""Tables of TOML -> entries of a manifest; the first fault is one line that names its entry. Reads no files."""

from collections.abc import Mapping
from typing import Any, TypeVar

from deblur_cli.system.typed_tables import TableFault, read_table, require
from deblur_cli.weights.entries import FlowSettings, Manifest, ModelEntry, WeightsFile
from deblur_cli.weights.rules import is_name

T = TypeVar("T")

# The keys that a file needs, by where it comes from, and those that it may have besides.
_PLACES = {
    "path": ("path", "bytes", "sha256"),
    "repository": ("repository", "revision", "name"),
    "local": ("local", "bytes", "sha256"),
    "page": ("page",),
}
_OPTIONAL = {"page": ("name",)}
_ANYWHERE = ("licence", "source", "bytes", "sha256", "gated")


def build_manifest(tables: Mapping[str, Any], known: Manifest) -> Manifest:
    """The manifest of parsed TOML.

    Args:
        known: the shipped manifest for the user's one, whose models may use its files; else an empty one. Of two
            files with one name they use the user's.
    Raises:
        TableFault: the first thing that is wrong.
    """
    strange = sorted(set(tables) - {"files", "models"})
    require(not strange, f"the manifest has an unknown key: {', '.join(strange)}")
    for section in ("files", "models"):
        require(isinstance(tables.get(section, {}), dict), f"{section} must be a table")
    files = {key: build_file(key, table) for key, table in tables.get("files", {}).items()}
    usable = {**known.files, **files}
    models = {name: build_model(name, table, usable) for name, table in tables.get("models", {}).items()}
    _check_aliases(models)
    return Manifest(files=files, models=models)


def build_file(key: str, table: Any) -> WeightsFile:
    """An entry of `[files]`; raises TableFault."""
    entry = f"[files.{key}]"
    require(is_name(key), f"{entry} is no usable name; letters, digits and . _ + - only")
    file = _read(entry, WeightsFile, table, key=key)
    places = [place for place in _PLACES if place in table]
    require(len(places) == 1, f"{entry} must have exactly one of {', '.join(_PLACES)}")
    needed = _PLACES[places[0]]
    strange = sorted(set(table) - {*_ANYWHERE, *needed, *_OPTIONAL.get(places[0], ())})
    require(not strange, f"{entry} has a misplaced key: {', '.join(strange)}")
    missing = [key for key in needed if key not in table]
    require(not missing, f"{entry} lacks {', '.join(missing)}")
    return file


def build_model(name: str, table: Any, files: Mapping[str, WeightsFile]) -> ModelEntry:
    """An entry of `[models]`; raises TableFault.

    Args:
        files: those that it may use.
    """
    entry = f"[models.{name}]"
    require(is_name(name), f"{entry} is no usable name; letters, digits and . _ + - only")
    require(isinstance(table, dict), f"{entry} must be a table")
    keys, rest = table.get("files"), {key: value for key, value in table.items() if key != "files"}
    usable = isinstance(keys, dict) and (keys or "untrained" in table)
    require(usable, f'{entry} files must be a table role = "file", with at least one role')
    for role, key in table["files"].items():
        require(isinstance(key, str) and key in files, f"{entry} role {role}: there is no [files.{key}]")
    roles = {role: files[key] for role, key in table["files"].items()}
    model = _read(entry, ModelEntry, rest, name=name, files=roles, user=False)
    _read(f"{entry} flow:", FlowSettings, dict(model.flow))
    return model


def _read(entry: str, kind: type[T], table: Any, **given: Any) -> T:
    try:
        return read_table(kind, table, **given)
    except ValueError as fault:
        raise TableFault(f"{entry} {fault}") from fault


def _check_aliases(models: Mapping[str, ModelEntry]) -> None:
    """One name means one model."""
    taken = dict.fromkeys(models, "the name")
    for name, entry in models.items():
        for alias in entry.aliases:
            require(alias not in taken, f"[models.{name}] alias {alias} is {taken.get(alias)} of another model")
            taken[alias] = "an alias"
