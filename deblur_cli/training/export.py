"""A trained model as a folder that can go to the Hub as it is: networks in diffusers' manner, model.json and a card.

Weights are copied byte for byte, because they know each other by their sha256. What lies on the Hub already is named
in model.json with its commit and not copied. Knows no network connection but the one that fetches a named model.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from deblur_cli import weights
from deblur_cli.backends.dual_expert_files import load_dual_expert
from deblur_cli.backends.expert import load_expert
from deblur_cli.backends.flow_base import find_base
from deblur_cli.checkpoint import read_metadata
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.networks.experts import EXPERTS
from deblur_cli.networks.flow_transformer import FlowTransformer, FlowTransformerConfig
from deblur_cli.system.files import hash_file, whole_folder
from deblur_cli.system.typed_tables import TableFault, read_table
from deblur_cli.training.latents import load_frozen_codec
from deblur_cli.training.model_card import CardFacts, write_card
from deblur_cli.weights import ModelEntry, WeightsFile
from deblur_cli.weights.entries import BLENDING, FlowSettings
from deblur_cli.weights.model_folder import MODEL_JSON, ModelFolder, check_lineage
from deblur_cli.weights.model_spec import ModelSpec, ResolvedModel, find_expert
from deblur_cli.weights.rules import is_name
from deblur_cli.weights.store import expected_sha256, locate

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_NOWHERE: dict[str, Any] = dict.fromkeys(("repository", "revision", "name", "local", "page"), "")
_PATHS = {
    "expert": f"expert/{_WEIGHTS}",
    "second": f"second/{_WEIGHTS}",
    "blend": f"blend/{_WEIGHTS}",
    "codec": f"codec/{_WEIGHTS}",
    "base_config": "transformer/config.json",
    "base": f"transformer/{_WEIGHTS}",
    "lora": "lora/pytorch_lora_weights.safetensors",
    "prompt": "prompt/diffusion_pytorch_model.safetensors",
}


@dataclass(frozen=True, slots=True)
class Export:
    """What is wanted.

    Attributes:
        expert: name of a model without a flow, or a file.
        blend: a file that was trained on this expert, if it has none.
        second: name or file of the second expert, where the blend was trained with one.
        codec, base, lora: the files of a flow, all or none. base is also a folder with one file, or a model's name.
        prompt: the empty prompt that the flow was trained with, where the base's model does not bring it.
        out: the folder; it must not be there, or be empty.
        steps, strength: how the flow runs where nobody says otherwise; None is the tool's own default.
        licence, data_note: of these weights, and a word on what they were trained on; empty where not told.
        repository: OWNER/NAME that it is written for, or empty.
    """

    name: str
    expert: str
    out: Path
    blend: Path | None = None
    second: str | None = None
    codec: Path | None = None
    base: str | None = None
    lora: Path | None = None
    prompt: Path | None = None
    steps: int | None = None
    strength: float | None = None
    licence: str = ""
    data_note: str = ""
    repository: str = ""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A file of the model.

    Attributes:
        path: where it is copied from; None where it stays on the Hub.
        metadata: of its header; empty where it stays on the Hub.
    """

    file: WeightsFile
    path: Path | None
    metadata: Mapping[str, Any]


def export_model(wanted: Export) -> list[str]:
    """Write the folder, whole or not at all.

    Returns:
        What the user should know about the combination, a line each.
    Raises:
        InputError: the folder is not empty, a file is missing, or the files do not belong together; nothing is written.
        WeightsError: a file is damaged or does not fit, or the folder cannot be written.
    """
    _check_wanted(wanted)
    template = _find_expert(wanted)
    pieces = _collect(wanted, template)
    entry = _describe(wanted, template, pieces)
    files = {role: _place(role, piece) for role, piece in pieces.items()}
    lineage = {role: piece.metadata.get("trained_on", {}) for role, piece in pieces.items()}
    model = ModelFolder(replace(entry, files=files), lineage)
    _check_kinship(model, pieces)
    _check_loads(entry, pieces)
    notes = _compare_experts(model, pieces)
    told = {role: piece.metadata for role, piece in pieces.items()}
    facts = CardFacts(model, told, wanted.licence, wanted.data_note, wanted.repository, notes)
    texts = {MODEL_JSON: model.to_json(), "README.md": write_card(facts), **_describe_networks(entry, pieces)}
    _write(wanted.out, pieces, texts)
    return notes


def _check_wanted(wanted: Export) -> None:
    flow = (wanted.codec, wanted.base, wanted.lora)
    if None in flow and flow != (None, None, None):
        raise InputError("--codec, --base and --lora belong together: give all of them, or none for an expert alone")
    if flow == (None, None, None) and (wanted.steps, wanted.strength, wanted.prompt) != (None, None, None):
        which = "--prompt is" if wanted.prompt else "--steps and --strength are"
        raise InputError(f"{which} of a flow: give --codec, --base and --lora too, or leave them out")
    if not is_name(wanted.name):
        raise InputError(f"--name {wanted.name}: no usable name; letters, digits and . _ + - only, 64 at most")
    for flag, text in (("--licence", wanted.licence), ("--data-note", wanted.data_note)):
        if not text.isprintable():
            raise InputError(f"{flag}: must be one line of text")
    try:
        _choose_flow(wanted)
    except ValueError as fault:
        raise InputError(f"--steps or --strength: {fault}") from fault
    if wanted.out.exists() and wanted.out.samefile(Path.cwd()):
        raise InputError(f"--out {wanted.out}: is the folder you are in; name a new one")
    if wanted.out.exists() and (not wanted.out.is_dir() or any(wanted.out.iterdir())):
        raise InputError(f"{wanted.out}: is there and not an empty folder; choose another --out or remove it")


def _choose_flow(wanted: Export) -> dict[str, Any]:
    default = FlowSettings()
    steps = default.steps if wanted.steps is None else wanted.steps
    strength = default.strength if wanted.strength is None else wanted.strength
    return {"steps": FlowSettings(steps=steps).steps, "strength": FlowSettings(strength=strength).strength}


def _find_expert(wanted: Export) -> ModelEntry:
    """The expert as a model of its own."""
    entry = find_expert(wanted.expert)
    if not entry.is_expert:
        raise InputError(f"--expert {wanted.expert}: is no expert alone; take quick or another without a flow")
    if "blend" in entry.files and wanted.blend is not None:
        raise InputError(f"--expert {wanted.expert}: has a blend of its own; leave --blend out")
    if wanted.second is not None and wanted.blend is None:
        raise InputError(f"--second {wanted.second}: is for a blend of two experts; give --blend too, or leave it out")
    if entry.network:
        return entry
    return ModelEntry("expert", "expert", "", {"expert": _describe_file(Path(wanted.expert), wanted.licence)})


def _collect(wanted: Export, template: ModelEntry) -> dict[str, _Piece]:
    """Role -> file, in the order of training."""
    files = dict(template.files)
    if wanted.second is not None:
        files["second"] = _find_second(wanted.second, wanted.licence)
    if wanted.blend is not None:
        files["blend"] = _describe_file(wanted.blend, wanted.licence)
    if wanted.codec is not None and wanted.base is not None and wanted.lora is not None:
        files["codec"] = _describe_file(wanted.codec, wanted.licence)
        files |= _find_base(wanted.base, wanted.licence)
        if wanted.prompt is not None:
            files["prompt"] = _describe_file(wanted.prompt, wanted.licence)
        files["lora"] = _describe_file(wanted.lora, wanted.licence)
    return {role: _open(file) for role, file in files.items()}


def _find_second(second: str, licence: str) -> WeightsFile:
    entry = find_expert(second)
    if entry.files.keys() != {"expert"}:
        raise InputError(f"--second {second}: is no expert alone; take best or another without blend and flow")
    return entry.files["expert"] if entry.network else _describe_file(Path(second), licence)


def _find_base(base: str, licence: str) -> dict[str, WeightsFile]:
    """The base, with its config and its empty prompt where these are files of their own."""
    if Path(base).exists():
        found = find_base(Path(base))
        if len(found.weights) != 1:
            raise InputError(f"--base {base}: is in {len(found.weights)} shards; an exported base is one file")
        config = {} if found.config is None else {"base_config": _describe_file(found.config, licence)}
        return config | {"base": _describe_file(found.weights[0], licence)}
    entry = weights.find_model(base) if weights.has_model(base) else None
    if entry is None or "base" not in entry.files:
        raise InputError(f"--base {base}: no such file or folder, and no model with a base; see 'deblur weights list'")
    return {role: entry.files[role] for role in ("base_config", "base", "prompt") if role in entry.files}


def _describe_file(path: Path, licence: str) -> WeightsFile:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    size, sha256, place = path.stat().st_size, hash_file(path), str(path.resolve())
    return WeightsFile(path.name, licence or "not stated", "exported by its author", size, sha256, local=place)


def _open(file: WeightsFile) -> _Piece:
    if file.kind == "hub":
        there = locate(file)
        size = file.bytes or (there.stat().st_size if there else None)
        known = replace(file, sha256=expected_sha256(file), bytes=size)
        if known.sha256 is None or known.bytes is None:
            raise InputError(f"{file.key}: its sha256 or size is not known yet; first deblur weights pull {file.key}")
        return _Piece(known, None, {})
    fetched = weights.fetch(file)
    path = fetched.path
    if path.suffix.lower() not in (".safetensors", ".json"):
        raise InputError(f"{path}: is a pickle, which nobody should have to trust; export .safetensors files only")
    known = replace(file, bytes=path.stat().st_size, sha256=fetched.sha256)
    return _Piece(known, path, {} if path.suffix.lower() == ".json" else read_metadata(path))


def _describe(wanted: Export, template: ModelEntry, pieces: Mapping[str, _Piece]) -> ModelEntry:
    """The whole as an entry of a manifest."""
    files = {role: piece.file for role, piece in pieces.items()}
    template = replace(template, network=pieces["expert"].metadata.get("network", template.network))
    if "codec" not in files:
        return replace(template, name=wanted.name, files=files, summary="A fidelity expert, exported by its author.")
    summary = "A fidelity expert with a flow in r-space, exported by its author."
    flow = _choose_flow(wanted)
    return replace(template, name=wanted.name, backend="dual_expert", summary=summary, files=files, flow=flow)


def _place(role: str, piece: _Piece) -> WeightsFile:
    """A file as model.json names it."""
    return piece.file if piece.path is None else replace(piece.file, **_NOWHERE, path=_PATHS[role])


def _check_kinship(model: ModelFolder, pieces: Mapping[str, _Piece]) -> None:
    """Refuse files that do not belong together, by what each says that it was trained on."""
    try:
        check_lineage(model.entry.files, model.trained_on)
    except TableFault as fault:
        raise InputError(f"{fault}; export the files of one training") from fault
    if "lora" in pieces and {"codec", "base"} - set(model.trained_on["lora"]):
        path = pieces["lora"].path
        raise InputError(f"{path}: does not say what it was trained on; take the result of deblur train flow")


def _check_loads(entry: ModelEntry, pieces: Mapping[str, _Piece]) -> None:
    """Build every network that is here and fill it strictly, as `deblur run` will."""
    cpu = torch.device("cpu")
    here = replace(entry, files={role: piece.file for role, piece in pieces.items() if piece.path is not None})
    if "base" in here.files:
        load_dual_expert(ResolvedModel(ModelSpec(entry.name), here, entry.flow), cpu, "float32")
        return
    if "expert" in here.files:
        load_expert(here, cpu, "float32")
    if "codec" in pieces and pieces["codec"].path is not None:
        load_frozen_codec(pieces["codec"].path)


def _compare_experts(model: ModelFolder, pieces: Mapping[str, _Piece]) -> list[str]:
    """A flow forgives another expert, but what was measured with its own does not hold."""
    trained_on, hashes = model.trained_on.get("lora", {}), model.entry.hashes
    wanted, found = (
        {role: told[role] for role in ("expert", *BLENDING) if role in told} for told in (trained_on, hashes)
    )
    plainly = {"expert": wanted["expert"]} if "blend" in wanted and _saw_plain_estimates(pieces["lora"]) else wanted
    if not wanted or found in (wanted, plainly):
        return []
    other, this = (", ".join(f"{role} {sha256[:12]}…" for role, sha256 in told.items()) for told in (wanted, found))
    return [f"the flow was trained with another expert ({other}, not {this}); measure them together"]


def _saw_plain_estimates(lora: _Piece) -> bool:
    """Whether a flow that was trained on a blended expert has also seen the expert without its blend."""
    return bool(lora.metadata.get("training", {}).get("latents", {}).get("plain_share", 0.0))


def _describe_networks(entry: ModelEntry, pieces: Mapping[str, _Piece]) -> dict[str, str]:
    """What the networks of the folder are, where a person or diffusers looks for it."""
    told = {role: piece.metadata.get("config", {}) for role, piece in pieces.items() if piece.path is not None}
    configs: dict[str, Any] = {}
    if "expert" in told:
        name = EXPERTS[entry.network].network.__name__
        configs["expert/config.json"] = {"_class_name": name, **(entry.config or told["expert"])}
    if "second" in told:
        configs["second/config.json"] = told["second"]
    if "blend" in told:
        configs["blend/config.json"] = {"_class_name": "VersionBlend", **told["blend"]}
    if "codec" in told:
        configs["codec/config.json"] = {"_class_name": "ResidualCodec", **told["codec"]}
    if "base" in told and "base_config" not in pieces:
        with torch.device("meta"):
            base = FlowTransformer(read_table(FlowTransformerConfig, told["base"]))
        configs["transformer/config.json"] = json.loads(base.transformer.to_json_string())
    if "lora" in told:
        configs["lora/config.json"] = told["lora"]
    return {path: json.dumps(config, indent=2) + "\n" for path, config in configs.items()}


def _write(out: Path, pieces: Mapping[str, _Piece], texts: Mapping[str, str]) -> None:
    try:
        with whole_folder(out) as folder:
            for role, piece in pieces.items():
                if piece.path is not None:
                    _copy(piece, folder / _PATHS[role])
            for name, text in texts.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise WeightsError(f"{out}: cannot be written ({fault.strerror or fault}); choose another --out") from fault


def _copy(piece: _Piece, target: Path) -> None:
    assert piece.path is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(piece.path, target)
    if hash_file(target) != piece.file.sha256:
        raise WeightsError(f"{piece.path}: has changed while it was copied; wait for its training to end")
