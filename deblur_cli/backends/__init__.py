"""What every restoration system looks like to the pipeline, and the table from a model's name to its class."""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from deblur_cli import weights
from deblur_cli.backends.expert import load_expert
from deblur_cli.backends.foreign import load_foreign
from deblur_cli.devices import find_device
from deblur_cli.tiling import Tiling


class Backend(Protocol):
    """Weights, networks and sampler behind one method."""

    name: str
    device: torch.device
    dtype: torch.dtype
    tiling: Tiling

    @property
    def module(self) -> nn.Module:
        """The network that runs, for counting parameters and multiplications."""

    def restore(self, blurry: Tensor) -> Tensor:
        """Sharp tile from a blurred one.

        Args:
            blurry: (1, 3, H, W), float32, [0, 1], on `device`; H and W are multiples of `tiling.multiple_of`.
        Returns:
            (1, 3, H, W), float32, about [0, 1], finite.
        """


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
