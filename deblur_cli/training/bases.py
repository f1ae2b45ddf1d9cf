"""The frozen base of a flow training: the bundled one, a local folder or file, or one from the Hub."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deblur_cli import weights
from deblur_cli.checkpoint import check_tensors, read_content, read_metadata
from deblur_cli.devices import DTYPES
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.networks.flow_transformer import FlowTransformer, FlowTransformerConfig
from deblur_cli.weights import hash_file

_CLASSES = {"SD3Transformer2DModel": "sd3", "Flux2Transformer2DModel": "flux2"}
_NOT_SETTINGS = ("_class_name", "_diffusers_version", "_name_or_path")


@dataclass(frozen=True, slots=True)
class Base:
    """A base with its weights, and what they are known by.

    Attributes:
        sha256: of its one file; of a folder in shards, of the text of the shards' hashes in order.
        codec: sha256 of the codec it was trained on, where it is one of this tool's.
    """

    network: FlowTransformer
    sha256: str
    codec: str | None


def load_base(name: str, dtype: str = "float32") -> Base:
    """A base by the name of a model, by a folder as diffusers writes it, or by one file of this tool.

    Args:
        dtype: of its weights, `float32` or `bfloat16`; large ones are frozen in the latter.
    Raises:
        InputError: no such file, folder or model with a base.
        WeightsError: its weights are missing, damaged or do not fit.
    """
    if dtype not in DTYPES:
        raise InputError(f"the recipe's base_dtype = {dtype!r}: choose {' or '.join(DTYPES)}")
    path = Path(name)
    if path.is_dir():
        return _load_folder(path, DTYPES[dtype])
    return _load_bundle(path if path.is_file() else _find_file(name), DTYPES[dtype])


def _find_file(name: str) -> Path:
    known = [entry.name for entry in weights.read_manifest().models.values() if "base" in entry.files]
    if name not in known:
        raise InputError(f"--base {name}: no such file or folder, and no model with a base; known: {', '.join(known)}")
    return weights.fetch(weights.find_model(name).files["base"])


def _load_bundle(path: Path, dtype: torch.dtype) -> Base:
    metadata = read_metadata(path)
    try:
        config = FlowTransformerConfig.from_json(metadata.get("config", {}))
    except (TypeError, ValueError) as fault:
        raise WeightsError(f"{path}: its metadata is of no flow transformer ({fault})") from fault
    network = _fill(config, check_tensors(read_content(path), path), path, dtype)
    return Base(network, hash_file(path), metadata.get("trained_on", {}).get("codec"))


def _load_folder(folder: Path, dtype: torch.dtype) -> Base:
    """`config.json` beside one `.safetensors` or its shards."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise WeightsError(f"{folder}: no .safetensors there; a base is a folder as diffusers saves it")
    config = _read_folder_config(folder / "config.json")
    tensors = {key: value for file in files for key, value in check_tensors(read_content(file), file).items()}
    return Base(_fill(config, tensors, folder, dtype), _hash_all(files), None)


def _hash_all(files: list[Path]) -> str:
    hashes = [hash_file(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _read_folder_config(path: Path) -> FlowTransformerConfig:
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        settings = {key: value for key, value in table.items() if key not in _NOT_SETTINGS and value is not None}
        values = {"kind": _CLASSES.get(table["_class_name"], ""), "transformer": settings}
        return FlowTransformerConfig.from_json(values | {"window": settings.get("sample_size", 128)})
    except (OSError, ValueError, KeyError, TypeError) as fault:
        known = " or ".join(_CLASSES)
        raise WeightsError(f"{path}: describes no {known} ({fault})") from fault


def _fill(config: FlowTransformerConfig, tensors: dict[str, Tensor], path: Path, dtype: torch.dtype) -> FlowTransformer:
    """Built without memory first, so that a large base is in it once."""
    with torch.device("meta"):
        network = FlowTransformer(config)
    try:
        network.to(dtype).to_empty(device="cpu").load_base(tensors)
    except ValueError as fault:
        raise WeightsError(f"{path}: {fault}") from fault
    return network
