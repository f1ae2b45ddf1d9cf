"""An expert, whoever made it: of a manifest, or a file of ours, or one that spandrel knows."""

from dataclasses import replace
from pathlib import Path

import torch

from deblur_cli import weights
from deblur_cli.backends.expert import load_expert
from deblur_cli.backends.foreign import load_foreign
from deblur_cli.checkpoint import read_metadata
from deblur_cli.errors import WeightsError
from deblur_cli.restoration.contract import Backend

_FIRST = "dense_unet"  # the network of our files from before they named it


def load_any_expert(entry: weights.ModelEntry, device: torch.device, dtype: str) -> Backend:
    """The backend of an expert.

    Args:
        entry: without a `network` it is a file that somebody brought: its metadata says whether it is ours.
    Raises:
        WeightsError: a file is missing or damaged, could run code, or holds no network that we or spandrel know.
        BackendError: the network does not work in the asked number format, or spandrel is missing or broken.
    """
    if entry.network:
        return load_expert(entry, device, dtype)
    path = weights.fetch(entry.files["expert"])
    if is_ours(path):
        return load_expert(replace(entry, network=_FIRST), device, dtype)
    return load_foreign(path, device, dtype)


def is_ours(path: Path) -> bool:
    """Whether a file says what this project's trainings say of theirs; a damaged one does not."""
    try:
        return path.suffix == ".safetensors" and isinstance(read_metadata(path).get("config"), dict)
    except WeightsError:
        return False
