"""From a model's name to what restores photos with it: all that a caller needs."""

from collections.abc import Callable
from pathlib import Path

import torch

from deblur_cli.backends.engines import check_engine
from deblur_cli.backends.expert import load_any_expert
from deblur_cli.errors import WeightsError
from deblur_cli.restoration.contract import Backend
from deblur_cli.restoration.pipeline import restore_crop, restore_image, restores_whole
from deblur_cli.restoration.watch import Pixels, Watch
from deblur_cli.system.devices import find_device
from deblur_cli.weights.model_spec import ModelSpec, ResolvedModel, resolve

__all__ = ["Backend", "Pixels", "Watch", "load_model", "restore_crop", "restore_image", "restores_whole"]


def load_model(model: str | Path | ModelSpec | ResolvedModel, *, device: str = "auto", dtype: str = "auto") -> Backend:
    """Load a model, ready to restore photos.

    Args:
        model: a name as `deblur weights list` shows them, perhaps with settings: `quick+flow:steps=8,strength=0.5`. A
            path is the file of an expert: one that `deblur train expert` wrote, or one that spandrel knows.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `auto`, `float32` or `bfloat16`.
    Raises:
        InputError: the model takes no such setting, or there is no such file.
        WeightsError: unknown model, or its files are missing, damaged or do not fit.
        BackendError: the asked device is not there, the number format or the engine is not the model's, or spandrel
            is missing.
    """
    found = model if isinstance(model, ResolvedModel) else resolve(model)
    backend = found.entry.backend
    if backend not in _LOADERS:
        raise WeightsError(f"{found.name}: unknown backend {backend!r}; known are {', '.join(_LOADERS)}")
    return _LOADERS[backend](found, find_device(device), dtype)


def _load_expert(model: ResolvedModel, device: torch.device, dtype: str) -> Backend:
    return load_any_expert(model.entry, device, dtype, model.spec.engine)


def _load_dual_expert(model: ResolvedModel, device: torch.device, dtype: str) -> Backend:
    from deblur_cli.backends.dual_expert_files import load_dual_expert  # an expert alone needs none of it

    return load_dual_expert(model, device, dtype)


def _load_deblurdiff(model: ResolvedModel, device: torch.device, dtype: str) -> Backend:
    from deblur_cli.backends.diffusion import load_deblurdiff  # diffusers and transformers take seconds

    check_engine(model.spec.engine, "DeblurDiff")
    return load_deblurdiff(model.entry, device, dtype, model.settings["steps"])


_LOADERS: dict[str, Callable[[ResolvedModel, torch.device, str], Backend]] = {
    "expert": _load_expert,
    "dual_expert": _load_dual_expert,
    "deblurdiff": _load_deblurdiff,
}
