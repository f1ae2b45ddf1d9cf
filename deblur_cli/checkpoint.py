"""A network and its config as one safetensors file: save, and load strictly onto a device."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from deblur_cli.errors import WeightsError


def save_network(network: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the weights as bfloat16 with `metadata` (JSON values) in the header.

    What is needed to build the network again belongs into `metadata["config"]`.
    """
    state = network.state_dict().items()
    tensors = {key: value.detach().to("cpu", torch.bfloat16).contiguous() for key, value in state}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={key: json.dumps(value) for key, value in metadata.items()})


def read_metadata(path: Path) -> dict[str, Any]:
    """The header metadata of a safetensors file.

    Raises:
        WeightsError: the file is missing, damaged, or its metadata is not this tool's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (OSError, SafetensorError, json.JSONDecodeError) as fault:
        raise WeightsError(f"{path}: not a weights file of this tool ({fault})") from fault


def load_strict(network: nn.Module, path: Path) -> None:
    """Copy the file's tensors into `network`; every key and every shape must match.

    Raises:
        WeightsError: the file is damaged, or its keys or shapes are not the network's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
        network.load_state_dict(tensors, strict=True)
    except (OSError, SafetensorError) as fault:
        raise WeightsError(f"{path}: damaged weights file ({fault})") from fault
    except RuntimeError as fault:
        lines = " ".join(str(fault).split())
        raise WeightsError(f"{path}: weights do not fit the network: {lines[:300]}") from fault
