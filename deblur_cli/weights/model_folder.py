"""A model in one folder, or in one repository of the Hub: `model.json` beside its files. Knows no torch, no network.

What such a folder holds becomes entries of a manifest, and is checked as those are.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deblur_cli.errors import WeightsError
from deblur_cli.weights.entries import Manifest, WeightsFile
from deblur_cli.weights.repository import SMALL
from deblur_cli.weights.schema import SchemaFault, build_manifest, is_inside, is_sha256

MODEL_JSON = "model.json"
FORMAT = 1  # of model.json; keys may be added to it, readers pass over those that they do not know
SETTINGS = ("network", "config", "checkpoint_key", "tiling", "dtypes", "flow")  # as a manifest's model has them

Tables = dict[str, Any]

_FLOW = {"expert", "codec", "base", "lora"}
_ROLES = {"expert": ({"expert"}, {"blend"}), "dual_expert": (_FLOW, {"blend", "base_config", "prompt"})}
_PLACES = (("path",), ("repository", "revision", "name"))


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a model.

    Attributes:
        place: `path` inside the folder, or `repository`, `revision` and `name` of a file that stays where it is.
        trained_on: role -> sha256 of the files that this one was trained with.
    """

    place: Mapping[str, str]
    bytes: int
    sha256: str
    licence: str = "not stated"
    gated: bool = False
    trained_on: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What model.json says.

    Attributes:
        settings: those of `SETTINGS` that are not the default.
        parts: role -> file.
    """

    name: str
    summary: str
    backend: str
    parts: Mapping[str, Part]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of model.json; `parse` gives an equal folder back."""
        files = {role: _describe_part(part) for role, part in self.parts.items()}
        told = {"format": FORMAT, "name": self.name, "summary": self.summary, "backend": self.backend}
        return json.dumps({**told, **self.settings, "files": files}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, text: bytes, source: str) -> "ModelFolder":
        """The folder of a model.json that may come from anybody.

        Args:
            source: what the faults call it.
        Raises:
            WeightsError: it is no model.json, of a newer format, or its files do not belong together.
        """
        try:
            content = _read_json(text) if len(text) <= SMALL else None
        except (ValueError, RecursionError) as fault:
            raise WeightsError(f"{source}: damaged, it is no JSON ({fault}); get it again from its author") from fault
        try:
            folder = _build_folder(content)
            check_lineage(folder.parts)
            _build_entries(folder)
        except SchemaFault as fault:
            raise WeightsError(f"{source}: {fault}; not a model that this version can use") from fault
        return folder

    def to_tables(self, name: str, home: Path | tuple[str, str]) -> tuple[Tables, Tables]:
        """Entries of a manifest: its files, and the model of that name.

        Args:
            home: the folder, or the repository and commit, in which the paths are.
        """
        keys = {role: f"{name}-{role}" for role in self.parts}
        files = {keys[role]: _to_entry(part, home) for role, part in self.parts.items()}
        told = {"backend": self.backend, "summary": self.summary}
        return files, {**told, **self.settings, "files": keys}


def read_folder(folder: Path) -> ModelFolder:
    """The model in a folder of this machine.

    Raises:
        WeightsError: no model.json, a damaged one, or a file that is not there or of another size.
    """
    path = folder / MODEL_JSON
    try:
        with path.open("rb") as stream:
            model = ModelFolder.parse(stream.read(SMALL + 1), str(path))
    except OSError as fault:
        missing = "no model.json there; name a file, or a folder that deblur train export has written"
        reason = missing if isinstance(fault, FileNotFoundError) else f"cannot be read ({fault.strerror})"
        raise WeightsError(f"{folder}: {reason}") from fault
    for part in model.parts.values():
        _check_present(folder, part)
    return model


def check_lineage(parts: Mapping[str, Part]) -> None:
    """That the files belong together; only the flow's expert may be another one than it was trained with.

    Raises:
        SchemaFault: one was trained on another file than the one in its role, or the adapter's prompt is not there.
    """
    for role, part in parts.items():
        for parent in ("codec", "base", "prompt", *(("expert",) if role == "blend" else ())):
            wanted = part.trained_on.get(parent)
            if parent in parts and wanted not in (None, parts[parent].sha256):
                found = f"not {parts[parent].sha256[:12]}…"
                raise SchemaFault(f"the {role} was trained on another {parent} ({str(wanted)[:12]}…, {found})")
    if "lora" in parts and ("prompt" in parts["lora"].trained_on) is not ("prompt" in parts):
        fault = "it was trained without any" if "prompt" in parts else "the one that it was trained with is missing"
        raise SchemaFault(f"the lora and the empty prompt: {fault}")


def to_part(file: WeightsFile, place: Mapping[str, str], trained_on: Mapping[str, str]) -> Part:
    """A verified file as a part."""
    assert file.bytes is not None and file.sha256 is not None
    return Part(place, file.bytes, file.sha256, file.licence, file.gated, trained_on)


def _read_json(text: bytes) -> Any:
    """JSON of which all can be said in TOML too."""
    content = json.loads(text, parse_constant=_read_number, parse_float=_read_number)
    json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair is no text
    return content


def _read_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _build_folder(content: Any) -> ModelFolder:
    _require(isinstance(content, dict) and "format" in content, "is no model.json of this tool")
    found = content["format"]
    _require(found == FORMAT and not isinstance(found, bool), f"has the format {found!r}, this version knows {FORMAT}")
    for key in ("name", "summary", "backend"):
        _require(isinstance(content.get(key), str), f"{key} must be a text")
    _require(isinstance(content.get("files"), dict), "files must be a table role -> file")
    parts = {role: _build_part(role, table) for role, table in content["files"].items()}
    needed, allowed = _ROLES.get(content["backend"], (set[str](), set[str]()))
    _require(needed, f"its backend {content['backend']!r} is none of {', '.join(_ROLES)}")
    _require(needed <= set(parts) <= needed | allowed, f"files must be {', '.join(sorted(needed))}")
    settings = {key: content[key] for key in SETTINGS if key in content}
    return ModelFolder(content["name"], content["summary"], content["backend"], parts, settings)


def _build_part(role: str, table: Any) -> Part:
    _require(isinstance(table, dict), f"the {role} must be a table")
    place = next((keys for keys in _PLACES if set(keys) <= set(table)), None)
    _require(place is not None, f"the {role} has neither a path nor repository, revision and name")
    assert place is not None
    if place == ("path",):
        _require(is_inside(table["path"]), f"the {role}'s path leaves the folder")
    _require(is_sha256(table.get("sha256")), f"the {role} lacks its sha256")
    _require(isinstance(table.get("bytes"), int), f"the {role} lacks its size in bytes")
    trained_on = table.get("trained_on", {})
    _require(isinstance(trained_on, dict), f"the {role}'s trained_on must be a table")
    rest = {key: table[key] for key in ("licence", "gated") if key in table}
    return Part({key: table[key] for key in place}, table["bytes"], table["sha256"], trained_on=trained_on, **rest)


def _build_entries(folder: ModelFolder) -> None:
    """Let the manifest's own rules judge the rest."""
    files, model = folder.to_tables("model", ("owner/name", "0" * 40))
    build_manifest({"files": files, "models": {"model": model}}, Manifest({}, {}))


def _describe_part(part: Part) -> Tables:
    gated = {"gated": True} if part.gated else {}
    facts = {"bytes": part.bytes, "sha256": part.sha256, "licence": part.licence, **gated}
    return {**part.place, **facts, "trained_on": dict(part.trained_on)}


def _to_entry(part: Part, home: Path | tuple[str, str]) -> Tables:
    place: Mapping[str, Any] = part.place
    if "path" in place:
        path = place["path"]
        if isinstance(home, Path):
            place = {"local": str(home / path)}
        else:
            place = {"repository": home[0], "revision": home[1], "name": path}
    gated = {"gated": part.gated} if part.gated else {}
    told = {"licence": part.licence, "source": "its model.json", **gated}
    return {**place, "bytes": part.bytes, "sha256": part.sha256, **told}


def _check_present(folder: Path, part: Part) -> None:
    if "path" not in part.place:
        return
    path = folder / part.place["path"]
    if not path.is_file():
        raise WeightsError(f"{path}: is not there, but model.json names it; copy the whole folder again")
    if path.stat().st_size != part.bytes:
        raise WeightsError(f"{path}: has {path.stat().st_size} bytes, model.json says {part.bytes}; copy it again")


def _require(condition: object, fault: str) -> None:
    if not condition:
        raise SchemaFault(fault)
