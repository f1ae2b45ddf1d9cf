"""The table from a model's name to the backend that runs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deblur_cli import weights
from deblur_cli.backends.expert import load_expert
from deblur_cli.backends.foreign import load_foreign
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.restoration.contract import Backend
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.restoration.watch import Pixels, Watch
from deblur_cli.system.devices import find_device
from deblur_cli.weights.model_spec import ModelSpec, takes_expert

__all__ = ["Backend", "LoadedModel", "RestoreOrder", "load_file", "load_model"]


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    steps: int | None = None,
    strength: float | None = None,
    expert: Path | None = None,
) -> Backend:
    """The backend that runs the model of that name.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `auto`, `float32` or `bfloat16`.
        steps, strength: of a model with a flow; None takes the manifest's.
        expert: a checkpoint that spandrel knows, instead of the expert of a model with a flow.
    Raises:
        InputError: the model takes no steps, no strength or no other expert.
        WeightsError: unknown model, or its files are missing, damaged or do not fit.
        BackendError: the asked device is not there.
    """
    entry = weights.find_model(name)
    entry.check_trained()
    settings = ModelSpec(name, steps, strength).resolve(entry)
    if entry.backend not in _LOADERS:
        raise WeightsError(f"{name}: unknown backend {entry.backend!r}; known are {', '.join(_LOADERS)}")
    if expert is not None and not takes_expert(entry):
        raise InputError(f"--expert {expert}: {name} has no flow that could follow another expert")
    return _LOADERS[entry.backend](_Request(entry, find_device(device), dtype, settings, expert))


def load_file(path: Path, *, device: str = "auto", dtype: str = "auto") -> Backend:
    """The backend that runs a checkpoint which is in no manifest, through spandrel.

    Args:
        device, dtype: as for `load_model`.
    Raises:
        WeightsError: the file is missing or damaged, could run code, or is of no architecture that spandrel knows.
        BackendError: spandrel is missing or broken, or the asked device is not there.
    """
    return load_foreign(path, find_device(device), dtype)


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """What a worker must know to restore photos, in this process or on another machine: small, and can be pickled.

    Attributes:
        model: which model, and the checkpoint instead of its expert; without a model that checkpoint alone.
        device, dtype: as for `load_model`.
        tile, seed: as for `restore_image`.
    """

    model: tuple[ModelSpec | None, Path | None]
    device: str = "auto"
    dtype: str = "auto"
    tile: int | None = None
    seed: int = 0

    def load(self) -> "LoadedModel":
        """The model, ready to restore.

        Raises:
            As `load_model` and `load_file`.
        """
        spec, expert = self.model
        if spec is not None:
            backend = load_model(
                spec.name,
                device=self.device,
                dtype=self.dtype,
                steps=spec.steps,
                strength=spec.strength,
                expert=expert,
            )
        else:
            assert expert is not None, "an order has a model, or an expert alone"
            backend = load_file(expert, device=self.device, dtype=self.dtype)
        return LoadedModel(backend, self.tile, self.seed)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model and how it is used: one photo after the other."""

    backend: Backend
    tile: int | None
    seed: int

    def __call__(self, blurry: Pixels, watch: Watch) -> Pixels:
        """The photo as `restore_image` makes it."""
        return restore_image(blurry, self.backend, tile=self.tile, seed=self.seed, watch=watch)


@dataclass(frozen=True, slots=True)
class _Request:
    """What a loader may need."""

    entry: weights.ModelEntry
    device: torch.device
    dtype: str
    settings: Mapping[str, Any]
    expert: Path | None


def _load_expert(request: _Request) -> Backend:
    return load_expert(request.entry, request.device, request.dtype)


def _load_dual_expert(request: _Request) -> Backend:
    from deblur_cli.backends.dual_expert_files import load_dual_expert  # diffusers and peft take seconds

    return load_dual_expert(request.entry, request.device, request.dtype, request.settings, request.expert)


def _load_deblurdiff(request: _Request) -> Backend:
    from deblur_cli.backends.diffusion import load_deblurdiff  # diffusers and transformers take seconds

    return load_deblurdiff(request.entry, request.device, request.dtype, request.settings["steps"])


_LOADERS: dict[str, Callable[[_Request], Backend]] = {
    "expert": _load_expert,
    "dual_expert": _load_dual_expert,
    "deblurdiff": _load_deblurdiff,
}
