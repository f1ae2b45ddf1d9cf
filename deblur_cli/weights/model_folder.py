"""A model in one folder, or in one repository of the Hub: `model.json` beside its files. Knows no torch, no network.

What such a folder holds becomes entries of a manifest, and is checked as those are.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deblur_cli.errors import WeightsError
from deblur_cli.system.typed_tables import TableFault, require, to_table
from deblur_cli.weights.entries import BLENDING, ModelEntry, WeightsFile
from deblur_cli.weights.repository import SMALL
from deblur_cli.weights.rules import is_inside, is_sha256
from deblur_cli.weights.schema import build_file, build_model

MODEL_JSON = "model.json"
FORMAT = 1  # of model.json; keys may be added to it, readers pass over those that they do not know
SETTINGS = ("network", "config", "checkpoint_key", "tiling", "dtypes", "flow")  # as a manifest's model has them

_FLOW = {"expert", "codec", "base", "lora"}
_ROLES = {"expert": ({"expert"}, {*BLENDING}), "dual_expert": (_FLOW, {*BLENDING, "base_config", "prompt"})}
_PLACES = (("path",), ("repository", "revision", "name"))
_FACTS = ("bytes", "sha256", "licence", "gated")

Lineage = Mapping[str, Mapping[str, str]]  # role -> role -> sha256 of what the first was trained on


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What model.json says.

    Attributes:
        entry: the model; the `path` of a file is inside the folder, one of the Hub stays where it is.
    """

    entry: ModelEntry
    trained_on: Lineage

    def to_json(self) -> str:
        """The text of model.json; `parse` gives an equal folder back."""
        entry, settings = self.entry, to_table(self.entry)
        told = {"format": FORMAT, "name": entry.name, "summary": entry.summary, "backend": entry.backend}
        told |= {key: settings[key] for key in SETTINGS if key in settings}
        files = {role: self._describe(role, to_table(file)) for role, file in entry.files.items()}
        return json.dumps({**told, "files": files}, indent=2, ensure_ascii=False) + "\n"

    def _describe(self, role: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        keys = [key for key in (*_PLACES[0], *_PLACES[1], *_FACTS) if key in facts]
        return {**{key: facts[key] for key in keys}, "trained_on": dict(self.trained_on.get(role, {}))}

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
            check_lineage(folder.entry.files, folder.trained_on)
        except TableFault as fault:
            raise WeightsError(f"{source}: {fault}; not a model that this version can use") from fault
        return folder

    def place(self, name: str, home: Path | tuple[str, str]) -> ModelEntry:
        """The model under another name, with files that are where they are.

        Args:
            home: the folder, or the repository and commit, in which the paths are.
        """
        files = {role: _place(file, f"{name}-{role}", home) for role, file in self.entry.files.items()}
        return replace(self.entry, name=name, files=files)


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
    for file in model.entry.files.values():
        _check_present(folder, file)
    return model


def check_lineage(files: Mapping[str, WeightsFile], lineage: Lineage) -> None:
    """That the files belong together; only the flow's expert may be another one than it was trained with.

    Raises:
        TableFault: one was trained on another file than the one in its role, or the adapter's prompt is not there.
    """
    for role in files:
        trained_on = lineage.get(role, {})
        for parent in ("codec", "base", "prompt", *(("expert", "second") if role == "blend" else ())):
            wanted = trained_on.get(parent)
            if parent in files and wanted not in (None, files[parent].sha256):
                found = f"not {str(files[parent].sha256)[:12]}…"
                raise TableFault(f"the {role} was trained on another {parent} ({str(wanted)[:12]}…, {found})")
    if ("second" in lineage.get("blend", {})) is not ("second" in files):
        fault = "it was trained without any" if "second" in files else "the one that it was trained with is missing"
        raise TableFault(f"the blend and the second expert: {fault}")
    if "lora" in files and ("prompt" in lineage.get("lora", {})) is not ("prompt" in files):
        fault = "it was trained without any" if "prompt" in files else "the one that it was trained with is missing"
        raise TableFault(f"the lora and the empty prompt: {fault}")


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
    require(isinstance(content, dict) and "format" in content, "is no model.json of this tool")
    found = content["format"]
    require(found == FORMAT and not isinstance(found, bool), f"has the format {found!r}, this version knows {FORMAT}")
    for key in ("name", "summary", "backend"):
        require(isinstance(content.get(key), str), f"{key} must be a text")
    require(isinstance(content.get("files"), dict), "files must be a table role -> file")
    tables = content["files"]
    files = {role: _build_part(role, table) for role, table in tables.items()}
    needed, allowed = _ROLES.get(content["backend"], (set[str](), set[str]()))
    require(needed, f"its backend {content['backend']!r} is none of {', '.join(_ROLES)}")
    require(needed <= set(files) <= needed | allowed, f"files must be {', '.join(sorted(needed))}")
    told = {key: content[key] for key in ("summary", "backend", *SETTINGS) if key in content}
    entry = build_model("model", {**told, "files": {role: role for role in files}}, files)
    lineage = {role: table.get("trained_on", {}) for role, table in tables.items()}
    return ModelFolder(replace(entry, name=content["name"]), lineage)


def _build_part(role: str, table: Any) -> WeightsFile:
    require(isinstance(table, dict), f"the {role} must be a table")
    place = next((keys for keys in _PLACES if set(keys) <= set(table)), ())
    require(place, f"the {role} has neither a path nor repository, revision and name")
    require("path" not in place or is_inside(table["path"]), f"the {role}'s path leaves the folder")
    require(is_sha256(table.get("sha256")), f"the {role} lacks its sha256")
    require(isinstance(table.get("bytes"), int), f"the {role} lacks its size in bytes")
    require(isinstance(table.get("trained_on", {}), dict), f"the {role}'s trained_on must be a table")
    told = {key: table[key] for key in (*place, *_FACTS) if key in table}
    return build_file(role, {"licence": "not stated", **told, "source": "its model.json"})


def _place(file: WeightsFile, key: str, home: Path | tuple[str, str]) -> WeightsFile:
    if not file.path:
        return replace(file, key=key)
    if isinstance(home, Path):
        return replace(file, key=key, path="", local=str(home / file.path))
    return replace(file, key=key, path="", repository=home[0], revision=home[1], name=file.path)


def _check_present(folder: Path, file: WeightsFile) -> None:
    if not file.path:
        return
    path = folder / file.path
    if not path.is_file():
        raise WeightsError(f"{path}: is not there, but model.json names it; copy the whole folder again")
    if path.stat().st_size != file.bytes:
        raise WeightsError(f"{path}: has {path.stat().st_size} bytes, model.json says {file.bytes}; copy it again")
