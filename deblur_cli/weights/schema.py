"""Tables of TOML -> entries of a manifest; the first fault is one line that names its entry. Reads no files."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from deblur_cli.weights.entries import Manifest, ModelEntry, Score, WeightsFile
from deblur_cli.weights.flow_settings import FlowSettings

Table = Mapping[str, Any]
Check = Callable[[Any], bool]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_LONGEST, _DEEPEST, _MOST = 4096, 8, 4096  # characters of a text, levels and values of a config
_WIDEST = 1 << 16  # pixels
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


class SchemaFault(ValueError):
    """What is wrong, and in which entry."""


def is_name(value: Any) -> bool:
    """Whether a model or a file may be called that: safe in a shell, in a file name and in TOML."""
    return isinstance(value, str) and bool(_NAME.fullmatch(value)) and ".." not in value


def is_repository(value: Any) -> bool:
    """Whether it has the form OWNER/NAME."""
    usable = isinstance(value, str) and "--" not in value and ".." not in value
    return usable and bool(_REPOSITORY.fullmatch(value))


def is_revision(value: Any) -> bool:
    """Whether it is a full commit; a branch or a tag may move."""
    return isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{40}", value))


def is_sha256(value: Any) -> bool:
    """Whether it is a sha256 in lower-case hex."""
    return isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{64}", value))


def is_inside(value: Any) -> bool:
    """Whether it is a relative path that stays where it is put."""
    if not isinstance(value, str) or not value or "\\" in value or ":" in value:
        return False
    parts = PurePosixPath(value).parts
    is_short = len(value) <= _LONGEST // 4 and all(len(os.fsencode(part)) <= 255 for part in parts)
    return is_short and not PurePosixPath(value).is_absolute() and ".." not in parts


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and bool(value.strip()) and value.isprintable()


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_page(value: Any) -> bool:
    return _is_text(value) and value.startswith("https://")


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_plain(value: Any) -> bool:
    """Whether it is made of what a network's config may hold, and not too much of it; TOML's dates are not."""
    level = [value]
    count = 0
    for _ in range(_DEEPEST):
        count += len(level)
        below: list[Any] = []
        for item in level:
            if isinstance(item, (list, dict)):
                below += [*item, *item.values()] if isinstance(item, dict) else item
            elif not _is_plain_leaf(item):
                return False
        if count > _MOST:
            return False
        level = below
    return not level


def _is_plain_leaf(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def _is_tiling(value: Any) -> bool:
    sizes = value.values() if _is_table(value) and set(value) <= {"size", "context", "feather"} else [0]
    return all(_is_size(size) and size <= _WIDEST for size in sizes)


def _is_list(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


# What each key must be, in words for the message, and the test for it.
_FILE_KEYS: dict[str, tuple[str, Check]] = {
    "licence": ("a text", _is_text),
    "source": ("a text", _is_text),
    "bytes": ("a whole number above 0", _is_size),
    "sha256": ("64 hex digits, lower case", is_sha256),
    "gated": ("true or false", lambda value: isinstance(value, bool)),
    "path": ("a relative path inside the package", is_inside),
    "repository": ("OWNER/NAME", is_repository),
    "revision": ("a full commit of 40 hex digits, lower case", is_revision),
    "name": ("a path inside the repository, or what a page calls the file", is_inside),
    "local": ("a text", _is_text),
    "page": ("an https:// address", _is_page),
}
_MODEL_KEYS: dict[str, tuple[str, Check]] = {
    "backend": ("a text", _is_text),
    "summary": ("a text", _is_text),
    "files": ('a table role = "file"', _is_table),
    "network": ("a text", _is_text),
    "config": ("a table of plain values", lambda value: _is_table(value) and _is_plain(value)),
    "checkpoint_key": ("a text", _is_text),
    "tiling": ("a table of size, context, feather in pixels", _is_tiling),
    "dtypes": ("a list of float32, bfloat16", _is_list(lambda value: value in ("float32", "bfloat16"))),
    "scores": ("a list of tables", _is_list(_is_table)),
    "flow": ("a table of settings", _is_table),
    "untrained": ("a text", _is_text),
    "aliases": ("a list of names", _is_list(is_name)),
    "listed": ("true or false", lambda value: isinstance(value, bool)),
    "seconds_24mp": ("a number above 0", lambda value: _is_number(value) and value > 0),
}
_SCORE_KEYS: dict[str, tuple[str, Check]] = {
    "data": ("a text", _is_text),
    "psnr": ("a number", _is_number),
    "ssim": ("a number", _is_number),
    "source": ("a text", _is_text),
}
# The keys that a file needs besides licence and source, by where it comes from.
_PLACES = {
    "path": ("path", "bytes", "sha256"),
    "repository": ("repository", "revision", "name"),
    "local": ("local", "bytes", "sha256"),
    "page": ("page",),
}
_OPTIONAL = {"page": ("name",)}


def build_manifest(tables: Table, known: Manifest) -> Manifest:
    """The manifest of parsed TOML.

    Args:
        known: the shipped manifest for the user's one, whose models may use its files; else an empty one. Of two
            files with one name they use the user's.
    Raises:
        SchemaFault: the first thing that is wrong.
    """
    _check_keys("the manifest", tables, {"files", "models"}, ())
    for section in ("files", "models"):
        _require(_is_table(tables.get(section, {})), f"{section} must be a table")
    files = {key: _build_file(key, table) for key, table in tables.get("files", {}).items()}
    usable = {**known.files, **files}
    models = {name: _build_model(name, table, usable) for name, table in tables.get("models", {}).items()}
    _check_aliases(models)
    return Manifest(files=files, models=models)


def _build_file(key: str, table: Any) -> WeightsFile:
    entry = f"[files.{key}]"
    _require(is_name(key), f"{entry} is no usable name; letters, digits and . _ + - only")
    _check_table(entry, table, _FILE_KEYS, ("licence", "source"))
    places = [place for place in _PLACES if place in table]
    _require(len(places) == 1, f"{entry} must have exactly one of {', '.join(_PLACES)}")
    needed = _PLACES[places[0]]
    allowed = {"licence", "source", "bytes", "sha256", "gated", *needed, *_OPTIONAL.get(places[0], ())}
    _check_keys(entry, table, allowed, needed)
    return WeightsFile(key=key, **table)


def _build_model(name: str, table: Any, files: Mapping[str, WeightsFile]) -> ModelEntry:
    entry = f"[models.{name}]"
    _require(is_name(name), f"{entry} is no usable name; letters, digits and . _ + - only")
    _check_table(entry, table, _MODEL_KEYS, ("backend", "summary", "files"))
    _require(table["files"] or "untrained" in table, f"{entry} files must be a table with at least one role")
    _check_flow(entry, table.get("flow", {}))
    for role, key in table["files"].items():
        _require(isinstance(key, str) and key in files, f"{entry} role {role}: there is no [files.{key}]")
    roles = {role: files[key] for role, key in table["files"].items()}
    scores = tuple(_build_score(entry, score) for score in table.get("scores", ()))
    lists = {key: tuple(table[key]) for key in ("dtypes", "aliases") if key in table}
    rest = {key: table[key] for key in table if key not in ("files", "scores")}
    return ModelEntry(name=name, files=roles, scores=scores, **{**rest, **lists})


def _check_flow(entry: str, table: Table) -> None:
    try:
        FlowSettings.from_table(table)
    except ValueError as fault:
        raise SchemaFault(f"{entry} flow: {fault}") from fault


def _build_score(entry: str, table: Table) -> Score:
    _check_table(f"{entry} scores", table, _SCORE_KEYS, tuple(_SCORE_KEYS))
    return Score(**table)


def _check_table(entry: str, table: Any, keys: Mapping[str, tuple[str, Check]], needed: tuple[str, ...]) -> None:
    _require(_is_table(table), f"{entry} must be a table")
    _check_keys(entry, table, set(keys), needed)
    for key, value in table.items():
        words, check = keys[key]
        _require(check(value), f"{entry} {key} must be {words}")


def _check_keys(entry: str, table: Table, allowed: set[str], needed: tuple[str, ...]) -> None:
    unknown = sorted(set(table) - allowed)
    _require(not unknown, f"{entry} has an unknown or misplaced key: {', '.join(unknown)}")
    missing = [key for key in needed if key not in table]
    _require(not missing, f"{entry} lacks {', '.join(missing)}")


def _check_aliases(models: Mapping[str, ModelEntry]) -> None:
    """One name means one model."""
    taken = dict.fromkeys(models, "the name")
    for name, entry in models.items():
        for alias in entry.aliases:
            _require(alias not in taken, f"[models.{name}] alias {alias} is {taken.get(alias)} of another model")
            taken[alias] = "an alias"


def _require(condition: object, fault: str) -> None:
    if not condition:
        raise SchemaFault(fault)
