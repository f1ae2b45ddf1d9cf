"""Any expert by path: a community checkpoint whose architecture spandrel knows. spandrel is an optional extra."""

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deblur_cli.backends.engines import Float32Fallback, choose_dtype
from deblur_cli.checkpoint import check_tensors, read_content
from deblur_cli.errors import BackendError, WeightsError
from deblur_cli.restoration.tiling import Tiling

if TYPE_CHECKING:
    from types import ModuleType

_CONTEXT, _FEATHER = 128, 32  # nobody knows the networks' reach; this is what the bundled one needs
_GRID = 16  # networks that take any size pad inside, with black; so they get sides that most need not pad

# What a network's constructor or load_state_dict may raise when a state dict only resembles what it knows.
_BUILD_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class ForeignBackend:
    """Runs one of spandrel's networks; in bfloat16 only its products, so that the photo itself keeps its precision."""

    def __init__(self, name: str, descriptor: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.name, self.device, self.dtype = name, device, dtype
        self.tiling = read_tiling(descriptor, device)
        network = _Padded(descriptor.to(device=device, dtype=torch.float32))
        self._network = Float32Fallback(network, device, dtype, "autocast")

    @property
    def module(self) -> nn.Module:
        """See `Backend`."""
        return self._network.module

    @torch.inference_mode()
    def restore(self, blurry: Tensor) -> Tensor:
        """See `Backend.restore`."""
        return self._network.run("forward", blurry)


class _Padded(nn.Module):
    """A network as its descriptor runs it, which extends photos to the sides that it takes."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network, self._descriptor = descriptor.model, descriptor

    def forward(self, blurry: Tensor) -> Tensor:
        restored: Tensor = self._descriptor(blurry)
        return restored


def load_foreign(path: Path, device: torch.device, dtype: str) -> ForeignBackend:
    """The backend of a checkpoint that spandrel can name; nothing in the file is run to find out.

    Raises:
        WeightsError: the file is missing or damaged, could run code, or holds no network from photo to photo that
            spandrel knows.
        BackendError: spandrel or its torchvision is missing or broken, or the number format is not the network's.
    """
    content = read_content(path)
    spandrel = _import_spandrel()
    tensors = check_tensors(spandrel.canonicalize_state_dict(content), path)
    descriptor = _build_descriptor(spandrel, tensors, path)
    _check_purpose(descriptor, path)
    supported = ("float32", "bfloat16") if descriptor.supports_bfloat16 else ("float32",)
    exact = "float32" if dtype == "auto" else dtype  # nobody has measured what bfloat16 does to these weights
    return ForeignBackend(path.stem, descriptor, device, choose_dtype(exact, device, supported))


def read_tiling(descriptor: Any, device: torch.device) -> Tiling:
    """The cut that a descriptor asks for; a network that should not be cut gets tiles of twice the side."""
    size = 2048 if device.type == "cuda" else 1024
    if descriptor.tiling.name != "SUPPORTED":
        size *= 2  # rather than the whole photo, which would end the process on many machines
    tiling = Tiling(size, _CONTEXT, _FEATHER, math.lcm(descriptor.size_requirements.multiple_of, _GRID))
    return tiling.with_size(size)


def _build_descriptor(spandrel: "ModuleType", tensors: dict[str, Tensor], path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of the networks' own code, which nobody here can mend
            descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(tensors)
            _try_out(descriptor)
    except spandrel.UnsupportedModelError as fault:
        known = ", ".join(sorted(entry.architecture.name for entry in spandrel.MAIN_REGISTRY))
        raise WeightsError(f"{path}: an architecture that spandrel does not know; it knows {known}") from fault
    except _BUILD_FAULTS as fault:
        text = " ".join(str(fault).split())[:300]
        raise WeightsError(f"{path}: resembles a network that spandrel knows, but does not fit: {text}") from fault
    return descriptor


def _try_out(descriptor: Any) -> None:
    """One small picture through it: what spandrel guesses of a network's shape may load and still not run."""
    if _is_expert(descriptor):
        side = max(64, descriptor.size_requirements.minimum)
        descriptor.eval()(torch.full((1, 3, side, side), 0.5))


def _is_expert(descriptor: Any) -> bool:
    """Whether it makes a photo of a photo of the same size."""
    shape = (descriptor.scale, descriptor.input_channels, descriptor.output_channels)
    return bool(descriptor.purpose != "Inpainting" and shape == (1, 3, 3))


def _check_purpose(descriptor: Any, path: Path) -> None:
    if not _is_expert(descriptor):
        shape = f"{descriptor.scale}x, {descriptor.input_channels} channels to {descriptor.output_channels}"
        what = f"{descriptor.architecture.name} is for {descriptor.purpose} ({shape})"
        raise WeightsError(f"{path}: {what}; --expert takes networks from a photo to one of the same size")


def _import_spandrel() -> "ModuleType":
    try:
        import spandrel
    except (ImportError, OSError, RuntimeError, AttributeError) as fault:
        raise BackendError(f"--expert: {_explain_import(fault)}") from fault
    return spandrel  # type: ignore[no-any-return]


def _explain_import(fault: Exception) -> str:
    if isinstance(fault, ModuleNotFoundError) and fault.name == "spandrel":
        return "spandrel is not installed; pip install 'deblur-cli[spandrel]'"
    text = " ".join(str(fault).split())[:200]
    if "torchvision" not in text:
        return f"spandrel cannot be imported ({text}); reinstall it"
    return f"spandrel needs a torchvision built for torch {torch.__version__} ({text}); see https://pytorch.org/get-started"
