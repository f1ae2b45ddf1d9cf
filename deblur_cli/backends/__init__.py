"""The table from a model's name to the backend that runs it."""

from pathlib import Path

from deblur_cli import weights
from deblur_cli.backends.contract import Backend
from deblur_cli.backends.expert import load_expert
from deblur_cli.backends.foreign import load_foreign
from deblur_cli.devices import find_device

__all__ = ["Backend", "load_file", "load_model"]

_LOADERS = {"expert": load_expert}


def load_model(name: str, *, device: str = "auto", dtype: str = "auto") -> Backend:
    """The backend that runs the model of that name.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `auto`, `float32` or `bfloat16`.
    Raises:
        WeightsError: unknown model, or its files are missing, damaged or do not fit.
        BackendError: the asked device is not there.
    """
    entry = weights.find_model(name)
    return _LOADERS[entry.backend](entry, find_device(device), dtype)


def load_file(path: Path, *, device: str = "auto", dtype: str = "auto") -> Backend:
    """The backend that runs a checkpoint which is in no manifest, through spandrel.

    Args:
        device, dtype: as for `load_model`.
    Raises:
        WeightsError: the file is missing or damaged, could run code, or is of no architecture that spandrel knows.
        BackendError: spandrel is missing or broken, or the asked device is not there.
    """
    return load_foreign(path, find_device(device), dtype)
